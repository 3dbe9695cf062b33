"""Sessions by HTTP: created, shown, paired, stopped, reconnected, logged out."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace

import pytest
from sqlalchemy import Engine, event

from holdfast.session.engine import OpenLink
from tests.api.api_client import KEY_OF_ONE, OTHER, ApiClient, make_client
from tests.gateway_harness import COMPANY, NUMBER, GatewayHarness

SESSION = f"/v1/sessions/{COMPANY}"


async def test_a_session_is_created_once(client: ApiClient) -> None:
    """PUT may be repeated: the same session, one link, one row."""
    first = await client("PUT", SESSION)
    again = await client("PUT", SESSION, {})
    assert (first.status, again.status) == (200, 200)
    assert again.json == first.json
    assert first.json["since"].endswith("Z")
    nothing_yet = ("phoneNumber", "connectedAt", "nextAttemptAt", "lastPingRttMs", "reason")
    assert [first.json[name] for name in nothing_yet] == [None] * len(nothing_yet)
    assert (first.json["companyId"], first.json["state"], first.json["reconnectAttempts"]) == (COMPANY, "pairing", 0)
    assert len(client.harness.commands(OpenLink)) == 1


async def test_two_callers_may_create_the_same_session_at_once(client: ApiClient) -> None:
    """One actor, one link, both are answered."""
    answers = await asyncio.gather(client("PUT", SESSION), client("PUT", SESSION))
    assert [answer.status for answer in answers] == [200, 200]
    assert len(client.harness.commands(OpenLink)) == 1


async def test_a_connected_session_is_shown_with_its_evidence(client: ApiClient) -> None:
    """The documented fields, times in UTC with `Z`."""
    await client.harness.pair()
    await client.harness.wait(1)
    shown = (await client("GET", SESSION)).json
    assert (shown["state"], shown["phoneNumber"]) == ("connected", "962700000001")
    assert shown["lastPingRttMs"] is not None
    for name in ("since", "connectedAt", "lastActivity"):
        assert shown[name].endswith("Z")


async def test_the_list_shows_all_sessions_that_the_key_may_see(client: ApiClient) -> None:
    """Ordered by name; a key for one company sees one."""
    await client("PUT", f"/v1/sessions/{OTHER}")
    await client("PUT", SESSION)
    everyone = (await client("GET", "/v1/sessions")).json
    assert [item["companyId"] for item in everyone["items"]] == [COMPANY, OTHER]
    assert everyone["next"] is None
    mine = (await client("GET", "/v1/sessions", key=KEY_OF_ONE)).json
    assert [item["companyId"] for item in mine["items"]] == [COMPANY]


async def test_people_stop_and_start_a_session(client: ApiClient) -> None:
    """Each response shows the session's new state, and each request may be repeated."""
    await client.harness.pair()
    client.harness.engine.opens = False
    for _ in range(2):
        assert (await client("POST", f"{SESSION}/stop")).json["state"] == "stopped"
    for _ in range(2):
        assert (await client("POST", f"{SESSION}/start")).json["state"] == "connecting"


@pytest.mark.parametrize("path", [f"{SESSION}/reconnect", f"/webhook/whatsapp/baileys/reconnect/{COMPANY}"])
async def test_people_reconnect_a_session(client: ApiClient, path: str) -> None:
    """The response is 202, because the reconnection is only accepted; the link is a new one."""
    before = await client.harness.pair()
    client.harness.engine.opens = False
    answer = await client("POST", path)
    assert (answer.status, answer.json["state"]) == (202, "reconnecting")
    assert answer.json["reason"]["code"] == "reconnect-requested"
    assert client.harness.link() != before


@pytest.mark.parametrize(("method", "path"), [("POST", f"{SESSION}/logout"), ("DELETE", SESSION)])
async def test_a_logged_out_session_refuses_to_reconnect(client: ApiClient, method: str, path: str) -> None:
    """The session is still listed, with the reason and what a person should do; a reconnection is a conflict."""
    await client.harness.pair()
    gone = await client(method, path)
    assert (gone.status, gone.json["state"]) == (200, "logged_out")
    assert gone.json["reason"] == {
        "code": "logout-requested",
        "number": None,
        "message": "it was logged out from here",
        "action": "scan-qr",
    }
    sentence = (await client("POST", f"{SESSION}/reconnect")).problem(409, "conflict")
    assert sentence == (
        "can't reconnect: the session is logged out because it was logged out from here; "
        "ask for a QR code and scan it first"
    )


async def test_a_session_that_never_paired_cannot_reconnect(client: ApiClient, harness: GatewayHarness) -> None:
    """409 with what to do, from either route."""
    await client("PUT", SESSION)
    await client("POST", f"{SESSION}/stop")
    sentence = (await client("POST", f"/webhook/whatsapp/baileys/reconnect/{COMPANY}")).problem(409, "conflict")
    assert sentence == "can't reconnect: the session is stopped; start it first"


# QR and pairing codes.


async def test_the_qr_code_is_available_as_text_and_as_images(client: ApiClient) -> None:
    """It must not be cached, because whoever has it can link a device."""
    await client("PUT", SESSION)
    text = await client("GET", f"{SESSION}/qr")
    assert text.json["qr"].startswith("2@fake,")
    assert text.json["expiresAt"].endswith("Z")
    svg = await client("GET", f"{SESSION}/qr.svg")
    png = await client("GET", f"{SESSION}/qr.png")
    assert b"<svg" in svg.body
    assert b'fill="#fff"' in svg.body, "without a background it can't be scanned in a dark viewer"
    assert png.body.startswith(b"\x89PNG")
    assert [answer.headers["content-type"] for answer in (text, svg, png)] == [
        "application/json",
        "image/svg+xml",
        "image/png",
    ]
    assert {answer.headers["cache-control"] for answer in (text, svg, png)} == {"no-store"}


@pytest.mark.parametrize("kind", ["qr", "qr.svg", "qr.png"])
async def test_there_is_no_qr_code_if_a_phone_is_linked(client: ApiClient, kind: str) -> None:
    """409 with the reason, as a problem, also when an image was requested."""
    await client.harness.pair()
    sentence = (await client("GET", f"{SESSION}/{kind}")).problem(409, "conflict")
    assert sentence == "can't pair a phone: the session is connected; log it out first"


async def test_a_missing_qr_code_is_reported_in_time(harness: GatewayHarness) -> None:
    """If WhatsApp sends none, the response is a conflict after the wait, not a hanging request."""
    harness.prepare = lambda engine: setattr(engine, "opens", False)
    async with harness.running() as gateway:
        client = make_client(harness, gateway)
        await client("PUT", SESSION)
        before = harness.clock.monotonic()
        sentence = (await client("GET", f"{SESSION}/qr")).problem(409, "conflict")
        assert sentence == "WhatsApp showed no QR code in time: the session is pairing; try again"
        assert harness.clock.monotonic() - before == 15


async def test_a_wait_for_a_qr_code_ends_when_holdfast_stops(harness: GatewayHarness) -> None:
    """503 at once, as for every later request."""
    harness.prepare = lambda engine: setattr(engine, "opens", False)
    async with harness.running() as gateway:
        client = make_client(harness, gateway)
        await client("PUT", SESSION)
        asyncio.get_running_loop().call_soon(client.api.state.shutdown.end)
        before = harness.clock.monotonic()
        answer = await client("GET", f"{SESSION}/qr")
        assert answer.problem(503, "stopping") == "Holdfast is stopping: try again when it is back"
        assert answer.headers["retry-after"] == "2"
        assert harness.clock.monotonic() == before
        (await client("GET", f"{SESSION}/qr.png")).problem(503, "stopping")


async def test_a_pairing_code_is_returned_for_a_phone_number(client: ApiClient) -> None:
    """In any common spelling; an invalid number is refused, with the field."""
    await client("PUT", SESSION)
    answer = await client("POST", f"{SESSION}/pairing-code", {"phoneNumber": "+962 79 000 0001"})
    assert (answer.status, answer.json) == (200, {"code": "H0LDFAST"})
    assert answer.headers["cache-control"] == "no-store"
    refused = await client("POST", f"{SESSION}/pairing-code", {"phoneNumber": "12ab"})
    assert refused.problem(422, "bad-input", field="phoneNumber").startswith('phoneNumber "12ab" is not a phone number')


async def test_a_refused_pairing_code_is_502(client: ApiClient, harness: GatewayHarness) -> None:
    """Because neither the caller nor Holdfast is at fault; the error says what to do."""
    harness.engine.pairing_codes["962790000001"] = 429
    await client("PUT", SESSION)
    answer = await client("POST", f"{SESSION}/pairing-code", {"phoneNumber": "962790000001"})
    assert "wait for an hour" in answer.problem(502, "pairing-code-refused", field="phoneNumber")


# Companies.


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", SESSION),
        ("DELETE", SESSION),
        ("POST", f"{SESSION}/start"),
        ("POST", f"{SESSION}/stop"),
        ("POST", f"{SESSION}/reconnect"),
        ("POST", f"{SESSION}/logout"),
        ("POST", f"/webhook/whatsapp/baileys/reconnect/{COMPANY}"),
        ("GET", f"{SESSION}/qr"),
        ("GET", f"{SESSION}/qr.svg"),
        ("GET", f"{SESSION}/messages"),
        ("GET", f"{SESSION}/inbox"),
    ],
)
async def test_an_unknown_company_is_not_found(client: ApiClient, method: str, path: str) -> None:
    """404 with what to do."""
    sentence = (await client(method, path)).problem(404, "not-found", field="company")
    assert sentence == f'company "{COMPANY}" is unknown: create it with PUT /v1/sessions/{COMPANY}'


@pytest.mark.parametrize(
    "company",
    ["..", "-962302", "962%20302", "%D9%A9%D9%A6", "a%0D%0AX-Injected:1", "x" * 65, "%F0%9F%98%80", "a%3Cb%3E"],
)
async def test_a_company_id_is_a_short_plain_word(client: ApiClient, company: str) -> None:
    """Characters that could break a path, a header or a log are refused when a session is created, and not found
    elsewhere.
    """
    (await client("PUT", f"/v1/sessions/{company}")).problem(422, "bad-input", field="company")
    answer = await client("GET", f"/v1/sessions/{company}")
    answer.problem(404, "not-found", field="company")
    assert "x-injected" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        ("PUT", "/v1/sessions/a%00", "company"),
        ("GET", "/v1/sessions/a%00/messages", "company"),
        ("GET", f"{SESSION}/contacts?after=%00", "after"),
        ("GET", f"{SESSION}/labels/%00/chats", "label"),
        ("GET", "/v1/events?format=json&company=a&company=%00", "company"),
        ("GET", "/v1/webhooks/failed?company=%00", "company"),
        ("POST", "/v1/webhooks/%00/replay", "id"),
    ],
)
async def test_a_nul_in_the_address_is_refused(client: ApiClient, method: str, path: str, field: str) -> None:
    """PostgreSQL would fail at it."""
    assert "U+0000" in (await client(method, path)).problem(422, "bad-input", field=field)


async def test_the_health_route_looks_up_no_invalid_id(client: ApiClient) -> None:
    """It needs no key, and PostgreSQL would fail at a NUL."""
    looked_up: list[object] = []

    def note(_: object, __: object, ___: str, values: object, ____: object, _____: bool) -> None:
        looked_up.append(values)

    event.listen(Engine, "before_cursor_execute", note)
    answer = await client("GET", "/webhook/whatsapp/baileys/health/%00")
    event.remove(Engine, "before_cursor_execute", note)
    answer.problem(404, "not-found", field="company")
    assert not any("\0" in str(values) or "\\x00" in str(values) for values in looked_up)


async def test_a_company_id_with_a_slash_is_refused(client: ApiClient) -> None:
    """A plain slash starts another path segment, for which there is no route; an encoded one is part of the id."""
    (await client("PUT", "/v1/sessions/a/b")).problem(404, "not-found")
    for company in ("a%2Fb", "..%2F..%2Fetc"):
        (await client("PUT", f"/v1/sessions/{company}")).problem(422, "bad-input", field="company")


async def test_requests_get_503_until_the_sessions_are_loaded(harness: GatewayHarness) -> None:
    """A known company must not be reported as unknown while Holdfast starts: after some seconds the response is 503.
    An unknown one need not be waited for."""
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
    harness.host_starts.close()
    async with harness.running(until_ready=False) as gateway:
        client = make_client(harness, gateway)
        answer = await client("GET", SESSION)
        assert answer.problem(503, "starting").startswith("Holdfast is starting")
        assert answer.headers["retry-after"] == "2"
        (await client("GET", f"/v1/sessions/{OTHER}")).problem(404, "not-found", field="company")
        assert (await client("GET", "/healthz", key=None)).json == {"status": "alive"}
        unready = await client("GET", "/readyz", key=None)
        assert (unready.status, unready.json) == (503, {"status": "starting"})
        harness.host_starts.open()
        await harness.until(lambda: gateway.is_ready)
        assert (await client("GET", "/readyz", key=None)).json == {"status": "ready"}
        assert (await client("GET", SESSION)).status == 200


async def test_a_request_waits_while_sessions_are_loading(harness: GatewayHarness) -> None:
    """It is answered as soon as they are loaded."""
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
    harness.host_starts.close()
    async with harness.running(until_ready=False) as gateway, asyncio.TaskGroup() as tasks:
        client = make_client(harness, gateway)
        client.leaps = False
        asking = [tasks.create_task(client("GET", path)) for path in (SESSION, f"{SESSION}/inbox", "/v1/sessions")]
        await harness.quiet()
        assert not any(each.done() for each in asking)
        harness.host_starts.open()
        await harness.until(lambda: all(each.done() for each in asking))
        assert [each.result().status for each in asking] == [200, 200, 200]


async def test_a_message_is_accepted_without_an_engine_host(harness: GatewayHarness) -> None:
    """It is stored while Holdfast starts, and sent once the session is connected."""
    async with harness.running():
        await harness.pair()
    harness.host_starts.close()
    async with harness.running(until_ready=False) as gateway:
        client = make_client(harness, gateway)
        client.leaps = False
        accepted = await client("POST", f"{SESSION}/messages", {"to": NUMBER, "text": "early"})
        assert (accepted.status, gateway.is_ready) == (202, False)
        unknown = await client("POST", "/v1/sessions/nobody/messages", {"to": NUMBER, "text": "early"})
        unknown.problem(404, "not-found", field="company")
        harness.host_starts.open()
        await harness.until_sends(1)


async def test_a_company_can_have_its_own_pacing(client: ApiClient) -> None:
    """Each value overrides the settings; null returns to them; the error names a value out of bounds."""
    await client("PUT", SESSION)
    before = (await client("GET", f"{SESSION}/limits")).json
    assert before["newInLastDay"] == 0
    await client("PUT", SESSION, {"pacing": {"perMinute": 12, "newPerDay": 7}})
    own = (await client("GET", f"{SESSION}/limits")).json
    assert (own["every"]["perMinute"], own["newPerDay"], own["bulk"]) == (12, 7, before["bulk"])
    await client("PUT", SESSION, {})
    assert (await client("GET", f"{SESSION}/limits")).json == own
    await client("PUT", SESSION, {"pacing": None})
    assert (await client("GET", f"{SESSION}/limits")).json == before
    refused = await client("PUT", SESSION, {"pacing": {"burst": 0}})
    assert (refused.status, refused.json["field"]) == (422, "pacing.burst")


async def test_a_key_of_one_company_can_only_tighten_its_pacing(client: ApiClient) -> None:
    """The operator's limits protect the IP address that all companies share: neither a value nor null lifts them."""
    await client("PUT", SESSION, {"pacing": {"perMinute": 12, "burst": 5, "newPerDay": 7}})
    for pacing, field in (
        ({"perMinute": 600}, "pacing.perMinute"),
        ({"perMinute": 0}, "pacing.perMinute"),
        ({"perMinute": 6, "burst": 50}, "pacing.burst"),
        ({"newPerDay": 0}, "pacing.newPerDay"),
    ):
        refused = await client("PUT", SESSION, {"pacing": pacing}, key=KEY_OF_ONE)
        assert "can only tighten" in refused.problem(422, "bad-input", field=field)
    await client("PUT", SESSION, {"pacing": {"perMinute": 6, "gapMs": 500}}, key=KEY_OF_ONE)
    tightened = (await client("GET", f"{SESSION}/limits")).json
    assert (tightened["every"], tightened["newPerDay"], tightened["gapMs"]) == ({"perMinute": 6, "burst": 5}, 7, 500)
    await client("PUT", SESSION, {"pacing": None}, key=KEY_OF_ONE)
    left = (await client("GET", f"{SESSION}/limits")).json
    assert (left["every"], left["newPerDay"], left["gapMs"]) == ({"perMinute": 12, "burst": 5}, 7, 0)


async def test_a_refused_pacing_creates_no_session(harness: GatewayHarness) -> None:
    """The request is refused as a whole."""
    harness.pacing = replace(harness.pacing, gap_ms=100)
    async with harness.running() as gateway:
        refused = await make_client(harness, gateway)("PUT", SESSION, {"pacing": {"gapMs": 0}}, key=KEY_OF_ONE)
        refused.problem(422, "bad-input", field="pacing.gapMs")
        assert gateway.views() == []


async def test_a_label_is_shown_only_where_a_key_is_needed(client: ApiClient) -> None:
    """In session, list and diagnostics; not in the public health, nor in metrics; null removes it."""
    await client("PUT", SESSION, {"label": "  Bakery \u00a0 Irbid "})
    await client.harness.pair()
    shown = [
        (await client("GET", SESSION)).json,
        (await client("GET", "/v1/sessions")).json["items"][0],
        (await client("GET", f"/webhook/whatsapp/baileys/diagnostics/{COMPANY}")).json["session"],
        (await client("PUT", SESSION, {})).json,
        (await client("POST", f"{SESSION}/stop")).json,
    ]
    assert [each["label"] for each in shown] == ["Bakery Irbid"] * 5
    assert [each["phoneNumber"] for each in shown] == ["962700000001"] * 5
    public = await client("GET", f"/webhook/whatsapp/baileys/health/{COMPANY}", key=None)
    for answer in (public, await client("GET", "/metrics")):
        assert b"Bakery" not in answer.body
        assert b"962700000001" not in answer.body
    assert (await client("PUT", SESSION, {"label": None})).json["label"] is None


@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        ("x" * 101, "label has 101 characters: give at most 100"),
        ("Bakery\u202eIrbid", "label has the invisible character U+202E: leave it out"),
        ("Bakery\x00", "label has the invisible character U+0000: leave it out"),
    ],
)
async def test_an_invalid_label_is_refused_before_anything_is_stored(
    client: ApiClient, label: str, sentence: str
) -> None:
    """The error shows invisible characters; no session is created."""
    answer = await client("PUT", SESSION, {"label": label})
    assert answer.problem(422, "bad-input", field="label") == sentence
    assert (await client("GET", SESSION)).status == 404


async def test_requests_for_another_host_are_refused(client: ApiClient) -> None:
    """A page whose host name resolves to this machine gets nothing (DNS rebinding); probes work under any name."""
    answer = await client("GET", SESSION, headers={"Host": "attacker.example:3000"})
    assert "HOLDFAST_PUBLIC_URL" in answer.problem(421, "unknown-host", field="Host")
    for path in ("/healthz", "/readyz"):
        assert (await client("GET", path, key=None, headers={"Host": "attacker.example"})).status == 200
    assert (
        await client("GET", f"/webhook/whatsapp/baileys/health/{COMPANY}", headers={"Host": "10.0.0.7"})
    ).status == 404


@pytest.mark.parametrize("path", [SESSION, f"{SESSION}/pairing-code", f"{SESSION}/contacts/check"])
async def test_a_body_that_is_not_json_is_refused_by_its_content_type(client: ApiClient, path: str) -> None:
    """As `curl -d` sends it without a header; the error says what was sent and what to send."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await client("PUT" if path == SESSION else "POST", path, headers=form, raw=[b'{"phoneNumber": "1"}'])
    sentence = answer.problem(422, "bad-input", field="body")
    assert sentence.startswith('the body was sent as Content-Type: "application/x-www-form-urlencoded": give a JSON')


async def test_the_openapi_document_has_names_that_people_would_choose(client: ApiClient) -> None:
    """Generated clients take their methods and types from it; every JSON body has an example."""
    document = (await client("GET", "/openapi.json", key=None)).json
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    assert all(id_.isascii() and id_.isalnum() and id_[0].islower() for id_ in ids)
    assert {"sendMessage", "listMessages", "putSession"} <= set(ids)
    schemas = document["components"]["schemas"]
    assert {"Session", "SessionList", "Message", "MessageList"} <= set(schemas)
    assert [name for name in schemas if "_" in name or name.endswith("Model")] == []
    used = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert used <= set(schemas)
    bodies = [each["requestBody"]["content"].get("application/json") for each in operations if "requestBody" in each]
    passkey = "#/components/schemas/Assertion"
    without = [body for body in bodies if body and "example" not in body and body["schema"].get("$ref") != passkey]
    assert without == []
