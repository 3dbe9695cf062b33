"""Rare orders of events, each of which once caused a message that was stuck or sent twice."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import replace

import pytest

from holdfast.delivery.kinds import Image
from holdfast.delivery.requests import MessageOptions
from holdfast.delivery.stores import Draft
from holdfast.runtime.composer import SendRequest, text_request
from holdfast.session import events
from holdfast.session.engine import Acked, NewChatsLocked, Receipted, Send
from tests.gateway_harness import COMPANY, NUMBER, GatewayHarness

OTHER, THIRD = "962790000002", "962790000003"
DAY_S = 24 * 3600.0
MANY = 2100


def draft(number: int, *, to: str = NUMBER, **changes: object) -> Draft:
    """A message that another process accepts, on a shared database."""
    values: dict[str, object] = {
        "id": f"msg_{number}",
        "whatsapp_id": f"3EB0{number:04}",
        "company": COMPANY,
        "recipient": to,
        "chat": f"{to}@s.whatsapp.net",
        "content": {"text": f"elsewhere {number}"},
        "idempotency_key": None,
        "request_hash": "h",
    }
    return Draft(**(values | changes))  # type: ignore[arg-type]  # fields of Draft


def texts(harness: GatewayHarness) -> list[str]:
    return [text for _, text in harness.sends()]


async def knows(harness: GatewayHarness, *people: str) -> None:
    """Make these contacts known."""
    for person in people:
        await harness.until_message(await harness.send("hello", to=person), "sent")


# Loading.


async def test_a_message_accepted_during_a_load_does_not_hide_the_backlog(harness: GatewayHarness) -> None:
    """Messages between the loaded ones and the new one are sent too, in order."""
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
        count = MANY // 2 + 30
        accepting = (harness.messages.accept(COMPANY, text_request(NUMBER, f"{n}")) for n in range(count))
        await harness.now(asyncio.gather(*accepting))
        harness.takes.close()
        await harness.pair()
        last = await harness.send("last")
        harness.takes.open()
        await harness.until_message(last, "sent", within_s=600)
        assert texts(harness) == [*(f"{n}" for n in range(count)), "last"]


async def test_a_message_that_is_loaded_while_it_is_being_accepted_is_sent_once(harness: GatewayHarness) -> None:
    """Its chat continues afterwards, also after a lost link."""
    async with harness.running() as gateway:
        link = await harness.pair()
        await knows(harness, NUMBER)
        harness.engine.acks = False
        harness.accepted.close()
        accepting = asyncio.ensure_future(harness.messages.accept(COMPANY, text_request(NUMBER, "one")))
        await harness.quiet()
        gateway.work_waits(COMPANY)
        await harness.quiet()
        harness.accepted.open()
        message = await harness.now(accepting)
        harness.engine.drop(link, code=428)
        await harness.until(lambda: harness.link() != link)
        harness.engine.acks = True
        await harness.until_message(message, "sent")
        await harness.until_message(await harness.send("two"), "sent", within_s=60)
        assert texts(harness) == ["hello", "one", "one", "two"]


async def test_a_message_whose_ack_is_being_stored_is_not_loaded_and_sent_again(harness: GatewayHarness) -> None:
    """Its row still says that it is to be sent."""
    async with harness.running() as gateway:
        await harness.pair()
        await knows(harness, NUMBER)
        harness.learns.close()
        message = await harness.send("one")
        await harness.quiet()
        gateway.work_waits(COMPANY)
        await harness.quiet()
        harness.learns.open()
        await harness.until_message(message, "sent")
        await harness.quiet()
        assert texts(harness) == ["hello", "one"]


async def test_held_messages_do_not_delay_known_chats(harness: GatewayHarness) -> None:
    """Also when there are more than fit in memory."""
    harness.pacing = replace(harness.pacing, new_per_day=1)
    harness.set_policy(keepalive_interval_s=3600.0)
    async with harness.running():
        await harness.pair()
        await knows(harness, NUMBER)
        accepting = (harness.messages.accept(COMPANY, text_request(f"96278{n:07}", "stranger")) for n in range(MANY))
        await harness.now(asyncio.gather(*accepting))
        await harness.until_message(await harness.send("known"), "sent", within_s=60)
        assert texts(harness) == ["hello", "known"]


# Accepting.


async def test_a_message_whose_acceptance_was_stored_and_not_answered_is_sent(harness: GatewayHarness) -> None:
    """Its caller repeats the request with the same key, and gets the stored message."""
    async with harness.running():
        await harness.pair()
        await knows(harness, NUMBER)
        harness.outbox.torn = True
        send_request = text_request(NUMBER, "one", idempotency_key="k")
        with pytest.raises(OSError, match="connection lost"):
            await harness.now(harness.messages.accept(COMPANY, send_request))
        harness.outbox.torn = False
        await harness.until_message(await harness.send("two"), "sent")
        message = await harness.now(harness.messages.accept(COMPANY, send_request))
        await harness.until_message(message, "sent", within_s=60)


# Expiry.


async def test_a_message_accepted_by_another_process_expires_in_time(harness: GatewayHarness) -> None:
    """The session's owner expires it."""
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
        await harness.quiet()
        ends = "2026-01-01T01:00:00.000Z"
        accepted = await harness.now(harness.outbox.accept(draft(1, expires_at=ends)))
        gateway.work_waits(COMPANY)
        await harness.until_message(accepted.message, "expired", within_s=3600)


async def test_an_unsent_message_does_not_count_against_the_daily_limit(harness: GatewayHarness) -> None:
    """It expired or was cancelled, so no new contact was written to."""
    harness.pacing = replace(harness.pacing, new_per_day=1)
    harness.set_policy(keepalive_interval_s=3600.0)
    async with harness.running():
        await harness.pair()
        harness.takes.close()
        expiring = await harness.now(
            harness.messages.accept(COMPANY, text_request(NUMBER, "too late", expires_in_s=60))
        )
        await harness.wait(61)
        harness.takes.open()
        await harness.until_message(expiring, "expired")
        harness.takes.close()
        cancelled = await harness.send("no", to=OTHER)
        await harness.quiet()
        await harness.now(harness.messages.cancel(cancelled.id))
        harness.takes.open()
        await harness.until_message(await harness.send("yes", to=THIRD), "sent", within_s=60)
        assert texts(harness) == ["yes"]


# Locks.


async def refused(harness: GatewayHarness, *, to: str = NUMBER) -> Send:
    """A message that WhatsApp refused because of its lock on new contacts."""
    await harness.pair()
    await knows(harness, OTHER)
    harness.engine.ack_error = "463"
    await harness.send("refused", to=to)
    await harness.until_sends(2)
    await harness.quiet()
    harness.engine.ack_error = None
    return harness.commands(Send)[-1]


async def test_the_end_of_a_lock_may_be_reported_after_the_refusal(harness: GatewayHarness) -> None:
    """The refusal is first and has no end time; the message waits no longer than necessary, and shows the end."""
    harness.set_policy(keepalive_interval_s=3600.0)
    async with harness.running():
        await refused(harness)
        stranger = await harness.send("another stranger", to=THIRD)
        await harness.quiet()
        ends = int(harness.clock.now().timestamp()) + 3600
        harness.listener.report(NewChatsLocked(link=harness.link(), lock="reach-out-lock", active=True, until_s=ends))
        await harness.quiet()
        listed = await harness.now(harness.outbox.messages(COMPANY, state=None, after=0, limit=9))
        assert {each.held_until for each in listed if each.held_code} == {"2026-01-01T01:16:40.000Z"}
        await harness.until_message(stranger, "sent", within_s=3700)
        await harness.until(lambda: texts(harness).count("refused") == 2, within_s=10)


async def test_a_lock_that_is_already_over_has_no_effect(harness: GatewayHarness) -> None:
    """WhatsApp may report such a lock; the session continues on the same link."""
    async with harness.running():
        link = await harness.pair()
        past = int(harness.clock.now().timestamp()) - 60
        harness.listener.report(NewChatsLocked(link=link, lock="reach-out-lock", active=True, until_s=past))
        await harness.until_message(await harness.send("to a stranger"), "sent", within_s=5)
        assert harness.link() == link


async def test_a_lock_that_is_lifted_while_its_refusal_is_stored_does_not_end_the_link(harness: GatewayHarness) -> None:
    """Refusal, lock and the end of the lock arrive together; the refused message is sent again on the same link."""
    harness.set_policy(keepalive_interval_s=3600.0)
    async with harness.running():
        send = await refused(harness)
        harness.learns.close()
        harness.listener.report(Acked(link=send.link, whatsapp_id=send.whatsapp_id, chat=send.to, error="463"))
        harness.listener.report(NewChatsLocked(link=send.link, lock="reach-out-lock", active=True))
        harness.listener.report(NewChatsLocked(link=send.link, lock="reach-out-lock", active=False))
        await harness.quiet()
        harness.learns.open()
        await harness.until(lambda: texts(harness).count("refused") == 2, within_s=10)
        assert harness.link() == send.link


async def test_a_contact_who_writes_during_a_lock_gets_the_held_message(harness: GatewayHarness) -> None:
    """The message was refused before: the chat is known now."""
    harness.set_policy(keepalive_interval_s=3600.0)
    async with harness.running():
        await refused(harness)
        harness.engine.receive(harness.link(), text="who are you?", sender=f"{NUMBER}@s.whatsapp.net")
        await harness.quiet()
        await harness.until_message(await harness.send("an answer"), "sent", within_s=60)
        assert texts(harness) == ["hello", "refused", "refused", "an answer"]


async def test_messages_behind_a_delayed_one_are_sent_when_it_is_settled(harness: GatewayHarness) -> None:
    """A late receipt shows that it arrived, so the chat is not delayed any more."""
    harness.set_policy(keepalive_interval_s=3600.0)
    async with harness.running():
        send = await refused(harness, to=OTHER)
        after = await harness.send("after", to=OTHER)
        report = Receipted(link=harness.link(), whatsapp_ids=[send.whatsapp_id], chat=send.to, kind="delivered")
        harness.listener.report(report)
        await harness.until_message(after, "sent", within_s=60)


async def test_a_message_that_is_sent_again_during_its_hold_cannot_be_cancelled(harness: GatewayHarness) -> None:
    """The refusal belongs to an earlier attempt; the outcome of the new one is unknown."""
    harness.set_policy(keepalive_interval_s=3600.0)
    async with harness.running():
        await harness.pair()
        await knows(harness, NUMBER)
        harness.engine.acks = False
        message = await harness.send("known")
        await harness.quiet()
        send = harness.commands(Send)[-1]
        harness.holds.close()
        harness.listener.report(Acked(link=send.link, whatsapp_id=send.whatsapp_id, chat=send.to, error="463"))
        await harness.quiet()
        harness.engine.drop(send.link, code=428)
        await harness.until_state("reconnecting")
        await harness.until_state("connected")
        await harness.quiet()
        harness.holds.open()
        await harness.quiet()
        stands = await harness.message(message)
        assert (stands.held_code is not None) == (len(harness.sends()) == 2), "held, and on its way"
        assert stands.state == "sending"


# Hosts that die.


async def test_a_suspect_that_is_held_does_not_delay_others(harness: GatewayHarness) -> None:
    """Three hosts ended because of it, then WhatsApp's lock holds it: other messages are sent in the meantime."""
    harness.set_policy(keepalive_interval_s=3600.0)
    harness.prepare = lambda engine: setattr(engine, "dies_of", ("poison", "exited with code 134"))
    async with harness.running():
        await harness.pair()
        await knows(harness, OTHER)
        await harness.send("poison")
        await harness.until(lambda: harness.engines == 4 and harness.engine.alive, within_s=300)
        harness.takes.close()
        await harness.until_state("connected", within_s=300)
        harness.listener.report(NewChatsLocked(link=harness.link(), lock="reach-out-lock", active=True, until_s=None))
        await harness.quiet()
        harness.takes.open()
        await harness.quiet()
        known = await harness.send("known", to=OTHER)
        await harness.until_message(known, "sent", within_s=600)


# Links that end.


async def test_a_message_whose_link_ends_while_it_is_accepted_is_sent_on_the_next_one(harness: GatewayHarness) -> None:
    """It is already committed as `sending`; its chat does not wait until it counts as unanswered."""
    async with harness.running() as gateway:
        await harness.pair()
        await knows(harness, NUMBER)
        harness.accepted.close()
        accepting = asyncio.ensure_future(harness.messages.accept(COMPANY, text_request(NUMBER, "one")))
        await harness.quiet()
        await harness.now(gateway.ask(COMPANY, events.StopAsked()))
        harness.accepted.open()
        await harness.now(accepting)
        await harness.now(gateway.ask(COMPANY, events.StartAsked()))
        await harness.until(lambda: "one" in texts(harness), within_s=5)


# Actors that end.


async def test_an_image_accepted_while_its_actor_ends_is_stored_and_sent(harness: GatewayHarness) -> None:
    """It is stored: the caller gets its answer, and the next actor sends it."""
    async with harness.running():
        await harness.pair()
        await knows(harness, NUMBER)
        harness.accepted.close()
        picture = Image(base64=base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(99)).decode())
        accepting = asyncio.ensure_future(
            harness.messages.accept(COMPANY, SendRequest(body=picture, options=MessageOptions(to=NUMBER)))
        )
        await harness.quiet()
        harness.database.failing = "a defect"
        harness.listener.report(Receipted(link=harness.link(), whatsapp_ids=["3EB0"], chat="", kind="read"))
        await harness.quiet()
        harness.database.failing = None
        await harness.wait(1)
        harness.accepted.open()
        await harness.until_message(await harness.now(accepting), "sent", within_s=120)
        assert len(harness.engine.uploads) == 1


async def test_a_message_that_is_stored_after_its_actor_ended_is_sent_by_the_next(harness: GatewayHarness) -> None:
    """The next actor has already queried the outbox, and must query it again."""
    harness.set_policy(keepalive_interval_s=3600.0)
    async with harness.running() as gateway:
        await harness.pair()
        await knows(harness, NUMBER)
        harness.accepts.close()
        accepting = asyncio.ensure_future(harness.messages.accept(COMPANY, text_request(NUMBER, "late")))
        await harness.quiet()
        gateway.replace_actor(COMPANY, "a test")
        await harness.quiet()
        await harness.until_state("connected")
        await harness.quiet()
        harness.accepts.open()
        await harness.until_message(await harness.now(accepting), "sent", within_s=5)


async def test_a_slow_chat_with_a_large_backlog_does_not_delay_others(harness: GatewayHarness) -> None:
    """A message queued behind thousands of messages to somebody else is sent at once."""
    harness.prepare = lambda engine: setattr(engine, "acks", False)
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
        await accepted(harness, [text_request(NUMBER, f"slow {n}") for n in range(MANY)])
        await accepted(harness, [text_request(OTHER, "other")])
        await harness.pair()
        await harness.until(lambda: "other" in texts(harness), within_s=60)
        assert set(texts(harness)) == {"slow 0", "other"}


async def test_thousands_of_held_messages_do_not_delay_known_chats(harness: GatewayHarness) -> None:
    """A campaign that WhatsApp's lock holds does not block replies, also after a restart."""
    harness.set_policy(keepalive_interval_s=3600.0)
    async with harness.running():
        await harness.pair()
        await knows(harness, OTHER)
        harness.listener.report(NewChatsLocked(link=harness.link(), lock="reach-out-lock", active=True))
        await harness.quiet()
        await accepted(harness, [text_request(f"9627{n:08}", f"stranger {n}") for n in range(MANY)])
        answer = await harness.send("answer", to=OTHER)
        await harness.until_message(answer, "sent", within_s=5)
        await accepted(harness, [text_request(f"9628{n:08}", f"stranger {n}") for n in range(10)])
    async with harness.running():
        await harness.until_state("connected")
        again = await harness.send("answer again", to=OTHER)
        await harness.until_message(again, "sent", within_s=5)
        assert texts(harness) == ["answer again"]


async def accepted(harness: GatewayHarness, send_requests: Sequence[SendRequest]) -> None:
    await harness.now(
        asyncio.gather(*(harness.messages.accept(COMPANY, send_request) for send_request in send_requests))
    )
