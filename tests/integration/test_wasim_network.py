"""The effects of wasim's faults on real sockets, and the answers of its control interface."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from tests.integration.wasim_client import WasimClient
from tests.processes import Wasim
from wasim.wire.nodes import Node

QUIET_S = 0.3
pytestmark = pytest.mark.slow


@pytest.fixture
async def alice(wasim: Wasim) -> AsyncIterator[WasimClient]:
    client = WasimClient(wasim, "962302")
    await client.pair()
    await client.log_in()
    yield client
    await client.socket.close()


@pytest.fixture
async def bob(wasim: Wasim) -> AsyncIterator[WasimClient]:
    client = WasimClient(wasim, "962303")
    await client.pair()
    await client.log_in()
    yield client
    await client.socket.close()


async def ended(client: WasimClient) -> ConnectionClosed:
    """How the connection ended."""
    async with asyncio.timeout(5):
        while True:
            try:
                await client.listen()
            except ConnectionClosed as error:
                return error


async def quiet(client: WasimClient) -> bool:
    """Whether nothing arrives for a while."""
    try:
        async with asyncio.timeout(QUIET_S):
            await client.listen()
    except TimeoutError:
        return True
    return False


async def test_cut_resets_the_connection(wasim: Wasim, alice: WasimClient) -> None:
    """`rst`: a TCP reset, without a WebSocket close."""
    fault = await wasim.fault("cut")
    assert fault["links"] == 1
    error = await ended(alice)
    assert error.rcvd is None
    assert isinstance(error.__cause__, ConnectionResetError)


async def test_cut_ends_tcp_gracefully(wasim: Wasim, alice: WasimClient) -> None:
    """`fin`: the end of TCP, without a WebSocket close."""
    await wasim.fault("cut", how="fin")
    error = await ended(alice)
    assert error.rcvd is None
    assert not isinstance(error.__cause__, ConnectionResetError)


async def test_cut_closes_the_websocket(wasim: Wasim, alice: WasimClient) -> None:
    """`close`: a WebSocket close with the requested code."""
    await wasim.fault("cut", how="close", closeCode=1011)
    error = await ended(alice)
    assert error.rcvd is not None
    assert error.rcvd.code == 1011


async def test_a_fault_for_one_number_does_not_affect_others(
    wasim: Wasim, alice: WasimClient, bob: WasimClient
) -> None:
    """Only links of the given account are affected."""
    await wasim.fault("cut", number="962302")
    await ended(alice)
    await bob.ping()


async def test_latency_delays_both_directions(wasim: Wasim, alice: WasimClient, bob: WasimClient) -> None:
    """A query takes longer by at least twice the latency, messages keep their order, and other accounts are not slower.
    The end of a slow connection arrives after everything that was sent before it.
    """
    fault = await wasim.fault("latency", number="962302", ms=100)
    assert fault["links"] == 1
    loop = asyncio.get_running_loop()
    began = loop.time()
    await alice.ping()
    assert loop.time() - began >= 0.2
    for number in range(3):
        await bob.text("962302", f"M{number}")
    await bob.receive("ack", id="M2")
    assert [(await alice.receive("message")).attrs["id"] for _ in range(3)] == ["M0", "M1", "M2"]
    await wasim.fault("stream-end", number="962302")
    await alice.receive("xmlstreamend")
    await ended(alice)


async def test_a_freeze_makes_an_open_connection_half_open(wasim: Wasim, alice: WasimClient, bob: WasimClient) -> None:
    """Nothing is answered, TCP stays open, nothing sent meanwhile is read; when the fault ends, both directions
    continue.
    """
    fault = await wasim.fault("freeze", number="962302")
    await alice.text("962303", "M1")
    await bob.text("962302", "M2")
    await bob.receive("ack", id="M2")
    assert await quiet(alice)
    assert await wasim.get("/messages", id="M1") == []
    (link,) = [link for link in await wasim.get("/links") if link["number"] == "962302"]
    assert (link["frozen"], link["state"]) == (True, "open")
    await wasim.delete(f"/faults/{fault['id']}")
    await alice.receive("message", id="M2")
    await alice.receive("ack", id="M1")
    await bob.receive("message", id="M1")


async def test_a_frozen_connection_does_not_answer_a_close(wasim: Wasim, alice: WasimClient) -> None:
    """A client that closes gracefully gets no answer, as on a dead network."""
    await wasim.fault("freeze")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(QUIET_S):
            await alice.socket.close()


async def test_a_new_connection_is_not_frozen(wasim: Wasim, alice: WasimClient) -> None:
    """The network works for new connections; the old link is replaced when the freeze ends."""
    await wasim.fault("freeze", number="962302", seconds=0.5)
    frozen_socket = alice.socket
    await alice.log_in()
    await alice.ping()
    async with asyncio.timeout(5):
        await frozen_socket.wait_closed()
    await alice.ping()


async def test_a_freeze_can_include_new_connections(wasim: Wasim, alice: WasimClient) -> None:
    """With `newLinks`, a connection made during the freeze gets no response to its WebSocket request."""
    await wasim.fault("freeze", newLinks=True, seconds=1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(QUIET_S):
            await alice.log_in()


async def test_a_restart_loses_nothing(wasim: Wasim, alice: WasimClient, bob: WasimClient) -> None:
    """All links are reset, the port is closed for the given time, then the same server is available again: waiting
    messages are delivered.
    """
    await bob.socket.close()
    await alice.text("962303", "M1")
    await alice.receive("ack", id="M1")
    await wasim.fault("restart", downS=0.5)
    await ended(alice)
    with pytest.raises(OSError, match="Connect call failed"):
        await alice.log_in()
    await asyncio.sleep(0.7)
    await bob.log_in()
    arrived = await bob.receive("message", id="M1")
    assert arrived.attrs["offline"] == "0"
    await alice.log_in()
    (message,) = await wasim.get("/messages", id="M1")
    assert message["count"] == 1


async def test_withheld_acks_can_be_released(wasim: Wasim, alice: WasimClient, bob: WasimClient) -> None:
    """The message is relayed immediately; its ack is sent when the fault ends."""
    fault = await wasim.fault("withhold-acks", number="962302", release=True)
    await alice.text("962303", "M1")
    await bob.receive("message", id="M1")
    await alice.ping()
    assert not any(node.tag == "ack" for node in alice.received)
    await wasim.delete(f"/faults/{fault['id']}")
    await alice.receive("ack", id="M1")


async def test_withheld_acks_are_dropped_otherwise(wasim: Wasim, alice: WasimClient, bob: WasimClient) -> None:
    """Without `release` they are never sent; `seconds` ends the fault automatically."""
    await wasim.fault("withhold-acks", seconds=0.2)
    await alice.text("962303", "M1")
    await asyncio.sleep(0.3)
    await alice.text("962303", "M2")
    ack = await alice.receive("ack")
    assert ack.attrs["id"] == "M2"
    assert await wasim.get("/faults") == []
    (fault,) = await wasim.get("/faults", all="true")
    assert fault["hits"] == 1


async def test_blackhole_drops_messages_and_answers_pings(wasim: Wasim, alice: WasimClient, bob: WasimClient) -> None:
    """The link looks healthy except that no message is acknowledged."""
    await wasim.fault("blackhole")
    await alice.text("962303", "M1")
    await alice.ping()
    assert not any(node.tag == "ack" for node in alice.received)
    assert await quiet(bob)
    assert await wasim.get("/messages") == []


@pytest.mark.parametrize(("status", "error"), [(None, InvalidHandshake), (503, InvalidStatus)])
async def test_refused_connections(
    wasim: Wasim, alice: WasimClient, status: int | None, error: type[Exception]
) -> None:
    """Connections are accepted and closed, or answered with an HTTP status, for the given time; open links stay."""
    await wasim.fault("refuse", seconds=0.3, **({} if status is None else {"status": status}))
    other = WasimClient(wasim, "962304")
    with pytest.raises((error, EOFError, ConnectionResetError)):
        await other.connect(other.keys.registration(nonce=bytes(64)))
    await alice.ping()
    await asyncio.sleep(0.4)
    await other.pair()


async def test_flap_drops_each_link_after_its_login(wasim: Wasim, alice: WasimClient) -> None:
    """Every link is dropped until the fault ends."""
    await wasim.fault("flap", afterMs=100)
    for _ in range(2):
        await alice.log_in()
        await ended(alice)
    assert (await wasim.get("/faults"))[0]["hits"] == 2
    await wasim.delete("/faults")
    await alice.log_in()
    await asyncio.sleep(QUIET_S)
    await alice.ping()


async def test_stream_errors_and_failures(wasim: Wasim, alice: WasimClient) -> None:
    """A stream error with code and reason, the end of the stream, and a failure at login, each on request."""
    await wasim.fault("stream-error", code=503, reason="service-unavailable", attrs={"text": "later"})
    told = await alice.receive("stream:error", code="503", text="later")
    assert told.children[0].tag == "service-unavailable"
    await ended(alice)
    await wasim.fault("failure", reason=402, attrs={"expire": "60", "code": "101"}, count=1)
    with pytest.raises(ConnectionClosed):
        await alice.log_in()
    (failure,) = (node for node in alice.received if node.tag == "failure")
    assert failure.attrs == {"reason": "402", "expire": "60", "code": "101"}
    await alice.log_in()
    await wasim.fault("stream-end")
    await alice.receive("xmlstreamend")
    await ended(alice)


async def test_an_unlinked_device_is_notified_and_disconnected(wasim: Wasim, alice: WasimClient) -> None:
    """`unlink` removes the device from the phone's list, notifies it, and ends its link."""
    await wasim.post("/phones/962302/unlink", {"device": alice.device})
    await alice.receive("stream:error", code="401")
    await ended(alice)
    (phone,) = await wasim.get("/phones")
    assert phone["devices"] == []


async def test_the_control_interface_lists_phones_links_and_messages(
    wasim: Wasim, alice: WasimClient, bob: WasimClient
) -> None:
    """Phones with their devices, links with their frames, messages with their receipts, and consistent counters."""
    await alice.text("962303", "M1")
    arrived = await bob.receive("message", id="M1")
    await bob.send(Node("receipt", {"id": "M1", "to": arrived.attrs["from"]}))
    await alice.receive("receipt", id="M1")
    phones = {phone["number"]: phone for phone in await wasim.get("/phones")}
    assert phones["962302"]["devices"][0]["jid"] == "962302:1@s.whatsapp.net"
    assert phones["962302"]["devices"][0]["connected"] is True
    links = await wasim.get("/links")
    assert {(link["number"], link["state"]) for link in links} == {("962302", "open"), ("962303", "open")}
    assert all(link["frames"]["in"] > 1 and link["frames"]["out"] > 1 for link in links)
    (message,) = await wasim.get("/messages", to="962303")
    assert (message["from"], message["acked"], message["receipts"]) == ("962302", True, {"delivered": 1, "read": 0})
    assert await wasim.get("/messages", to="962302") == []
    assert len(bytes.fromhex((await wasim.get("/certificate"))["rootKey"])) == 32
    stats = await wasim.get("/stats")
    assert (stats["connects"], stats["logins"], stats["accepted"], stats["links"]) == (4, 2, 1, 2)
    assert stats["numbers"]["962302"]["logins"] == 1
    assert len(stats["numbers"]["962302"]["times"]) == 1


async def test_other_paths_are_refused(wasim: Wasim) -> None:
    """A WebSocket on another path is refused with 404; the control interface lists its routes at its root."""
    async with wasim.http.get(wasim.url.replace("ws://", "http://").replace("/ws/chat", "/other")) as answer:
        assert answer.status in (404, 426)
    async with wasim.http.get(wasim.control + "/") as answer:
        assert "/phones" in await answer.text()


async def test_invalid_bytes_end_only_their_own_connection(wasim: Wasim, alice: WasimClient) -> None:
    """A connection that does not use WebSocket, or not WhatsApp's protocol, is ended; the others continue."""
    host, port = wasim.url.removeprefix("ws://").removesuffix("/ws/chat").split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(b"hello\r\n\r\n")
    other = WasimClient(wasim, "962304")
    await other.connect(other.keys.registration(nonce=bytes(64)))
    await other.socket.send(b"\x00\x00\x01x")
    await ended(other)
    await alice.ping()
    assert (await wasim.get("/stats"))["protocolErrors"] == 1


async def test_queries_are_refused_and_counted(wasim: Wasim, alice: WasimClient) -> None:
    """By namespace and for a time; `/stats` counts all queries and those that failed, by namespace."""
    before = await wasim.get("/stats")
    fault = await wasim.fault("query-error", xmlns="w:mex", code=503, count=1)
    for kind, text in (("error", "service-unavailable"), ("result", None)):
        answer = await alice.ask("w:mex", "get", Node("query", {"query_id": "1"}, b"{}"))
        assert answer.attrs["type"] == kind
        if text is not None:
            assert answer.children[0].attrs == {"code": "503", "text": text}
    stats = await wasim.get("/stats")
    assert stats["queries"]["w:mex"] - before["queries"].get("w:mex", 0) == 2
    assert stats["failedQueries"]["w:mex"] - before["failedQueries"].get("w:mex", 0) == 1
    (listed,) = await wasim.get("/faults")
    assert (listed["id"], listed["hits"]) == (fault["id"], 1)


async def test_messages_to_one_chat_end_the_link(wasim: Wasim, alice: WasimClient, bob: WasimClient) -> None:
    """By a stream error or a plain end of the connection; messages to other chats are acked as usual."""
    await wasim.post("/phones", {"number": "962304"})
    await wasim.fault("stream-error-on-message", number="962302", chat="962304")
    await alice.text("962303", "M1")
    await alice.receive("ack", id="M1")
    await alice.text("962304", "M2")
    assert [child.tag for child in (await alice.receive("stream:error")).children] == ["xml-not-well-formed"]
    await wasim.fault("cut-on-message", number="962303", chat="962304", how="close", closeCode=1011)
    await bob.text("962302", "M3")
    await bob.receive("ack", id="M3")
    await bob.text("962304", "M4")
    error = await ended(bob)
    assert error.rcvd is not None
    assert error.rcvd.code == 1011


async def test_the_quota_of_new_chats_ends_with_its_cycle(wasim: Wasim, alice: WasimClient) -> None:
    """475 for first messages beyond the quota; the device is notified of the quota and of its end."""
    for number in ("962304", "962305"):
        await wasim.post("/phones", {"number": number})
    fault = await wasim.fault("new-chat-quota", number="962302", quota=1)
    assert b"NONE" in (await alice.receive("notification", type="mex")).children[0].data
    await alice.text("962304", "M1")
    assert "error" not in (await alice.receive("ack", id="M1")).attrs
    await alice.text("962305", "M2")
    assert (await alice.receive("ack", id="M2")).attrs["error"] == "475"
    answer = await alice.ask("w:mex", "get", Node("query", {"query_id": "1"}, b"{}"))
    assert b'"capping_status": "CAPPED"' in answer.children[0].data
    await wasim.delete(f"/faults/{fault['id']}")
    await alice.receive("notification", type="mex")
    await alice.text("962305", "M3")
    assert "error" not in (await alice.receive("ack", id="M3")).attrs
