"""Messages as the gateway sends and receives them, with links and hosts that are lost at every moment."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection

from holdfast.base.clock import iso
from holdfast.base.errors import BadInput, Conflict, NotFound
from holdfast.delivery.content import LONGEST_TEXT
from holdfast.delivery.kinds import Image
from holdfast.delivery.rate_limits import Pace
from holdfast.delivery.requests import MessageOptions
from holdfast.delivery.stores import BULK, Message
from holdfast.runtime.composer import SendRequest, text_request
from holdfast.runtime.rate_limiter import MAX_IN_FLIGHT, MIN_IN_FLIGHT
from holdfast.session import events
from holdfast.session.engine import (
    Acked,
    Commit,
    Committed,
    CutLink,
    NewChatsLocked,
    OpenLink,
    Receipted,
    Send,
    SendRefused,
)
from tests.gateway_harness import COMPANY, NUMBER, GatewayHarness

CHAT = f"{NUMBER}@s.whatsapp.net"
OTHER = "962790000002"


async def acked_by_hand(harness: GatewayHarness) -> int:
    """A connected session for which the test sends the acks; returns its link."""
    link = await harness.pair()
    harness.engine.acks = False
    return link


async def sent_without_ack(harness: GatewayHarness) -> tuple[int, Message]:
    """A message whose link died before its ack; on the next one, the query of the queue waits at a latch."""
    link = await acked_by_hand(harness)
    message = await harness.send()
    await harness.quiet()
    harness.taken.close()
    harness.engine.drop(link, code=428)
    await harness.until(lambda: harness.link() != link and harness.state() == "connected")
    await harness.quiet()
    return link, message


def _crash_score(connection: Connection) -> object:
    return connection.exec_driver_sql("SELECT crash_score FROM outbox").scalar_one()


def ack(harness: GatewayHarness, send: Send, *, error: str | None = None) -> None:
    harness.listener.report(Acked(link=send.link, whatsapp_id=send.whatsapp_id, chat=send.to, error=error))


# Accepting.


async def test_a_message_accepted_without_a_link_is_sent_with_the_next(harness: GatewayHarness) -> None:
    """It waits as `queued`, and is sent when the session is connected."""
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
        message = await harness.send("patience")
        assert (message.state, message.sent_at) == ("queued", None)
        await harness.qr()
        harness.engine.scan(harness.link())
        await harness.until_message(message, "sent")
        assert harness.sends() == [(harness.link(), "patience")]


async def test_a_message_goes_from_accepted_to_read(harness: GatewayHarness) -> None:
    """`sent` is WhatsApp's ack; `delivered` and `read` are the recipient's receipts; each has its time."""
    async with harness.running():
        link = await harness.pair()
        message = await harness.send()
        sent = await harness.until_message(message, "sent")
        assert (sent.attempts, sent.delivered_at, sent.error) == (1, None, None)
        for kind in ("delivered", "read"):
            harness.engine.receipt(link, whatsapp_ids=[message.whatsapp_id], chat=CHAT, kind=kind)
            await harness.until_message(message, kind)
        last = await harness.message(message)
        assert None not in (last.sent_at, last.delivered_at, last.read_at)


async def test_the_same_key_returns_the_same_message(harness: GatewayHarness) -> None:
    """A caller that repeats the request gets the first response, and one message is sent."""
    async with harness.running():
        await harness.pair()
        send_request = text_request("+962 79 000 0001", "once", idempotency_key="k1")
        first, second = [await harness.now(harness.messages.accept(COMPANY, send_request)) for _ in range(2)]
        assert first.id == second.id
        await harness.until_message(first, "sent")
        await harness.quiet()
        assert len(harness.sends()) == 1
        with pytest.raises(Conflict, match="Idempotency-Key"):
            await harness.now(harness.messages.accept(COMPANY, text_request(NUMBER, "twice", idempotency_key="k1")))


@pytest.mark.parametrize(
    ("send_request", "field"),
    [
        (text_request("12ab", "x"), "to"),
        (text_request(NUMBER, " \n"), "text"),
        (text_request(NUMBER, "x" * (LONGEST_TEXT + 1)), "text"),
    ],
)
async def test_a_message_that_cannot_be_sent_is_refused_by_field(
    harness: GatewayHarness, send_request: SendRequest, field: str
) -> None:
    """At once, and not after days in the outbox."""
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
        with pytest.raises(BadInput) as refused:
            await harness.messages.accept(COMPANY, send_request)
        assert refused.value.field == field


async def test_unknown_companies_and_messages_are_not_found(harness: GatewayHarness) -> None:
    """A company without a session accepts no messages; an unknown id is not found."""
    async with harness.running():
        for asked in (harness.messages.accept(COMPANY, text_request(NUMBER, "x")), harness.messages.find("msg_1")):
            with pytest.raises(NotFound):
                await harness.now(asked)
        with pytest.raises(NotFound):
            await harness.now(harness.messages.cancel("msg_1"))


# Order and repetition.


async def test_messages_of_one_chat_are_sent_in_order_and_one_at_a_time(harness: GatewayHarness) -> None:
    """The second is sent after the ack of the first; another chat does not wait."""
    async with harness.running():
        await acked_by_hand(harness)
        for text, to in (("one", NUMBER), ("two", NUMBER), ("other", OTHER)):
            await harness.send(text, to=to)
        await harness.quiet()
        assert [text for _, text in harness.sends()] == ["one", "other"]
        ack(harness, harness.commands(Send)[0])
        await harness.quiet()
        assert [text for _, text in harness.sends()] == ["one", "other", "two"]


async def test_messages_in_flight_on_a_lost_link_are_sent_again_under_the_same_id(harness: GatewayHarness) -> None:
    """In the same order within each chat; acked messages are not repeated."""
    async with harness.running():
        link = await acked_by_hand(harness)
        messages = [await harness.send(text) for text in ("one", "two", "three")]
        await harness.quiet()
        ack(harness, harness.commands(Send)[0])
        await harness.quiet()
        harness.engine.drop(link, code=428)
        await harness.until_sends(3)
        harness.engine.acks = True
        ack(harness, harness.commands(Send)[-1])
        await harness.until_message(messages[2], "sent")
        fresh = harness.link()
        assert harness.sends() == [(link, "one"), (link, "two"), (fresh, "two"), (fresh, "three")]
        assert len({send.whatsapp_id for send in harness.commands(Send)}) == 3


async def test_messages_in_flight_when_holdfast_ended_are_sent_again(harness: GatewayHarness) -> None:
    """Before later messages, under the same id."""
    async with harness.running():
        await acked_by_hand(harness)
        first = await harness.send("one")
        await harness.send("two")
        await harness.quiet()
        assert (await harness.message(first)).state == "sending"
    async with harness.running():
        await harness.until_message(first, "sent")
        assert harness.commands(Send)[0].whatsapp_id == first.whatsapp_id
        await harness.quiet()
        assert [text for _, text in harness.sends()] == ["one", "two"]


async def test_a_lost_host_costs_no_message(harness: GatewayHarness) -> None:
    """Messages in flight on the host are sent again by the next one."""
    async with harness.running():
        await acked_by_hand(harness)
        messages = [await harness.send(f"to {to}", to=to) for to in (NUMBER, OTHER)]
        await harness.quiet()
        harness.engine.lose_host()
        for message in messages:
            sent = await harness.until_message(message, "sent")
            assert sent.attempts == 2


async def test_a_link_lost_while_messages_are_loaded_delays_none(harness: GatewayHarness) -> None:
    """Messages that were taken for a lost link are sent on the next one at once, and that link is not cut for them."""
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
        message = await harness.send()
        harness.takes.close()
        link = await harness.pair()
        harness.engine.opens = False
        harness.engine.drop(link, code=428)
        await harness.until(lambda: harness.link() != link)
        harness.takes.open()
        await harness.quiet()
        assert harness.commands(Send) == []
        harness.engine.opens = True
        harness.engine.drop(harness.link(), code=428)
        await harness.until_message(message, "sent", within_s=5)
        assert [send.link for send in harness.commands(Send)] == [harness.link()]
        assert harness.commands(CutLink) == []


async def test_a_link_that_is_lost_while_sending_is_committed_sends_nothing(harness: GatewayHarness) -> None:
    """The message is sent once, on the next link."""
    async with harness.running():
        link = await harness.pair()
        harness.takes.close()
        message = await harness.send()
        await harness.quiet()
        harness.engine.drop(link, code=428)
        await harness.until(lambda: harness.link() != link and harness.state() == "connected")
        harness.takes.open()
        await harness.until_message(message, "sent", within_s=5)
        assert [send.link for send in harness.commands(Send)] == [harness.link()]


async def test_a_message_whose_receipt_comes_first_is_not_sent_again(harness: GatewayHarness) -> None:
    """The link died before the ack; on the next one the receipt arrives before the message would be sent again."""
    async with harness.running():
        link, message = await sent_without_ack(harness)
        harness.engine.receipt(harness.link(), whatsapp_ids=[message.whatsapp_id], chat=CHAT)
        await harness.quiet()
        harness.taken.open()
        await harness.until_message(message, "delivered")
        await harness.quiet()
        assert [send.link for send in harness.commands(Send)] == [link]


async def test_a_strangers_receipt_during_a_query_of_the_queue_delays_no_message(harness: GatewayHarness) -> None:
    """It settles nothing; the message that was just taken is sent anyway."""
    async with harness.running():
        link, message = await sent_without_ack(harness)
        harness.engine.receipt(harness.link(), whatsapp_ids=[message.whatsapp_id], chat=f"{OTHER}@s.whatsapp.net")
        await harness.quiet()
        harness.taken.open()
        harness.engine.acks = True
        await harness.until_message(message, "sent", within_s=5)
        assert [send.link for send in harness.commands(Send)] == [link, harness.link()]


async def test_the_number_of_messages_in_flight_is_limited(harness: GatewayHarness) -> None:
    """A backlog is sent as acks arrive, and completely in the end."""
    async with harness.running():
        await acked_by_hand(harness)
        messages = [await harness.send(to=f"96279100{number:04}") for number in range(MAX_IN_FLIGHT + 5)]
        await harness.quiet()
        assert len(harness.sends()) == MAX_IN_FLIGHT
        harness.engine.acks = True
        for send in harness.commands(Send):
            ack(harness, send)
        for message in messages:
            await harness.until_message(message, "sent")


async def test_a_company_that_sends_beside_others_has_a_share_of_the_engine(harness: GatewayHarness) -> None:
    """Its burst is sent in smaller parts, so that the messages of others wait less; alone it has the whole capacity."""
    async with harness.running():
        await acked_by_hand(harness)
        for n in range(12):
            await harness.pair(company := f"96240{n}")
            await harness.send(company=company)
        for n in range(MAX_IN_FLIGHT):
            await harness.send(to=f"96279100{n:04}")
        await harness.quiet()
        assert len(harness.sends()) == MIN_IN_FLIGHT
        await harness.wait(2)
        ack(harness, harness.commands(Send)[0])
        await harness.quiet()
        assert len(harness.sends()) == MAX_IN_FLIGHT


async def test_a_large_backlog_is_sent_completely_and_in_order(harness: GatewayHarness) -> None:
    """It is loaded in parts; the order holds within each chat."""
    async with harness.running() as gateway:
        await harness.pair()
        await harness.now(gateway.ask(COMPANY, events.StopAsked()))
        send_requests = [
            text_request(f"96279100{chat:04}", f"{turn:03}") for turn in range(1000 // 20 + 5) for chat in range(20)
        ]
        messages = await harness.now(
            asyncio.gather(*(harness.messages.accept(COMPANY, send_request) for send_request in send_requests))
        )
        await harness.now(gateway.ask(COMPANY, events.StartAsked()))
        await harness.until_sends(len(messages))
        for chat in {message.chat for message in messages}:
            sent = [str(send.content["text"]) for send in harness.commands(Send) if send.to == chat]
            assert sent == sorted(set(sent))


async def test_a_link_that_acks_no_messages_is_replaced(harness: GatewayHarness) -> None:
    """It answers pings, but acks nothing: it is given up after fifteen seconds, and the message is sent on the next
    one.
    """
    async with harness.running():
        link = await acked_by_hand(harness)
        message = await harness.send()
        await harness.until(lambda: harness.link() != link, within_s=16)
        harness.engine.acks = True
        await harness.until_message(message, "sent")


async def test_a_link_whose_messages_are_acked_stays_open(harness: GatewayHarness) -> None:
    """The watchdog is reset by every ack."""
    async with harness.running():
        link = await harness.pair()
        message = await harness.send()
        await harness.until_message(message, "sent")
        await harness.wait(100)
        assert harness.link() == link


async def test_only_a_longer_wait_for_an_ack_is_reported(harness: GatewayHarness) -> None:
    """The session knows of one after a second, soon enough to act on it. Most acks come sooner and cost it no step."""
    async with harness.running():
        await acked_by_hand(harness)
        for waited_s, is_reported in [(0.9, False), (1.1, True)]:
            await harness.send()
            began_at = harness.clock.monotonic()
            await harness.wait(waited_s)
            assert unacked_since(harness) == (began_at if is_reported else None)
            ack(harness, harness.commands(Send)[-1])
            await harness.quiet()
            assert unacked_since(harness) is None


def unacked_since(harness: GatewayHarness) -> float | None:
    link = harness.gateway.view(COMPANY).session.link
    assert link is not None
    return link.unacked_since


async def test_a_message_without_an_ack_is_sent_again_on_a_link_that_acks_others(harness: GatewayHarness) -> None:
    """One message without an ack costs neither the link nor the message: after 30 s its id is sent once more."""
    async with harness.running():
        link = await acked_by_hand(harness)
        passed_over = await harness.send("first")
        for n in range(10):
            await harness.send(f"other {n}", to=OTHER)
            await harness.wait(4)
            ack(harness, next(order for order in reversed(harness.commands(Send)) if order.to != CHAT))
        assert [order.whatsapp_id for order in harness.commands(Send)].count(passed_over.whatsapp_id) == 2
        assert harness.link() == link


# Receipts.


async def test_a_receipt_is_durable_before_it_is_acknowledged(harness: GatewayHarness) -> None:
    """An empty commit is a barrier, because WhatsApp repeats no receipt that was acknowledged."""
    async with harness.running():
        link = await harness.pair()
        message = await harness.send()
        await harness.until_message(message, "sent")
        harness.learns.close()
        harness.engine.receipt(link, whatsapp_ids=[message.whatsapp_id], chat=CHAT, kind="delivered")
        await harness.quiet()
        harness.listener.report(Receipted(link=link, whatsapp_ids=[message.whatsapp_id], chat=CHAT, kind="read"))
        harness.listener.report(Commit(link=link, seq=70))
        await harness.quiet()
        harness.learns.let_one_pass()
        assert (await harness.until_message(message, "delivered")).read_at is None
        assert Committed(link=link, seq=70) not in harness.commands(Committed)
        harness.learns.open()
        await harness.until(lambda: Committed(link=link, seq=70) in harness.commands(Committed))
        assert (await harness.message(message)).state == "read"


async def test_a_message_of_one_company_is_not_changed_by_a_receipt_of_another(harness: GatewayHarness) -> None:
    """WhatsApp ids are looked up within the company whose link reported them."""
    async with harness.running():
        await harness.pair()
        theirs = await harness.pair("962303")
        message = await harness.send()
        await harness.until_message(message, "sent")
        harness.engine.receipt(theirs, whatsapp_ids=[message.whatsapp_id], chat=CHAT, kind="read")
        await harness.quiet()
        assert (await harness.message(message)).state == "sent"


async def test_a_receipt_of_an_unknown_kind_is_logged_and_ignored(
    harness: GatewayHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """A kind of receipt that WhatsApp adds later neither fails nor settles anything."""
    async with harness.running():
        link = await harness.pair()
        message = await harness.send()
        await harness.until_message(message, "sent")
        harness.engine.receipt(link, whatsapp_ids=[message.whatsapp_id], chat=CHAT, kind="sniffed")
        await harness.quiet()
        assert (await harness.message(message)).state == "sent"
    assert "Connection 962302: a receipt of the unknown kind 'sniffed'" in caplog.messages


# Refusals.


async def test_a_message_to_a_number_without_whatsapp_fails_with_an_explanation(harness: GatewayHarness) -> None:
    """The failure is final, and other chats continue."""
    async with harness.running():
        await harness.pair()
        harness.engine.not_on_whatsapp.add(CHAT)
        message, other = await harness.send(), await harness.send(to=OTHER)
        failed = await harness.until_message(message, "failed")
        assert (failed.error_code, failed.error) == ("not-on-whatsapp", "this number is not on WhatsApp")
        await harness.until_message(other, "sent")


DAY_S = 24 * 3600


async def locked(harness: GatewayHarness, error: str = "463") -> Message:
    """A session that knows OTHER, and whose first message to NUMBER was refused by WhatsApp's reach-out lock, or its
    quota.
    """
    await harness.pair()
    known = await harness.send(to=OTHER)
    await harness.until_message(known, "sent")
    harness.engine.ack_error = error
    message = await harness.send("stranger")
    await harness.until_sends(2)
    await harness.quiet()
    harness.engine.ack_error = None
    await harness.quiet()
    return message


async def test_a_reach_out_lock_holds_only_messages_to_new_contacts(harness: GatewayHarness) -> None:
    """Repeated attempts get accounts banned: nothing is sent to new contacts for a day, and then each message once."""
    harness.set_policy(keepalive_interval_s=3600.0)
    async with harness.running():
        message = await locked(harness)
        other_stranger = await harness.send("another stranger", to="962790000003")
        answer = await harness.send("known", to=OTHER)
        await harness.until_message(answer, "sent")
        held = await harness.message(message)
        assert (held.state, held.held_code, held.error) == ("sending", "reach-out-lock", None)
        assert await harness.held(other_stranger) == "reach-out-lock"
        await harness.wait(DAY_S - 60)
        assert [text for _, text in harness.sends()] == ["hello", "stranger", "known"]
        await harness.until_message(message, "sent", within_s=120)
        released = await harness.until_message(other_stranger, "sent", within_s=120)
        assert released.held_code is None
        assert len(harness.sends()) == 5


async def test_a_reach_out_lock_survives_a_restart(harness: GatewayHarness) -> None:
    """After a restart Holdfast does not retry the refused message."""
    harness.set_policy(keepalive_interval_s=3600.0)
    async with harness.running():
        message = await locked(harness)
    async with harness.running():
        await harness.until_state("connected")
        await harness.wait(3600)
        assert harness.sends() == []
        await harness.until_message(message, "sent", within_s=DAY_S)


async def test_whatsapp_sets_the_end_of_a_reach_out_lock(harness: GatewayHarness) -> None:
    """Its end time is used, and when WhatsApp lifts the lock, messages are sent at once."""
    harness.set_policy(keepalive_interval_s=3600.0)
    async with harness.running():
        message = await locked(harness)
        ends = int(harness.clock.now().timestamp()) + 3600
        harness.listener.report(NewChatsLocked(link=harness.link(), lock="reach-out-lock", active=True, until_s=ends))
        await harness.wait(3500)
        assert (await harness.message(message)).state == "sending"
        harness.listener.report(NewChatsLocked(link=harness.link(), lock="reach-out-lock", active=False))
        await harness.until_message(message, "sent", within_s=5)


async def test_whatsapp_sets_the_end_of_a_new_chat_quota(harness: GatewayHarness) -> None:
    """A message that was refused with 475 shows the end of WhatsApp's cycle, and is then sent automatically."""
    harness.set_policy(keepalive_interval_s=3600.0)
    async with harness.running():
        message = await locked(harness, "475")
        ends = int(harness.clock.now().timestamp()) + 1800
        harness.listener.report(NewChatsLocked(link=harness.link(), lock="new-chat-quota", active=True, until_s=ends))
        await harness.wait(1)
        stored = await harness.message(message)
        assert (stored.held_code, stored.held_until) == ("new-chat-quota", iso(datetime.fromtimestamp(ends, UTC)))
        await harness.wait(1700)
        assert (await harness.message(message)).state == "sending"
        await harness.until_message(message, "sent", within_s=200)


async def test_a_message_held_by_a_lock_can_be_cancelled(harness: GatewayHarness) -> None:
    """WhatsApp refused it explicitly, so it can't have been delivered."""
    harness.set_policy(keepalive_interval_s=3600.0)
    async with harness.running():
        message = await locked(harness)
        assert (await harness.now(harness.messages.cancel(message.id))).state == "cancelled"
        await harness.wait(2 * DAY_S)
        assert len(harness.sends()) == 2


async def test_a_contact_who_writes_first_is_known(harness: GatewayHarness) -> None:
    """Replies are not held by the lock."""
    harness.set_policy(keepalive_interval_s=3600.0)
    async with harness.running():
        await locked(harness)
        await harness.quiet()
        harness.engine.receive(harness.link(), text="hello?", sender="962790000003@s.whatsapp.net")
        await harness.quiet()
        answer = await harness.send("an answer", to="962790000003")
        await harness.until_message(answer, "sent")


async def test_a_file_that_can_not_be_written_delays_its_message_alone(harness: GatewayHarness) -> None:
    """The disk of the files is full, for example: the session stays connected, and the message is sent later."""
    async with harness.running():
        await harness.pair()
        file = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(100)).decode()
        opened = harness.commands(OpenLink)
        harness.spool.folder.rmdir()
        request = SendRequest(body=Image(base64=file), options=MessageOptions(to=NUMBER))
        message = await harness.now(harness.messages.accept(COMPANY, request))
        await harness.wait(5)
        found = await harness.message(message)
        assert (found.state, found.retry_code) == ("sending", "file-not-written")
        assert "could not be written" in (found.retry_message or "")
        await harness.until_message(await harness.send("a text", to=OTHER), "sent")
        assert harness.commands(OpenLink) == opened
        harness.spool.folder.mkdir()
        await harness.until_message(message, "sent", within_s=60)


# Time and pace.


async def test_a_message_that_was_not_sent_in_time_expires(harness: GatewayHarness) -> None:
    """On time, with or without a link; it is never sent afterwards."""
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
        send_request = text_request(NUMBER, "for now", expires_in_s=60)
        message = await harness.now(harness.messages.accept(COMPANY, send_request))
        assert message.expires_at is not None
        await harness.wait(59)
        assert (await harness.message(message)).state == "queued"
        await harness.until_message(message, "expired", within_s=2)
        await harness.pair()
        await harness.wait(60)
        assert harness.sends() == []


async def test_a_message_in_flight_does_not_expire(harness: GatewayHarness) -> None:
    """Its outcome is unknown, and settled only by WhatsApp's answer."""
    async with harness.running():
        await acked_by_hand(harness)
        send_request = text_request(NUMBER, "for now", expires_in_s=5)
        message = await harness.now(harness.messages.accept(COMPANY, send_request))
        await harness.until_sends(1)
        await harness.wait(8)
        assert (await harness.message(message)).state == "sending"
        ack(harness, harness.commands(Send)[-1])
        await harness.until_message(message, "sent")


async def test_bulk_messages_wait_for_interactive_ones_and_are_paced(harness: GatewayHarness) -> None:
    """A reply overtakes bulk messages to other people, but no earlier message to the same person."""
    harness.pacing = replace(harness.pacing, bulk=Pace(per_minute=6, burst=1))
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
        for n in range(3):
            await harness.now(
                harness.messages.accept(COMPANY, text_request(f"96279000001{n}", f"bulk {n}", priority=BULK))
            )
        await harness.send("urgent", to=OTHER)
        await harness.send("urgent behind bulk", to="962790000012")
        await harness.pair()
        await harness.wait(1)
        assert [text for _, text in harness.sends()] == ["bulk 2", "urgent", "urgent behind bulk"]
        await harness.wait(21)
        assert [text for _, text in harness.sends()][3:] == ["bulk 0", "bulk 1"]


async def test_new_contacts_are_limited_per_day(harness: GatewayHarness) -> None:
    """The next one waits until a day after the first and says so; known chats are not affected."""
    harness.pacing = replace(harness.pacing, new_per_day=2)
    harness.set_policy(keepalive_interval_s=3600.0)
    async with harness.running():
        await harness.pair()
        first, second, third = [await harness.send(to=f"96279000001{n}") for n in range(3)]
        await harness.until_message(second, "sent")
        await harness.quiet()
        assert (await harness.message(third)).state == "queued"
        assert await harness.held(third) == "daily-limit"
        again = await harness.send("again", to=first.recipient)
        await harness.until_message(again, "sent", within_s=5)
        await harness.until_message(third, "sent", within_s=DAY_S + 60)


async def test_after_a_temporary_ban_fewer_messages_are_sent(harness: GatewayHarness) -> None:
    """For a day after its end, also after a restart."""
    async with harness.running():
        link = await harness.pair()
        known = await harness.send()
        await harness.until_message(known, "sent")
        harness.engine.drop(link, code=402, attributes={"code": "101", "expire": "60"})
        await harness.until_state("paused")
        await harness.until_state("connected", within_s=3600)
        await harness.quiet()
    async with harness.running():
        await harness.until_state("connected")
        for n in range(10):
            await harness.send(f"message {n}")
        await harness.wait(1)
        assert 1 < len(harness.sends()) < 8
        await harness.wait(60)
        assert len(harness.sends()) == 10


async def test_a_stale_device_session_is_retried_once_whatever_the_earlier_errors(harness: GatewayHarness) -> None:
    """A busy server's errors do not use up the one retry with fresh sessions."""
    async with harness.running():
        await harness.pair()
        harness.engine.ack_error = "503"
        message = await harness.send()
        await harness.until_sends(2)
        await harness.quiet()
        harness.engine.ack_error = "479"
        await harness.until_sends(3)
        await harness.quiet()
        harness.engine.ack_error = None
        await harness.until_message(message, "sent")


async def test_a_busy_server_is_retried_under_the_same_id_and_in_order(harness: GatewayHarness) -> None:
    """With growing delays; the following messages of the chat wait, another chat does not."""
    async with harness.running():
        await harness.pair()
        harness.engine.ack_error = "503"
        message, after = await harness.send("one"), await harness.send("two")
        await harness.wait(20)
        assert {text for _, text in harness.sends()} == {"one"}
        assert 2 < len(harness.sends()) < 10
        harness.engine.ack_error = None
        await harness.until_message(after, "sent")
        assert (await harness.message(message)).state == "sent"
        assert len({send.whatsapp_id for send in harness.commands(Send)}) == 2


async def test_lost_links_do_not_count_against_a_message(harness: GatewayHarness) -> None:
    """A message that was in flight on many links that died is not given up at the engine's first failure."""
    async with harness.running():
        await acked_by_hand(harness)
        message = await harness.send()
        for sends in range(1, 7):
            await harness.until_sends(sends)
            await harness.quiet()
            harness.engine.drop(harness.link(), code=428)
        await harness.until_sends(7)
        await harness.quiet()
        send = harness.commands(Send)[-1]
        harness.listener.report(SendRefused(link=send.link, whatsapp_id=send.whatsapp_id, code="engine-error"))
        harness.engine.acks = True
        await harness.until_message(message, "sent", within_s=5)


async def test_an_engine_that_fails_again_and_again_fails_the_message(
    harness: GatewayHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """Five consecutive failures are enough, each is logged, and the chat continues."""
    caplog.set_level("INFO", logger="holdfast")
    async with harness.running():
        await acked_by_hand(harness)
        message, after = await harness.send("poison"), await harness.send("after")
        for sends in range(1, 6):
            await harness.until_sends(sends)
            send = harness.commands(Send)[-1]
            refusal = SendRefused(link=send.link, whatsapp_id=send.whatsapp_id, code="engine-error", detail="boom")
            harness.listener.report(refusal)
        failed = await harness.until_message(message, "failed")
        assert failed.error == "the engine failed 5 times to make the message: boom"
        assert (
            "Connection 962302: a message could not be handed over (engine-error, attempt 4); retry in 8 s"
            in caplog.messages
        )
        await harness.until(lambda: harness.sends()[-1][1] == "after")
        ack(harness, harness.commands(Send)[-1])
        await harness.until_message(after, "sent")


# Cancelling.


async def test_a_cancelled_message_is_never_sent(harness: GatewayHarness) -> None:
    """The next message of the chat is sent."""
    async with harness.running() as gateway:
        await harness.pair()
        await harness.now(gateway.ask(COMPANY, events.StopAsked()))
        messages = [await harness.send(text) for text in ("one", "two", "three")]
        cancelled = await harness.now(harness.messages.cancel(messages[1].id))
        assert cancelled.state == "cancelled"
        await harness.now(gateway.ask(COMPANY, events.StartAsked()))
        await harness.until_message(messages[2], "sent")
        assert [text for _, text in harness.sends()] == ["one", "three"]


async def test_a_message_that_may_have_been_sent_is_not_cancelled(harness: GatewayHarness) -> None:
    """The error names the state of the message."""
    async with harness.running():
        await acked_by_hand(harness)
        message = await harness.send()
        await harness.quiet()
        with pytest.raises(Conflict, match="the message is sending"):
            await harness.now(harness.messages.cancel(message.id))


async def test_messages_behind_a_cancelled_one_are_sent_at_once(harness: GatewayHarness) -> None:
    """This holds even if the cancellation was committed before the start of its sending."""
    async with harness.running():
        await acked_by_hand(harness)
        first, second, _ = [await harness.send(text) for text in ("one", "two", "three")]
        await harness.quiet()
        harness.takes.close()
        ack(harness, harness.commands(Send)[0])
        await harness.quiet()
        await harness.now(harness.outbox.cancel(second.id))  # the caller disconnected before it got a response
        harness.takes.open()
        await harness.until(lambda: harness.sends()[-1][1] == "three", within_s=1)
        assert [text for _, text in harness.sends()] == ["one", "three"]
        assert [(await harness.message(each)).state for each in (first, second)] == ["sent", "cancelled"]


# Defects of our own.


async def test_messages_survive_a_failing_actor(harness: GatewayHarness) -> None:
    """Messages accepted before the failure and during the restart are sent by the next actor."""
    async with harness.running() as gateway:
        await acked_by_hand(harness)
        before = await harness.send("before")
        await harness.quiet()
        harness.engine.acks = True
        harness.database.failing = "a defect"
        with pytest.raises(Exception, match="is being restarted"):
            await harness.now(gateway.ask(COMPANY, events.ReconnectAsked()))
        harness.database.failing = None
        while_gone = await harness.send("while gone")
        for message in (before, while_gone):
            await harness.until_message(message, "sent")


async def test_an_ack_that_could_not_be_stored_is_replaced_by_that_of_a_resend(harness: GatewayHarness) -> None:
    """The actor restarts, and the message is sent again under the same id and acked."""
    async with harness.running():
        await acked_by_hand(harness)
        message = await harness.send()
        await harness.quiet()
        harness.database.failing = "disk full"
        ack(harness, harness.commands(Send)[0])
        await harness.quiet()
        harness.database.failing = None
        harness.engine.acks = True
        sent = await harness.until_message(message, "sent")
        assert sent.attempts == 2
        assert len({send.whatsapp_id for send in harness.commands(Send)}) == 1


@pytest.mark.parametrize("detail", ["exited with code 134", "killed by SIGKILL"])
async def test_a_message_that_ends_hosts_fails_and_others_are_sent(harness: GatewayHarness, detail: str) -> None:
    """After three hosts it is sent alone, after five it fails with an explanation; nothing else is lost.

    The kernel kills a host that runs out of memory over a message which it prepares.
    """
    harness.prepare = lambda engine: setattr(engine, "dies_of", ("poison", detail))
    async with harness.running():
        await harness.pair()
        poison = await harness.send("poison")
        others = [await harness.send(f"harmless {n}", to=f"96279000001{n}") for n in range(3)]
        failed = await harness.until_message(poison, "failed", within_s=600)
        assert failed.error_code == "engine-ended"
        for other in others:
            await harness.until_message(other, "sent", within_s=120)
        after = await harness.send("after")
        await harness.until_message(after, "sent", within_s=120)
        assert harness.engines == 6


@pytest.mark.parametrize("detail", ["killed by SIGKILL", "killed by SIGTERM", "exited with code 75"])
async def test_a_message_is_not_blamed_for_hosts_that_others_ended(harness: GatewayHarness, detail: str) -> None:
    """Its frame had left when somebody killed the host, or the host ended because its gateway did not answer."""
    harness.prepare = lambda engine: setattr(engine, "acks", False)
    async with harness.running():
        await harness.pair()
        message = await harness.send()
        for _ in range(6):
            await harness.until(lambda: harness.engine.alive and bool(harness.engine.arrived))
            await harness.quiet()
            harness.engine.lose_host(detail=detail)
        harness.prepare = lambda _: None
        await harness.until_message(message, "sent", within_s=3600)


async def test_a_quarantined_session_does_not_blame_its_message_for_killed_hosts(harness: GatewayHarness) -> None:
    """The last death, after which the session is quarantined, counts as little as those before."""
    harness.prepare = lambda engine: setattr(engine, "acks", False)
    async with harness.running() as gateway:
        await harness.pair()
        message = await harness.send()
        while harness.state() != "paused":
            await harness.until(lambda: harness.engine.alive and bool(harness.engine.arrived))
            await harness.quiet()
            harness.engine.lose_host(detail="killed by SIGKILL")
            await harness.quiet()
        score = await harness.now(harness.database.read(_crash_score))
        assert score == 0
        harness.prepare = lambda _: None
        await harness.now(gateway.ask(COMPANY, events.StartAsked()))
        await harness.until_message(message, "sent", within_s=60)


async def test_a_message_is_not_blamed_for_an_unstable_network(harness: GatewayHarness) -> None:
    """The link ends two seconds after it opens, again and again: the message becomes suspect, and waits for a link that
    lasts a little longer."""
    async with harness.running():
        link = await acked_by_hand(harness)
        message = await harness.send()
        for _ in range(14):
            await harness.wait(2)
            harness.engine.drop(link, code=428)
            await harness.until(lambda: harness.state() != "connected")
            await harness.until_state("connected")
            link = harness.link()
        assert (await harness.message(message)).state == "sending"
        harness.engine.acks = True
        await harness.until_message(message, "sent", within_s=30)


@pytest.mark.parametrize("code", [500, 428])
async def test_a_message_that_ends_every_link_does_not_starve_others(harness: GatewayHarness, code: int) -> None:
    """It is sent alone once it is suspect, and fails in the end with an explanation; messages in flight beside it
    arrive.
    """
    harness.prepare = lambda engine: setattr(engine, "ends_links", ("poison", code))
    async with harness.running():
        await harness.pair()
        poison = await harness.send("poison")
        others = [await harness.send(f"harmless {n}", to=f"96279000001{n % 3}") for n in range(60)]
        for other in others:
            await harness.until_message(other, "sent", within_s=60)
        failed = await harness.until_message(poison, "failed", within_s=3600)
        assert failed.error_code == "link-ended"
        assert failed.error is not None
        assert "links ended again and again while this message was being sent" in failed.error
        await harness.until_message(await harness.send("after"), "sent", within_s=120)


async def test_a_message_that_was_handed_over_is_cancelled_by_force(harness: GatewayHarness) -> None:
    """The next message of the chat is sent at once."""
    async with harness.running():
        await acked_by_hand(harness)
        stuck, after = await harness.send("stuck"), await harness.send("after")
        await harness.quiet()
        assert (await harness.now(harness.messages.cancel(stuck.id, force=True))).state == "cancelled"
        harness.engine.acks = True
        await harness.until_message(after, "sent", within_s=5)


# Temporary errors.


async def test_sending_pauses_while_whatsapp_refuses_every_message(harness: GatewayHarness) -> None:
    """No message fails, sending pauses, and all arrive once WhatsApp accepts messages again."""
    async with harness.running():
        await harness.pair()
        harness.engine.ack_error = "429"
        messages = [await harness.send(f"text {n}", to=f"9627900001{n:02}") for n in range(30)]
        await harness.wait(60)
        assert len(harness.sends()) < 40
        waiting = await harness.message(messages[0])
        assert (waiting.state, waiting.retry_code) == ("sending", "ack-429")
        assert waiting.retry_message == "WhatsApp limits the rate of messages (ack error 429)"
        harness.engine.ack_error = None
        for message in messages:
            sent = await harness.until_message(message, "sent", within_s=120)
            assert sent.retry_code is None


async def test_a_message_that_is_refused_for_a_week_fails_with_the_last_reason(harness: GatewayHarness) -> None:
    """Without an expiry of its own it is not retried forever."""
    harness.set_policy(keepalive_interval_s=3600.0)
    async with harness.running():
        await harness.pair()
        harness.engine.ack_error = "599"
        message = await harness.send()
        await harness.wait(3600)
        assert (await harness.message(message)).state == "sending"
        harness.clock.set_wall(harness.clock.now() + timedelta(days=7))
        failed = await harness.until_message(message, "failed", within_s=3600)
        assert failed.error == "WhatsApp did not accept the message (ack error 599); retried for 7 days"


async def test_a_quota_of_new_chats_holds_first_messages(harness: GatewayHarness) -> None:
    """Error 475 says nothing about the number: the message waits and shows why; known chats are not affected."""
    harness.set_policy(keepalive_interval_s=3600.0)
    async with harness.running():
        await harness.pair()
        await harness.until_message(await harness.send(to=OTHER), "sent")
        harness.engine.ack_error = "475"
        message = await harness.send("first")
        await harness.until_sends(2)
        await harness.quiet()
        harness.engine.ack_error = None
        assert await harness.held(message) == "new-chat-quota"
        await harness.until_message(await harness.send("known", to=OTHER), "sent", within_s=5)
        await harness.until_message(message, "sent", within_s=DAY_S + 60)
