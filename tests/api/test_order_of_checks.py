"""The order in which every route checks a request: key, syntax, company. Only then may WhatsApp be asked.

These tests walk over all routes of the OpenAPI document, so a new route that checks in another order turns one red.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from holdfast.api.examples import BODIES
from holdfast.session.engine import QueryAnswered, RunOperation, RunQuery
from tests.api.api_client import KEY_OF_ONE, OTHER, Answer, ApiClient, make_client
from tests.gateway_harness import COMPANY, GatewayHarness

UNKNOWN = "962399"
CREATING = {"PUT /v1/sessions/{company}", "POST /v1/sessions/{company}/import"}
"""Routes for a company that need not exist."""
VALUES = {
    "chat": "962790000001",
    "code": "AbCdEfGhIjK",
    "id": "msg_000000000000000000000000",
    "groups": "120363012345678901@g.us",
    "channels": "120363012345678901@newsletter",
}
"""Valid values in a path: by parameter, or by what precedes it. For other parameters any text is valid."""
NAMED_BY_PREFIX = re.compile(r"/(groups|channels)/")
ASSERTION = {
    "id": "AQ",
    "rawId": "AQ",
    "type": "public-key",
    "response": {"clientDataJSON": "e30", "authenticatorData": "AQ", "signature": "AQ"},
}
EXAMPLES = {**BODIES, "POST /v1/sessions/{company}/passkey": ASSERTION}
GROUPS = "/v1/sessions/{company}/groups"
MALFORMED: dict[str, object] = {
    "PUT /v1/sessions/{company}": {"webhookEvents": ["nonsense"]},
    "POST /v1/sessions/{company}/pairing-code": {"phoneNumber": "12ab"},
    "POST /v1/sessions/{company}/messages": {"to": "@rami", "location": {"latitude": 100, "longitude": 0}},
    "POST /v1/sessions/{company}/contacts/check": {"numbers": ["@rami", "12ab"]},
    "PATCH /v1/sessions/{company}/chats/{chat}": {},
    f"POST {GROUPS}": {"subject": "Order", "members": ["12ab"]},
    f"PATCH {GROUPS}/{{id}}": {},
    f"POST {GROUPS}/{{id}}/members": {"add": ["12ab"]},
    f"POST {GROUPS}/join": {"invite": "https://example.com"},
    f"POST {GROUPS}/{{id}}/requests": {},
    f"PUT {GROUPS}/{{id}}/picture": {"image": {}},
    "PUT /v1/sessions/{company}/profile/picture": {"image": {"url": "https://example.com", "media": "med_0"}},
    "PATCH /v1/sessions/{company}/profile": {},
    "PATCH /v1/sessions/{company}/privacy": {},
}
"""Bodies in the right form whose values can't be used; for other operations, an unknown field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    method: str
    path: str
    described: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    def address(self, company: str, **values: str) -> str:
        """The path with these values, and valid ones for the others."""

        def value(found: re.Match[str]) -> str:
            name = found["name"]
            return values.get(name) or VALUES.get(found["before"]) or VALUES.get(name, "1")

        filled = self.path.replace("{company}", company)
        return re.sub(r"(?P<before>\w+)/\{(?P<name>\w+)\}", lambda found: f"{found['before']}/{value(found)}", filled)

    def parameters(self, place: str) -> list[dict[str, Any]]:
        return [each for each in self.described.get("parameters", ()) if each["in"] == place]

    @property
    def takes_json(self) -> bool:
        return "application/json" in self.described.get("requestBody", {}).get("content", {})

    async def send(self, client: ApiClient, address: str, **others: Any) -> Answer:
        """A valid request, except for what is given otherwise."""
        body = others.pop("body", EXAMPLES.get(self.name))
        if not self.takes_json and "requestBody" in self.described:
            return await client(self.method, address, raw=[b"file"], **others)
        return await client(self.method, address, body if self.takes_json else None, **others)


def operations(client: ApiClient) -> list[Operation]:
    """All operations about a company in the path that need a key."""
    paths = client.api.openapi()["paths"]
    found = [
        Operation(method=method.upper(), path=path, described=each)
        for path, methods in paths.items()
        for method, each in methods.items()
        if "{company}" in path and "security" in each
    ]
    assert len(found) > 60
    assert MALFORMED.keys() <= {each.name for each in found}
    return found


def malformed(operation: Operation, company: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Addresses and requests of which one part can't be used, one after another."""
    address = operation.address(company)
    for each in operation.parameters("path"):
        if each["name"] in {"chat", "code"} or (each["name"] == "id" and NAMED_BY_PREFIX.search(operation.path)):
            yield operation.address(company, **{each["name"]: "5@nowhere"}), {}
        if longest := _longest(each["schema"]):
            yield operation.address(company, **{each["name"]: "9" * (longest + 1)}), {}
    yield f"{address}?nonsense=1", {}
    for each in operation.parameters("query"):
        longest = _longest(each["schema"])
        bad = "5@nowhere" if longest is None or each["name"] == "chat" else "9" * (longest + 1)
        yield f"{address}?{each['name']}={bad}", {}
    for each in operation.parameters("header"):
        yield address, {"headers": {each["name"]: "9" * 300}}
    if operation.takes_json:
        yield address, {"body": MALFORMED.get(operation.name, {"nonsense": 1})}
        yield address, {"body": []}


def _longest(schema: dict[str, Any]) -> int | None:
    """The maximum length of a text."""
    return next((each["maxLength"] for each in (schema, *schema.get("anyOf", ())) if "maxLength" in each), None)


def asked(harness: GatewayHarness) -> list[object]:
    return [each for each in harness.engine.commands if isinstance(each, RunQuery | RunOperation)]


@pytest.fixture
async def linked(client: ApiClient, harness: GatewayHarness) -> ApiClient:
    await harness.pair()
    harness.engine.answers["find-username"] = lambda _: QueryAnswered(link=0, request=0, error="not-found")
    return client


async def test_a_malformed_request_is_refused_before_the_company_is_looked_up(
    linked: ApiClient, harness: GatewayHarness
) -> None:
    """With the same answer for a known and an unknown company."""
    wrong = []
    for operation in operations(linked):
        for known, unknown in zip(malformed(operation, COMPANY), malformed(operation, UNKNOWN), strict=True):
            for address, others in (known, unknown):
                answer = await operation.send(linked, address, **others)
                if answer.status != 422:
                    wrong.append((answer.status, operation.name, address, others, answer.body[:200]))
    assert wrong == []
    assert asked(harness) == []


async def test_a_malformed_request_is_refused_before_the_sessions_are_loaded(harness: GatewayHarness) -> None:
    """It does not wait for them, as a valid request does."""
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
    harness.host_starts.close()
    wrong = []
    async with harness.running(until_ready=False) as gateway:
        client = make_client(harness, gateway)
        for operation in operations(client):
            for address, others in malformed(operation, COMPANY):
                answer = await operation.send(client, address, **others)
                if answer.status != 422:
                    wrong.append((answer.status, operation.name, address, others, answer.body[:200]))
        harness.host_starts.open()
        await harness.until(lambda: gateway.is_ready)
    assert wrong == []


async def test_a_valid_request_about_an_unknown_company_gets_404(linked: ApiClient, harness: GatewayHarness) -> None:
    """Whatever else does not exist; also when the chat is given by a username, which only WhatsApp can resolve."""
    wrong = []
    for operation in operations(linked):
        for values in ({}, {"chat": "@rami"}) if "{chat}" in operation.path else ({},):
            if operation.name not in CREATING:
                answer = await operation.send(linked, operation.address(UNKNOWN, **values))
                if (answer.status, answer.json.get("field")) != (404, "company"):
                    wrong.append((answer.status, operation.name, values, answer.body[:200]))
    assert wrong == []
    assert asked(harness) == []


async def test_the_key_is_checked_before_the_rest_of_a_request(linked: ApiClient) -> None:
    """401 without one, 403 with one for another company, whatever else is wrong."""
    for operation in operations(linked):
        for address, others in malformed(operation, OTHER):
            (await operation.send(linked, address, key=None, **others)).problem(401, "unauthorized")
            assert (await operation.send(linked, address, key=KEY_OF_ONE, **others)).status == 403


async def test_whatsapp_is_not_asked_for_a_username_of_a_request_that_is_refused(
    linked: ApiClient, harness: GatewayHarness
) -> None:
    """Of any route that takes a chat in its path or query."""
    for operation in operations(linked):
        by_query = any(each["name"] == "chat" for each in operation.parameters("query"))
        for address, others in malformed(operation, COMPANY):
            if "{chat}" in operation.path:
                address = address.replace(f"/{VALUES['chat']}", "/@rami", 1)
            elif by_query and "chat=" not in address:
                address = f"{address}&chat=@rami"
            else:
                continue
            assert (await operation.send(linked, address, **others)).status == 422
    assert asked(harness) == []
    assert (await linked("GET", f"/v1/sessions/{COMPANY}/chats/@rami")).status == 404
    assert len(asked(harness)) == 1
