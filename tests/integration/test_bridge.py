"""The guarantees of the bridge, with real Baileys against wasim."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from holdfast.session.engine import (
    BAD_CREDENTIALS,
    AskPairingCode,
    Commit,
    CutLink,
    FrameSeen,
    LinkClosed,
    LinkOpened,
    LogOut,
    OpenLink,
    Paired,
    PairingCodeShown,
    Ping,
    PlaintextRequested,
    Ponged,
    Presence,
    QrShown,
    SentContentRequested,
)
from tests.doubles.engine_recorder import Recorder
from tests.integration.conftest import Party, StartHost
from tests.processes import Wasim

pytestmark = pytest.mark.slow


async def kill(party: Party) -> None:
    """Kill the party's host with SIGKILL, and wait until it is gone."""
    assert party.host.pid is not None
    os.kill(party.host.pid, signal.SIGKILL)
    await party.host.ended()


async def test_texts_go_both_ways(ours: Party, friend: Party) -> None:
    """Each side shows what the other wrote, by phone number, once."""
    ours.send("3EB0AA01", friend.jid, "hello")
    assert await friend.shown(1) == ["hello"]
    friend.send("3EB0BB01", ours.jid, "good morning")
    assert await ours.shown(1) == ["good morning"]
    assert [(m.chat, m.sender, m.from_me) for m in ours.store.inbox] == [(friend.jid, friend.jid, False)]


async def test_a_message_that_was_stored_before_a_crash_is_confirmed_after_it_and_shown_once(
    ours: Party, friend: Party, start_host: StartHost
) -> None:
    """A crash between commit and receipt: WhatsApp delivers again, the ratchet can't decrypt again, and the stored
    plaintext lets the receipt be sent."""
    friend.send("3EB0BB01", ours.jid, "the first one")
    await ours.shown(1)
    ours.recorder.hold(lambda commit: bool(commit.decrypted))
    friend.send("3EB0BB02", ours.jid, "the second one")
    await ours.recorder.until(lambda: bool(ours.recorder.held), what="a held commit")
    await kill(ours)
    assert await ours.waiting() == 1
    ours.recorder.release()  # it was stored; only the answer never reached the bridge
    assert len(ours.store.inbox) == 2
    receipts = friend.receipts("3EB0BB02")

    recorder = Recorder()
    async with start_host(recorder) as host:
        await ours.log_in(host=host, recorder=recorder)
        await recorder.wait(PlaintextRequested, ours.link)
        friend.send("3EB0BB03", ours.jid, "the third one")
        texts = await ours.shown(3)
        # A receipt, not one of the refusals that also make WhatsApp forget a message.
        await friend.recorder.until(lambda: friend.receipts("3EB0BB02") == receipts + 1, what="the receipt")
    assert texts == ["the first one", "the second one", "the third one"]


async def test_a_message_whose_commit_was_lost_in_a_crash_comes_again(
    ours: Party, friend: Party, start_host: StartHost
) -> None:
    """After a crash before the commit is durable, no receipt has been sent, and the old keys decrypt the second
    delivery.
    """
    friend.send("3EB0BB01", ours.jid, "the first one")
    await ours.shown(1)
    ours.recorder.hold(lambda commit: bool(commit.decrypted))
    friend.send("3EB0BB02", ours.jid, "the second one")
    await ours.recorder.until(lambda: bool(ours.recorder.held), what="a held commit")
    await kill(ours)
    ours.recorder.held.clear()

    recorder = Recorder()
    async with start_host(recorder) as host:
        await ours.log_in(host=host, recorder=recorder)
        assert await ours.shown(2) == ["the first one", "the second one"]
        assert recorder.of(PlaintextRequested) == []


async def test_a_crash_while_a_ratchet_is_being_stored_makes_nothing_unreadable(
    ours: Party, friend: Party, start_host: StartHost
) -> None:
    """No frame is sent under a key that is not stored yet: resent with the old keys, everything can be decrypted at
    once.
    """
    ours.send("3EB0AA01", friend.jid, "the first one")
    await friend.shown(1)
    ours.recorder.hold(lambda commit: "session" in commit.keys)
    ours.send("3EB0AA02", friend.jid, "the second one")
    await ours.recorder.until(lambda: bool(ours.recorder.held), what="a held commit")
    await asyncio.sleep(0.2)
    await kill(ours)
    ours.recorder.held.clear()

    recorder = Recorder()
    async with start_host(recorder) as host:
        await ours.log_in(host=host, recorder=recorder)
        ours.send("3EB0AA03", friend.jid, "the third one")
        ours.send("3EB0AA02", friend.jid, "the second one")
        assert await friend.shown(3) == ["the first one", "the third one", "the second one"]
        assert recorder.of(SentContentRequested) == []  # no retry receipt was needed


async def test_a_message_that_the_recipient_cannot_read_is_sent_again_from_the_outbox(
    ours: Party, friend: Party
) -> None:
    """A recipient that lost its session sends a retry receipt; the content comes from Holdfast's outbox, under the same
    id.
    """
    ours.send("3EB0AA01", friend.jid, "the first one")
    await friend.shown(1)
    friend.host.command(CutLink(link=friend.link))
    await friend.recorder.wait(LinkClosed, friend.link)
    friend.store.keys["session"].clear()
    await friend.log_in()
    ours.send("3EB0AA02", friend.jid, "the second one")
    wanted = await ours.recorder.wait(SentContentRequested, ours.link)
    assert wanted.whatsapp_id == "3EB0AA02"
    assert await friend.shown(2) == ["the first one", "the second one"]
    assert friend.store.inbox[1].whatsapp_id == "3EB0AA02"


@pytest.mark.parametrize("frozen", [False, True])
async def test_a_cut_is_reported_at_once(ours: Party, wasim: Wasim, frozen: bool) -> None:
    """Within 100 ms, also when the other side does not answer any more."""
    if frozen:
        await wasim.fault("freeze", number=ours.number)
    began = asyncio.get_running_loop().time()
    ours.host.command(CutLink(link=ours.link))
    closed = await ours.recorder.wait(LinkClosed, ours.link)
    assert asyncio.get_running_loop().time() - began < 0.1
    assert (closed.code, closed.detail) == (428, "cut")


@pytest.mark.parametrize(
    ("fault", "code", "attributes"),
    [
        ({"kind": "cut", "how": "rst"}, 428, {}),
        ({"kind": "cut", "how": "fin"}, 428, {}),
        ({"kind": "cut", "how": "close"}, 428, {}),
        ({"kind": "stream-end"}, 428, {}),
        ({"kind": "stream-error", "code": 515}, 515, {"code": "515"}),
        ({"kind": "stream-error", "code": 503}, 503, {"code": "503"}),
    ],
    ids=str,
)
async def test_every_close_is_reported_once_with_whatsapps_code_and_attributes(
    ours: Party, wasim: Wasim, fault: dict[str, object], code: int, attributes: dict[str, str]
) -> None:
    """Code and attributes arrive within a second, and nothing after them."""
    await wasim.post("/faults", {**fault, "number": ours.number})
    closed = await ours.recorder.wait(LinkClosed, ours.link, seconds=1)
    assert closed.code == code
    assert closed.attributes.items() >= attributes.items()
    await asyncio.sleep(0.2)
    last = [report for report in ours.recorder.reports if report.link == ours.link][-1]
    assert last is closed


async def test_a_refused_login_reports_reason_and_expiry(ours: Party, wasim: Wasim) -> None:
    """A failure node's attributes are passed on: they say when a ban ends."""
    ours.host.command(CutLink(link=ours.link))
    await wasim.fault("failure", number=ours.number, reason=402, attrs={"expire": "3600", "code": "104"})
    link = ours.link + 1
    ours.host.command(OpenLink(link=link, company="1", credentials=ours.store.credentials, url=wasim.url))
    closed = await ours.recorder.wait(LinkClosed, link)
    assert closed.code == 402
    assert closed.attributes.items() >= {"reason": "402", "expire": "3600", "code": "104"}.items()


async def test_a_refused_upgrade_is_reported_at_once_as_http(ours: Party, wasim: Wasim) -> None:
    """A proxy's or an edge's HTTP status ends the link without waiting for the connect timeout."""
    ours.host.command(CutLink(link=ours.link))
    await wasim.fault("refuse", status=503)
    link = ours.link + 1
    ours.host.command(OpenLink(link=link, company="1", credentials=ours.store.credentials, url=wasim.url))
    closed = await ours.recorder.wait(LinkClosed, link, seconds=2)
    assert closed.detail == "WebSocket Error (Unexpected server response: 503)"


async def test_an_error_in_an_ack_is_passed_on(ours: Party, friend: Party, wasim: Wasim) -> None:
    """The raw ack of WhatsApp, also when it is an error."""
    await wasim.fault("ack-error", number=ours.number, code=463)
    ours.send("3EB0AA01", friend.jid)
    assert (await ours.acked("3EB0AA01")).error == "463"


async def test_credentials_that_are_not_readable_close_the_link(ours: Party, wasim: Wasim) -> None:
    """The link is closed with a reason, which contains nothing of the credentials."""
    ours.host.command(OpenLink(link=99, company="1", credentials="{ 962700000001", url=wasim.url))
    closed = await ours.recorder.wait(LinkClosed, 99)
    assert closed.code == BAD_CREDENTIALS
    assert "962700000001" not in closed.detail


async def test_a_logout_unlinks_the_device(ours: Party, wasim: Wasim) -> None:
    """The phone no longer lists the device, and the link closes with 401."""
    ours.host.command(LogOut(link=ours.link))
    closed = await ours.recorder.wait(LinkClosed, ours.link)
    assert closed.code == 401
    phones = await wasim.get("/phones")
    assert [phone["devices"] for phone in phones if phone["number"] == ours.number] == [[]]


@pytest.mark.alone
async def test_the_host_ends_within_a_second_of_its_input_also_when_busy(ours: Party, friend: Party) -> None:
    """Standard input ends, as it does when Holdfast dies: no socket survives it, not even during hundreds of sends."""
    ours.send("3EB0AA00", friend.jid)
    await ours.acked("3EB0AA00")
    for n in range(500):
        ours.send(f"3EB0AB{n:03}", friend.jid, "x" * 1000)
    await ours.written("3EB0AB010")
    began = asyncio.get_running_loop().time()
    assert ours.host._pipes is not None
    ours.host._pipes.stdin.close()
    assert await ours.host.ended() == "exited with code 74"
    assert asyncio.get_running_loop().time() - began < 1


PARENT = """
import asyncio, sys
from pathlib import Path
from holdfast.base.clock import SystemClock
from holdfast.engine.host import EngineHost, HostProgram
from tests.doubles.engine_recorder import Recorder

async def main():
    program = HostProgram(argv=sys.argv[1:])
    async with EngineHost(program, listener=Recorder(), clock=SystemClock()) as host:
        print(host.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_no_host_outlives_its_parent(node_bin: Path, bridge: Path, number: signal.Signals) -> None:
    """After kill -9 of Python the host ends within a second; when Python is suspended, it ends after the allowed
    silence.
    """
    allowed_s = "2"
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(node_bin), str(bridge), allowed_s, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    try:
        parent.send_signal(number)
        async with asyncio.timeout(1 if number == signal.SIGKILL else 5):
            while is_running(child):  # noqa: ASYNC110 – another process's child
                await asyncio.sleep(0.02)
    finally:
        if number != signal.SIGKILL:
            parent.kill()
        await parent.wait()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_the_sessions_of_a_dead_host_continue_on_another(
    ours: Party, friend: Party, start_host: StartHost
) -> None:
    """A host has no state that is not in the store: a session moves by opening it elsewhere."""
    ours.send("3EB0AA01", friend.jid, "from here")
    await friend.shown(1)
    await kill(ours)
    recorder = Recorder()
    async with start_host(recorder) as host:
        await ours.log_in(host=host, recorder=recorder)
        ours.send("3EB0AA02", friend.jid, "from there")
        assert await friend.shown(2) == ["from here", "from there"]
        assert recorder.of(LinkOpened)[0].jid.startswith(ours.number)


async def test_keys_and_texts_never_reach_the_log(ours: Party, friend: Party, caplog: pytest.LogCaptureFixture) -> None:
    """This holds also when libsignal closes a session, which it prints with its private keys."""
    caplog.set_level(logging.DEBUG)
    ours.send("3EB0AA01", friend.jid, "a secret between us")
    await friend.shown(1)
    friend.host.command(CutLink(link=friend.link))
    friend.store.keys["session"].clear()
    await friend.log_in()
    ours.send("3EB0AA02", friend.jid, "another secret")
    await friend.shown(2)
    logged = "\n".join(caplog.messages)
    assert "secret" not in logged
    assert not re.search(r"[A-Za-z0-9+/]{40}", logged)


async def test_opening_a_link_twice_changes_nothing(ours: Party, caplog: pytest.LogCaptureFixture) -> None:
    """A second `open` under a number in use is refused in the log; the link stays open, with its credentials."""
    ours.host.command(OpenLink(link=ours.link, company="1", credentials=None, url=ours.wasim.url))
    ours.host.command(Ping(link=ours.link, n=5))
    assert (await ours.recorder.wait(Ponged, ours.link)).n == 5
    assert "Engine host: link 2 is open already" in caplog.messages
    assert ours.number in (ours.store.credentials or "")


@pytest.mark.parametrize("available", [False, True])
async def test_the_last_requested_presence_counts(ours: Party, wasim: Wasim, available: bool) -> None:
    """Also when it was requested before the account's name is known, without which there is no presence, and whatever
    Baileys sends it automatically when the name arrives or the credentials change.
    """
    ours.host.command(Presence(link=ours.link, available=available))
    await ours.recorder.until(lambda: "Flowers" in (ours.store.credentials or ""), what="the account's name")
    await asyncio.sleep(0.5)
    ours.host.command(Ping(link=ours.link, n=1))
    await ours.recorder.wait(Ponged, ours.link)
    links = await wasim.get("/links")
    assert [link["available"] for link in links if link["number"] == ours.number] == [available]


async def test_an_abandoned_pairing_by_code_can_be_restarted(ours: Party, wasim: Wasim) -> None:
    """The code is requested when WhatsApp is ready for it; the name that Baileys stores for it does not make the next
    link try to log in.
    """
    ours.host.command(OpenLink(link=7, company="1", credentials=None, url=wasim.url))
    ours.host.command(AskPairingCode(link=7, request=1, phone="962700000009"))
    shown = await ours.recorder.wait(PairingCodeShown, 7)
    assert re.fullmatch(r"[A-Z0-9]{8}", shown.code or "")
    ours.host.command(CutLink(link=7))
    await ours.recorder.wait(LinkClosed, 7)
    assert not any(commit.paired for commit in ours.recorder.of(Commit, 7))
    ours.host.command(OpenLink(link=8, company="1", credentials=ours.recorder.store(7).credentials, url=wasim.url))
    assert (await ours.recorder.wait(QrShown, 8)).valid_ms == 60_000


async def test_frames_are_reported_once_a_second_at_most(ours: Party) -> None:
    """This limits reports of activity."""
    before = len(ours.recorder.of(FrameSeen, ours.link))
    for n in range(50):
        ours.host.command(Ping(link=ours.link, n=n))
    await ours.recorder.wait(Ponged, ours.link, nth=50)
    assert len(ours.recorder.of(FrameSeen, ours.link)) - before <= 1


async def test_a_device_is_linked_by_a_code_that_is_typed_on_the_phone(ours: Party, wasim: Wasim) -> None:
    """Code, `Paired`, 515, and a login, as with a QR code."""
    number = "962700000005"
    await wasim.post("/phones", {"number": number})
    party = Party(number, first_link=50, host=ours.host, recorder=ours.recorder, wasim=wasim)
    ours.host.command(OpenLink(link=50, company=number, credentials=None, url=wasim.url))
    ours.host.command(AskPairingCode(link=50, request=1, phone=number))
    shown = await ours.recorder.wait(PairingCodeShown, 50)
    await wasim.post(f"/phones/{number}/code", {"code": shown.code})
    assert (await ours.recorder.wait(LinkClosed, 50)).code == 515
    assert [paired.jid.partition(":")[0] for paired in ours.recorder.of(Paired, 50)] == [number]
    await party.log_in()


async def test_a_close_code_that_is_not_a_number_is_unknown(ours: Party, wasim: Wasim) -> None:
    """Any such code ends one link and not the host."""
    await wasim.fault("stream-error", number=ours.number, code="martian")
    closed = await ours.recorder.wait(LinkClosed, ours.link)
    assert closed.code == 500
    assert ours.recorder.lost == []
