"""Operations by HTTP: how they are started, shown, awaited and refused."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from holdfast.api.profile import MAX_BYTES
from holdfast.session.account_changes import LabelChanged
from holdfast.session.engine import Commit, InboundMessage, OperationAnswered, QueryAnswered, RunOperation
from holdfast.store.tables import media
from tests.api.api_client import KEY_OF_ONE, OTHER, ApiClient
from tests.gateway_harness import COMPANY, GatewayHarness

SESSION = f"/v1/sessions/{COMPANY}"
GROUP = "120363012345678901@g.us"
ANNA = "962790000001@s.whatsapp.net"


def created(command: RunOperation) -> object:
    if command.step == "observe":
        return []
    return {"id": GROUP, "subject": "Flowers", "members": [{"jid": ANNA, "code": 200}]}


@pytest.fixture
async def linked(client: ApiClient, harness: GatewayHarness) -> ApiClient:
    await harness.pair()
    harness.engine.operations["create-group"] = created
    return client


def asked(harness: GatewayHarness) -> list[RunOperation]:
    return [command for command in harness.engine.commands if isinstance(command, RunOperation)]


async def test_a_caller_can_wait_for_the_outcome(linked: ApiClient) -> None:
    """With `wait` the response is 200 and the settled operation; the same key returns it again."""
    body, headers = {"subject": "Flowers", "members": ["+962 79 000 0001"]}, {"Idempotency-Key": "k"}
    answer = await linked("POST", f"{SESSION}/groups?wait=10", body, headers=headers)
    assert (answer.status, answer.json["state"], answer.json["kind"]) == (200, "succeeded", "create-group")
    assert answer.json["result"] == {"id": GROUP, "subject": "Flowers", "members": [{"jid": ANNA, "done": True}]}
    again = await linked("POST", f"{SESSION}/groups", body, headers=headers)
    assert (again.status, again.json["id"]) == (200, answer.json["id"])
    other = await linked("POST", f"{SESSION}/groups", {**body, "subject": "Bread"}, headers=headers)
    other.problem(409, "conflict", field="Idempotency-Key")


async def test_an_operation_can_be_looked_up_listed_and_cancelled(client: ApiClient, harness: GatewayHarness) -> None:
    """Without a link it is queued; keys of its company see it, those of other companies don't."""
    await harness.now(harness.gateway.put(COMPANY))
    answer = await client("POST", f"{SESSION}/contacts/962790000001/block?wait=2&expiresInS=600")
    assert (answer.status, answer.json["state"], answer.json["target"]) == (202, "queued", ANNA)
    assert answer.json["expiresAt"] is not None
    found = f"/v1/operations/{answer.json['id']}"
    assert (await client("GET", found, key=KEY_OF_ONE)).json == answer.json
    page = (await client("GET", f"{SESSION}/operations?state=queued&limit=1")).json
    assert page == {"items": [answer.json], "next": None}
    assert (await client("DELETE", found)).json["state"] == "cancelled"
    (await client("GET", "/v1/operations/op_none")).problem(404, "not-found", field="id")
    await harness.now(harness.gateway.put(OTHER))
    foreign = await client("POST", f"/v1/sessions/{OTHER}/contacts/962790000001/block")
    for method in ("GET", "DELETE"):
        (await client(method, f"/v1/operations/{foreign.json['id']}", key=KEY_OF_ONE)).problem(
            404, "not-found", field="id"
        )


async def test_a_refusal_of_whatsapp_is_a_failed_operation(linked: ApiClient, harness: GatewayHarness) -> None:
    """With an explanation and WhatsApp's code."""
    harness.engine.operations["update-group"] = lambda _: OperationAnswered(
        link=0, operation="", step="run", error="refused", code=403, detail="forbidden"
    )
    answer = await linked("PATCH", f"{SESSION}/groups/{GROUP}?wait=10", {"subject": "Bread"})
    assert (answer.status, answer.json["state"]) == (200, "failed")
    assert answer.json["error"]["whatsappCode"] == 403
    assert "not an admin" in answer.json["error"]["message"]


TEXT = base64.b64encode(b"this is no picture").decode()
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(100)).decode()
JPEG = base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(100)).decode()

BAD: list[tuple[str, str, Any, str]] = [
    ("POST", "groups", {"subject": "", "members": ["962790000001"]}, "subject"),
    ("POST", "groups", {"subject": "x" * 101, "members": ["962790000001"]}, "subject"),
    ("POST", "groups", {"subject": "Flowers", "members": []}, "members"),
    ("POST", "groups", {"subject": "Flowers", "members": ["12ab"]}, "members"),
    ("POST", "groups", {"subject": "Flowers", "members": [GROUP]}, "members"),
    ("POST", "groups", {"subject": "Flowers", "members": ["962790000001"] * 1024}, "members"),
    ("PATCH", f"groups/{GROUP}", {}, "body"),
    ("PATCH", "groups/962790000001", {"subject": "x"}, "id"),
    ("PATCH", f"groups/{GROUP}", {"disappearingS": 5}, "disappearingS"),
    ("PATCH", f"groups/{GROUP}", {"description": "x" * 2049}, "description"),
    ("POST", f"groups/{GROUP}/members", {}, "body"),
    ("POST", f"groups/{GROUP}/members", {"add": ["?"]}, "add"),
    ("POST", "groups/nonsense/leave", None, "id"),
    ("POST", f"contacts/{GROUP}/block", None, "chat"),
    ("PUT", f"contacts/{GROUP}", {"name": "x"}, "chat"),
    ("PUT", "contacts/77@lid", {"name": "x"}, "chat"),
    ("PUT", "contacts/962790000001", {"name": ""}, "name"),
    ("DELETE", "contacts/status", None, "chat"),
    ("GET", f"contacts/{GROUP}/about", None, "chat"),
    ("POST", f"groups/{GROUP}/leave?wait=61", None, "wait"),
    ("POST", "groups/join", {"invite": "https://example.com/AbC"}, "invite"),
    ("POST", "groups/join", {"invite": "AbC", "group": GROUP}, "group"),
    ("POST", "groups/join", {"invite": "AbC", "group": "x@g", "admin": "962790000001"}, "group"),
    ("POST", f"groups/{GROUP}/requests", {}, "body"),
    ("POST", f"groups/{GROUP}/requests", {"approve": [GROUP]}, "approve"),
    ("DELETE", "groups/962790000001/invite", None, "id"),
    ("GET", "invites/a%20b", None, "code"),
    ("PATCH", "profile", {}, "body"),
    ("PATCH", "profile", {"name": ""}, "name"),
    ("PATCH", "profile", {"name": "x" * 26}, "name"),
    ("PATCH", "profile", {"about": "x" * 140}, "about"),
    ("PATCH", "privacy", {}, "body"),
    ("PATCH", "privacy", {"lastSeen": None}, "body"),
    ("PATCH", "privacy", {"lastSeen": "everybody"}, "lastSeen"),
    ("PATCH", "privacy", {"online": "none"}, "online"),
    ("PATCH", "privacy", {"groupsAdd": "contact_blacklist"}, "groupsAdd"),
    ("PATCH", "privacy", {"readReceipts": True}, "readReceipts"),
    ("PUT", "profile/picture", {}, "image"),
    ("PUT", "profile/picture", {"image": {}}, "image"),
    ("PUT", "profile/picture", {"image": {"base64": ""}}, "image.base64"),
    ("PUT", "profile/picture", {"image": {"base64": "?"}}, "image.base64"),
    ("PUT", "profile/picture", {"image": {"base64": TEXT}}, "image.base64"),
    ("PUT", "profile/picture", {"image": {"base64": PNG}}, "image"),
    ("PUT", "profile/picture", {"image": {"media": "med_none"}}, "image.media"),
    ("PUT", "groups/nonsense/picture", {"image": {"base64": PNG}}, "id"),
]


@pytest.mark.parametrize(("method", "path", "body", "field"), BAD)
async def test_bad_input_is_refused_before_anything_is_stored(
    linked: ApiClient, harness: GatewayHarness, method: str, path: str, body: Any, field: str
) -> None:
    """The field is named, and nothing reaches the engine."""
    (await linked(method, f"{SESSION}/{path}", body)).problem(422, "bad-input", field=field)
    assert not asked(harness)


async def test_an_unknown_company_has_no_operations(client: ApiClient) -> None:
    """404, for starting and for listing."""
    body = {"subject": "Flowers", "members": ["962790000001"]}
    (await client("POST", "/v1/sessions/nobody/groups", body)).problem(404, "not-found", field="company")
    (await client("GET", "/v1/sessions/nobody/operations")).problem(404, "not-found", field="company")


async def test_a_picture_has_a_bounded_size(linked: ApiClient) -> None:
    """422 with both sizes."""
    large = base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(MAX_BYTES)).decode()
    detail = (await linked("PUT", f"{SESSION}/profile/picture", {"image": {"base64": large}})).problem(
        422, "bad-input", field="image"
    )
    assert str(MAX_BYTES) in detail


async def test_a_picture_reaches_the_engine_as_a_file(linked: ApiClient, harness: GatewayHarness) -> None:
    """Set for a group, and removed again."""
    files: list[bytes | None] = []

    def answer(command: RunOperation) -> object:
        if command.step == "observe":
            return {"id": None}
        files.append(None if command.file is None else Path(command.file).read_bytes())
        return {"id": "P1"}

    harness.engine.operations["set-picture"] = answer
    path = f"{SESSION}/groups/{GROUP}/picture"
    answer_ = await linked("PUT", f"{path}?wait=10", {"image": {"base64": JPEG}})
    assert (answer_.json["state"], answer_.json["result"], answer_.json["target"]) == ("succeeded", {"id": "P1"}, GROUP)
    assert (await linked("DELETE", f"{path}?wait=10")).json["state"] == "succeeded"
    assert files == [base64.b64decode(JPEG), None]


async def test_invitations_are_shown_and_accepted(linked: ApiClient, harness: GatewayHarness) -> None:
    """The link of a group, the group behind a link, and joining by link or personal invitation."""
    harness.engine.answers = {
        "invite": lambda _: {"code": "AbC"},
        "invited-group": lambda given: {"id": GROUP, "subject": str(given["code"])},
        "join-requests": lambda _: [{"jid": ANNA, "requestedAtS": 1_700_000_000, "method": "invite_link"}],
        "blocklist": lambda _: [ANNA],
        "profile": lambda _: {"name": "Bakery", "about": "Open"},
    }
    url = "https://chat.whatsapp.com/AbC"
    assert (await linked("GET", f"{SESSION}/groups/{GROUP}/invite")).json == {"code": "AbC", "url": url}
    assert (await linked("GET", f"{SESSION}/invites/AbC")).json["subject"] == "AbC"
    (request,) = (await linked("GET", f"{SESSION}/groups/{GROUP}/requests")).json["items"]
    assert (request["jid"], request["requestedAt"]) == (ANNA, "2023-11-14T22:13:20.000Z")
    assert (await linked("GET", f"{SESSION}/blocklist")).json["items"] == [{"chat": ANNA}]
    assert (await linked("GET", f"{SESSION}/profile")).json == {"name": "Bakery", "about": "Open", "picture": None}
    harness.engine.operations["join-group"] = lambda command: {"id": GROUP, "waitsForApproval": False}
    await linked("POST", f"{SESSION}/groups/join?wait=5", {"invite": f"{url}?mode=x"})
    personal = {"invite": "P", "group": GROUP, "admin": "962790000001", "expiresS": 5}
    assert (await linked("POST", f"{SESSION}/groups/join?wait=5", personal)).json["state"] == "succeeded"
    assert [command.arguments for command in asked(harness)] == [
        {"code": "AbC"},
        {"code": "P", "group": GROUP, "admin": ANNA, "expiresS": 5},
    ]


async def test_privacy_settings_are_shown_and_changed(linked: ApiClient, harness: GatewayHarness) -> None:
    """Settings that WhatsApp does not report are null; only settings in the request reach the engine."""
    harness.engine.answers["privacy"] = lambda _: {"lastSeen": "contact_blacklist", "online": "all", "calls": None}
    shown = (await linked("GET", f"{SESSION}/privacy")).json
    assert (shown["lastSeen"], shown["online"], shown["calls"], len(shown)) == ("contact_blacklist", "all", None, 8)
    harness.engine.operations["set-privacy"] = lambda _: {"changed": ["lastSeen"]}
    answer = await linked("PATCH", f"{SESSION}/privacy?wait=5", {"lastSeen": "contacts", "online": "all"})
    assert (answer.json["state"], answer.json["result"]) == ("succeeded", {"changed": ["lastSeen"]})
    assert answer.json["target"] == "privacy"
    assert [command.arguments for command in asked(harness)] == [{"lastSeen": "contacts", "online": "all"}]


async def test_privacy_settings_need_a_company_and_a_link(client: ApiClient, harness: GatewayHarness) -> None:
    """404 for an unknown company. Without a link a query gets 503, and a change waits for the link."""
    (await client("GET", "/v1/sessions/nobody/privacy")).problem(404, "not-found", field="company")
    (await client("PATCH", "/v1/sessions/nobody/privacy", {"calls": "all"})).problem(404, "not-found", field="company")
    await harness.now(harness.gateway.put(COMPANY))
    assert (await client("GET", f"{SESSION}/privacy")).status == 503
    queued = await client("PATCH", f"{SESSION}/privacy", {"calls": "known"})
    assert (queued.status, queued.json["state"]) == (202, "queued")


@pytest.mark.parametrize(
    ("code", "status", "word"), [(401, 403, "not-permitted"), (403, 403, "not-permitted"), (410, 404, "not-found")]
)
async def test_a_query_that_whatsapp_refuses_has_the_right_status(
    linked: ApiClient, harness: GatewayHarness, code: int, status: int, word: str
) -> None:
    """Not an admin is 403, a revoked link 404; each with a sentence."""
    harness.engine.answers["invite"] = lambda _: QueryAnswered(link=0, request=0, error="refused", code=code)
    assert str(code) in (await linked("GET", f"{SESSION}/groups/{GROUP}/invite")).problem(status, word)


# Repeated requests: what was looked up for the first one may have changed since.


async def change(harness: GatewayHarness, label: LabelChanged, *, seq: int) -> None:
    await harness.now(harness.store.commit(COMPANY, Commit(link=1, seq=seq, changes=[label])))


async def receive(harness: GatewayHarness, id_: str) -> None:
    message = InboundMessage(whatsapp_id=id_, chat=ANNA, sender=ANNA, type="text", text="hi", sent_at_s=1)
    harness.engine.receive(harness.link(), message)
    await harness.quiet()


@pytest.mark.parametrize("path", ["profile/picture", f"groups/{GROUP}/picture"])
async def test_a_repeated_picture_is_the_same_operation(linked: ApiClient, harness: GatewayHarness, path: str) -> None:
    """It is not stored again; another one with the same Idempotency-Key is refused."""
    headers, picture = {"Idempotency-Key": "k"}, {"image": {"base64": JPEG}}
    harness.engine.operations["set-picture"] = lambda _: {"id": "P1"}
    first = await linked("PUT", f"{SESSION}/{path}?wait=10", picture, headers=headers)
    again = await linked("PUT", f"{SESSION}/{path}", picture, headers=headers)
    assert (again.status, again.json["id"]) == (200, first.json["id"])
    for other in ({"image": {"base64": JPEG[:-4]}}, {"image": {"media": "med_none"}}):
        refused = await linked("PUT", f"{SESSION}/{path}", other, headers=headers)
        refused.problem(409, "conflict", field="Idempotency-Key")
    assert len(await harness.database.read(lambda connection: connection.execute(select(media)).all())) == 1


async def test_a_repeated_change_of_labels_is_the_same_operation(linked: ApiClient, harness: GatewayHarness) -> None:
    """Although the phone reported the created label meanwhile, and that the other one is deleted."""
    harness.engine.operations["edit-label"] = lambda _: {}
    body, paths = {"name": "New", "color": 4}, (f"{SESSION}/labels", f"{SESSION}/labels/1")
    first = await linked("POST", f"{paths[0]}?wait=10", body, headers={"Idempotency-Key": "a"})
    await change(harness, LabelChanged(label="1", name="New", color=4), seq=1)
    again = await linked("POST", paths[0], body, headers={"Idempotency-Key": "a"})
    assert (again.status, again.json["id"]) == (200, first.json["id"])
    deleted = await linked("DELETE", f"{paths[1]}?wait=10", headers={"Idempotency-Key": "b"})
    await change(harness, LabelChanged(label="1"), seq=2)
    again = await linked("DELETE", paths[1], headers={"Idempotency-Key": "b"})
    assert (again.status, again.json["id"]) == (200, deleted.json["id"])
    (await linked("DELETE", paths[1])).problem(404, "not-found", field="label")


async def test_a_repeated_reading_marks_no_newer_message_as_read(linked: ApiClient, harness: GatewayHarness) -> None:
    """No receipt is sent for it. The messages of a first request that failed halfway are marked, however."""
    harness.engine.operations["read-chat"] = lambda _: {}
    chat = f"{SESSION}/chats/962790000001"

    async def unread() -> tuple[int, bool]:
        shown = (await linked("GET", chat)).json
        return shown["unread"], shown["markedUnread"]

    await receive(harness, "A1")
    first = await linked("POST", f"{chat}/read?wait=10", headers={"Idempotency-Key": "a"})
    assert await unread() == (0, False)
    await receive(harness, "A2")
    again = await linked("POST", f"{chat}/read", headers={"Idempotency-Key": "a"})
    assert (again.json["id"], await unread()) == (first.json["id"], (1, False))
    harness.chats.failing = "disk full"
    with pytest.raises(OSError, match="disk full"):
        await linked("POST", f"{chat}/read", headers={"Idempotency-Key": "b"})
    harness.chats.failing = None
    await receive(harness, "A3")
    assert await unread() == (2, False)
    await linked("POST", f"{chat}/read", headers={"Idempotency-Key": "b"})
    assert await unread() == (1, False)
