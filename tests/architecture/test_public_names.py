"""Names on which programs of others rely: they may be added to, and never change."""

from __future__ import annotations

from inspect import signature
from typing import Any, cast

import pytest
from typer.main import get_command

from holdfast.api.api_keys import add_api_keys
from holdfast.api.routes import make_api
from holdfast.cli import cli
from holdfast.delivery.message import MessageState
from holdfast.session.state import State
from holdfast.settings import Settings

RESPONSES = {
    "GET /webhook/whatsapp/baileys/health/{company}": (
        "companyId status state since connectedAt lastActivity reconnectAttempts reasons.code reasons.message "
        "reasons.action"
    ),
    "GET /webhook/whatsapp/baileys/diagnostics/{company}": (
        "session evidence.lastFrameAt evidence.lastPingRttMs evidence.lastAckAt evidence.oldestUnackedS keepAlive.sent "
        "keepAlive.answered keepAlive.successRate keepAlive.window history.code history.cause history.reaction "
        "history.lastedS budget outbox.waiting outbox.oldestS stability engineHost.pid engineHost.rssBytes settings"
    ),
    "POST /webhook/whatsapp/baileys/reconnect/{company}": "companyId state",
    "PUT /v1/sessions/{company}": "companyId state",
    "GET /v1/sessions": "items.companyId next",
    "GET /v1/sessions/{company}": (
        "companyId state since phoneNumber connectedAt lastActivity reconnectAttempts deviceName proxyUrl webhookUrl"
    ),
    "GET /v1/sessions/{company}/qr": "qr expiresAt",
    "POST /v1/sessions/{company}/pairing-code": "code",
    "POST /v1/sessions/{company}/messages": "id whatsappId state acceptedAt",
    "GET /v1/messages/{id}": (
        "id whatsappId companyId to chat state attempts acceptedAt sentAt deliveredAt readAt error receipts.member "
        "receipts.deliveredAt receipts.readAt retries.at retries.code retries.message"
    ),
    "GET /v1/sessions/{company}/messages": "items.id next",
    "GET /v1/sessions/{company}/inbox": (
        "items.id items.companyId items.chat items.sender items.senderName items.senderLid items.groupSubject "
        "items.type items.text items.media items.sentAt items.storedAt items.whatsappId items.selected items.poll "
        "items.raw next"
    ),
    "GET /v1/sessions/{company}/passkey": "options expiresAt",
    "POST /v1/sessions/{company}/passkey": "step code",
    "POST /v1/sessions/{company}/contacts/check": "items.number items.exists items.chat items.lid",
    "GET /v1/operations/{id}": "id state result error",
    "GET /v1/webhooks/failed": "items.id next",
    "GET /v1/keys": "items.id items.name items.companies next",
}
"""Fields of the success response of a route; `items.id` is the field `id` of each entry."""
ROUTES = """
    DELETE /v1/sessions/{company}; POST /v1/sessions/{company}/start; POST /v1/sessions/{company}/stop;
    POST /v1/sessions/{company}/reconnect; POST /v1/sessions/{company}/logout; DELETE /v1/messages/{id};
    GET /v1/sessions/{company}/qr.svg; GET /v1/sessions/{company}/qr.png; GET /v1/events; GET /healthz; GET /readyz;
    GET /metrics; POST /v1/webhooks/{id}/replay; POST /v1/sessions/{company}/passkey/confirm; POST /v1/keys;
    DELETE /v1/keys/{id}; GET /v1/sessions/{company}/contacts; GET /v1/sessions/{company}/contacts/{chat};
    GET /v1/sessions/{company}/contacts/{chat}/picture; POST /v1/sessions/{company}/contacts/{chat}/block;
    POST /v1/sessions/{company}/contacts/{chat}/unblock; GET /v1/sessions/{company}/blocklist;
    GET /v1/sessions/{company}/chats; GET /v1/sessions/{company}/chats/{chat};
    GET /v1/sessions/{company}/chats/{chat}/messages; POST /v1/sessions/{company}/chats/{chat}/read;
    POST /v1/sessions/{company}/chats/{chat}/unread; POST /v1/sessions/{company}/chats/{chat}/typing;
    POST /v1/sessions/{company}/chats/{chat}/archive; POST /v1/sessions/{company}/chats/{chat}/unarchive;
    POST /v1/sessions/{company}/chats/{chat}/mute; POST /v1/sessions/{company}/chats/{chat}/unmute;
    POST /v1/sessions/{company}/chats/{chat}/pin; POST /v1/sessions/{company}/chats/{chat}/unpin;
    PUT /v1/sessions/{company}/chats/{chat}/disappearing; GET /v1/sessions/{company}/groups;
    POST /v1/sessions/{company}/groups; GET /v1/sessions/{company}/groups/{id};
    PATCH /v1/sessions/{company}/groups/{id}; POST /v1/sessions/{company}/groups/{id}/members;
    GET /v1/sessions/{company}/groups/{id}/invite; DELETE /v1/sessions/{company}/groups/{id}/invite;
    POST /v1/sessions/{company}/groups/join; POST /v1/sessions/{company}/groups/{id}/leave;
    GET /v1/sessions/{company}/groups/{id}/requests; POST /v1/sessions/{company}/groups/{id}/requests;
    GET /v1/sessions/{company}/profile; PATCH /v1/sessions/{company}/profile; GET /v1/sessions/{company}/privacy;
    PATCH /v1/sessions/{company}/privacy; GET /v1/sessions/{company}/channels; GET /v1/webhooks;
    POST /v1/sessions/{company}/calls/{id}/reject
"""
REQUESTS = {
    "MessageRequest": (
        "to text image video audio document sticker location contact reaction poll replyTo mentions expiresInS"
    ),
    "SessionRequest": "webhookUrl proxyUrl deviceName",
    "Document": "url base64 mimetype filename caption",
    "Problem": "type title status detail code field",
}
SETTINGS = {
    "host": "127.0.0.1", "port": 3000, "database_url": None, "redis_url": None, "api_key": None, "whatsapp_url": None,
    "keepalive_interval_s": 30, "keepalive_presence": True, "backoff_base_ms": 1000, "backoff_factor": 1.5,
    "backoff_cap_ms": 60_000, "health_interval_s": 30, "webhook_url": None, "webhook_secret": None, "proxy_url": None,
    "whatsapp_version": "auto", "messages_keep_days": 0,
}  # fmt: skip
COMMANDS = """
    serve demo pair sessions show send watch start stop reconnect logout clear import-baileys export-baileys settings
    messages inbox chats groups keys import logs lab.list lab.run backup.create backup.list backup.restore
"""


def properties(schemas: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The fields of an object, of each entry of a list, and of all alternatives."""
    if "$ref" in schema:
        return properties(schemas, schemas[schema["$ref"].rpartition("/")[2]])
    found: dict[str, Any] = {}
    for part in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), schema.get("items", {})):
        found |= properties(schemas, part) if part else {}
    return {**found, **schema.get("properties", {})}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    api = make_api(**cast(Any, {**dict.fromkeys(signature(make_api).parameters), "settings": {}}))
    add_api_keys(api, cast(Any, None))
    return api.openapi()


def test_routes_and_the_fields_of_their_responses_keep_their_names(document: dict[str, Any]) -> None:
    """As the OpenAPI document describes them; other tests hold that responses follow it."""
    known = {
        f"{method.upper()} {path}": each for path, found in document["paths"].items() for method, each in found.items()
    }
    assert {*RESPONSES, *(each.strip() for each in ROUTES.split(";"))} <= set(known)
    schemas, missing = document["components"]["schemas"], []
    for route, fields in RESPONSES.items():
        success = next(each for status, each in known[route]["responses"].items() if status.startswith("2"))
        for field in fields.split():
            schema = success["content"]["application/json"]["schema"]
            for name in field.split("."):
                schema = properties(schemas, schema).get(name)
                if schema is None:
                    missing.append(f"{route}: {field}")
                    break
    assert missing == []


@pytest.mark.parametrize(("schema", "fields"), REQUESTS.items())
def test_bodies_keep_their_field_names(document: dict[str, Any], schema: str, fields: str) -> None:
    """Of requests and of errors."""
    schemas = document["components"]["schemas"]
    assert set(fields.split()) <= set(properties(schemas, schemas[schema]))


def test_states_keep_their_names() -> None:
    """Of sessions and of messages."""
    sessions = "unpaired pairing connecting connected reconnecting paused logged_out stopped"
    messages = "queued sending sent delivered read played failed expired cancelled"
    assert {state.value for state in State} == set(sessions.split())
    assert {state.value for state in MessageState} == set(messages.split())


def test_settings_keep_their_names_and_defaults() -> None:
    """A program or a script that sets one keeps working."""
    assert {name: Settings.model_fields[name].default for name in SETTINGS} == SETTINGS
    assert {"data_dir", "alert_urls", "device_name", "whatsapp_web_url", "url"} <= set(Settings.model_fields)


def test_commands_keep_their_names() -> None:
    """Also those below another command."""
    program: Any = get_command(cli)
    for command in COMMANDS.split():
        name, _, below = command.partition(".")
        assert name in program.commands, command
        assert not below or below in program.commands[name].commands, command
