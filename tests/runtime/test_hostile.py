"""No stranger can disconnect a company: a message that can't be stored is replaced by a stub, and receipts can't be
forged.
"""

from __future__ import annotations

import gc

import pytest

from holdfast.health.alerts import AlertKind
from holdfast.session.engine import Commit, Committed, InboundMessage, Receipted, Send, SentContentRequested
from holdfast.session.engine import SentContent as Answer
from tests.gateway_harness import COMPANY, NUMBER, GatewayHarness
from tests.runtime.test_monitor import RecordedAlerts, monitor

POISON = InboundMessage(
    whatsapp_id="3APOISON", chat="962788888888@s.whatsapp.net", sender="962788888888@s.whatsapp.net", type="text",
    text="poison",
)  # fmt: skip
MALLORY = "962788888888@s.whatsapp.net"


async def _inbox(harness: GatewayHarness) -> list[tuple[str, str, str | None]]:
    rows = await harness.now(harness.inbox.received(COMPANY, after=0, limit=99))
    return [(row.whatsapp_id, row.type, row.text) for row in rows]


async def test_a_message_that_cannot_be_stored_becomes_a_stub_at_its_second_delivery(harness: GatewayHarness) -> None:
    """The first failure ends the link; the second time a stub is stored and acknowledged, and an alert names it."""
    recorded = RecordedAlerts()
    async with harness.running():
        link = await harness.pair()
        harness.store.refused = "poison"
        harness.engine.receive(link, POISON)
        await harness.until(lambda: harness.link() not in {None, link})
        again = harness.link()
        harness.engine.receive(again, POISON)
        harness.engine.receive(again, text="honest")
        await harness.until(lambda: harness.engine.receipts_sent == ["3APOISON", "3A0001"])
        assert harness.link() == again
        assert await _inbox(harness) == [("3APOISON", "unknown", None), ("3A0001", "text", "honest")]
        await harness.now(monitor(harness, recorded).check())
        [alert] = recorded.alerts
        assert (alert.kind, alert.condition.cause, alert.companies) == (
            AlertKind.RAISED,
            "message-not-stored",
            (COMPANY,),
        )
        assert "3APOISON" in alert.condition.sentence


async def test_a_stub_has_a_hash_and_a_reason(harness: GatewayHarness) -> None:
    """The hash of the ciphertext, and the kind of error: never the content of the message."""
    async with harness.running():
        link = await harness.pair()
        harness.store.refused = "poison"
        for _ in range(2):
            harness.engine.receive(link, POISON)
            await harness.until(lambda: harness.link() is not None)
            await harness.wait(60)
            link = harness.link()
        [row] = await harness.now(harness.inbox.received(COMPANY, after=0, limit=9))
        assert row.content is not None
        stub = row.content["notStored"]
        assert isinstance(stub, dict)
        assert stub["error"] == "the store refused it (ValueError)"
        assert len(stub["ciphertextSha256"]) == 64


async def test_an_honest_message_beside_one_that_cannot_be_stored_is_stored_in_full(harness: GatewayHarness) -> None:
    """Also when both were in one commit both times."""
    async with harness.running():
        link = await harness.pair()
        harness.store.refused = "poison"
        for _ in range(2):
            harness.commits.close()
            harness.engine.receive(link, text="first", whatsapp_id="3A0000")
            await harness.quiet()
            harness.engine.receive(link, POISON)
            harness.engine.receive(link, text="honest")
            await harness.quiet()
            harness.commits.open()
            await harness.wait(60)
            link = harness.link()
        assert set(await _inbox(harness)) == {
            ("3A0000", "text", "first"), ("3APOISON", "unknown", None), ("3A0001", "text", "honest"),
        }  # fmt: skip


async def test_a_barrier_beside_a_message_that_cannot_be_stored_is_not_answered(
    harness: GatewayHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """The link is given up with both, and nothing is left that waits for the receipts of that link."""
    async with harness.running():
        link = await harness.pair()
        harness.store.refused = "poison"
        harness.commits.close()
        harness.engine.receive(link, text="first", whatsapp_id="3A0000")
        await harness.quiet()
        harness.engine.receive(link, POISON)
        harness.listener.report(Commit(link=link, seq=900))
        await harness.quiet()
        harness.commits.open()
        await harness.until(lambda: harness.link() not in {None, link})
        assert Committed(link=link, seq=900) not in harness.commands(Committed)
        caplog.clear()  # the logged error refers to what was waiting
        gc.collect()  # an awaitable that nobody awaited would be reported now


async def test_a_store_that_fails_for_a_while_makes_no_stubs(harness: GatewayHarness) -> None:
    """When the disk has space again, the redelivered message is stored in full."""
    async with harness.running():
        link = await harness.pair()
        for _ in range(3):
            harness.database.failing = "disk full"
            harness.engine.receive(link, text="honest")
            await harness.quiet()
            harness.database.failing = None
            await harness.wait(600)
            link = harness.link()
        harness.engine.receive(link, text="honest")
        await harness.until(lambda: harness.engine.receipts_sent == ["3A0001"])
        assert await _inbox(harness) == [("3A0001", "text", "honest")]


async def test_a_receipt_from_somebody_else_is_ignored(harness: GatewayHarness) -> None:
    """Neither before the ack nor after it: Mallory can't mark what Bob got as read."""
    async with harness.running():
        link = await harness.pair()
        harness.engine.acks = False
        message = await harness.send()
        await harness.quiet()
        [send] = harness.commands(Send)
        forged = Receipted(link=link, whatsapp_ids=[send.whatsapp_id], chat=MALLORY, kind="played")
        harness.listener.report(forged)
        await harness.quiet()
        assert (await harness.message(message)).state == "sending"
        harness.listener.report(replace_chat(forged, send.to))
        await harness.until_message(message, "played")


async def test_a_receipt_with_countless_ids_is_committed_in_bounded_transactions(harness: GatewayHarness) -> None:
    """All companies share the writer. Each id counts once, and the receipt is acknowledged when all are durable."""
    async with harness.running():
        link = await harness.pair()
        message = await harness.send()
        await harness.until_message(message, "sent")
        harness.outbox.batches.clear()
        ids = [*(f"3EBNOBODY{n}" for n in range(2_000)), harness.commands(Send)[0].whatsapp_id]
        harness.listener.report(
            Receipted(link=link, whatsapp_ids=ids * 2, chat=f"{NUMBER}@s.whatsapp.net", kind="read")
        )
        harness.listener.report(Commit(link=link, seq=9))
        await harness.until(lambda: Committed(link=link, seq=9) in harness.commands(Committed))
        assert (await harness.message(message)).state == "read"
        assert harness.outbox.batches == [500, 500, 500, 500, 1]


async def test_a_message_is_resent_only_to_its_own_chat(harness: GatewayHarness) -> None:
    """Somebody else who knows its id gets nothing."""
    async with harness.running():
        link = await harness.pair()
        message = await harness.send("for Alice only")
        await harness.until_message(message, "sent")
        [send] = harness.commands(Send)
        for number, chat in enumerate([MALLORY, f"{NUMBER}@s.whatsapp.net"]):
            harness.listener.report(
                SentContentRequested(link=link, request=number, chat=chat, whatsapp_id=send.whatsapp_id)
            )
            await harness.quiet()
        answers = {answer.request: answer.content for answer in harness.commands(Answer)}
        assert answers == {0: None, 1: {"text": "for Alice only"}}


async def test_hostile_ids_in_receipts_and_requests_are_unknown_ids(harness: GatewayHarness) -> None:
    """NUL, lone surrogates, lengths beyond any index: the link stays open."""
    async with harness.running():
        link = await harness.pair()
        for text in ("\0", "\ud800", "x" * 100_000):
            harness.listener.report(Receipted(link=link, whatsapp_ids=[text], chat=text, kind="read", at_s=10**15))
            harness.listener.report(SentContentRequested(link=link, request=1, chat=text, whatsapp_id=text))
        await harness.wait(30)
        assert harness.link() == link


def replace_chat(receipt: Receipted, chat: str) -> Receipted:
    return Receipted(link=receipt.link, whatsapp_ids=receipt.whatsapp_ids, chat=chat, kind=receipt.kind)
