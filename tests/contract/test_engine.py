"""The contract of the engine port, run on the engine in memory and – where Node and wasim are available – on the real
one.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest

from holdfast.base.clock import SystemClock
from holdfast.engine.host import EngineHost, HostProgram
from holdfast.engine.node import Node
from holdfast.engine.sandbox import sandboxed
from holdfast.session.engine import (
    Acked,
    AnyReport,
    Commit,
    CutLink,
    Download,
    Downloaded,
    Engine,
    InboundMessage,
    LinkClosed,
    LinkOpened,
    OpenLink,
    Paired,
    Ping,
    Ponged,
    QrShown,
    Receipted,
    Send,
    SendRefused,
    Written,
)
from tests.doubles.engine_recorder import Recorder
from tests.doubles.fake_engine import FakeEngine
from tests.processes import Wasim, running_wasim

NUMBER = "962700000001"
FRIEND_NUMBER = "962799999999"
FRIEND = f"{FRIEND_NUMBER}@s.whatsapp.net"
FRIEND_LINK = 100
STRANGER = "962700000009@s.whatsapp.net"


class EngineHarness(Protocol):
    """An engine whose other side, WhatsApp and a contact, a test can control."""

    @property
    def engine(self) -> Engine: ...
    @property
    def recorder(self) -> Recorder: ...
    @property
    def url(self) -> str | None: ...
    async def scan(self, link: int, qr: str) -> None: ...
    async def write(self, link: int, text: str) -> None:
        """Send a text from FRIEND to the session."""

    async def send_picture(self, link: int, file: Path) -> None:
        """Send an image from FRIEND to the session."""

    async def deliver_receipt(self, link: int, whatsapp_id: str) -> None:
        """Deliver a receipt from FRIEND's device."""

    async def freeze(self, link: int) -> None: ...
    async def lose_host(self) -> None: ...
    async def arrived(self, whatsapp_id: str) -> bool:
        """Whether WhatsApp has that message."""

    async def confirmed(self, text: str) -> bool:
        """Whether WhatsApp got a receipt for the inbound message with that text."""

    async def settle(self) -> None:
        """Wait long enough that something that would wrongly happen has happened."""


class FakeEngineHarness:
    url = None

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.engine = FakeEngine(listener=self.recorder)
        self.engine.not_on_whatsapp.add(STRANGER)
        self.recorder.engine = self.engine

    async def scan(self, link: int, qr: str) -> None:
        self.engine.scan(link)

    async def write(self, link: int, text: str) -> None:
        self.engine.receive(link, text=text, whatsapp_id=f"3A-{text}", sender=FRIEND)

    async def send_picture(self, link: int, file: Path) -> None:
        picture = bytes_of(file)
        self.engine.media["keys to it"] = picture
        media: dict[str, object] = {"mimetype": "image/png", "sizeBytes": len(picture)}
        image = InboundMessage(
            whatsapp_id="3A-1", chat=FRIEND, sender=FRIEND, type="image", media=media, media_keys="keys to it"
        )
        self.engine.receive(link, image)

    async def deliver_receipt(self, link: int, whatsapp_id: str) -> None:
        self.engine.receipt(link, whatsapp_ids=[whatsapp_id], chat=FRIEND)

    async def freeze(self, link: int) -> None:
        self.engine.freeze(link)

    async def lose_host(self) -> None:
        self.engine.lose_host()

    async def arrived(self, whatsapp_id: str) -> bool:
        return any(send.whatsapp_id == whatsapp_id for send in self.engine.arrived)

    async def confirmed(self, text: str) -> bool:
        return f"3A-{text}" in self.engine.receipts_sent

    async def settle(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0)


def bytes_of(file: Path) -> bytes:
    return file.read_bytes()


class Split:
    """Routes the reports of the friend's links to a recorder of their own."""

    def __init__(self, ours: Recorder, friends: Recorder) -> None:
        self._ours, self._friends = ours, friends

    def report(self, report: AnyReport) -> None:
        (self._friends if report.link >= FRIEND_LINK else self._ours).report(report)

    def host_lost(self, *, detail: str) -> None:
        self._ours.host_lost(detail=detail)


class BaileysHarness:
    """Baileys against wasim. The friend is a second session on the same host."""

    def __init__(self, host: EngineHost, wasim: Wasim, recorder: Recorder, friend: Recorder) -> None:
        self._host, self._wasim, self._friend = host, wasim, friend
        self.engine: Engine = host
        self.recorder = recorder
        self.url = wasim.url
        recorder.engine = friend.engine = host
        self._ids = itertools.count(1)

    async def prepare(self) -> None:
        await self._wasim.post("/phones", {"number": NUMBER})
        await self._wasim.post("/phones", {"number": FRIEND_NUMBER})
        first, second = FRIEND_LINK, FRIEND_LINK + 1
        self._friend.stored[second] = self._friend.store(first)
        self.engine.command(OpenLink(link=first, company="friend", credentials=None, url=self.url))
        shown = await self._friend.wait(QrShown, first)
        await self._wasim.post(f"/phones/{FRIEND_NUMBER}/scan", {"qr": shown.qr})
        await self._friend.wait(LinkClosed, first)
        credentials = self._friend.store(first).credentials
        self.engine.command(OpenLink(link=second, company="friend", credentials=credentials, url=self.url))
        await self._friend.wait(LinkOpened, second)

    async def scan(self, link: int, qr: str) -> None:
        await self._wasim.post(f"/phones/{NUMBER}/scan", {"qr": qr})

    async def write(self, link: int, text: str) -> None:
        await self._send({"text": text})

    async def send_picture(self, link: int, file: Path) -> None:
        await self._send({"image": {"file": str(file), "mimetype": "image/png"}})

    async def _send(self, content: dict[str, object]) -> None:
        number = next(self._ids)
        to = f"{NUMBER}@s.whatsapp.net"
        self.engine.command(Send(link=FRIEND_LINK + 1, whatsapp_id=f"3EB0BB{number:02}", to=to, content=content))
        await self._friend.wait(Acked, FRIEND_LINK + 1, nth=number)

    async def deliver_receipt(self, link: int, whatsapp_id: str) -> None:
        """The friend's phone and device do that by themselves."""

    async def freeze(self, link: int) -> None:
        await self._wasim.fault("freeze", number=NUMBER)

    async def lose_host(self) -> None:
        assert self._host.pid is not None
        os.kill(self._host.pid, signal.SIGKILL)

    async def arrived(self, whatsapp_id: str) -> bool:
        return bool(await self._wasim.get("/messages", id=whatsapp_id))

    async def confirmed(self, text: str) -> bool:
        phones = await self._wasim.get("/phones")
        ours = next(phone for phone in phones if phone["number"] == NUMBER)
        return all(device["waiting"] == 0 for device in ours["devices"])

    async def settle(self) -> None:
        await asyncio.sleep(0.3)


@pytest.fixture(params=["fake", pytest.param("baileys", marks=pytest.mark.slow)])
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[EngineHarness]:
    if request.param == "fake":
        yield FakeEngineHarness()
        return
    node: Node = request.getfixturevalue("node")
    bridge: Path = request.getfixturevalue("bridge")
    recorder, friend = Recorder(), Recorder()
    folder: Path = request.getfixturevalue("tmp_path")
    async with (
        running_wasim(request.getfixturevalue("tmp_path") / "wasim") as wasim,
        EngineHost(
            program(node, bridge, wasim, folder),
            listener=Split(recorder, friend),
            clock=SystemClock(),
        ) as host,
    ):
        real = BaileysHarness(host, wasim, recorder, friend)
        await real.prepare()
        yield real


def program(node: Node, bridge: Path, wasim: Wasim, folder: Path) -> HostProgram:
    environment = {**os.environ, "NODE_EXTRA_CA_CERTS": wasim.ca}
    return sandboxed(node, bridge, spool=folder, environment=environment)


async def pair(harness: EngineHarness) -> None:
    """Pair on link 1, and store the session's credentials in the store that links 1 and 2 share."""
    harness.recorder.stored[2] = harness.recorder.store(1)
    harness.engine.command(OpenLink(link=1, company="962302", credentials=None, url=harness.url))
    shown = await harness.recorder.wait(QrShown, 1)
    await harness.scan(1, shown.qr)
    await harness.recorder.wait(LinkClosed, 1)


async def log_in(harness: EngineHarness) -> None:
    """A session that is logged in on link 2."""
    await pair(harness)
    credentials = harness.recorder.store(2).credentials
    harness.engine.command(OpenLink(link=2, company="962302", credentials=credentials, url=harness.url))
    await harness.recorder.wait(LinkOpened, 2)


async def test_pairing_commits_credentials_before_a_code_is_shown_and_ends_with_515(harness: EngineHarness) -> None:
    """For a session that was never paired, credentials are durable before the first frame; a scan yields `Paired`, new
    credentials and 515.
    """
    harness.recorder.hold()
    harness.engine.command(OpenLink(link=1, company="962302", credentials=None, url=harness.url))
    await harness.recorder.wait(Commit, 1)
    await harness.settle()
    assert harness.recorder.of(QrShown) == []
    harness.recorder.release()
    shown = await harness.recorder.wait(QrShown, 1)
    before = harness.recorder.store(1).credentials
    await harness.scan(1, shown.qr)
    closed = await harness.recorder.wait(LinkClosed, 1)
    assert closed.code == 515
    assert [p.jid.partition("@")[2] for p in harness.recorder.of(Paired)] == ["s.whatsapp.net"]
    assert harness.recorder.store(1).credentials != before


async def test_a_paired_session_logs_in(harness: EngineHarness) -> None:
    """With stored credentials a link opens, reports its JID, and shows no code."""
    await log_in(harness)
    assert harness.recorder.of(LinkOpened, 2)[0].jid.endswith("@s.whatsapp.net")
    assert harness.recorder.of(QrShown, 2) == []


async def test_a_message_is_written_then_acked_under_our_id(harness: EngineHarness) -> None:
    """`Written` comes first, and WhatsApp's `Acked` carries the id that we chose."""
    await log_in(harness)
    harness.engine.command(Send(link=2, whatsapp_id="3EB0AA01", to=FRIEND, content={"text": "hello"}))
    acked = await harness.recorder.wait(Acked, 2)
    assert (acked.whatsapp_id, acked.error) == ("3EB0AA01", None)
    kinds = [type(r) for r in harness.recorder.reports if isinstance(r, Written | Acked)]
    assert kinds == [Written, Acked]


async def test_no_frame_is_sent_before_the_commit_that_it_needs(harness: EngineHarness) -> None:
    """While a commit is not answered, a message is neither `Written` nor at WhatsApp; afterwards it is both."""
    await log_in(harness)
    harness.engine.command(Send(link=2, whatsapp_id="3EB0AA01", to=FRIEND, content={"text": "first"}))
    await harness.recorder.wait(Acked, 2)
    harness.recorder.hold()
    harness.engine.command(Send(link=2, whatsapp_id="3EB0AA02", to=FRIEND, content={"text": "second"}))
    await harness.recorder.until(lambda: bool(harness.recorder.held), what="a held commit")
    await harness.settle()
    assert not await harness.arrived("3EB0AA02")
    assert [w.whatsapp_id for w in harness.recorder.of(Written, 2)] == ["3EB0AA01"]
    harness.recorder.release()
    assert (await harness.recorder.wait(Acked, 2, nth=2)).whatsapp_id == "3EB0AA02"
    assert await harness.arrived("3EB0AA02")


async def test_an_inbound_message_is_durable_before_it_is_acknowledged(harness: EngineHarness) -> None:
    """Plaintext, message and ratchet change come in one commit; the receipt waits for its answer."""
    await log_in(harness)
    harness.recorder.hold(lambda commit: any(d.message for d in commit.decrypted))
    await harness.write(2, "good morning")
    await harness.recorder.until(lambda: bool(harness.recorder.held), what="a held commit")
    await harness.settle()
    assert not await harness.confirmed("good morning")
    commit = harness.recorder.held[0]
    message = next(d.message for d in commit.decrypted if d.message)
    assert (message.text, message.type, message.chat, message.sender) == ("good morning", "text", FRIEND, FRIEND)
    assert commit.keys
    harness.recorder.release()
    await harness.settle()
    assert await harness.confirmed("good morning")


async def test_receipts_name_the_message_and_its_state(harness: EngineHarness) -> None:
    """A delivery receipt has the id that we chose."""
    await log_in(harness)
    harness.engine.command(Send(link=2, whatsapp_id="3EB0AA01", to=FRIEND, content={"text": "hello"}))
    await harness.recorder.wait(Acked, 2)
    await harness.deliver_receipt(2, "3EB0AA01")
    receipt = await harness.recorder.wait(Receipted, 2)
    assert (receipt.whatsapp_ids, receipt.kind) == (["3EB0AA01"], "delivered")


async def test_a_message_to_a_number_without_whatsapp_is_refused(harness: EngineHarness) -> None:
    """Nothing is sent to a number without WhatsApp, and the refusal says so."""
    await log_in(harness)
    harness.engine.command(Send(link=2, whatsapp_id="3EB0AA01", to=STRANGER, content={"text": "hello"}))
    refused = await harness.recorder.wait(SendRefused, 2)
    assert (refused.whatsapp_id, refused.code) == ("3EB0AA01", "not-on-whatsapp")


async def test_content_that_the_engine_does_not_know_is_refused(harness: EngineHarness) -> None:
    """An unknown kind of content is refused by name."""
    await log_in(harness)
    harness.engine.command(Send(link=2, whatsapp_id="3EB0AA01", to=FRIEND, content={"telepathy": "hello"}))
    refused = await harness.recorder.wait(SendRefused, 2)
    assert refused.code == "bad-content"
    assert "telepathy" in refused.detail


async def test_media_are_prepared_once_and_durably_before_they_are_sent(harness: EngineHarness, tmp_path: Path) -> None:
    """The prepared content of an image is committed before its frame is sent; when it is passed again, nothing is
    prepared again.
    """
    file = tmp_path / "picture"
    file.write_bytes(b"picture" * 100)
    content: dict[str, object] = {"image": {"file": str(file), "mimetype": "image/png"}}
    await log_in(harness)
    harness.recorder.hold(lambda commit: bool(commit.made))
    harness.engine.command(Send(link=2, whatsapp_id="3EB0AA01", to=FRIEND, content=content))
    await harness.recorder.until(lambda: bool(harness.recorder.held), what="a held commit")
    await harness.settle()
    assert not await harness.arrived("3EB0AA01")
    harness.recorder.release()
    assert (await harness.recorder.wait(Acked, 2)).error is None
    file.unlink()
    made = harness.recorder.store(2).made["3EB0AA01"]
    harness.engine.command(Send(link=2, whatsapp_id="3EB0AA01", to=FRIEND, content=content, made=made))
    assert (await harness.recorder.wait(Acked, 2, nth=2)).whatsapp_id == "3EB0AA01"
    assert [m.whatsapp_id for commit in harness.recorder.of(Commit) for m in commit.made] == ["3EB0AA01"]


async def test_media_that_cannot_be_uploaded_are_refused_temporarily(harness: EngineHarness, tmp_path: Path) -> None:
    """The file is missing: nothing is sent, and the refusal says why."""
    await log_in(harness)
    image = {"file": str(tmp_path / "none"), "mimetype": "image/png"}
    harness.engine.command(Send(link=2, whatsapp_id="3EB0AA01", to=FRIEND, content={"image": image}))
    refused = await harness.recorder.wait(SendRefused, 2)
    assert (refused.whatsapp_id, refused.code) == ("3EB0AA01", "upload-failed")
    assert "can't be read" in refused.detail


async def test_media_of_an_inbound_message_are_downloaded_completely_or_not_at_all(
    harness: EngineHarness, tmp_path: Path
) -> None:
    """An image has its size and media keys; `Download` writes the file, or says why there is none."""
    await log_in(harness)
    (tmp_path / "picture").write_bytes(b"picture" * 100)
    await harness.send_picture(2, tmp_path / "picture")
    await harness.recorder.until(lambda: bool(harness.recorder.store(2).inbox), what="the message")
    [message] = harness.recorder.store(2).inbox
    assert (message.type, message.media) == ("image", {"mimetype": "image/png", "sizeBytes": 700})
    assert message.media_keys is not None
    for request, max_bytes in ((1, 699), (2, 700)):
        harness.engine.command(
            Download(
                link=2,
                request=request,
                media_keys=message.media_keys,
                file=str(tmp_path / str(request)),
                most_bytes=max_bytes,
            )
        )
        await harness.recorder.wait(Downloaded, 2, nth=request)
    answers = [(answer.request, answer.size_bytes, answer.error) for answer in harness.recorder.of(Downloaded, 2)]
    assert answers == [(1, None, "too-large"), (2, 700, None)]
    assert not (tmp_path / "1").exists()
    assert (tmp_path / "2").read_bytes() == b"picture" * 100


async def test_typing_may_be_shown_before_a_message(harness: EngineHarness) -> None:
    """The message is sent under its id like any other."""
    await log_in(harness)
    harness.engine.command(Send(link=2, whatsapp_id="3EB0AA01", to=FRIEND, content={"text": "typed"}, typing_ms=50))
    assert (await harness.recorder.wait(Acked, 2)).whatsapp_id == "3EB0AA01"


async def test_a_ping_is_answered_with_its_number(harness: EngineHarness) -> None:
    """`Ponged` carries the ping's number."""
    await log_in(harness)
    harness.engine.command(Ping(link=2, n=7))
    assert (await harness.recorder.wait(Ponged, 2)).n == 7


async def test_a_frozen_link_answers_nothing_and_a_cut_ends_it_at_once(harness: EngineHarness) -> None:
    """Pings stay unanswered and nobody closes the connection; the cut is reported without waiting for the network."""
    await log_in(harness)
    await harness.freeze(2)
    harness.engine.command(Ping(link=2, n=1))
    await harness.settle()
    assert harness.recorder.of(Ponged, 2) == []
    assert harness.recorder.of(LinkClosed, 2) == []
    harness.engine.command(CutLink(link=2))
    closed = await harness.recorder.wait(LinkClosed, 2, seconds=0.5)
    assert (closed.code, closed.detail) == (428, "cut")


async def test_a_closed_link_reports_nothing_more(harness: EngineHarness) -> None:
    """One `LinkClosed`, then silence, whatever was in progress or is requested of it."""
    await log_in(harness)
    harness.engine.command(Send(link=2, whatsapp_id="3EB0AA01", to=FRIEND, content={"text": "hello"}))
    harness.engine.command(CutLink(link=2))
    harness.engine.command(CutLink(link=2))
    await harness.recorder.wait(LinkClosed, 2)
    harness.engine.command(Ping(link=2, n=1))
    harness.engine.command(Send(link=2, whatsapp_id="3EB0AA02", to=FRIEND, content={"text": "hello"}))
    await harness.settle()
    about_it = [r for r in harness.recorder.reports if r.link == 2]
    assert isinstance(about_it[-1], LinkClosed)
    assert len(harness.recorder.of(LinkClosed, 2)) == 1


async def test_a_lost_host_is_reported_once_and_ignores_commands(harness: EngineHarness) -> None:
    """`host_lost` is reported once, no link reports anything afterwards, and commands raise no error."""
    await log_in(harness)
    await harness.lose_host()
    await harness.recorder.until(lambda: bool(harness.recorder.lost), what="host_lost")
    reports = len(harness.recorder.reports)
    harness.engine.command(Ping(link=2, n=1))
    await harness.settle()
    assert len(harness.recorder.lost) == 1
    assert len(harness.recorder.reports) == reports
