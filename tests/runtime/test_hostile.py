"""No stranger can disconnect a company: a message that can't be stored is replaced by a stub, and receipts can't be
forged.
"""

from __future__ import annotations

from holdfast.health.alerts import AlertKind
from holdfast.session.engine import Commit, Committed, InboundMessage, Receipted, Send, SentContentWanted
from holdfast.session.engine import SentContent as Answer
from tests.runtime.test_monitor import RecordedAlerts, monitor
from tests.world import COMPANY, NUMBER, World

POISON = InboundMessage(
    whatsapp_id="3APOISON", chat="962788888888@s.whatsapp.net", sender="962788888888@s.whatsapp.net", type="text",
    text="poison",
)  # fmt: skip
MALLORY = "962788888888@s.whatsapp.net"


async def _inbox(world: World) -> list[tuple[str, str, str | None]]:
    rows = await world.now(world.inbox.received(COMPANY, after=0, most=99))
    return [(row.whatsapp_id, row.type, row.text) for row in rows]


async def test_a_message_that_cannot_be_stored_becomes_a_stub_at_its_second_delivery(world: World) -> None:
    """The first failure ends the link; the second time a stub is stored and acknowledged, and an alert names it."""
    told = RecordedAlerts()
    async with world.running():
        link = await world.pair()
        world.store.refused = "poison"
        world.engine.receive(link, POISON)
        await world.until(lambda: world.link() not in {None, link})
        again = world.link()
        world.engine.receive(again, POISON)
        world.engine.receive(again, text="honest")
        await world.until(lambda: world.engine.receipts_sent == ["3APOISON", "3A0001"])
        assert world.link() == again
        assert await _inbox(world) == [("3APOISON", "unknown", None), ("3A0001", "text", "honest")]
        await world.now(monitor(world, told).check())
        [alert] = told.alerts
        assert (alert.kind, alert.condition.cause, alert.companies) == (
            AlertKind.RAISED,
            "message-not-stored",
            (COMPANY,),
        )
        assert "3APOISON" in alert.condition.sentence


async def test_a_stub_has_a_hash_and_a_reason(world: World) -> None:
    """The hash of the ciphertext, and the kind of error: never the content of the message."""
    async with world.running():
        link = await world.pair()
        world.store.refused = "poison"
        for _ in range(2):
            world.engine.receive(link, POISON)
            await world.until(lambda: world.link() is not None)
            await world.wait(60)
            link = world.link()
        [row] = await world.now(world.inbox.received(COMPANY, after=0, most=9))
        assert row.content is not None
        stub = row.content["notStored"]
        assert isinstance(stub, dict)
        assert stub["error"] == "the store refused it (ValueError)"
        assert len(stub["ciphertextSha256"]) == 64


async def test_an_honest_message_beside_one_that_cannot_be_stored_is_stored_in_full(world: World) -> None:
    """Also when both were in one commit both times."""
    async with world.running():
        link = await world.pair()
        world.store.refused = "poison"
        for _ in range(2):
            world.commits.close()
            world.engine.receive(link, text="first", whatsapp_id="3A0000")
            await world.quiet()
            world.engine.receive(link, POISON)
            world.engine.receive(link, text="honest")
            await world.quiet()
            world.commits.open()
            await world.wait(60)
            link = world.link()
        assert set(await _inbox(world)) == {
            ("3A0000", "text", "first"), ("3APOISON", "unknown", None), ("3A0001", "text", "honest"),
        }  # fmt: skip


async def test_a_store_that_fails_for_a_while_makes_no_stubs(world: World) -> None:
    """When the disk has space again, the redelivered message is stored in full."""
    async with world.running():
        link = await world.pair()
        for _ in range(3):
            world.database.failing = "disk full"
            world.engine.receive(link, text="honest")
            await world.quiet()
            world.database.failing = None
            await world.wait(600)
            link = world.link()
        world.engine.receive(link, text="honest")
        await world.until(lambda: world.engine.receipts_sent == ["3A0001"])
        assert await _inbox(world) == [("3A0001", "text", "honest")]


async def test_a_receipt_from_somebody_else_is_ignored(world: World) -> None:
    """Neither before the ack nor after it: Mallory can't mark what Bob got as read."""
    async with world.running():
        link = await world.pair()
        world.engine.acks = False
        message = await world.send()
        await world.quiet()
        [send] = world.commands(Send)
        forged = Receipted(link=link, whatsapp_ids=[send.whatsapp_id], chat=MALLORY, kind="played")
        world.listener.report(forged)
        await world.quiet()
        assert (await world.message(message)).state == "sending"
        world.listener.report(replace_chat(forged, send.to))
        await world.until_message(message, "played")


async def test_a_receipt_with_countless_ids_is_committed_in_bounded_transactions(world: World) -> None:
    """All companies share the writer. Each id counts once, and the receipt is acknowledged when all are durable."""
    async with world.running():
        link = await world.pair()
        message = await world.send()
        await world.until_message(message, "sent")
        world.outbox.batches.clear()
        ids = [*(f"3EBNOBODY{n}" for n in range(2_000)), world.commands(Send)[0].whatsapp_id]
        world.listener.report(Receipted(link=link, whatsapp_ids=ids * 2, chat=f"{NUMBER}@s.whatsapp.net", kind="read"))
        world.listener.report(Commit(link=link, seq=9))
        await world.until(lambda: Committed(link=link, seq=9) in world.commands(Committed))
        assert (await world.message(message)).state == "read"
        assert world.outbox.batches == [500, 500, 500, 500, 1]


async def test_a_message_is_resent_only_to_its_own_chat(world: World) -> None:
    """Somebody else who knows its id gets nothing."""
    async with world.running():
        link = await world.pair()
        message = await world.send("for Alice only")
        await world.until_message(message, "sent")
        [send] = world.commands(Send)
        for number, chat in enumerate([MALLORY, f"{NUMBER}@s.whatsapp.net"]):
            world.listener.report(SentContentWanted(link=link, request=number, chat=chat, whatsapp_id=send.whatsapp_id))
            await world.quiet()
        answers = {answer.request: answer.content for answer in world.commands(Answer)}
        assert answers == {0: None, 1: {"text": "for Alice only"}}


async def test_hostile_ids_in_receipts_and_requests_are_unknown_ids(world: World) -> None:
    """NUL, lone surrogates, lengths beyond any index: the link stays open."""
    async with world.running():
        link = await world.pair()
        for text in ("\0", "\ud800", "x" * 100_000):
            world.listener.report(Receipted(link=link, whatsapp_ids=[text], chat=text, kind="read", at_s=10**15))
            world.listener.report(SentContentWanted(link=link, request=1, chat=text, whatsapp_id=text))
        await world.wait(30)
        assert world.link() == link


def replace_chat(receipt: Receipted, chat: str) -> Receipted:
    return Receipted(link=receipt.link, whatsapp_ids=receipt.whatsapp_ids, chat=chat, kind=receipt.kind)
