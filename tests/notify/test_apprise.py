"""Alerts through the real Apprise to a receiver on the loopback that works, fails, hangs or is down."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from holdfast.base.clock import SystemClock
from holdfast.base.errors import Misconfigured
from holdfast.health.alerts import Alert, AlertKind, Book
from holdfast.notify.addresses import AlertAddress, read_addresses
from holdfast.notify.alert_sender import AlertSender, RetrySchedule
from holdfast.notify.alert_text import pending_alert
from holdfast.notify.apprise_client import AppriseClient, NotDelivered, redacted, refusal
from holdfast.notify.conftest import alert
from tests.doubles.fake_alert_rows import FakeAlertRows

pytestmark = pytest.mark.slow

SECRET = "hunter2secret"
TOKEN = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsawx"


class Receiver:
    """Receives what Apprise posts; `answers` are used one after the other, then 200. None: no answer at all."""

    def __init__(self) -> None:
        self.port = 0
        self.answers: list[int | None] = []
        self.asked = 0
        self.taken: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._over = asyncio.Event()

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/{SECRET}"

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Receiver]:
        app = web.Application()
        app.router.add_post("/{path}", self._take)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            self._over.set()
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        self.asked += 1
        answer = self.answers.pop(0) if self.answers else 200
        if answer is None:
            await self._over.wait()
            return web.Response(status=500)
        if answer == 200:
            self.taken.put_nowait(await request.json())
        return web.Response(status=answer)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver().listening() as listening:
        yield listening


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port on which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


class WatchedRows(FakeAlertRows):
    def __init__(self) -> None:
        super().__init__()
        self.settled = asyncio.Event()

    async def settle(self, alert_id: str, address: str) -> None:
        await super().settle(alert_id, address)
        self.settled.set()


def to(url: str) -> AlertAddress:
    return AlertAddress(position=1, url=url)


async def deliver(url: str, told: Alert, *, deadline_s: float = 10) -> None:
    transport = AppriseClient(clock=SystemClock(), deadline_s=deadline_s)
    await transport.deliver(to(url), pending_alert(told, address="any"))


@pytest.mark.parametrize(
    ("kind", "type_"), [(AlertKind.RAISED, "failure"), (AlertKind.REMINDED, "failure"), (AlertKind.CLEARED, "success")]
)
async def test_an_alert_arrives_in_plain_words(receiver: Receiver, kind: AlertKind, type_: str) -> None:
    """Title, body and severity are unchanged."""
    await deliver(receiver.url, alert(kind))
    came = await receiver.taken.get()
    assert (came["title"], came["message"], came["type"]) == (
        pending_alert(alert(kind), address="any").title,
        pending_alert(alert(kind), address="any").body,
        type_,
    )


async def test_an_error_is_reported_without_the_address(receiver: Receiver) -> None:
    """It has the receiver's answer, and nothing of the address."""
    receiver.answers = [500]
    with pytest.raises(NotDelivered, match="error=500") as raised:
        await deliver(receiver.url, alert())
    assert SECRET not in str(raised.value)


async def test_a_message_without_a_recipient_gets_an_error(free_port: int) -> None:
    """A refused connection is a failed attempt."""
    with pytest.raises(NotDelivered, match=r"A Connection error occurred"):
        await deliver(f"json://127.0.0.1:{free_port}/{SECRET}", alert())


async def test_a_receiver_that_hangs_has_a_deadline(receiver: Receiver) -> None:
    """The sender does not wait for a thread that waits for a receiver; after three such threads no further one is
    started.
    """
    receiver.answers = [None] * 9
    transport = AppriseClient(clock=SystemClock(), deadline_s=0.2)
    told = pending_alert(alert(), address="any")
    for _ in range(3):
        with pytest.raises(NotDelivered, match=r"no answer within 0\.2 s"):
            await transport.deliver(to(f"{receiver.url}?rto=60"), told)
    with pytest.raises(NotDelivered, match="3 earlier attempts are still waiting for an answer"):
        await transport.deliver(to(f"{receiver.url}?rto=60"), told)
    assert receiver.asked == 3
    receiver.answers = []
    await transport.deliver(to(receiver.url), told)


async def test_an_unusable_url_is_a_failed_attempt() -> None:
    """A sender with an unchecked URL fails to deliver, and reports it."""
    with pytest.raises(NotDelivered, match="Apprise can't use this URL"):
        await deliver("nosuch://x", alert())


async def test_any_exception_of_apprise_is_a_failed_attempt() -> None:
    """No other exception is raised, and its text is not used, because it may contain the URL."""
    broken = replace(pending_alert(alert(), address="any"), severity=[])  # type: ignore[arg-type]  # so that it raises
    with pytest.raises(NotDelivered, match=r"^Apprise failed: TypeError$"):
        await AppriseClient(clock=SystemClock()).deliver(to("json://localhost"), broken)


async def test_an_alert_arrives_after_failures(receiver: Receiver) -> None:
    """After two errors the third attempt arrives: once, with nothing left in flight."""
    receiver.answers = [500, 503]
    rows = WatchedRows()
    sender = AlertSender(
        read_addresses(receiver.url, refusal=refusal),
        rows=rows,
        transport=AppriseClient(clock=SystemClock()),
        clock=SystemClock(),
        pace=RetrySchedule(factor=1, cap_s=0.01),
    )
    assert await sender.begin() == Book()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(sender.run())
        await sender.send(Book(), [alert(at=SystemClock().now())])
        await receiver.taken.get()
        await rows.settled.wait()
        running.cancel()
    assert (receiver.asked, receiver.taken.qsize(), await rows.pending(), sender.undelivered) == (3, 0, [], [])


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("json://", "a part of the json:// URL is missing or wrong"),
        ("tgram://notatoken/1", "a part of the tgram:// URL is missing or wrong"),
        ("telgram://x", "Apprise knows no service telgram://"),
        ("windows://x", "windows:// needs "),
    ],
)
def test_urls_that_cannot_be_used_are_refused_at_start(url: str, why: str) -> None:
    """With the position and what is wrong."""
    with pytest.raises(Misconfigured) as raised:
        read_addresses(f"json://localhost {url}", refusal=refusal)
    assert f"address 2 ({url.partition(':')[0]}) of 2 can't be used: {why}" in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "json://localhost/path",
        f"tgram://{TOKEN}/12345678",
        "mailto://me:secret@mail.example",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
        "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
    ],
)
def test_common_services_are_accepted(url: str) -> None:
    """Services that people use; also a service's own https:// address."""
    assert refusal(url) is None


class Collected(logging.Handler):
    """Lines that would be in Holdfast's log. Not `caplog`: pytest also listens to loggers that do not propagate."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def log() -> Iterator[Collected]:
    """Everything that reaches the root logger, at the finest level."""
    collected, names = Collected(), ("", "apprise", "urllib3")
    levels = {name: logging.getLogger(name).level for name in names}
    logging.getLogger().addHandler(collected)
    for name in names:
        logging.getLogger(name).setLevel(1)
    yield collected
    logging.getLogger().removeHandler(collected)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


async def test_no_log_line_shows_a_secret(receiver: Receiver, log: Collected) -> None:
    """Neither Apprise's lines, nor those of its HTTP library, nor our own."""
    receiver.answers = [500]
    with pytest.raises(NotDelivered):
        await deliver(receiver.url, alert())
    with pytest.raises(Misconfigured) as raised:
        read_addresses(f"json://localhost/%%{SECRET} slack://{SECRET}", refusal=refusal)
    logging.getLogger("holdfast.notify").warning("one of ours")
    assert "one of ours" in log.lines
    assert SECRET not in "".join(log.lines) + str(raised.value)


def test_redaction_removes_every_part_of_a_url() -> None:
    """Also percent-encoded, and in upper or lower case."""
    url = "mailtos://me:pass%20word@mail.example:587/?to=Boss@example.org"
    said = "login of ME at mail.example with 'pass word' for boss failed (535)"
    assert redacted(said, url) == "login of ME at … with '… …' for … failed (535)"


def test_without_addresses_apprise_is_not_even_imported() -> None:
    """An installation without alerts does not pay for importing it."""
    program = (
        "import sys, holdfast.notify.alert_sender\n"
        "from holdfast.notify import addresses, apprise_client\n"
        "addresses.read_addresses('', refusal=apprise_client.refusal)\n"
        "assert 'apprise' not in sys.modules and 'requests' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
