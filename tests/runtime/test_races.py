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
from tests.world import COMPANY, NUMBER, World

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


def texts(world: World) -> list[str]:
    return [text for _, text in world.sends()]


async def knows(world: World, *people: str) -> None:
    """Make these contacts known."""
    for person in people:
        await world.until_message(await world.send("hello", to=person), "sent")


# Loading.


async def test_a_message_accepted_during_a_load_does_not_hide_the_backlog(world: World) -> None:
    """Messages between the loaded ones and the new one are sent too, in order."""
    async with world.running() as gateway:
        await world.now(gateway.put(COMPANY))
        count = MANY // 2 + 30
        accepting = (world.sending.accept(COMPANY, text_request(NUMBER, f"{n}")) for n in range(count))
        await world.now(asyncio.gather(*accepting))
        world.takes.close()
        await world.pair()
        last = await world.send("last")
        world.takes.open()
        await world.until_message(last, "sent", within_s=600)
        assert texts(world) == [*(f"{n}" for n in range(count)), "last"]


async def test_a_message_that_is_loaded_while_it_is_being_accepted_is_sent_once(world: World) -> None:
    """Its chat continues afterwards, also after a lost link."""
    async with world.running() as gateway:
        link = await world.pair()
        await knows(world, NUMBER)
        world.engine.acks = False
        world.accepted.close()
        accepting = asyncio.ensure_future(world.sending.accept(COMPANY, text_request(NUMBER, "one")))
        await world.quiet()
        gateway.work_waits(COMPANY)
        await world.quiet()
        world.accepted.open()
        message = await world.now(accepting)
        world.engine.drop(link, code=428)
        await world.until(lambda: world.link() != link)
        world.engine.acks = True
        await world.until_message(message, "sent")
        await world.until_message(await world.send("two"), "sent", within_s=60)
        assert texts(world) == ["hello", "one", "one", "two"]


async def test_a_message_whose_ack_is_being_stored_is_not_loaded_and_sent_again(world: World) -> None:
    """Its row still says that it is to be sent."""
    async with world.running() as gateway:
        await world.pair()
        await knows(world, NUMBER)
        world.learns.close()
        message = await world.send("one")
        await world.quiet()
        gateway.work_waits(COMPANY)
        await world.quiet()
        world.learns.open()
        await world.until_message(message, "sent")
        await world.quiet()
        assert texts(world) == ["hello", "one"]


async def test_held_messages_do_not_delay_known_chats(world: World) -> None:
    """Also when there are more than fit in memory."""
    world.pacing = replace(world.pacing, new_per_day=1)
    world.set_policy(keepalive_interval_s=3600.0)
    async with world.running():
        await world.pair()
        await knows(world, NUMBER)
        accepting = (world.sending.accept(COMPANY, text_request(f"96278{n:07}", "stranger")) for n in range(MANY))
        await world.now(asyncio.gather(*accepting))
        await world.until_message(await world.send("known"), "sent", within_s=60)
        assert texts(world) == ["hello", "known"]


# Accepting.


async def test_a_message_whose_acceptance_was_stored_and_not_answered_is_sent(world: World) -> None:
    """Its caller repeats the request with the same key, and gets the stored message."""
    async with world.running():
        await world.pair()
        await knows(world, NUMBER)
        world.outbox.torn = True
        send_request = text_request(NUMBER, "one", idempotency_key="k")
        with pytest.raises(OSError, match="connection lost"):
            await world.now(world.sending.accept(COMPANY, send_request))
        world.outbox.torn = False
        await world.until_message(await world.send("two"), "sent")
        message = await world.now(world.sending.accept(COMPANY, send_request))
        await world.until_message(message, "sent", within_s=60)


# Expiry.


async def test_a_message_accepted_by_another_process_expires_in_time(world: World) -> None:
    """The session's owner expires it."""
    async with world.running() as gateway:
        await world.now(gateway.put(COMPANY))
        await world.quiet()
        ends = "2026-01-01T01:00:00.000Z"
        accepted = await world.now(world.outbox.accept(draft(1, expires_at=ends)))
        gateway.work_waits(COMPANY)
        await world.until_message(accepted.message, "expired", within_s=3600)


async def test_an_unsent_message_does_not_count_against_the_daily_limit(world: World) -> None:
    """It expired or was cancelled, so no new contact was written to."""
    world.pacing = replace(world.pacing, new_per_day=1)
    world.set_policy(keepalive_interval_s=3600.0)
    async with world.running():
        await world.pair()
        world.takes.close()
        expiring = await world.now(world.sending.accept(COMPANY, text_request(NUMBER, "too late", expires_in_s=60)))
        await world.wait(61)
        world.takes.open()
        await world.until_message(expiring, "expired")
        world.takes.close()
        cancelled = await world.send("no", to=OTHER)
        await world.quiet()
        await world.now(world.sending.cancel(cancelled.id))
        world.takes.open()
        await world.until_message(await world.send("yes", to=THIRD), "sent", within_s=60)
        assert texts(world) == ["yes"]


# Locks.


async def refused(world: World, *, to: str = NUMBER) -> Send:
    """A message that WhatsApp refused because of its lock on new contacts."""
    await world.pair()
    await knows(world, OTHER)
    world.engine.ack_error = "463"
    await world.send("refused", to=to)
    await world.until_sends(2)
    await world.quiet()
    world.engine.ack_error = None
    return world.commands(Send)[-1]


async def test_the_end_of_a_lock_may_be_reported_after_the_refusal(world: World) -> None:
    """The refusal is first and has no end time; the message waits no longer than necessary, and shows the end."""
    world.set_policy(keepalive_interval_s=3600.0)
    async with world.running():
        await refused(world)
        stranger = await world.send("another stranger", to=THIRD)
        await world.quiet()
        ends = int(world.clock.now().timestamp()) + 3600
        world.listener.report(NewChatsLocked(link=world.link(), lock="reach-out-lock", active=True, until_s=ends))
        await world.quiet()
        listed = await world.now(world.outbox.messages(COMPANY, state=None, after=0, most=9))
        assert {each.held_until for each in listed if each.held_code} == {"2026-01-01T01:16:40.000Z"}
        await world.until_message(stranger, "sent", within_s=3700)
        await world.until(lambda: texts(world).count("refused") == 2, within_s=10)


async def test_a_lock_that_is_already_over_has_no_effect(world: World) -> None:
    """WhatsApp may report such a lock; the session continues on the same link."""
    async with world.running():
        link = await world.pair()
        past = int(world.clock.now().timestamp()) - 60
        world.listener.report(NewChatsLocked(link=link, lock="reach-out-lock", active=True, until_s=past))
        await world.until_message(await world.send("to a stranger"), "sent", within_s=5)
        assert world.link() == link


async def test_a_lock_that_is_lifted_while_its_refusal_is_stored_does_not_end_the_link(world: World) -> None:
    """Refusal, lock and the end of the lock arrive together; the refused message is sent again on the same link."""
    world.set_policy(keepalive_interval_s=3600.0)
    async with world.running():
        send = await refused(world)
        world.learns.close()
        world.listener.report(Acked(link=send.link, whatsapp_id=send.whatsapp_id, chat=send.to, error="463"))
        world.listener.report(NewChatsLocked(link=send.link, lock="reach-out-lock", active=True))
        world.listener.report(NewChatsLocked(link=send.link, lock="reach-out-lock", active=False))
        await world.quiet()
        world.learns.open()
        await world.until(lambda: texts(world).count("refused") == 2, within_s=10)
        assert world.link() == send.link


async def test_a_contact_who_writes_during_a_lock_gets_the_held_message(world: World) -> None:
    """The message was refused before: the chat is known now."""
    world.set_policy(keepalive_interval_s=3600.0)
    async with world.running():
        await refused(world)
        world.engine.receive(world.link(), text="who are you?", sender=f"{NUMBER}@s.whatsapp.net")
        await world.quiet()
        await world.until_message(await world.send("an answer"), "sent", within_s=60)
        assert texts(world) == ["hello", "refused", "refused", "an answer"]


async def test_messages_behind_a_delayed_one_are_sent_when_it_is_settled(world: World) -> None:
    """A late receipt shows that it arrived, so the chat is not delayed any more."""
    world.set_policy(keepalive_interval_s=3600.0)
    async with world.running():
        send = await refused(world, to=OTHER)
        after = await world.send("after", to=OTHER)
        report = Receipted(link=world.link(), whatsapp_ids=[send.whatsapp_id], chat=send.to, kind="delivered")
        world.listener.report(report)
        await world.until_message(after, "sent", within_s=60)


async def test_a_message_that_is_sent_again_during_its_hold_cannot_be_cancelled(world: World) -> None:
    """The refusal belongs to an earlier attempt; the outcome of the new one is unknown."""
    world.set_policy(keepalive_interval_s=3600.0)
    async with world.running():
        await world.pair()
        await knows(world, NUMBER)
        world.engine.acks = False
        message = await world.send("known")
        await world.quiet()
        send = world.commands(Send)[-1]
        world.holds.close()
        world.listener.report(Acked(link=send.link, whatsapp_id=send.whatsapp_id, chat=send.to, error="463"))
        await world.quiet()
        world.engine.drop(send.link, code=428)
        await world.until_state("reconnecting")
        await world.until_state("connected")
        await world.quiet()
        world.holds.open()
        await world.quiet()
        stands = await world.message(message)
        assert (stands.held_code is not None) == (len(world.sends()) == 2), "held, and on its way"
        assert stands.state == "sending"


# Hosts that die.


async def test_a_suspect_that_is_held_does_not_delay_others(world: World) -> None:
    """Three hosts ended because of it, then WhatsApp's lock holds it: other messages are sent in the meantime."""
    world.set_policy(keepalive_interval_s=3600.0)
    world.prepare = lambda engine: setattr(engine, "dies_of", ("poison", "exited with code 134"))
    async with world.running():
        await world.pair()
        await knows(world, OTHER)
        await world.send("poison")
        await world.until(lambda: world.engines == 4 and world.engine.alive, within_s=300)
        world.takes.close()
        await world.until_state("connected", within_s=300)
        world.listener.report(NewChatsLocked(link=world.link(), lock="reach-out-lock", active=True, until_s=None))
        await world.quiet()
        world.takes.open()
        await world.quiet()
        known = await world.send("known", to=OTHER)
        await world.until_message(known, "sent", within_s=600)


# Links that end.


async def test_a_message_whose_link_ends_while_it_is_accepted_is_sent_on_the_next_one(world: World) -> None:
    """It is already committed as `sending`; its chat does not wait until it counts as unanswered."""
    async with world.running() as gateway:
        await world.pair()
        await knows(world, NUMBER)
        world.accepted.close()
        accepting = asyncio.ensure_future(world.sending.accept(COMPANY, text_request(NUMBER, "one")))
        await world.quiet()
        await world.now(gateway.ask(COMPANY, events.StopAsked()))
        world.accepted.open()
        await world.now(accepting)
        await world.now(gateway.ask(COMPANY, events.StartAsked()))
        await world.until(lambda: "one" in texts(world), within_s=5)


# Actors that end.


async def test_an_image_accepted_while_its_actor_ends_is_stored_and_sent(world: World) -> None:
    """It is stored: the caller gets its answer, and the next actor sends it."""
    async with world.running():
        await world.pair()
        await knows(world, NUMBER)
        world.accepted.close()
        picture = Image(base64=base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(99)).decode())
        accepting = asyncio.ensure_future(
            world.sending.accept(COMPANY, SendRequest(body=picture, options=MessageOptions(to=NUMBER)))
        )
        await world.quiet()
        world.database.failing = "a defect"
        world.listener.report(Receipted(link=world.link(), whatsapp_ids=["3EB0"], chat="", kind="read"))
        await world.quiet()
        world.database.failing = None
        await world.wait(1)
        world.accepted.open()
        await world.until_message(await world.now(accepting), "sent", within_s=120)
        assert len(world.engine.uploads) == 1


async def test_a_message_that_is_stored_after_its_actor_ended_is_sent_by_the_next(world: World) -> None:
    """The next actor has already queried the outbox, and must query it again."""
    world.set_policy(keepalive_interval_s=3600.0)
    async with world.running() as gateway:
        await world.pair()
        await knows(world, NUMBER)
        world.accepts.close()
        accepting = asyncio.ensure_future(world.sending.accept(COMPANY, text_request(NUMBER, "late")))
        await world.quiet()
        gateway.replace_actor(COMPANY, "a test")
        await world.quiet()
        await world.until_state("connected")
        await world.quiet()
        world.accepts.open()
        await world.until_message(await world.now(accepting), "sent", within_s=5)


async def test_a_slow_chat_with_a_large_backlog_does_not_delay_others(world: World) -> None:
    """A message queued behind thousands of messages to somebody else is sent at once."""
    world.prepare = lambda engine: setattr(engine, "acks", False)
    async with world.running() as gateway:
        await world.now(gateway.put(COMPANY))
        await accepted(world, [text_request(NUMBER, f"slow {n}") for n in range(MANY)])
        await accepted(world, [text_request(OTHER, "other")])
        await world.pair()
        await world.until(lambda: "other" in texts(world), within_s=60)
        assert set(texts(world)) == {"slow 0", "other"}


async def test_thousands_of_held_messages_do_not_delay_known_chats(world: World) -> None:
    """A campaign that WhatsApp's lock holds does not block replies, also after a restart."""
    world.set_policy(keepalive_interval_s=3600.0)
    async with world.running():
        await world.pair()
        await knows(world, OTHER)
        world.listener.report(NewChatsLocked(link=world.link(), lock="reach-out-lock", active=True))
        await world.quiet()
        await accepted(world, [text_request(f"9627{n:08}", f"stranger {n}") for n in range(MANY)])
        answer = await world.send("answer", to=OTHER)
        await world.until_message(answer, "sent", within_s=5)
        await accepted(world, [text_request(f"9628{n:08}", f"stranger {n}") for n in range(10)])
    async with world.running():
        await world.until_state("connected")
        again = await world.send("answer again", to=OTHER)
        await world.until_message(again, "sent", within_s=5)
        assert texts(world) == ["answer again"]


async def accepted(world: World, send_requests: Sequence[SendRequest]) -> None:
    await world.now(asyncio.gather(*(world.sending.accept(COMPANY, send_request) for send_request in send_requests)))
