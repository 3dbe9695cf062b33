"""Any node accepts any request: those that only a session's owner can answer are forwarded to it, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from holdfast.api.forwarding import ALIVE_S
from holdfast.http.forwarded import HEADER, VALID_S, Hop, NodeSignatures
from tests.api.api_client import KEY_OF_ONE, ApiClient
from tests.api.two_nodes import OTHER, OWNER, SECRET, Nodes, two_nodes
from tests.gateway_harness import COMPANY, GatewayHarness

HEALTH = f"/webhook/whatsapp/baileys/health/{COMPANY}"
SESSION = f"/v1/sessions/{COMPANY}"


@pytest.fixture
async def nodes(harness: GatewayHarness) -> AsyncIterator[Nodes]:
    """The owner runs one connected session."""
    async with harness.running():
        await harness.pair()
        async with two_nodes(harness) as made:
            yield made


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", HEALTH, None, 200),
        ("GET", f"/webhook/whatsapp/baileys/diagnostics/{COMPANY}?since=2020-01-01T00:00:00Z", None, 200),
        ("POST", f"{SESSION}/reconnect", None, 202),
        ("POST", f"{SESSION}/stop", None, 200),
        ("POST", f"{SESSION}/start", {}, 200),
        ("PUT", SESSION, {"label": "Bäckerei"}, 200),
        ("GET", f"{SESSION}/qr", None, 409),
        ("GET", f"{SESSION}/qr.svg", None, 409),
        ("POST", f"{SESSION}/pairing-code", {"phoneNumber": "+962790000001"}, 409),
        ("GET", f"{SESSION}/passkey", None, 404),
    ],
)
async def test_requests_that_only_the_owner_can_answer_work_at_any_node(
    nodes: Nodes, method: str, path: str, body: object, status: int
) -> None:
    """With the owner's status and body, also for refusals."""
    answer = await nodes.other(method, path, body)
    assert answer.status == status, answer.body
    assert answer.headers["content-type"].startswith("application/")


async def test_the_body_the_key_and_the_headers_of_a_request_reach_the_owner(nodes: Nodes) -> None:
    """The owner applies the rights of the key; the key itself is not forwarded."""
    answer = await nodes.other("PUT", SESSION, {"label": "Bäckerei"}, key=KEY_OF_ONE)
    assert answer.json["label"] == "Bäckerei"
    answer = await nodes.other("PUT", "/v1/sessions/962303", {"label": "x"}, key=KEY_OF_ONE)
    answer.problem(403, "forbidden", field="company")
    (await nodes.other("POST", f"{SESSION}/stop", key=None)).problem(401, "unauthorized")


async def test_an_unreachable_owner_is_reported_by_a_503(nodes: Nodes) -> None:
    """After a few seconds, which a graceful stop needs to hand sessions over."""
    nodes.known[OWNER] = replace(nodes.known[OWNER], url="http://127.0.0.1:9")
    nodes.other.leaps = True
    answer = await nodes.other("POST", f"{SESSION}/reconnect")
    sentence = answer.problem(503, "owner-unreachable", field="company")
    assert sentence == f"the session of company {COMPANY} runs on node a, which does not answer: try again in 5 s"
    assert (answer.json["node"], answer.json["retryAfterS"], answer.headers["retry-after"]) == ("a", 5, "5")


async def test_no_request_is_forwarded_to_a_node_that_does_not_renew_its_leases(nodes: Nodes) -> None:
    """It may be suspended: its port accepts connections, and nothing answers."""
    nodes.known[OWNER] = replace(nodes.known[OWNER], seen_ago_s=ALIVE_S + 1)
    nodes.other.leaps = True
    (await nodes.other("GET", HEALTH)).problem(503, "owner-unreachable", field="company")


async def test_a_request_waits_for_a_session_without_an_owner(nodes: Nodes, harness: GatewayHarness) -> None:
    """The new owner answers."""
    nodes.leases.holder = None
    asking = asyncio.create_task(nodes.other("GET", HEALTH))
    await harness.wait(1)
    assert not asking.done()
    nodes.leases.holder = OWNER
    nodes.other.leaps = True
    assert (await harness.now(asking)).status == 200


async def test_a_request_is_forwarded_once(nodes: Nodes) -> None:
    """A node that gets a forwarded request and does not run the session says so: no request is forwarded in a
    circle.
    """
    request = f"GET {HEALTH}"
    mark = NodeSignatures(SECRET).mark(Hop(target=OTHER, request=request, at=nodes.other.harness.clock.monotonic()))
    answer = await nodes.other("GET", HEALTH, headers={HEADER: mark})
    answer.problem(503, "owner-unreachable", field="company")
    assert answer.headers["holdfast-not-here"] == "1"


@pytest.mark.parametrize(
    ("secret", "change"),
    [
        (b"another secret", {}),
        (SECRET, {"target": OWNER}),
        (SECRET, {"request": f"POST {SESSION}/stop"}),
        (SECRET, {"at": -VALID_S - 1}),
        (SECRET, {"at": VALID_S + 1}),
    ],
)
async def test_a_forward_signature_is_valid_only_in_this_cluster_for_this_request_and_now(
    nodes: Nodes, secret: bytes, change: dict[str, object]
) -> None:
    """Otherwise it would be a permanent API key for all companies."""
    hop = Hop(target=OTHER, request="GET /v1/sessions", at=0, key_id="")
    now = nodes.other.harness.clock.monotonic()
    hop = replace(hop, **change)  # type: ignore[arg-type]  # fields of Hop
    hop = replace(hop, at=hop.at + now)
    mark = NodeSignatures(secret).mark(hop)
    (await nodes.other("GET", "/v1/sessions", key=None, headers={HEADER: mark})).problem(
        403, "bad-forward-signature", field=HEADER
    )


async def test_a_forward_signature_has_the_rights_of_the_callers_key(nodes: Nodes) -> None:
    """Without a key, the rights of no key."""
    signatures, now = NodeSignatures(SECRET), nodes.other.harness.clock.monotonic()
    hop = Hop(target=OTHER, request="GET /v1/sessions", at=now, key_id="0a")
    for rights, status in ((hop, 200), (replace(hop, companies=["1"]), 200), (replace(hop, key_id=None), 401)):
        answer = await nodes.other("GET", "/v1/sessions", key=None, headers={HEADER: signatures.mark(rights)})
        assert answer.status == status
        if status == 200:
            assert len(answer.json["items"]) == (1 if rights.companies is None else 0)


async def test_a_forward_signature_is_refused_by_a_single_node(client: ApiClient) -> None:
    """It is refused, not ignored."""
    mark = NodeSignatures(SECRET).mark(Hop(target="", request="GET /v1/sessions", at=0, key_id=""))
    (await client("GET", "/v1/sessions", headers={HEADER: mark})).problem(403, "bad-forward-signature", field=HEADER)


async def test_a_message_to_a_username_is_forwarded_with_its_body(nodes: Nodes, harness: GatewayHarness) -> None:
    """Only the owner can ask WhatsApp whose username it is."""
    harness.engine.answers["find-username"] = lambda _: {"jid": "66@lid", "lid": "66@lid"}
    sent = await nodes.other("POST", f"{SESSION}/messages", {"to": "@nour", "text": "hello"})
    assert sent.status == 202
    assert (await nodes.other("GET", f"/v1/messages/{sent.json['id']}")).json["chat"] == "66@lid"
