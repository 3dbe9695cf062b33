"""Sessions in the gateway: pairing, lost links and hosts, restarts, defects of our own."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from holdfast.base.errors import BadInput, Conflict, HoldfastError, NotFound
from holdfast.runtime.composer import text_request
from holdfast.runtime.errors import SessionRestarting
from holdfast.runtime.pairing import PairingCodeRefused, pairing_code
from holdfast.session import events
from holdfast.session.engine import (
    AnsweredMessage,
    AnsweredMessageFound,
    AnsweredMessageWanted,
    AnyCommand,
    AskPairingCode,
    Commit,
    Committed,
    CutLink,
    Decrypted,
    InboundMessage,
    KeysWanted,
    LinkClosed,
    LogOut,
    OpenLink,
    Paired,
    Ping,
    Plaintext,
    PlaintextWanted,
    QrShown,
    SentContent,
    SentContentWanted,
    SignalKeys,
)
from holdfast.session.state import State
from holdfast.session.stores import Record
from tests.doubles.fake_engine import FakeEngine
from tests.world import COMPANY, NUMBER, World

CREDENTIALS = '{"me":"962700000001:1@s.whatsapp.net"}'


def record(state: State) -> Record:
    return Record(company=COMPANY, state=state, since="2026-01-01T00:00:00.000Z", created_at="2026-01-01T00:00:00.000Z")


async def linked(world: World, state: State) -> None:
    """The record that a process leaves in the database at that state, with a linked phone."""
    await world.sessions.save(record(state))
    await world.store.commit(COMPANY, Commit(link=1, seq=1, credentials=CREDENTIALS, paired=True))


# Connecting.


async def test_scanning_a_code_connects_the_session(world: World) -> None:
    """After `put`, a QR code and the scan it is connected, with the phone's number in the record."""
    async with world.running() as gateway:
        await world.pair()
        shown = gateway.view(COMPANY)
    assert (shown.record.phone_number, shown.record.attempts, shown.record.reason) == ("962700000001", 0, None)
    assert shown.qr is None
    assert [order.credentials is None for order in world.commands(OpenLink)] == [True, False]


async def test_two_companies_do_not_affect_each_other(world: World) -> None:
    """Losing one company's link, and stopping it, does not affect the other's link."""
    async with world.running() as gateway:
        ours = await world.pair()
        theirs = await world.pair("962303")
        world.engine.drop(theirs, code=428)
        await world.until(lambda: world.link("962303") != theirs)
        await world.now(gateway.ask("962303", events.StopAsked()))
        await world.wait(120)
        assert (world.state(), world.state("962303")) == ("connected", "stopped")
        assert world.link() == ours


async def test_a_company_id_must_be_valid(world: World) -> None:
    """An id that is not valid in a URL is refused, naming the field; an unknown one is not found."""
    async with world.running() as gateway:
        with pytest.raises(BadInput, match="not usable") as refused:
            await gateway.put("a/b")
        assert refused.value.field == "company"
        with pytest.raises(NotFound, match="create it with PUT"):
            gateway.view("962399")


async def test_a_second_put_finds_the_session(world: World) -> None:
    """It opens no second link and does not restart the session."""
    async with world.running() as gateway:
        link = await world.pair()
        first = gateway.view(COMPANY).record
        await world.now(gateway.put(COMPANY))
        await world.quiet()
        assert gateway.view(COMPANY).record == first
        assert world.link() == link


# QR and pairing codes.


async def test_only_the_code_of_the_current_link_is_shown(world: World) -> None:
    """The QR code of a cut link is no longer shown, because scanning it would have no effect."""
    async with world.running() as gateway:
        await world.now(gateway.put(COMPANY))
        code = await world.qr()
        assert code.text == f"2@fake,{world.link()}"
        world.engine.opens = False
        await world.now(gateway.ask(COMPANY, events.ReconnectAsked()))
        assert (world.state(), gateway.view(COMPANY).qr) == ("pairing", None)


async def test_each_code_expires_when_the_engine_shows_the_next_one(world: World) -> None:
    """The first code of a link is valid for longer than the others, and the engine says for how long."""
    async with world.running() as gateway:
        await world.now(gateway.put(COMPANY))
        first = await world.qr()
        shown_at = world.clock.now()
        world.listener.report(QrShown(link=world.link(), qr="2@next", valid_ms=20_000))
        following = await world.qr()
        assert (first.expires_at - shown_at).total_seconds() == 60
        assert following.text == "2@next"
        assert (following.expires_at - shown_at).total_seconds() == 20


async def test_a_scanned_code_is_no_longer_shown(world: World) -> None:
    """After the scan there is no code, even while WhatsApp has not closed the link yet."""
    async with world.running() as gateway:
        await world.now(gateway.put(COMPANY))
        await world.qr()
        link = world.link()
        world.listener.report(Commit(link=link, seq=9, credentials=CREDENTIALS, paired=True))
        world.listener.report(Paired(link=link, jid="962700000001:1@s.whatsapp.net"))
        await world.quiet()
        assert world.state() == "pairing"
        assert gateway.view(COMPANY).qr is None


async def test_there_is_no_code_while_a_phone_is_linked(world: World) -> None:
    """A request for the QR code of a connected session is refused with the reason."""
    async with world.running():
        await world.pair()
        with pytest.raises(Conflict, match="can't pair a phone: the session is connected; log it out first"):
            await world.qr()


async def test_the_wait_for_a_qr_code_has_a_timeout(world: World) -> None:
    """When WhatsApp can't be reached, the caller gets an error after the time given in the request."""
    world.prepare = lambda engine: setattr(engine, "opens", False)
    async with world.running() as gateway:
        await world.now(gateway.put(COMPANY))
        before = world.clock.monotonic()
        with pytest.raises(Conflict, match="no QR code in time"):
            await world.qr()
        assert world.clock.monotonic() - before == 15


async def test_a_pairing_code_is_requested_on_the_link_that_shows_codes(world: World) -> None:
    """The code comes from WhatsApp, for the number in digits."""
    async with world.running() as gateway:
        await world.now(gateway.put(COMPANY))
        code = await world.now(pairing_code(await gateway.actor(COMPANY), "+962 79 000 0001", at_most_s=15))
    assert code == "H0LDFAST"
    assert [order.phone for order in world.commands(AskPairingCode)] == ["962790000001"]


async def test_two_concurrent_pairing_codes_reach_their_own_callers(world: World) -> None:
    """Whether two people link two phones or one person clicks twice, no caller gets the code of another phone."""
    first, second = "962790000011", "962790000022"
    world.prepare = lambda engine: engine.pairing_codes.update({first: "AAAAAAAA", second: "BBBBBBBB"})
    async with world.running() as gateway:
        await world.now(gateway.put(COMPANY))
        asked = [pairing_code(await gateway.actor(COMPANY), phone, at_most_s=15) for phone in (first, second, first)]
        assert await world.now(asyncio.gather(*asked)) == ["AAAAAAAA", "BBBBBBBB", "AAAAAAAA"]


@pytest.mark.parametrize(
    ("refusal", "sentence"),
    [
        (429, r"after too many requests \(429 refused\): wait for an hour"),
        (400, r"for this number \(400 refused\): check that it is the number of a WhatsApp account"),
        (500, r"for an unknown reason \(500 refused\): try again in a few minutes, or scan a QR code"),
    ],
)
async def test_a_pairing_code_that_whatsapp_refuses_is_an_error(world: World, refusal: int, sentence: str) -> None:
    """With its cause and what to do; the session continues to show QR codes."""
    world.prepare = lambda engine: engine.pairing_codes.update({"962790000001": refusal})
    async with world.running() as gateway:
        await world.now(gateway.put(COMPANY))
        with pytest.raises(PairingCodeRefused, match=f"WhatsApp refused a pairing code {sentence}"):
            await world.now(pairing_code(await gateway.actor(COMPANY), "962790000001", at_most_s=15))
        assert world.state() == "pairing"
        assert gateway.view(COMPANY).qr is not None


async def test_the_end_of_a_link_ends_the_wait_for_a_pairing_code(world: World) -> None:
    """The caller gets an error as soon as the link ends, and can repeat the request."""
    async with world.running() as gateway:
        await world.now(gateway.put(COMPANY))
        await world.qr()
        world.engine.freeze(world.link())
        before = world.clock.monotonic()
        asked = asyncio.ensure_future(pairing_code(await gateway.actor(COMPANY), NUMBER, at_most_s=15))
        await world.quiet()
        await world.now(gateway.ask(COMPANY, events.StopAsked()))
        with pytest.raises(Conflict, match="the connection that showed the QR code ended; try again"):
            await world.now(asked)
        assert world.clock.monotonic() == before


# Restarts.


async def test_a_connected_session_reconnects_after_a_restart(world: World) -> None:
    """It connects without a QR code and without a request."""
    async with world.running():
        await world.pair()
    async with world.running():
        await world.until_state("connected")
        assert [order.credentials is None for order in world.commands(OpenLink)] == [False]


async def test_a_restarted_session_is_not_shown_as_connected(world: World) -> None:
    """Until the new link is open, its state is `reconnecting`, whatever it was when the process ended."""
    await linked(world, State.CONNECTED)
    world.prepare = lambda engine: setattr(engine, "opens", False)
    async with world.running() as gateway:
        assert world.state() == "reconnecting"
        await world.until(lambda: bool(world.commands(OpenLink)))
        assert world.state() == "reconnecting"
        await world.quiet()
        assert [each.state for each in await world.now(world.sessions.all())] == ["reconnecting"]
        assert gateway.view(COMPANY).record.since > "2026-01-01T00:00:00.000Z"


async def test_a_crash_between_the_scan_and_its_report_costs_no_second_scan(world: World) -> None:
    """The stored state is `pairing`, but the stored credentials are those of a linked phone."""
    await linked(world, State.PAIRING)
    async with world.running():
        await world.until_state("connected")
        assert [order.credentials for order in world.commands(OpenLink)] == [CREDENTIALS]


async def test_an_unfinished_pairing_waits_after_a_restart(world: World) -> None:
    """After a restart nobody waits for the QR code: the session is `unpaired` until a code is requested."""
    await world.sessions.save(record(State.PAIRING))
    async with world.running():
        await world.wait(120)
        assert world.state() == "unpaired"
        assert world.commands(OpenLink) == []
        await world.qr()
        assert world.state() == "pairing"


async def test_a_stopped_session_stays_stopped_after_a_restart(world: World) -> None:
    """When a person starts it, it connects without a QR code."""
    async with world.running() as gateway:
        await world.pair()
        await world.now(gateway.ask(COMPANY, events.StopAsked()))
        await world.until(lambda: world.commands(CutLink) != [])
    async with world.running() as gateway:
        await world.wait(3600)
        assert world.state() == "stopped"
        assert world.commands(OpenLink) == []
        await world.now(gateway.ask(COMPANY, events.StartAsked()))
        await world.until_state("connected")


async def test_a_temporary_ban_survives_a_restart(world: World) -> None:
    """The time of the next attempt is stored as wall-clock time: a restart does not make it earlier, and no person is
    needed.
    """
    async with world.running() as gateway:
        world.engine.drop(await world.pair(), code=402, attributes={"expire": "3600"})
        await world.until_state("paused")
        resumes_at = gateway.view(COMPANY).next_attempt_at
        await world.quiet()
    world.clock.advance_to(world.clock.monotonic() + 1800)
    async with world.running() as gateway:
        assert resumes_at is not None
        planned = gateway.view(COMPANY).next_attempt_at
        assert planned is not None
        assert abs((planned - resumes_at).total_seconds()) < 0.01
        await world.wait(1800)
        assert (world.state(), world.commands(OpenLink)) == ("paused", [])
        await world.until_state("connected")


async def test_a_probe_interrupted_by_a_restart_is_repeated(world: World) -> None:
    """A session whose ban is over must not stay paused because Holdfast ended while it connected."""
    async with world.running():
        world.engine.drop(await world.pair(), code=402, attributes={"expire": "60"})
        await world.until_state("paused")
        world.engine.opens = False
        await world.until(lambda: len(world.commands(OpenLink)) > 2, within_s=200)
        await world.quiet()
        assert world.state() == "paused"
    async with world.running():
        await world.until_state("connected")


# Lost links and hosts.


async def test_a_frozen_link_is_cut_and_replaced(world: World) -> None:
    """An unanswered ping ends a half-open connection, and the session connects again."""
    async with world.running():
        link = await world.pair()
        world.engine.freeze(link)
        await world.until(lambda: world.link() != link, within_s=40)
        await world.until_state("connected", within_s=5)
        assert CutLink(link=link) in world.commands(CutLink)


async def test_pings_continue_while_the_link_is_open(world: World) -> None:
    """One at once and one every thirty seconds, all on one link."""
    async with world.running():
        link = await world.pair()
        await world.wait(95)
        assert [(ping.link, ping.n) for ping in world.commands(Ping)] == [(link, n) for n in (1, 2, 3, 4)]


async def test_a_lost_host_costs_every_session_one_reconnection(world: World) -> None:
    """All reconnect on a new host automatically."""
    companies = ["962301", "962302", "962303"]
    async with world.running():
        for company in companies:
            await world.pair(company)
        world.engine.lose_host()
        await world.until(lambda: world.engines == 2)
        await world.until(lambda: all(world.state(company) == "connected" for company in companies), within_s=30)
        assert all(len(world.commands(OpenLink, company)) == 1 for company in companies)


async def test_waiting_for_a_new_host_costs_no_attempts(world: World) -> None:
    """While no host can be started there is no attempt; when there is one, the link is opened at once, and once."""

    def refuses(_: FakeEngine) -> None:
        if world.clock.monotonic() < lost_at + 8:
            raise HoldfastError("no memory for a process")

    async with world.running() as gateway:
        await world.pair()
        await world.wait(90)
        lost_at = world.clock.monotonic()
        world.prepare = refuses
        world.engine.lose_host()
        await world.until(lambda: world.engines == 2)
        await world.quiet()
        assert (world.state(), gateway.view(COMPANY).session.attempts) == ("connected", 1)
        assert list(world.engine.links) == [world.link()]


@pytest.mark.parametrize("send_request", [events.StopAsked(), events.LogoutAsked()])
async def test_a_session_stopped_while_it_waits_for_a_host_opens_no_link(
    world: World, send_request: events.Event
) -> None:
    """The next host opens the links that are wanted at that time, not those that were wanted when the last one was
    lost.
    """
    async with world.running() as gateway:
        await world.pair()
        world.engine.lose_host()
        await world.until(lambda: gateway.view(COMPANY).session.newest_link > 2 and world.engines == 1)
        await world.now(gateway.ask(COMPANY, send_request))
        await world.until(lambda: world.engines == 2)
        await world.wait(30)
        assert list(world.engine.links) == []


async def test_the_start_of_a_host_is_retried_until_it_succeeds(world: World) -> None:
    """With growing delays; the sessions wait and reconnect with it."""
    refused: list[float] = []

    def refuses(_: FakeEngine) -> None:
        refused.append(world.clock.monotonic())
        if len(refused) < 6:
            raise HoldfastError("no memory for a process")

    async with world.running():
        await world.pair()
        world.prepare = refuses
        world.engine.lose_host()
        await world.until(lambda: world.engines == 2)
        await world.until_state("connected", within_s=70)
    pauses = [later - earlier for earlier, later in itertools.pairwise(refused)]
    assert pauses == sorted(pauses)
    assert pauses[0] > 1


async def test_reports_of_an_old_link_are_ignored(world: World) -> None:
    """A late close, also the 401 that follows a replacement of the link, does not affect the new one."""
    async with world.running() as gateway:
        link = await world.pair()
        await world.now(gateway.ask(COMPANY, events.ReconnectAsked()))
        await world.until_state("connected")
        fresh = world.link()
        world.listener.report(LinkClosed(link=link, code=401, detail="logged out"))
        await world.wait(60)
        assert (world.state(), world.link()) == ("connected", fresh)


async def test_the_loss_of_an_old_host_does_not_affect_a_link_on_the_new_one(world: World) -> None:
    """The report is in the mailbox behind a request that opens a new link: the session has one link, not two."""
    async with world.running() as gateway:
        await world.pair()
        world.saves.close()
        asked = [asyncio.ensure_future(gateway.ask(COMPANY, events.ReconnectAsked())) for _ in range(2)]
        await world.quiet()
        world.engine.lose_host()
        await world.until(lambda: world.engines == 2)
        world.saves.open()
        await world.now(asyncio.gather(*asked))
        await world.wait(30)
        assert world.state() == "connected"
        assert list(world.engine.links) == [world.link()]


# Storage for the engine.


async def test_a_receipt_is_sent_only_when_the_message_is_durable(world: World) -> None:
    """A message is acknowledged to WhatsApp when it is on disk."""
    async with world.running():
        link = await world.pair()
        world.commits.close()
        world.engine.receive(link, text="good morning", whatsapp_id="3A01")
        await world.quiet()
        assert world.engine.receipts_sent == []
        world.commits.open()
        await world.until(lambda: world.engine.receipts_sent == ["3A01"])
        received = await world.now(world.inbox.received(COMPANY, after=0, most=9))
    assert [(each.text, each.sender) for each in received] == [("good morning", "962799999999@s.whatsapp.net")]


async def test_a_failing_store_ends_the_link_and_loses_no_message(world: World) -> None:
    """No receipt is sent, the link is cut and reconnects after the backoff; the redelivered message is stored once."""
    async with world.running():
        link = await world.pair()
        world.database.failing = "disk full"
        world.engine.receive(link, text="good morning", whatsapp_id="3A01")
        await world.until(lambda: CutLink(link=link) in world.commands(CutLink))
        assert world.engine.receipts_sent == []
        world.database.failing = None
        await world.until(lambda: world.link() != link and world.state() == "connected")
        world.engine.receive(world.link(), text="good morning", whatsapp_id="3A01")
        await world.until(lambda: world.engine.receipts_sent == ["3A01"])
        assert len(await world.now(world.inbox.received(COMPANY, after=0, most=9))) == 1


async def test_nothing_is_stored_after_a_failed_commit(world: World) -> None:
    """A later ratchet step without the earlier one would make the redelivery of the earlier message unreadable."""
    async with world.running():
        link = await world.pair()
        world.commits.close()
        world.engine.receive(link, text="first", whatsapp_id="3A01")
        await world.quiet()
        world.engine.receive(link, text="second", whatsapp_id="3A02")
        world.store.failing = frozenset({1})
        await world.quiet()
        world.commits.open()
        await world.until(lambda: world.link() != link)
        assert await world.now(world.inbox.received(COMPANY, after=0, most=9)) == []
        assert world.engine.receipts_sent == []


async def test_requests_queued_behind_a_commit_are_stored_and_answered(world: World) -> None:
    """In order, each with its own number."""
    async with world.running():
        link = await world.pair()
        world.commits.close()
        for number in range(1, 6):
            world.engine.receive(link, text=f"message {number}", whatsapp_id=f"3A0{number}")
            await world.quiet()
        world.commits.open()
        await world.until(lambda: len(world.engine.receipts_sent) == 5)
        received = await world.now(world.inbox.received(COMPANY, after=0, most=9))
    assert [each.text for each in received] == [f"message {number}" for number in range(1, 6)]
    assert [each.seq for each in world.commands(Committed) if each.link == link] == [1, 2, 3, 4, 5]


async def test_commits_of_an_old_link_are_durable_before_the_next_reads_credentials(world: World) -> None:
    """The next link must not start with keys that an older one changes afterwards."""
    async with world.running():
        link = await world.pair()
        world.commits.close()
        fresh = '{"me":"962700000001:1@s.whatsapp.net","nextPreKeyId":813}'
        world.listener.report(Commit(link=link, seq=8, credentials=fresh, paired=True))
        world.engine.drop(link, code=428)
        await world.wait(1)
        assert world.link() == link
        world.commits.open()
        await world.until(lambda: world.link() != link)
        assert world.commands(OpenLink)[-1].credentials == fresh


async def test_an_engine_reads_stored_data(world: World) -> None:
    """Keys after the commit that preceded the request, a plaintext by its ciphertext, a message for a resend, a poll
    for a vote in it.
    """
    async with world.running():
        link = await world.pair()
        message = await world.send("say that again")
        await world.until_message(message, "sent")
        poll = InboundMessage(whatsapp_id="3A", chat="c", sender="s", type="poll", message_secret="c2VjcmV0")
        kept = Decrypted(ciphertext_sha256="c1", plaintext="aGVsbG8=", message=poll)
        for report in (
            Commit(link=link, seq=50, keys={"session": {"a": "1"}}, decrypted=[kept]),
            KeysWanted(link=link, request=1, type="session", ids=["a", "never kept"]),
            PlaintextWanted(link=link, request=2, ciphertext_sha256="c1"),
            PlaintextWanted(link=link, request=3, ciphertext_sha256="c2"),
            SentContentWanted(link=link, request=4, chat=message.chat, whatsapp_id=message.whatsapp_id),
            SentContentWanted(link=link, request=5, chat=message.chat, whatsapp_id="3EB0"),
            AnsweredMessageWanted(link=link, request=6, chat="c", whatsapp_id="3A"),
            AnsweredMessageWanted(link=link, request=7, chat="c", whatsapp_id="3B"),
        ):
            world.listener.report(report)
        await world.quiet()
        assert world.engine.commands[-8:] == [
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


async def test_a_logout_quarantines_the_credentials(world: World) -> None:
    """The device is unlinked at WhatsApp, and the next QR code belongs to a new device."""
    async with world.running() as gateway:
        link = await world.pair()
        await world.now(gateway.ask(COMPANY, events.LogoutAsked()))
        await world.quiet()
        assert world.state() == "logged_out"
        assert world.commands(LogOut) == [LogOut(link=link)]
        await world.qr()
        assert world.commands(OpenLink)[-1].credentials is None


async def test_a_commit_behind_a_logout_does_not_bring_the_credentials_back(world: World) -> None:
    """Otherwise the session would be both logged out and linked, and accept neither a start nor a request for a QR
    code.
    """
    async with world.running() as gateway:
        link = await world.pair()
        world.engine.freeze(link)
        await world.now(gateway.ask(COMPANY, events.LogoutAsked()))
        world.listener.report(Commit(link=link, seq=90, credentials=CREDENTIALS, paired=True, keys={"a": {"b": "{}"}}))
        await world.quiet()
        assert Committed(link=link, seq=90) in world.commands(Committed)
        assert await world.now(world.store.credentials(COMPANY)) is None
        assert await world.now(world.store.keys(COMPANY, "a", ["b"])) == {}
    async with world.running() as gateway:
        await world.qr()
        assert world.state() == "pairing"


async def test_the_end_of_a_logout_does_not_affect_the_next_pairing(world: World) -> None:
    """The old link may close late; the new QR code stays valid."""
    async with world.running() as gateway:
        link = await world.pair()
        world.engine.freeze(link)
        await world.now(gateway.ask(COMPANY, events.LogoutAsked()))
        code = await world.qr()
        world.engine.drop(link, code=408, detail="the logout was not confirmed")
        await world.quiet()
        assert link not in world.engine.links
        assert gateway.view(COMPANY).qr == code


async def test_a_logout_is_sent_although_a_commit_has_to_precede_it(world: World) -> None:
    """The link is served until it ends: the message that arrived with the logout is stored, and the phone is
    unlinked.
    """
    async with world.running() as gateway:
        link = await world.pair()
        world.commits.close()
        world.engine.receive(link, text="a last word", whatsapp_id="3A01")
        world.engine.receive(link, text="another", whatsapp_id="3A02")
        asked = asyncio.ensure_future(gateway.ask(COMPANY, events.LogoutAsked()))
        await world.quiet()
        assert link in world.engine.links
        world.commits.open()
        await world.now(asked)
        await world.until(lambda: link not in world.engine.links)
        received = await world.now(world.inbox.received(COMPANY, after=0, most=9))
        assert [each.text for each in received] == ["a last word", "another"]
        assert await world.now(world.store.keys(COMPANY, "session", ["962799999999@s.whatsapp.net.0"])) == {}


# Changes of stored rows.


async def test_works_on_a_stored_session_run_one_after_another(world: World) -> None:
    """Two concurrent imports, or an import and a clear, run one after the other, and nothing runs the session
    meanwhile.
    """
    async with world.running() as gateway:
        await world.pair()
        log: list[tuple[str, bool]] = []

        async def work(name: str, go: asyncio.Event) -> None:
            log.append((f"{name} begins", COMPANY in gateway.running))
            await go.wait()
            log.append((f"{name} ends", COMPANY in gateway.running))

        first, second = asyncio.Event(), asyncio.Event()
        one = asyncio.ensure_future(gateway.run_exclusively(COMPANY, lambda: work("one", first)))
        two = asyncio.ensure_future(gateway.run_exclusively(COMPANY, lambda: work("two", second)))
        await world.quiet()
        first.set()
        await world.quiet()
        with pytest.raises(SessionRestarting):
            await world.now(world.sending.accept(COMPANY, text_request(NUMBER, "meanwhile")))
        with pytest.raises(SessionRestarting):
            gateway.view(COMPANY)
        second.set()
        await world.now(asyncio.gather(one, two))
        assert log == [("one begins", False), ("one ends", False), ("two begins", False), ("two ends", False)]
        await world.until_state("connected")


async def test_the_session_runs_again_after_a_failed_work(world: World) -> None:
    """Also when another work waits behind it."""
    async with world.running() as gateway:
        await world.pair()

        async def fail() -> None:
            raise OSError("disk full")

        async def work() -> None:
            assert COMPANY not in gateway.running

        asked = asyncio.gather(
            gateway.run_exclusively(COMPANY, fail), gateway.run_exclusively(COMPANY, work), return_exceptions=True
        )
        assert [type(each) for each in await world.now(asked)] == [OSError, type(None)]
        await world.until_state("connected")


async def test_the_session_runs_again_after_a_work_was_cancelled_while_it_waited(world: World) -> None:
    """Its caller gave up before it could run."""
    async with world.running() as gateway:
        await world.pair()
        go = asyncio.Event()
        first = asyncio.ensure_future(gateway.run_exclusively(COMPANY, go.wait))
        await world.quiet()
        second = asyncio.ensure_future(gateway.run_exclusively(COMPANY, go.wait))
        await world.quiet()
        second.cancel()
        await world.quiet()
        go.set()
        await world.now(first)
        await world.until_state("connected")


async def test_settings_stored_while_an_actor_is_replaced_take_effect(world: World) -> None:
    """The next actor uses them, whether it read its record before or after they were stored."""
    async with world.running() as gateway:
        await world.pair()
        gateway.replace_actor(COMPANY, "it hangs")
        await world.now(gateway.set_connection(COMPANY, {"device_name": "Shop"}))
        await world.until_state("connected")
        assert gateway.view(COMPANY).record.device_name == "Shop"


# Defects of our own, and the stop.


async def test_a_session_that_has_ended_already_can_be_ended(world: World) -> None:
    """As when its actor notices that the lease is lost just before the renewal does: the others must go on."""
    async with world.running() as gateway:
        await world.pair()
        await world.now(gateway.end(["962399", COMPANY]))
        assert not gateway.running


async def test_a_session_that_fails_is_restarted(world: World) -> None:
    """An exception in an actor cuts its link and is logged, and a new actor connects; other sessions continue."""
    async with world.running() as gateway:
        link = await world.pair()
        await world.pair("962303")
        theirs = world.link("962303")
        world.database.failing = "a defect"
        with pytest.raises(HoldfastError, match="is being restarted"):
            await world.now(gateway.ask(COMPANY, events.ReconnectAsked()))
        world.database.failing = None
        await world.until(lambda: world.link() != link and world.state() == "connected")
        assert world.link("962303") == theirs
        assert len([each for each in world.engine.links if each != theirs]) == 1


async def test_a_request_to_a_session_that_is_restarting_is_answered(world: World) -> None:
    """Nobody waits forever on an actor that is gone."""
    async with world.running() as gateway:
        await world.pair()
        world.database.failing = "a defect"
        with pytest.raises(HoldfastError):
            await world.now(gateway.ask(COMPANY, events.ReconnectAsked()))
        await world.quiet()
        world.database.failing = None
        with pytest.raises(HoldfastError, match="is being restarted"):
            await world.now(gateway.ask(COMPANY, events.ReconnectAsked()), within_s=1)


async def test_a_store_that_fails_for_long_affects_a_session_and_not_the_gateway(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The start of the next actor is retried with growing delays until the disk has space."""
    async with world.running() as gateway:
        await world.pair()
        world.database.failing = "disk full"
        with pytest.raises(HoldfastError):
            await world.now(gateway.ask(COMPANY, events.ReconnectAsked()))
        await world.wait(600)
        assert 10 < sum("it is restarted in" in line for line in caplog.messages) < 30
        world.database.failing = None
        await world.until_state("connected")


async def test_a_stop_leaves_no_task_and_no_link(world: World) -> None:
    """All tasks of a session have ended with the gateway, and the engine was told to cut every link."""
    before = asyncio.all_tasks()
    async with world.running():
        link = await world.pair()
        await world.now(world.gateway.put("962303"))
        await world.quiet()
    assert asyncio.all_tasks() == before
    assert CutLink(link=link) in world.commands(CutLink)


async def test_a_gateway_whose_engine_cannot_start_fails(world: World) -> None:
    """A failed first start is not retried silently."""

    def refuses(_: FakeEngine) -> None:
        raise HoldfastError("no Node here")

    world.prepare = refuses
    with pytest.raises(ExceptionGroup) as ended:
        async with world.running():
            pass
    assert ended.group_contains(HoldfastError, match="no Node here")


async def test_a_failure_during_the_stop_starts_no_new_actor(world: World) -> None:
    """Otherwise the stop would never end."""

    def break_cuts(engine: FakeEngine) -> None:
        obey = engine.command

        def command(asked: AnyCommand) -> None:
            if isinstance(asked, CutLink):
                raise OSError("a defect")
            obey(asked)

        setattr(engine, "command", command)  # noqa: B010 – an engine that breaks its word

    world.prepare = break_cuts
    async with asyncio.timeout(20), world.running():
        await world.pair()


async def test_a_link_is_not_cut_while_our_own_store_delays_its_pings(world: World) -> None:
    """A frame waits for the commits before it, so no ping was sent that WhatsApp could have answered. A link that does
    not answer afterwards is cut as usual.
    """
    async with world.running():
        link = await world.pair()
        world.commits.close()
        world.engine.receive(link, text="hello")
        await world.wait(120)
        assert (world.state(), world.link()) == ("connected", link)
        world.commits.open()
        await world.wait(40)
        assert (world.state(), world.link()) == ("connected", link)
        world.engine.freeze(link)
        await world.wait(40)
        assert world.link() != link
