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
from holdfast.runtime.rate_limiter import LEAST, MOST
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
from tests.world import COMPANY, NUMBER, World

CHAT = f"{NUMBER}@s.whatsapp.net"
OTHER = "962790000002"


async def acked_by_hand(world: World) -> int:
    """A connected session for which the test sends the acks; returns its link."""
    link = await world.pair()
    world.engine.acks = False
    return link


def _crash_score(connection: Connection) -> object:
    return connection.exec_driver_sql("SELECT crash_score FROM outbox").scalar_one()


def ack(world: World, send: Send, *, error: str | None = None) -> None:
    world.listener.report(Acked(link=send.link, whatsapp_id=send.whatsapp_id, chat=send.to, error=error))


# Accepting.


async def test_a_message_accepted_without_a_link_is_sent_with_the_next(world: World) -> None:
    """It waits as `queued`, and is sent when the session is connected."""
    async with world.running() as gateway:
        await world.now(gateway.put(COMPANY))
        message = await world.send("patience")
        assert (message.state, message.sent_at) == ("queued", None)
        await world.qr()
        world.engine.scan(world.link())
        await world.until_message(message, "sent")
        assert world.sends() == [(world.link(), "patience")]


async def test_a_message_goes_from_accepted_to_read(world: World) -> None:
    """`sent` is WhatsApp's ack; `delivered` and `read` are the recipient's receipts; each has its time."""
    async with world.running():
        link = await world.pair()
        message = await world.send()
        sent = await world.until_message(message, "sent")
        assert (sent.attempts, sent.delivered_at, sent.error) == (1, None, None)
        for kind in ("delivered", "read"):
            world.engine.receipt(link, whatsapp_ids=[message.whatsapp_id], chat=CHAT, kind=kind)
            await world.until_message(message, kind)
        last = await world.message(message)
        assert None not in (last.sent_at, last.delivered_at, last.read_at)


async def test_the_same_key_returns_the_same_message(world: World) -> None:
    """A caller that repeats the request gets the first response, and one message is sent."""
    async with world.running():
        await world.pair()
        send_request = text_request("+962 79 000 0001", "once", idempotency_key="k1")
        first, second = [await world.now(world.sending.accept(COMPANY, send_request)) for _ in range(2)]
        assert first.id == second.id
        await world.until_message(first, "sent")
        await world.quiet()
        assert len(world.sends()) == 1
        with pytest.raises(Conflict, match="Idempotency-Key"):
            await world.now(world.sending.accept(COMPANY, text_request(NUMBER, "twice", idempotency_key="k1")))


@pytest.mark.parametrize(
    ("send_request", "field"),
    [
        (text_request("12ab", "x"), "to"),
        (text_request(NUMBER, " \n"), "text"),
        (text_request(NUMBER, "x" * (LONGEST_TEXT + 1)), "text"),
    ],
)
async def test_a_message_that_cannot_be_sent_is_refused_by_field(
    world: World, send_request: SendRequest, field: str
) -> None:
    """At once, and not after days in the outbox."""
    async with world.running() as gateway:
        await world.now(gateway.put(COMPANY))
        with pytest.raises(BadInput) as refused:
            await world.sending.accept(COMPANY, send_request)
        assert refused.value.field == field


async def test_unknown_companies_and_messages_are_not_found(world: World) -> None:
    """A company without a session accepts no messages; an unknown id is not found."""
    async with world.running():
        for asked in (world.sending.accept(COMPANY, text_request(NUMBER, "x")), world.sending.find("msg_1")):
            with pytest.raises(NotFound):
                await world.now(asked)
        with pytest.raises(NotFound):
            await world.now(world.sending.cancel("msg_1"))


# Order and repetition.


async def test_messages_of_one_chat_are_sent_in_order_and_one_at_a_time(world: World) -> None:
    """The second is sent after the ack of the first; another chat does not wait."""
    async with world.running():
        await acked_by_hand(world)
        for text, to in (("one", NUMBER), ("two", NUMBER), ("other", OTHER)):
            await world.send(text, to=to)
        await world.quiet()
        assert [text for _, text in world.sends()] == ["one", "other"]
        ack(world, world.commands(Send)[0])
        await world.quiet()
        assert [text for _, text in world.sends()] == ["one", "other", "two"]


async def test_messages_in_flight_on_a_lost_link_are_sent_again_under_the_same_id(world: World) -> None:
    """In the same order within each chat; acked messages are not repeated."""
    async with world.running():
        link = await acked_by_hand(world)
        messages = [await world.send(text) for text in ("one", "two", "three")]
        await world.quiet()
        ack(world, world.commands(Send)[0])
        await world.quiet()
        world.engine.drop(link, code=428)
        await world.until_sends(3)
        world.engine.acks = True
        ack(world, world.commands(Send)[-1])
        await world.until_message(messages[2], "sent")
        fresh = world.link()
        assert world.sends() == [(link, "one"), (link, "two"), (fresh, "two"), (fresh, "three")]
        assert len({send.whatsapp_id for send in world.commands(Send)}) == 3


async def test_messages_in_flight_when_holdfast_ended_are_sent_again(world: World) -> None:
    """Before later messages, under the same id."""
    async with world.running():
        await acked_by_hand(world)
        first = await world.send("one")
        await world.send("two")
        await world.quiet()
        assert (await world.message(first)).state == "sending"
    async with world.running():
        await world.until_message(first, "sent")
        assert world.commands(Send)[0].whatsapp_id == first.whatsapp_id
        await world.quiet()
        assert [text for _, text in world.sends()] == ["one", "two"]


async def test_a_lost_host_costs_no_message(world: World) -> None:
    """Messages in flight on the host are sent again by the next one."""
    async with world.running():
        await acked_by_hand(world)
        messages = [await world.send(f"to {to}", to=to) for to in (NUMBER, OTHER)]
        await world.quiet()
        world.engine.lose_host()
        for message in messages:
            sent = await world.until_message(message, "sent")
            assert sent.attempts == 2


async def test_a_link_lost_while_messages_are_loaded_delays_none(world: World) -> None:
    """Messages that were taken for a lost link are sent on the next one at once, and that link is not cut for them."""
    async with world.running() as gateway:
        await world.now(gateway.put(COMPANY))
        message = await world.send()
        world.takes.close()
        link = await world.pair()
        world.engine.opens = False
        world.engine.drop(link, code=428)
        await world.until(lambda: world.link() != link)
        world.takes.open()
        await world.quiet()
        assert world.commands(Send) == []
        world.engine.opens = True
        world.engine.drop(world.link(), code=428)
        await world.until_message(message, "sent", within_s=5)
        assert [send.link for send in world.commands(Send)] == [world.link()]
        assert world.commands(CutLink) == []


async def test_a_link_that_is_lost_while_sending_is_committed_sends_nothing(world: World) -> None:
    """The message is sent once, on the next link."""
    async with world.running():
        link = await world.pair()
        world.takes.close()
        message = await world.send()
        await world.quiet()
        world.engine.drop(link, code=428)
        await world.until(lambda: world.link() != link and world.state() == "connected")
        world.takes.open()
        await world.until_message(message, "sent", within_s=5)
        assert [send.link for send in world.commands(Send)] == [world.link()]


async def test_a_message_whose_receipt_comes_first_is_not_sent_again(world: World) -> None:
    """The link died before the ack; on the next one the receipt arrives before the message would be sent again."""
    async with world.running():
        link = await acked_by_hand(world)
        message = await world.send()
        await world.quiet()
        world.taken.close()
        world.engine.drop(link, code=428)
        await world.until(lambda: world.link() != link and world.state() == "connected")
        await world.quiet()
        world.engine.receipt(world.link(), whatsapp_ids=[message.whatsapp_id], chat=CHAT)
        await world.quiet()
        world.taken.open()
        await world.until_message(message, "delivered")
        await world.quiet()
        assert [send.link for send in world.commands(Send)] == [link]


async def test_a_strangers_receipt_during_a_query_of_the_queue_delays_no_message(world: World) -> None:
    """It settles nothing; the message that was just taken is sent anyway."""
    async with world.running():
        link = await acked_by_hand(world)
        message = await world.send()
        await world.quiet()
        world.taken.close()
        world.engine.drop(link, code=428)
        await world.until(lambda: world.link() != link and world.state() == "connected")
        await world.quiet()
        world.engine.receipt(world.link(), whatsapp_ids=[message.whatsapp_id], chat=f"{OTHER}@s.whatsapp.net")
        await world.quiet()
        world.taken.open()
        world.engine.acks = True
        await world.until_message(message, "sent", within_s=5)
        assert [send.link for send in world.commands(Send)] == [link, world.link()]


async def test_the_number_of_messages_in_flight_is_limited(world: World) -> None:
    """A backlog is sent as acks arrive, and completely in the end."""
    async with world.running():
        await acked_by_hand(world)
        messages = [await world.send(to=f"96279100{number:04}") for number in range(MOST + 5)]
        await world.quiet()
        assert len(world.sends()) == MOST
        world.engine.acks = True
        for send in world.commands(Send):
            ack(world, send)
        for message in messages:
            await world.until_message(message, "sent")


async def test_a_company_that_sends_beside_others_has_a_share_of_the_engine(world: World) -> None:
    """Its burst is sent in smaller parts, so that the messages of others wait less; alone it has the whole capacity."""
    async with world.running():
        await acked_by_hand(world)
        for n in range(12):
            await world.pair(company := f"96240{n}")
            await world.send(company=company)
        for n in range(MOST):
            await world.send(to=f"96279100{n:04}")
        await world.quiet()
        assert len(world.sends()) == LEAST
        await world.wait(2)
        ack(world, world.commands(Send)[0])
        await world.quiet()
        assert len(world.sends()) == MOST


async def test_a_large_backlog_is_sent_completely_and_in_order(world: World) -> None:
    """It is loaded in parts; the order holds within each chat."""
    async with world.running() as gateway:
        await world.pair()
        await world.now(gateway.ask(COMPANY, events.StopAsked()))
        send_requests = [
            text_request(f"96279100{chat:04}", f"{turn:03}") for turn in range(1000 // 20 + 5) for chat in range(20)
        ]
        messages = await world.now(
            asyncio.gather(*(world.sending.accept(COMPANY, send_request) for send_request in send_requests))
        )
        await world.now(gateway.ask(COMPANY, events.StartAsked()))
        await world.until_sends(len(messages))
        for chat in {message.chat for message in messages}:
            sent = [str(send.content["text"]) for send in world.commands(Send) if send.to == chat]
            assert sent == sorted(set(sent))


async def test_a_link_that_acks_no_messages_is_replaced(world: World) -> None:
    """It answers pings, but acks nothing: it is given up after fifteen seconds, and the message is sent on the next
    one.
    """
    async with world.running():
        link = await acked_by_hand(world)
        message = await world.send()
        await world.until(lambda: world.link() != link, within_s=16)
        world.engine.acks = True
        await world.until_message(message, "sent")


async def test_a_link_whose_messages_are_acked_stays_open(world: World) -> None:
    """The watchdog is reset by every ack."""
    async with world.running():
        link = await world.pair()
        message = await world.send()
        await world.until_message(message, "sent")
        await world.wait(100)
        assert world.link() == link


async def test_only_a_longer_wait_for_an_ack_is_reported(world: World) -> None:
    """The session knows of one after a second, soon enough to act on it. Most acks come sooner and cost it no step."""
    async with world.running():
        await acked_by_hand(world)
        for waited_s, is_reported in [(0.9, False), (1.1, True)]:
            await world.send()
            began_at = world.clock.monotonic()
            await world.wait(waited_s)
            assert unacked_since(world) == (began_at if is_reported else None)
            ack(world, world.commands(Send)[-1])
            await world.quiet()
            assert unacked_since(world) is None


def unacked_since(world: World) -> float | None:
    link = world.gateway.view(COMPANY).session.link
    assert link is not None
    return link.unacked_since


async def test_a_message_without_an_ack_is_sent_again_on_a_link_that_acks_others(world: World) -> None:
    """One message without an ack costs neither the link nor the message: after 30 s its id is sent once more."""
    async with world.running():
        link = await acked_by_hand(world)
        passed_over = await world.send("first")
        for n in range(10):
            await world.send(f"other {n}", to=OTHER)
            await world.wait(4)
            ack(world, next(order for order in reversed(world.commands(Send)) if order.to != CHAT))
        assert [order.whatsapp_id for order in world.commands(Send)].count(passed_over.whatsapp_id) == 2
        assert world.link() == link


# Receipts.


async def test_a_receipt_is_durable_before_it_is_acknowledged(world: World) -> None:
    """An empty commit is a barrier, because WhatsApp repeats no receipt that was acknowledged."""
    async with world.running():
        link = await world.pair()
        message = await world.send()
        await world.until_message(message, "sent")
        world.learns.close()
        world.engine.receipt(link, whatsapp_ids=[message.whatsapp_id], chat=CHAT, kind="delivered")
        await world.quiet()
        world.listener.report(Receipted(link=link, whatsapp_ids=[message.whatsapp_id], chat=CHAT, kind="read"))
        world.listener.report(Commit(link=link, seq=70))
        await world.quiet()
        world.learns.let_one_pass()
        assert (await world.until_message(message, "delivered")).read_at is None
        assert Committed(link=link, seq=70) not in world.commands(Committed)
        world.learns.open()
        await world.until(lambda: Committed(link=link, seq=70) in world.commands(Committed))
        assert (await world.message(message)).state == "read"


async def test_a_message_of_one_company_is_not_changed_by_a_receipt_of_another(world: World) -> None:
    """WhatsApp ids are looked up within the company whose link reported them."""
    async with world.running():
        await world.pair()
        theirs = await world.pair("962303")
        message = await world.send()
        await world.until_message(message, "sent")
        world.engine.receipt(theirs, whatsapp_ids=[message.whatsapp_id], chat=CHAT, kind="read")
        await world.quiet()
        assert (await world.message(message)).state == "sent"


async def test_a_receipt_of_an_unknown_kind_is_logged_and_ignored(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A kind of receipt that WhatsApp adds later neither fails nor settles anything."""
    async with world.running():
        link = await world.pair()
        message = await world.send()
        await world.until_message(message, "sent")
        world.engine.receipt(link, whatsapp_ids=[message.whatsapp_id], chat=CHAT, kind="sniffed")
        await world.quiet()
        assert (await world.message(message)).state == "sent"
    assert "Connection 962302: a receipt of the unknown kind 'sniffed'" in caplog.messages


# Refusals.


async def test_a_message_to_a_number_without_whatsapp_fails_with_an_explanation(world: World) -> None:
    """The failure is final, and other chats continue."""
    async with world.running():
        await world.pair()
        world.engine.not_on_whatsapp.add(CHAT)
        message, other = await world.send(), await world.send(to=OTHER)
        failed = await world.until_message(message, "failed")
        assert (failed.error_code, failed.error) == ("not-on-whatsapp", "this number is not on WhatsApp")
        await world.until_message(other, "sent")


DAY_S = 24 * 3600


async def locked(world: World, error: str = "463") -> Message:
    """A session that knows OTHER, and whose first message to NUMBER was refused by WhatsApp's reach-out lock, or its
    quota.
    """
    await world.pair()
    known = await world.send(to=OTHER)
    await world.until_message(known, "sent")
    world.engine.ack_error = error
    message = await world.send("stranger")
    await world.until_sends(2)
    await world.quiet()
    world.engine.ack_error = None
    await world.quiet()
    return message


async def test_a_reach_out_lock_holds_only_messages_to_new_contacts(world: World) -> None:
    """Repeated attempts get accounts banned: nothing is sent to new contacts for a day, and then each message once."""
    world.set_policy(keepalive_interval_s=3600.0)
    async with world.running():
        message = await locked(world)
        other_stranger = await world.send("another stranger", to="962790000003")
        answer = await world.send("known", to=OTHER)
        await world.until_message(answer, "sent")
        held = await world.message(message)
        assert (held.state, held.held_code, held.error) == ("sending", "reach-out-lock", None)
        assert await world.held(other_stranger) == "reach-out-lock"
        await world.wait(DAY_S - 60)
        assert [text for _, text in world.sends()] == ["hello", "stranger", "known"]
        await world.until_message(message, "sent", within_s=120)
        released = await world.until_message(other_stranger, "sent", within_s=120)
        assert released.held_code is None
        assert len(world.sends()) == 5


async def test_a_reach_out_lock_survives_a_restart(world: World) -> None:
    """After a restart Holdfast does not retry the refused message."""
    world.set_policy(keepalive_interval_s=3600.0)
    async with world.running():
        message = await locked(world)
    async with world.running():
        await world.until_state("connected")
        await world.wait(3600)
        assert world.sends() == []
        await world.until_message(message, "sent", within_s=DAY_S)


async def test_whatsapp_sets_the_end_of_a_reach_out_lock(world: World) -> None:
    """Its end time is used, and when WhatsApp lifts the lock, messages are sent at once."""
    world.set_policy(keepalive_interval_s=3600.0)
    async with world.running():
        message = await locked(world)
        ends = int(world.clock.now().timestamp()) + 3600
        world.listener.report(NewChatsLocked(link=world.link(), lock="reach-out-lock", active=True, until_s=ends))
        await world.wait(3500)
        assert (await world.message(message)).state == "sending"
        world.listener.report(NewChatsLocked(link=world.link(), lock="reach-out-lock", active=False))
        await world.until_message(message, "sent", within_s=5)


async def test_whatsapp_sets_the_end_of_a_new_chat_quota(world: World) -> None:
    """A message that was refused with 475 shows the end of WhatsApp's cycle, and is then sent automatically."""
    world.set_policy(keepalive_interval_s=3600.0)
    async with world.running():
        message = await locked(world, "475")
        ends = int(world.clock.now().timestamp()) + 1800
        world.listener.report(NewChatsLocked(link=world.link(), lock="new-chat-quota", active=True, until_s=ends))
        await world.wait(1)
        stored = await world.message(message)
        assert (stored.held_code, stored.held_until) == ("new-chat-quota", iso(datetime.fromtimestamp(ends, UTC)))
        await world.wait(1700)
        assert (await world.message(message)).state == "sending"
        await world.until_message(message, "sent", within_s=200)


async def test_a_message_held_by_a_lock_can_be_cancelled(world: World) -> None:
    """WhatsApp refused it explicitly, so it can't have been delivered."""
    world.set_policy(keepalive_interval_s=3600.0)
    async with world.running():
        message = await locked(world)
        assert (await world.now(world.sending.cancel(message.id))).state == "cancelled"
        await world.wait(2 * DAY_S)
        assert len(world.sends()) == 2


async def test_a_contact_who_writes_first_is_known(world: World) -> None:
    """Replies are not held by the lock."""
    world.set_policy(keepalive_interval_s=3600.0)
    async with world.running():
        await locked(world)
        await world.quiet()
        world.engine.receive(world.link(), text="hello?", sender="962790000003@s.whatsapp.net")
        await world.quiet()
        answer = await world.send("an answer", to="962790000003")
        await world.until_message(answer, "sent")


async def test_a_file_that_can_not_be_written_delays_its_message_alone(world: World) -> None:
    """The disk of the files is full, for example: the session stays connected, and the message is sent later."""
    async with world.running():
        await world.pair()
        file = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(100)).decode()
        opened = world.commands(OpenLink)
        world.spool.folder.rmdir()
        request = SendRequest(body=Image(base64=file), options=MessageOptions(to=NUMBER))
        message = await world.now(world.sending.accept(COMPANY, request))
        await world.wait(5)
        found = await world.message(message)
        assert (found.state, found.retry_code) == ("sending", "file-not-written")
        assert "could not be written" in (found.retry_message or "")
        await world.until_message(await world.send("a text", to=OTHER), "sent")
        assert world.commands(OpenLink) == opened
        world.spool.folder.mkdir()
        await world.until_message(message, "sent", within_s=60)


# Time and pace.


async def test_a_message_that_was_not_sent_in_time_expires(world: World) -> None:
    """On time, with or without a link; it is never sent afterwards."""
    async with world.running() as gateway:
        await world.now(gateway.put(COMPANY))
        send_request = text_request(NUMBER, "for now", expires_in_s=60)
        message = await world.now(world.sending.accept(COMPANY, send_request))
        assert message.expires_at is not None
        await world.wait(59)
        assert (await world.message(message)).state == "queued"
        await world.until_message(message, "expired", within_s=2)
        await world.pair()
        await world.wait(60)
        assert world.sends() == []


async def test_a_message_in_flight_does_not_expire(world: World) -> None:
    """Its outcome is unknown, and settled only by WhatsApp's answer."""
    async with world.running():
        await acked_by_hand(world)
        send_request = text_request(NUMBER, "for now", expires_in_s=5)
        message = await world.now(world.sending.accept(COMPANY, send_request))
        await world.until_sends(1)
        await world.wait(8)
        assert (await world.message(message)).state == "sending"
        ack(world, world.commands(Send)[-1])
        await world.until_message(message, "sent")


async def test_bulk_messages_wait_for_interactive_ones_and_are_paced(world: World) -> None:
    """A reply overtakes bulk messages to other people, but no earlier message to the same person."""
    world.pacing = replace(world.pacing, bulk=Pace(per_minute=6, burst=1))
    async with world.running() as gateway:
        await world.now(gateway.put(COMPANY))
        for n in range(3):
            await world.now(world.sending.accept(COMPANY, text_request(f"96279000001{n}", f"bulk {n}", priority=BULK)))
        await world.send("urgent", to=OTHER)
        await world.send("urgent behind bulk", to="962790000012")
        await world.pair()
        await world.wait(1)
        assert [text for _, text in world.sends()] == ["bulk 2", "urgent", "urgent behind bulk"]
        await world.wait(21)
        assert [text for _, text in world.sends()][3:] == ["bulk 0", "bulk 1"]


async def test_new_contacts_are_limited_per_day(world: World) -> None:
    """The next one waits until a day after the first and says so; known chats are not affected."""
    world.pacing = replace(world.pacing, new_per_day=2)
    world.set_policy(keepalive_interval_s=3600.0)
    async with world.running():
        await world.pair()
        first, second, third = [await world.send(to=f"96279000001{n}") for n in range(3)]
        await world.until_message(second, "sent")
        await world.quiet()
        assert (await world.message(third)).state == "queued"
        assert await world.held(third) == "daily-limit"
        again = await world.send("again", to=first.recipient)
        await world.until_message(again, "sent", within_s=5)
        await world.until_message(third, "sent", within_s=DAY_S + 60)


async def test_after_a_temporary_ban_fewer_messages_are_sent(world: World) -> None:
    """For a day after its end, also after a restart."""
    async with world.running():
        link = await world.pair()
        known = await world.send()
        await world.until_message(known, "sent")
        world.engine.drop(link, code=402, attributes={"code": "101", "expire": "60"})
        await world.until_state("paused")
        await world.until_state("connected", within_s=3600)
        await world.quiet()
    async with world.running():
        await world.until_state("connected")
        for n in range(10):
            await world.send(f"message {n}")
        await world.wait(1)
        assert 1 < len(world.sends()) < 8
        await world.wait(60)
        assert len(world.sends()) == 10


async def test_a_stale_device_session_is_retried_once_whatever_the_earlier_errors(world: World) -> None:
    """A busy server's errors do not use up the one retry with fresh sessions."""
    async with world.running():
        await world.pair()
        world.engine.ack_error = "503"
        message = await world.send()
        await world.until_sends(2)
        await world.quiet()
        world.engine.ack_error = "479"
        await world.until_sends(3)
        await world.quiet()
        world.engine.ack_error = None
        await world.until_message(message, "sent")


async def test_a_busy_server_is_retried_under_the_same_id_and_in_order(world: World) -> None:
    """With growing delays; the following messages of the chat wait, another chat does not."""
    async with world.running():
        await world.pair()
        world.engine.ack_error = "503"
        message, after = await world.send("one"), await world.send("two")
        await world.wait(20)
        assert {text for _, text in world.sends()} == {"one"}
        assert 2 < len(world.sends()) < 10
        world.engine.ack_error = None
        await world.until_message(after, "sent")
        assert (await world.message(message)).state == "sent"
        assert len({send.whatsapp_id for send in world.commands(Send)}) == 2


async def test_lost_links_do_not_count_against_a_message(world: World) -> None:
    """A message that was in flight on many links that died is not given up at the engine's first failure."""
    async with world.running():
        await acked_by_hand(world)
        message = await world.send()
        for sends in range(1, 7):
            await world.until_sends(sends)
            await world.quiet()
            world.engine.drop(world.link(), code=428)
        await world.until_sends(7)
        await world.quiet()
        send = world.commands(Send)[-1]
        world.listener.report(SendRefused(link=send.link, whatsapp_id=send.whatsapp_id, code="engine-error"))
        world.engine.acks = True
        await world.until_message(message, "sent", within_s=5)


async def test_an_engine_that_fails_again_and_again_fails_the_message(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Five consecutive failures are enough, each is logged, and the chat continues."""
    caplog.set_level("INFO", logger="holdfast")
    async with world.running():
        await acked_by_hand(world)
        message, after = await world.send("poison"), await world.send("after")
        for sends in range(1, 6):
            await world.until_sends(sends)
            send = world.commands(Send)[-1]
            refusal = SendRefused(link=send.link, whatsapp_id=send.whatsapp_id, code="engine-error", detail="boom")
            world.listener.report(refusal)
        failed = await world.until_message(message, "failed")
        assert failed.error == "the engine failed 5 times to make the message: boom"
        assert (
            "Connection 962302: a message could not be handed over (engine-error, attempt 4); retry in 8 s"
            in caplog.messages
        )
        await world.until(lambda: world.sends()[-1][1] == "after")
        ack(world, world.commands(Send)[-1])
        await world.until_message(after, "sent")


# Cancelling.


async def test_a_cancelled_message_is_never_sent(world: World) -> None:
    """The next message of the chat is sent."""
    async with world.running() as gateway:
        await world.pair()
        await world.now(gateway.ask(COMPANY, events.StopAsked()))
        messages = [await world.send(text) for text in ("one", "two", "three")]
        cancelled = await world.now(world.sending.cancel(messages[1].id))
        assert cancelled.state == "cancelled"
        await world.now(gateway.ask(COMPANY, events.StartAsked()))
        await world.until_message(messages[2], "sent")
        assert [text for _, text in world.sends()] == ["one", "three"]


async def test_a_message_that_may_have_been_sent_is_not_cancelled(world: World) -> None:
    """The error names the state of the message."""
    async with world.running():
        await acked_by_hand(world)
        message = await world.send()
        await world.quiet()
        with pytest.raises(Conflict, match="the message is sending"):
            await world.now(world.sending.cancel(message.id))


async def test_messages_behind_a_cancelled_one_are_sent_at_once(world: World) -> None:
    """This holds even if the cancellation was committed before the start of its sending."""
    async with world.running():
        await acked_by_hand(world)
        first, second, _ = [await world.send(text) for text in ("one", "two", "three")]
        await world.quiet()
        world.takes.close()
        ack(world, world.commands(Send)[0])
        await world.quiet()
        await world.now(world.outbox.cancel(second.id))  # the caller disconnected before it got a response
        world.takes.open()
        await world.until(lambda: world.sends()[-1][1] == "three", within_s=1)
        assert [text for _, text in world.sends()] == ["one", "three"]
        assert [(await world.message(each)).state for each in (first, second)] == ["sent", "cancelled"]


# Defects of our own.


async def test_messages_survive_a_failing_actor(world: World) -> None:
    """Messages accepted before the failure and during the restart are sent by the next actor."""
    async with world.running() as gateway:
        await acked_by_hand(world)
        before = await world.send("before")
        await world.quiet()
        world.engine.acks = True
        world.database.failing = "a defect"
        with pytest.raises(Exception, match="is being restarted"):
            await world.now(gateway.ask(COMPANY, events.ReconnectAsked()))
        world.database.failing = None
        while_gone = await world.send("while gone")
        for message in (before, while_gone):
            await world.until_message(message, "sent")


async def test_an_ack_that_could_not_be_stored_is_replaced_by_that_of_a_resend(world: World) -> None:
    """The actor restarts, and the message is sent again under the same id and acked."""
    async with world.running():
        await acked_by_hand(world)
        message = await world.send()
        await world.quiet()
        world.database.failing = "disk full"
        ack(world, world.commands(Send)[0])
        await world.quiet()
        world.database.failing = None
        world.engine.acks = True
        sent = await world.until_message(message, "sent")
        assert sent.attempts == 2
        assert len({send.whatsapp_id for send in world.commands(Send)}) == 1


@pytest.mark.parametrize("detail", ["exited with code 134", "killed by SIGKILL"])
async def test_a_message_that_ends_hosts_fails_and_others_are_sent(world: World, detail: str) -> None:
    """After three hosts it is sent alone, after five it fails with an explanation; nothing else is lost.

    The kernel kills a host that runs out of memory over a message which it prepares.
    """
    world.prepare = lambda engine: setattr(engine, "dies_of", ("poison", detail))
    async with world.running():
        await world.pair()
        poison = await world.send("poison")
        others = [await world.send(f"harmless {n}", to=f"96279000001{n}") for n in range(3)]
        failed = await world.until_message(poison, "failed", within_s=600)
        assert failed.error_code == "engine-ended"
        for other in others:
            await world.until_message(other, "sent", within_s=120)
        after = await world.send("after")
        await world.until_message(after, "sent", within_s=120)
        assert world.engines == 6


@pytest.mark.parametrize("detail", ["killed by SIGKILL", "killed by SIGTERM", "exited with code 75"])
async def test_a_message_is_not_blamed_for_hosts_that_others_ended(world: World, detail: str) -> None:
    """Its frame had left when somebody killed the host, or the host ended because its gateway did not answer."""
    world.prepare = lambda engine: setattr(engine, "acks", False)
    async with world.running():
        await world.pair()
        message = await world.send()
        for _ in range(6):
            await world.until(lambda: world.engine.alive and bool(world.engine.arrived))
            await world.quiet()
            world.engine.lose_host(detail=detail)
        world.prepare = lambda _: None
        await world.until_message(message, "sent", within_s=3600)


async def test_a_quarantined_session_does_not_blame_its_message_for_killed_hosts(world: World) -> None:
    """The last death, after which the session is quarantined, counts as little as those before."""
    world.prepare = lambda engine: setattr(engine, "acks", False)
    async with world.running() as gateway:
        await world.pair()
        message = await world.send()
        while world.state() != "paused":
            await world.until(lambda: world.engine.alive and bool(world.engine.arrived))
            await world.quiet()
            world.engine.lose_host(detail="killed by SIGKILL")
            await world.quiet()
        score = await world.now(world.database.read(_crash_score))
        assert score == 0
        world.prepare = lambda _: None
        await world.now(gateway.ask(COMPANY, events.StartAsked()))
        await world.until_message(message, "sent", within_s=60)


async def test_a_message_is_not_blamed_for_an_unstable_network(world: World) -> None:
    """The link ends two seconds after it opens, again and again: the message becomes suspect, and waits for a link that
    lasts a little longer."""
    async with world.running():
        link = await acked_by_hand(world)
        message = await world.send()
        for _ in range(14):
            await world.wait(2)
            world.engine.drop(link, code=428)
            await world.until(lambda: world.state() != "connected")
            await world.until_state("connected")
            link = world.link()
        assert (await world.message(message)).state == "sending"
        world.engine.acks = True
        await world.until_message(message, "sent", within_s=30)


@pytest.mark.parametrize("code", [500, 428])
async def test_a_message_that_ends_every_link_does_not_starve_others(world: World, code: int) -> None:
    """It is sent alone once it is suspect, and fails in the end with an explanation; messages in flight beside it
    arrive.
    """
    world.prepare = lambda engine: setattr(engine, "ends_links", ("poison", code))
    async with world.running():
        await world.pair()
        poison = await world.send("poison")
        others = [await world.send(f"harmless {n}", to=f"96279000001{n % 3}") for n in range(60)]
        for other in others:
            await world.until_message(other, "sent", within_s=60)
        failed = await world.until_message(poison, "failed", within_s=3600)
        assert failed.error_code == "link-ended"
        assert failed.error is not None
        assert "links ended again and again while this message was being sent" in failed.error
        await world.until_message(await world.send("after"), "sent", within_s=120)


async def test_a_message_that_was_handed_over_is_cancelled_by_force(world: World) -> None:
    """The next message of the chat is sent at once."""
    async with world.running():
        await acked_by_hand(world)
        stuck, after = await world.send("stuck"), await world.send("after")
        await world.quiet()
        assert (await world.now(world.sending.cancel(stuck.id, force=True))).state == "cancelled"
        world.engine.acks = True
        await world.until_message(after, "sent", within_s=5)


# Temporary errors.


async def test_sending_pauses_while_whatsapp_refuses_every_message(world: World) -> None:
    """No message fails, sending pauses, and all arrive once WhatsApp accepts messages again."""
    async with world.running():
        await world.pair()
        world.engine.ack_error = "429"
        messages = [await world.send(f"text {n}", to=f"9627900001{n:02}") for n in range(30)]
        await world.wait(60)
        assert len(world.sends()) < 40
        waiting = await world.message(messages[0])
        assert (waiting.state, waiting.retry_code) == ("sending", "ack-429")
        assert waiting.retry_message == "WhatsApp limits the rate of messages (ack error 429)"
        world.engine.ack_error = None
        for message in messages:
            sent = await world.until_message(message, "sent", within_s=120)
            assert sent.retry_code is None


async def test_a_message_that_is_refused_for_a_week_fails_with_the_last_reason(world: World) -> None:
    """Without an expiry of its own it is not retried forever."""
    world.set_policy(keepalive_interval_s=3600.0)
    async with world.running():
        await world.pair()
        world.engine.ack_error = "599"
        message = await world.send()
        await world.wait(3600)
        assert (await world.message(message)).state == "sending"
        world.clock.set_wall(world.clock.now() + timedelta(days=7))
        failed = await world.until_message(message, "failed", within_s=3600)
        assert failed.error == "WhatsApp did not accept the message (ack error 599); retried for 7 days"


async def test_a_quota_of_new_chats_holds_first_messages(world: World) -> None:
    """Error 475 says nothing about the number: the message waits and shows why; known chats are not affected."""
    world.set_policy(keepalive_interval_s=3600.0)
    async with world.running():
        await world.pair()
        await world.until_message(await world.send(to=OTHER), "sent")
        world.engine.ack_error = "475"
        message = await world.send("first")
        await world.until_sends(2)
        await world.quiet()
        world.engine.ack_error = None
        assert await world.held(message) == "new-chat-quota"
        await world.until_message(await world.send("known", to=OTHER), "sent", within_s=5)
        await world.until_message(message, "sent", within_s=DAY_S + 60)
