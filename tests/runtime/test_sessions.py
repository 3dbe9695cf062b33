"""Sessions in the gateway: pairing, lost links and hosts, restarts, defects of our own."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from holdfast.backup.clearing import clear_in_parts
from holdfast.base.errors import BadInput, Conflict, HoldfastError, NotFound
from holdfast.runtime.composer import text_request
from holdfast.runtime.errors import SessionRestarting
from holdfast.runtime.pairing import PairingCodeRefused, pairing_code
from holdfast.session import events
from holdfast.session.engine import (
    AnsweredMessage,
    AnsweredMessageFound,
    AnsweredMessageRequested,
    AnyCommand,
    AskPairingCode,
    Commit,
    Committed,
    CutLink,
    Decrypted,
    InboundMessage,
    KeysRequested,
    LinkClosed,
    LogOut,
    OpenLink,
    Paired,
    Ping,
    Plaintext,
    PlaintextRequested,
    QrShown,
    SentContent,
    SentContentRequested,
    SignalKeys,
)
from holdfast.session.state import State
from holdfast.session.stores import Record
from tests.doubles.fake_engine import FakeEngine
from tests.gateway_harness import COMPANY, NUMBER, GatewayHarness

CREDENTIALS = '{"me":"962700000001:1@s.whatsapp.net"}'


def record(state: State) -> Record:
    return Record(company=COMPANY, state=state, since="2026-01-01T00:00:00.000Z", created_at="2026-01-01T00:00:00.000Z")


async def linked(harness: GatewayHarness, state: State) -> None:
    """The record that a process leaves in the database at that state, with a linked phone."""
    await harness.sessions.save(record(state))
    await harness.store.commit(COMPANY, Commit(link=1, seq=1, credentials=CREDENTIALS, paired=True))


# Connecting.


async def test_scanning_a_code_connects_the_session(harness: GatewayHarness) -> None:
    """After `put`, a QR code and the scan it is connected, with the phone's number in the record."""
    async with harness.running() as gateway:
        await harness.pair()
        shown = gateway.view(COMPANY)
    assert (shown.record.phone_number, shown.record.attempts, shown.record.reason) == ("962700000001", 0, None)
    assert shown.qr is None
    assert [order.credentials is None for order in harness.commands(OpenLink)] == [True, False]


async def test_two_companies_do_not_affect_each_other(harness: GatewayHarness) -> None:
    """Losing one company's link, and stopping it, does not affect the other's link."""
    async with harness.running() as gateway:
        ours = await harness.pair()
        theirs = await harness.pair("962303")
        harness.engine.drop(theirs, code=428)
        await harness.until(lambda: harness.link("962303") != theirs)
        await harness.now(gateway.ask("962303", events.StopAsked()))
        await harness.wait(120)
        assert (harness.state(), harness.state("962303")) == ("connected", "stopped")
        assert harness.link() == ours


async def test_a_company_id_must_be_valid(harness: GatewayHarness) -> None:
    """An id that is not valid in a URL is refused, naming the field; an unknown one is not found."""
    async with harness.running() as gateway:
        with pytest.raises(BadInput, match="not usable") as refused:
            await gateway.put("a/b")
        assert refused.value.field == "company"
        with pytest.raises(NotFound, match="create it with PUT"):
            gateway.view("962399")


async def test_a_second_put_finds_the_session(harness: GatewayHarness) -> None:
    """It opens no second link and does not restart the session."""
    async with harness.running() as gateway:
        link = await harness.pair()
        first = gateway.view(COMPANY).record
        await harness.now(gateway.put(COMPANY))
        await harness.quiet()
        assert gateway.view(COMPANY).record == first
        assert harness.link() == link


# QR and pairing codes.


async def test_only_the_code_of_the_current_link_is_shown(harness: GatewayHarness) -> None:
    """The QR code of a cut link is no longer shown, because scanning it would have no effect."""
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
        code = await harness.qr()
        assert code.text == f"2@fake,{harness.link()}"
        harness.engine.opens = False
        await harness.now(gateway.ask(COMPANY, events.ReconnectAsked()))
        assert (harness.state(), gateway.view(COMPANY).qr) == ("pairing", None)


async def test_each_code_expires_when_the_engine_shows_the_next_one(harness: GatewayHarness) -> None:
    """The first code of a link is valid for longer than the others, and the engine says for how long."""
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
        first = await harness.qr()
        shown_at = harness.clock.now()
        harness.listener.report(QrShown(link=harness.link(), qr="2@next", valid_ms=20_000))
        following = await harness.qr()
        assert (first.expires_at - shown_at).total_seconds() == 60
        assert following.text == "2@next"
        assert (following.expires_at - shown_at).total_seconds() == 20


async def test_a_scanned_code_is_no_longer_shown(harness: GatewayHarness) -> None:
    """After the scan there is no code, even while WhatsApp has not closed the link yet."""
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
        await harness.qr()
        link = harness.link()
        harness.listener.report(Commit(link=link, seq=9, credentials=CREDENTIALS, paired=True))
        harness.listener.report(Paired(link=link, jid="962700000001:1@s.whatsapp.net"))
        await harness.quiet()
        assert harness.state() == "pairing"
        assert gateway.view(COMPANY).qr is None


async def test_there_is_no_code_while_a_phone_is_linked(harness: GatewayHarness) -> None:
    """A request for the QR code of a connected session is refused with the reason."""
    async with harness.running():
        await harness.pair()
        with pytest.raises(Conflict, match="can't pair a phone: the session is connected; log it out first"):
            await harness.qr()


async def test_the_wait_for_a_qr_code_has_a_timeout(harness: GatewayHarness) -> None:
    """When WhatsApp can't be reached, the caller gets an error after the time given in the request."""
    harness.prepare = lambda engine: setattr(engine, "opens", False)
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
        before = harness.clock.monotonic()
        with pytest.raises(Conflict, match="no QR code in time"):
            await harness.qr()
        assert harness.clock.monotonic() - before == 15


async def test_a_pairing_code_is_requested_on_the_link_that_shows_codes(harness: GatewayHarness) -> None:
    """The code comes from WhatsApp, for the number in digits."""
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
        code = await harness.now(pairing_code(await gateway.actor(COMPANY), "+962 79 000 0001", within_s=15))
    assert code == "H0LDFAST"
    assert [order.phone for order in harness.commands(AskPairingCode)] == ["962790000001"]


async def test_two_concurrent_pairing_codes_reach_their_own_callers(harness: GatewayHarness) -> None:
    """Whether two people link two phones or one person clicks twice, no caller gets the code of another phone."""
    first, second = "962790000011", "962790000022"
    harness.prepare = lambda engine: engine.pairing_codes.update({first: "AAAAAAAA", second: "BBBBBBBB"})
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
        asked = [pairing_code(await gateway.actor(COMPANY), phone, within_s=15) for phone in (first, second, first)]
        assert await harness.now(asyncio.gather(*asked)) == ["AAAAAAAA", "BBBBBBBB", "AAAAAAAA"]


@pytest.mark.parametrize(
    ("refusal", "sentence"),
    [
        (429, r"after too many requests \(429 refused\): wait for an hour"),
        (400, r"for this number \(400 refused\): check that it is the number of a WhatsApp account"),
        (500, r"for an unknown reason \(500 refused\): try again in a few minutes, or scan a QR code"),
    ],
)
async def test_a_pairing_code_that_whatsapp_refuses_is_an_error(
    harness: GatewayHarness, refusal: int, sentence: str
) -> None:
    """With its cause and what to do; the session continues to show QR codes."""
    harness.prepare = lambda engine: engine.pairing_codes.update({"962790000001": refusal})
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
        with pytest.raises(PairingCodeRefused, match=f"WhatsApp refused a pairing code {sentence}"):
            await harness.now(pairing_code(await gateway.actor(COMPANY), "962790000001", within_s=15))
        assert harness.state() == "pairing"
        assert gateway.view(COMPANY).qr is not None


async def test_the_end_of_a_link_ends_the_wait_for_a_pairing_code(harness: GatewayHarness) -> None:
    """The caller gets an error as soon as the link ends, and can repeat the request."""
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
        await harness.qr()
        harness.engine.freeze(harness.link())
        before = harness.clock.monotonic()
        asked = asyncio.ensure_future(pairing_code(await gateway.actor(COMPANY), NUMBER, within_s=15))
        await harness.quiet()
        await harness.now(gateway.ask(COMPANY, events.StopAsked()))
        with pytest.raises(Conflict, match="the connection that showed the QR code ended; try again"):
            await harness.now(asked)
        assert harness.clock.monotonic() == before


# Restarts.


async def test_a_connected_session_reconnects_after_a_restart(harness: GatewayHarness) -> None:
    """It connects without a QR code and without a request."""
    async with harness.running():
        await harness.pair()
    async with harness.running():
        await harness.until_state("connected")
        assert [order.credentials is None for order in harness.commands(OpenLink)] == [False]


async def test_a_restarted_session_is_not_shown_as_connected(harness: GatewayHarness) -> None:
    """Until the new link is open, its state is `reconnecting`, whatever it was when the process ended."""
    await linked(harness, State.CONNECTED)
    harness.prepare = lambda engine: setattr(engine, "opens", False)
    async with harness.running() as gateway:
        assert harness.state() == "reconnecting"
        await harness.until(lambda: bool(harness.commands(OpenLink)))
        assert harness.state() == "reconnecting"
        await harness.quiet()
        assert [each.state for each in await harness.now(harness.sessions.all())] == ["reconnecting"]
        assert gateway.view(COMPANY).record.since > "2026-01-01T00:00:00.000Z"


async def test_a_crash_between_the_scan_and_its_report_costs_no_second_scan(harness: GatewayHarness) -> None:
    """The stored state is `pairing`, but the stored credentials are those of a linked phone."""
    await linked(harness, State.PAIRING)
    async with harness.running():
        await harness.until_state("connected")
        assert [order.credentials for order in harness.commands(OpenLink)] == [CREDENTIALS]


async def test_an_unfinished_pairing_waits_after_a_restart(harness: GatewayHarness) -> None:
    """After a restart nobody waits for the QR code: the session is `unpaired` until a code is requested."""
    await harness.sessions.save(record(State.PAIRING))
    async with harness.running():
        await harness.wait(120)
        assert harness.state() == "unpaired"
        assert harness.commands(OpenLink) == []
        await harness.qr()
        assert harness.state() == "pairing"


async def test_a_stopped_session_stays_stopped_after_a_restart(harness: GatewayHarness) -> None:
    """When a person starts it, it connects without a QR code."""
    async with harness.running() as gateway:
        await harness.pair()
        await harness.now(gateway.ask(COMPANY, events.StopAsked()))
        await harness.until(lambda: harness.commands(CutLink) != [])
    async with harness.running() as gateway:
        await harness.wait(3600)
        assert harness.state() == "stopped"
        assert harness.commands(OpenLink) == []
        await harness.now(gateway.ask(COMPANY, events.StartAsked()))
        await harness.until_state("connected")


async def test_a_temporary_ban_survives_a_restart(harness: GatewayHarness) -> None:
    """The time of the next attempt is stored as wall-clock time: a restart does not make it earlier, and no person is
    needed.
    """
    async with harness.running() as gateway:
        harness.engine.drop(await harness.pair(), code=402, attributes={"expire": "3600"})
        await harness.until_state("paused")
        resumes_at = gateway.view(COMPANY).next_attempt_at
        await harness.quiet()
    harness.clock.advance_to(harness.clock.monotonic() + 1800)
    async with harness.running() as gateway:
        assert resumes_at is not None
        planned = gateway.view(COMPANY).next_attempt_at
        assert planned is not None
        assert abs((planned - resumes_at).total_seconds()) < 0.01
        await harness.wait(1800)
        assert (harness.state(), harness.commands(OpenLink)) == ("paused", [])
        await harness.until_state("connected")


async def test_a_probe_interrupted_by_a_restart_is_repeated(harness: GatewayHarness) -> None:
    """A session whose ban is over must not stay paused because Holdfast ended while it connected."""
    async with harness.running():
        harness.engine.drop(await harness.pair(), code=402, attributes={"expire": "60"})
        await harness.until_state("paused")
        harness.engine.opens = False
        await harness.until(lambda: len(harness.commands(OpenLink)) > 2, within_s=200)
        await harness.quiet()
        assert harness.state() == "paused"
    async with harness.running():
        await harness.until_state("connected")


# Lost links and hosts.


async def test_a_frozen_link_is_cut_and_replaced(harness: GatewayHarness) -> None:
    """An unanswered ping ends a half-open connection, and the session connects again."""
    async with harness.running():
        link = await harness.pair()
        harness.engine.freeze(link)
        await harness.until(lambda: harness.link() != link, within_s=40)
        await harness.until_state("connected", within_s=5)
        assert CutLink(link=link) in harness.commands(CutLink)


async def test_pings_continue_while_the_link_is_open(harness: GatewayHarness) -> None:
    """One at once and one every thirty seconds, all on one link."""
    async with harness.running():
        link = await harness.pair()
        await harness.wait(95)
        assert [(ping.link, ping.n) for ping in harness.commands(Ping)] == [(link, n) for n in (1, 2, 3, 4)]


async def test_a_lost_host_costs_every_session_one_reconnection(harness: GatewayHarness) -> None:
    """All reconnect on a new host automatically."""
    companies = ["962301", "962302", "962303"]
    async with harness.running():
        for company in companies:
            await harness.pair(company)
        harness.engine.lose_host()
        await harness.until(lambda: harness.engines == 2)
        await harness.until(lambda: all(harness.state(company) == "connected" for company in companies), within_s=30)
        assert all(len(harness.commands(OpenLink, company)) == 1 for company in companies)


async def test_waiting_for_a_new_host_costs_no_attempts(harness: GatewayHarness) -> None:
    """While no host can be started there is no attempt; when there is one, the link is opened at once, and once."""

    def refuses(_: FakeEngine) -> None:
        if harness.clock.monotonic() < lost_at + 8:
            raise HoldfastError("no memory for a process")

    async with harness.running() as gateway:
        await harness.pair()
        await harness.wait(90)
        lost_at = harness.clock.monotonic()
        harness.prepare = refuses
        harness.engine.lose_host()
        await harness.until(lambda: harness.engines == 2)
        await harness.quiet()
        assert (harness.state(), gateway.view(COMPANY).session.attempts) == ("connected", 1)
        assert list(harness.engine.links) == [harness.link()]


@pytest.mark.parametrize("send_request", [events.StopAsked(), events.LogoutAsked()])
async def test_a_session_stopped_while_it_waits_for_a_host_opens_no_link(
    harness: GatewayHarness, send_request: events.Event
) -> None:
    """The next host opens the links that are wanted at that time, not those that were wanted when the last one was
    lost.
    """
    async with harness.running() as gateway:
        await harness.pair()
        harness.engine.lose_host()
        await harness.until(lambda: gateway.view(COMPANY).session.newest_link > 2 and harness.engines == 1)
        await harness.now(gateway.ask(COMPANY, send_request))
        await harness.until(lambda: harness.engines == 2)
        await harness.wait(30)
        assert list(harness.engine.links) == []


async def test_the_start_of_a_host_is_retried_until_it_succeeds(harness: GatewayHarness) -> None:
    """With growing delays; the sessions wait and reconnect with it."""
    refused: list[float] = []

    def refuses(_: FakeEngine) -> None:
        refused.append(harness.clock.monotonic())
        if len(refused) < 6:
            raise HoldfastError("no memory for a process")

    async with harness.running():
        await harness.pair()
        harness.prepare = refuses
        harness.engine.lose_host()
        await harness.until(lambda: harness.engines == 2)
        await harness.until_state("connected", within_s=70)
    pauses = [later - earlier for earlier, later in itertools.pairwise(refused)]
    assert pauses == sorted(pauses)
    assert pauses[0] > 1


async def test_reports_of_an_old_link_are_ignored(harness: GatewayHarness) -> None:
    """A late close, also the 401 that follows a replacement of the link, does not affect the new one."""
    async with harness.running() as gateway:
        link = await harness.pair()
        await harness.now(gateway.ask(COMPANY, events.ReconnectAsked()))
        await harness.until_state("connected")
        fresh = harness.link()
        harness.listener.report(LinkClosed(link=link, code=401, detail="logged out"))
        await harness.wait(60)
        assert (harness.state(), harness.link()) == ("connected", fresh)


async def test_the_loss_of_an_old_host_does_not_affect_a_link_on_the_new_one(harness: GatewayHarness) -> None:
    """The report is in the mailbox behind a request that opens a new link: the session has one link, not two."""
    async with harness.running() as gateway:
        await harness.pair()
        harness.saves.close()
        asked = [asyncio.ensure_future(gateway.ask(COMPANY, events.ReconnectAsked())) for _ in range(2)]
        await harness.quiet()
        harness.engine.lose_host()
        await harness.until(lambda: harness.engines == 2)
        harness.saves.open()
        await harness.now(asyncio.gather(*asked))
        await harness.wait(30)
        assert harness.state() == "connected"
        assert list(harness.engine.links) == [harness.link()]


# Storage for the engine.


async def test_a_receipt_is_sent_only_when_the_message_is_durable(harness: GatewayHarness) -> None:
    """A message is acknowledged to WhatsApp when it is on disk."""
    async with harness.running():
        link = await harness.pair()
        harness.commits.close()
        harness.engine.receive(link, text="good morning", whatsapp_id="3A01")
        await harness.quiet()
        assert harness.engine.receipts_sent == []
        harness.commits.open()
        await harness.until(lambda: harness.engine.receipts_sent == ["3A01"])
        received = await harness.now(harness.inbox.received(COMPANY, after=0, limit=9))
    assert [(each.text, each.sender) for each in received] == [("good morning", "962799999999@s.whatsapp.net")]


async def test_a_failing_store_ends_the_link_and_loses_no_message(harness: GatewayHarness) -> None:
    """No receipt is sent, the link is cut and reconnects after the backoff; the redelivered message is stored once."""
    async with harness.running():
        link = await harness.pair()
        harness.database.failing = "disk full"
        harness.engine.receive(link, text="good morning", whatsapp_id="3A01")
        await harness.until(lambda: CutLink(link=link) in harness.commands(CutLink))
        assert harness.engine.receipts_sent == []
        harness.database.failing = None
        await harness.until(lambda: harness.link() != link and harness.state() == "connected")
        harness.engine.receive(harness.link(), text="good morning", whatsapp_id="3A01")
        await harness.until(lambda: harness.engine.receipts_sent == ["3A01"])
        assert len(await harness.now(harness.inbox.received(COMPANY, after=0, limit=9))) == 1


async def test_nothing_is_stored_after_a_failed_commit(harness: GatewayHarness) -> None:
    """A later ratchet step without the earlier one would make the redelivery of the earlier message unreadable."""
    async with harness.running():
        link = await harness.pair()
        harness.commits.close()
        harness.engine.receive(link, text="first", whatsapp_id="3A01")
        await harness.quiet()
        harness.engine.receive(link, text="second", whatsapp_id="3A02")
        harness.store.failing = frozenset({1})
        await harness.quiet()
        harness.commits.open()
        await harness.until(lambda: harness.link() != link)
        assert await harness.now(harness.inbox.received(COMPANY, after=0, limit=9)) == []
        assert harness.engine.receipts_sent == []


async def test_requests_queued_behind_a_commit_are_stored_and_answered(harness: GatewayHarness) -> None:
    """In order, each with its own number."""
    async with harness.running():
        link = await harness.pair()
        harness.commits.close()
        for number in range(1, 6):
            harness.engine.receive(link, text=f"message {number}", whatsapp_id=f"3A0{number}")
            await harness.quiet()
        harness.commits.open()
        await harness.until(lambda: len(harness.engine.receipts_sent) == 5)
        received = await harness.now(harness.inbox.received(COMPANY, after=0, limit=9))
    assert [each.text for each in received] == [f"message {number}" for number in range(1, 6)]
    assert [each.seq for each in harness.commands(Committed) if each.link == link] == [1, 2, 3, 4, 5]


async def test_commits_of_an_old_link_are_durable_before_the_next_reads_credentials(harness: GatewayHarness) -> None:
    """The next link must not start with keys that an older one changes afterwards."""
    async with harness.running():
        link = await harness.pair()
        harness.commits.close()
        fresh = '{"me":"962700000001:1@s.whatsapp.net","nextPreKeyId":813}'
        harness.listener.report(Commit(link=link, seq=8, credentials=fresh, paired=True))
        harness.engine.drop(link, code=428)
        await harness.wait(1)
        assert harness.link() == link
        harness.commits.open()
        await harness.until(lambda: harness.link() != link)
        assert harness.commands(OpenLink)[-1].credentials == fresh


async def test_an_engine_reads_stored_data(harness: GatewayHarness) -> None:
    """Keys after the commit that preceded the request, a plaintext by its ciphertext, a message for a resend, a poll
    for a vote in it.
    """
    async with harness.running():
        link = await harness.pair()
        message = await harness.send("say that again")
        await harness.until_message(message, "sent")
        poll = InboundMessage(whatsapp_id="3A", chat="c", sender="s", type="poll", message_secret="c2VjcmV0")
        kept = Decrypted(ciphertext_sha256="c1", plaintext="aGVsbG8=", message=poll)
        for report in (
            Commit(link=link, seq=50, keys={"session": {"a": "1"}}, decrypted=[kept]),
            KeysRequested(link=link, request=1, type="session", ids=["a", "never kept"]),
            PlaintextRequested(link=link, request=2, ciphertext_sha256="c1"),
            PlaintextRequested(link=link, request=3, ciphertext_sha256="c2"),
            SentContentRequested(link=link, request=4, chat=message.chat, whatsapp_id=message.whatsapp_id),
            SentContentRequested(link=link, request=5, chat=message.chat, whatsapp_id="3EB0"),
            AnsweredMessageRequested(link=link, request=6, chat="c", whatsapp_id="3A"),
            AnsweredMessageRequested(link=link, request=7, chat="c", whatsapp_id="3B"),
        ):
            harness.listener.report(report)
        await harness.quiet()
        assert harness.engine.commands[-8:] == [
            Committed(link=link, seq=50),
            SignalKeys(link=link, request=1, values={"a": "1"}),
            Plaintext(link=link, request=2, plaintext="aGVsbG8="),
            Plaintext(link=link, request=3, plaintext=None),
            SentContent(link=link, request=4, content={"text": "say that again"}),
            SentContent(link=link, request=5, content=None),
            AnsweredMessageFound(link=link, request=6, message=AnsweredMessage(secret="c2VjcmV0", sender="s")),
            AnsweredMessageFound(link=link, request=7, message=None),
        ]


# Logging out.


async def test_a_logout_quarantines_the_credentials(harness: GatewayHarness) -> None:
    """The device is unlinked at WhatsApp, and the next QR code belongs to a new device."""
    async with harness.running() as gateway:
        link = await harness.pair()
        await harness.now(gateway.ask(COMPANY, events.LogoutAsked()))
        await harness.quiet()
        assert harness.state() == "logged_out"
        assert harness.commands(LogOut) == [LogOut(link=link)]
        await harness.qr()
        assert harness.commands(OpenLink)[-1].credentials is None


async def test_a_commit_behind_a_logout_does_not_bring_the_credentials_back(harness: GatewayHarness) -> None:
    """Otherwise the session would be both logged out and linked, and accept neither a start nor a request for a QR
    code.
    """
    async with harness.running() as gateway:
        link = await harness.pair()
        harness.engine.freeze(link)
        await harness.now(gateway.ask(COMPANY, events.LogoutAsked()))
        harness.listener.report(
            Commit(link=link, seq=90, credentials=CREDENTIALS, paired=True, keys={"a": {"b": "{}"}})
        )
        await harness.quiet()
        assert Committed(link=link, seq=90) in harness.commands(Committed)
        assert await harness.now(harness.store.credentials(COMPANY)) is None
        assert await harness.now(harness.store.keys(COMPANY, "a", ["b"])) == {}
    async with harness.running() as gateway:
        await harness.qr()
        assert harness.state() == "pairing"


async def test_the_end_of_a_logout_does_not_affect_the_next_pairing(harness: GatewayHarness) -> None:
    """The old link may close late; the new QR code stays valid."""
    async with harness.running() as gateway:
        link = await harness.pair()
        harness.engine.freeze(link)
        await harness.now(gateway.ask(COMPANY, events.LogoutAsked()))
        code = await harness.qr()
        harness.engine.drop(link, code=408, detail="the logout was not confirmed")
        await harness.quiet()
        assert link not in harness.engine.links
        assert gateway.view(COMPANY).qr == code


async def test_a_logout_is_sent_although_a_commit_has_to_precede_it(harness: GatewayHarness) -> None:
    """The link is served until it ends: the message that arrived with the logout is stored, and the phone is
    unlinked.
    """
    async with harness.running() as gateway:
        link = await harness.pair()
        harness.commits.close()
        harness.engine.receive(link, text="a last word", whatsapp_id="3A01")
        harness.engine.receive(link, text="another", whatsapp_id="3A02")
        asked = asyncio.ensure_future(gateway.ask(COMPANY, events.LogoutAsked()))
        await harness.quiet()
        assert link in harness.engine.links
        harness.commits.open()
        await harness.now(asked)
        await harness.until(lambda: link not in harness.engine.links)
        received = await harness.now(harness.inbox.received(COMPANY, after=0, limit=9))
        assert [each.text for each in received] == ["a last word", "another"]
        assert await harness.now(harness.store.keys(COMPANY, "session", ["962799999999@s.whatsapp.net.0"])) == {}


# Changes of stored rows.


async def test_works_on_a_stored_session_run_one_after_another(harness: GatewayHarness) -> None:
    """Two concurrent imports, or an import and a clear, run one after the other, and nothing runs the session
    meanwhile.
    """
    async with harness.running() as gateway:
        await harness.pair()
        log: list[tuple[str, bool]] = []

        async def work(name: str, go: asyncio.Event) -> None:
            log.append((f"{name} begins", COMPANY in gateway.running))
            await go.wait()
            log.append((f"{name} ends", COMPANY in gateway.running))

        first, second = asyncio.Event(), asyncio.Event()
        one = asyncio.ensure_future(gateway.run_exclusively(COMPANY, lambda: work("one", first)))
        two = asyncio.ensure_future(gateway.run_exclusively(COMPANY, lambda: work("two", second)))
        await harness.quiet()
        first.set()
        await harness.quiet()
        with pytest.raises(SessionRestarting):
            await harness.now(harness.messages.accept(COMPANY, text_request(NUMBER, "meanwhile")))
        with pytest.raises(SessionRestarting):
            gateway.view(COMPANY)
        second.set()
        await harness.now(asyncio.gather(one, two))
        assert log == [("one begins", False), ("one ends", False), ("two begins", False), ("two ends", False)]
        await harness.until_state("connected")


async def test_the_session_runs_again_after_a_failed_work(harness: GatewayHarness) -> None:
    """Also when another work waits behind it."""
    async with harness.running() as gateway:
        await harness.pair()

        async def fail() -> None:
            raise OSError("disk full")

        async def work() -> None:
            assert COMPANY not in gateway.running

        asked = asyncio.gather(
            gateway.run_exclusively(COMPANY, fail), gateway.run_exclusively(COMPANY, work), return_exceptions=True
        )
        assert [type(each) for each in await harness.now(asked)] == [OSError, type(None)]
        await harness.until_state("connected")


async def test_the_session_runs_again_after_a_work_was_cancelled_while_it_waited(harness: GatewayHarness) -> None:
    """Its caller gave up before it could run."""
    async with harness.running() as gateway:
        await harness.pair()
        go = asyncio.Event()
        first = asyncio.ensure_future(gateway.run_exclusively(COMPANY, go.wait))
        await harness.quiet()
        second = asyncio.ensure_future(gateway.run_exclusively(COMPANY, go.wait))
        await harness.quiet()
        second.cancel()
        await harness.quiet()
        go.set()
        await harness.now(first)
        await harness.until_state("connected")


async def test_the_session_runs_again_when_the_database_failed_after_a_work(
    harness: GatewayHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a restart, as soon as the database is back; the result of the work stands."""
    async with harness.running() as gateway:
        await harness.pair()

        async def work() -> str:
            harness.sessions.failing = "disk I/O error"
            return "done"

        assert await harness.now(gateway.run_exclusively(COMPANY, work)) == "done"
        await harness.wait(60)
        assert COMPANY not in gateway.running
        harness.sessions.failing = None
        await harness.until(lambda: COMPANY in gateway.running, within_s=10)
        await harness.until_state("connected")
    assert caplog.text.count(f"Session {COMPANY} can't be started") == 1


async def test_a_created_session_runs_when_the_database_failed_after_it_was_stored(harness: GatewayHarness) -> None:
    """Its creator got an error; nobody has to ask again."""
    async with harness.running() as gateway:
        harness.sessions.failing = "disk I/O error"
        with pytest.raises(OSError, match="disk I/O error"):
            await harness.now(gateway.put(COMPANY))
        harness.sessions.failing = None
        await harness.until(lambda: COMPANY in gateway.running, within_s=10)


async def test_a_session_that_was_cleared_while_the_database_failed_stays_ended(harness: GatewayHarness) -> None:
    """There is nothing to be started again."""
    async with harness.running() as gateway:
        await harness.pair()

        async def clear() -> None:
            await clear_in_parts(harness.database, COMPANY, clock=harness.clock)
            harness.sessions.failing = "disk I/O error"

        await harness.now(gateway.run_exclusively(COMPANY, clear))
        harness.sessions.failing = None
        await harness.wait(60)
        assert COMPANY not in gateway.running


async def test_settings_stored_while_an_actor_is_replaced_take_effect(harness: GatewayHarness) -> None:
    """The next actor uses them, whether it read its record before or after they were stored."""
    async with harness.running() as gateway:
        await harness.pair()
        gateway.replace_actor(COMPANY, "it hangs")
        await harness.now(gateway.set_connection(COMPANY, {"device_name": "Shop"}))
        await harness.until_state("connected")
        assert gateway.view(COMPANY).record.device_name == "Shop"


# Defects of our own, and the stop.


async def test_a_session_that_has_ended_already_can_be_ended(harness: GatewayHarness) -> None:
    """As when its actor notices that the lease is lost just before the renewal does: the others must continue."""
    async with harness.running() as gateway:
        await harness.pair()
        await harness.now(gateway.end(["962399", COMPANY]))
        assert not gateway.running


async def test_a_session_that_fails_is_restarted(harness: GatewayHarness) -> None:
    """An exception in an actor cuts its link and is logged, and a new actor connects; other sessions continue."""
    async with harness.running() as gateway:
        link = await harness.pair()
        await harness.pair("962303")
        theirs = harness.link("962303")
        harness.database.failing = "a defect"
        with pytest.raises(HoldfastError, match="is being restarted"):
            await harness.now(gateway.ask(COMPANY, events.ReconnectAsked()))
        harness.database.failing = None
        await harness.until(lambda: harness.link() != link and harness.state() == "connected")
        assert harness.link("962303") == theirs
        assert len([each for each in harness.engine.links if each != theirs]) == 1


async def test_a_request_to_a_session_that_is_restarting_is_answered(harness: GatewayHarness) -> None:
    """Nobody waits forever on an actor that is gone."""
    async with harness.running() as gateway:
        await harness.pair()
        harness.database.failing = "a defect"
        with pytest.raises(HoldfastError):
            await harness.now(gateway.ask(COMPANY, events.ReconnectAsked()))
        await harness.quiet()
        harness.database.failing = None
        with pytest.raises(HoldfastError, match="is being restarted"):
            await harness.now(gateway.ask(COMPANY, events.ReconnectAsked()), within_s=1)


async def test_a_store_that_fails_for_long_affects_a_session_and_not_the_gateway(
    harness: GatewayHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """The start of the next actor is retried with growing delays until the disk has space."""
    async with harness.running() as gateway:
        await harness.pair()
        harness.database.failing = "disk full"
        with pytest.raises(HoldfastError):
            await harness.now(gateway.ask(COMPANY, events.ReconnectAsked()))
        await harness.wait(600)
        assert 10 < sum("it is restarted in" in line for line in caplog.messages) < 30
        harness.database.failing = None
        await harness.until_state("connected")


async def test_a_stop_leaves_no_task_and_no_link(harness: GatewayHarness) -> None:
    """All tasks of a session have ended with the gateway, and the engine was commanded to cut every link."""
    before = asyncio.all_tasks()
    async with harness.running():
        link = await harness.pair()
        await harness.now(harness.gateway.put("962303"))
        await harness.quiet()
    assert asyncio.all_tasks() == before
    assert CutLink(link=link) in harness.commands(CutLink)


async def test_a_gateway_whose_engine_cannot_start_fails(harness: GatewayHarness) -> None:
    """A failed first start is not retried silently."""

    def refuses(_: FakeEngine) -> None:
        raise HoldfastError("no Node here")

    harness.prepare = refuses
    with pytest.raises(ExceptionGroup) as ended:
        async with harness.running():
            pass
    assert ended.group_contains(HoldfastError, match="no Node here")


async def test_a_failure_during_the_stop_starts_no_new_actor(harness: GatewayHarness) -> None:
    """Otherwise the stop would never end."""

    def break_cuts(engine: FakeEngine) -> None:
        obey = engine.command

        def command(asked: AnyCommand) -> None:
            if isinstance(asked, CutLink):
                raise OSError("a defect")
            obey(asked)

        setattr(engine, "command", command)  # noqa: B010 – an engine that breaks its word

    harness.prepare = break_cuts
    async with asyncio.timeout(20), harness.running():
        await harness.pair()


async def test_a_link_is_not_cut_while_our_own_store_delays_its_pings(harness: GatewayHarness) -> None:
    """A frame waits for the commits before it, so no ping was sent that WhatsApp could have answered. A link that does
    not answer afterwards is cut as usual.
    """
    async with harness.running():
        link = await harness.pair()
        harness.commits.close()
        harness.engine.receive(link, text="hello")
        await harness.wait(120)
        assert (harness.state(), harness.link()) == ("connected", link)
        harness.commits.open()
        await harness.wait(40)
        assert (harness.state(), harness.link()) == ("connected", link)
        harness.engine.freeze(link)
        await harness.wait(40)
        assert harness.link() != link
