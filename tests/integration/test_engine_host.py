"""The engine host, with programs that each misbehave in one way."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import textwrap
from pathlib import Path

import pytest

from holdfast.base.clock import SystemClock
from holdfast.engine.errors import EngineUnavailable
from holdfast.engine.host import EngineHost, HostLimits, HostProgram
from holdfast.engine.wire import MAX_LINE_BYTES, PROTOCOL_VERSION
from holdfast.session.engine import (
    BAD_CREDENTIALS,
    CutLink,
    LinkClosed,
    OpenLink,
    Ping,
    Ponged,
    Send,
    SendRefused,
    SignalKeys,
)
from tests.doubles.engine_recorder import Recorder

LIMITS = HostLimits(
    hello_deadline_s=5,
    heartbeat_interval_s=0.05,
    heartbeat_deadline_s=0.5,
    stop_deadline_s=0.3,
    term_deadline_s=0.3,
    unread_bytes=1024 * 1024,
)
PATIENT = HostLimits(stop_deadline_s=60)

HONEST = """
import json, os, signal, subprocess, sys, time
def say(**report):
    sys.stdout.write(json.dumps(report) + "\\n"); sys.stdout.flush()
def hello(v=VERSION):
    say(r="hello", v=v, engine="test", engineVersion="1", nodeVersion="v0", pid=os.getpid())
def beat():
    say(r="heartbeat", rssBytes=1, heapBytes=1, links=0, eventLoopDelayMs=0.5)
def commands():
    for line in sys.stdin:
        command = json.loads(line)
        if command["c"] == "heartbeat": beat()
        elif command["c"] == "stop": sys.exit(0)
        else: yield command
"""


def program(body: str, *arguments: str) -> HostProgram:
    code = f"VERSION = {PROTOCOL_VERSION}" + HONEST + textwrap.dedent(body)
    return HostProgram(argv=[sys.executable, "-c", code, *arguments])


def host(body: str, recorder: Recorder, *arguments: str, limits: HostLimits = LIMITS) -> EngineHost:
    return EngineHost(program(body, *arguments), listener=recorder, clock=SystemClock(), limits=limits)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


async def test_commands_and_reports_keep_their_order() -> None:
    """The reports of a correct host are passed on, its figures are stored, and leaving the block ends it gracefully,
    without a report.
    """
    recorder = Recorder()
    async with host("hello()\nfor c in commands(): say(r='pong', link=c['link'], n=c['n'])", recorder) as running:
        for n in range(100):
            running.command(Ping(link=1, n=n))
        await recorder.wait(Ponged, 1, nth=100)
        while running.heartbeat is None:  # noqa: ASYNC110 – nothing tells of it
            await asyncio.sleep(0.01)
    assert [pong.n for pong in recorder.of(Ponged)] == list(range(100))
    assert running.heartbeat.event_loop_delay_ms == 0.5
    assert await running.ended() == "exited with code 0"
    assert recorder.lost == []


async def test_credentials_that_would_stall_the_host_never_reach_it() -> None:
    """For example credentials stored by an older version without checks: that link ends with an explanation, and the
    host continues.
    """
    recorder = Recorder()
    bad = '{"nextPreKeyId": 900001, "firstUnuploadedPreKeyId": 1000000000}'
    body = "hello()\nfor c in commands(): say(r='pong', link=c['link'], n=c.get('n', -1))"
    async with host(body, recorder) as running:
        running.command(OpenLink(link=1, company="962302", credentials=bad))
        running.command(Ping(link=2, n=5))
        await recorder.wait(Ponged, 2)
        [closed] = recorder.of(LinkClosed, 1)
    assert closed.code == BAD_CREDENTIALS
    assert "firstUnuploadedPreKeyId 1000000000" in closed.detail
    assert recorder.of(Ponged, 1) == []


async def test_a_host_gets_the_lifetime_of_a_link_before_it_opens_it() -> None:
    """Its previous lifetime may have expired while it had no links; the next heartbeat would be too late."""
    recorder = Recorder()
    body = """
        hello()
        for line in sys.stdin:
            c = json.loads(line)
            if c["c"] == "heartbeat": lifetime = c["lifetimeMs"]; beat()
            elif c["c"] == "open": say(r="pong", link=c["link"], n=lifetime)
            elif c["c"] == "stop": sys.exit(0)
    """
    left_s = 4.0
    limits = HostLimits(stop_deadline_s=0.3, term_deadline_s=0.3)
    clock = SystemClock()
    async with EngineHost(
        program(body), listener=recorder, clock=clock, limits=limits, lifetime_s=lambda: left_s
    ) as running:
        await asyncio.sleep(0)
        left_s = 5.5
        running.command(OpenLink(link=1, company="962302", credentials=None))
        await recorder.wait(Ponged, 1)
    assert [pong.n for pong in recorder.of(Ponged)] == [5500]


async def test_an_oversized_answer_ends_its_link_and_not_the_host() -> None:
    """For example keys stored by an older version without limits: the link is cut, nothing is raised."""
    recorder = Recorder()
    body = "hello()\nfor c in commands(): say(r='closed', link=c['link'], code=428, detail=c['c'])"
    async with host(body, recorder) as running:
        running.command(SignalKeys(link=1, request=1, values={"a": "x" * MAX_LINE_BYTES}))
        closed = await recorder.wait(LinkClosed, 1)
    assert closed.detail == "cut"
    assert recorder.lost == []


@pytest.mark.parametrize(
    "report",
    [
        "r='receipt', link=c['link'], whatsappIds=[], chat='x'",
        "r='telepathy', link=c['link']",
        "link=c['link']",
        "r='pong', link=c['link'], n=1, names={chr(0xd83d): 1}",
    ],
    ids=["without a field", "unknown", "without a kind", "with a lone surrogate"],
)
async def test_an_unreadable_report_ends_its_link_and_not_the_host(report: str) -> None:
    """The link is cut and closed once, with an explanation; other links continue."""
    recorder = Recorder()
    body = f"""
        hello()
        for c in commands():
            if c["c"] == "cut": say(r="pong", link=2, n=99)
            elif c["link"] == 1:
                for _ in range(3): say({report})
            else: say(r="pong", link=2, n=c["n"])
    """
    async with host(body, recorder) as running:
        running.command(Ping(link=1, n=1))
        closed = await recorder.wait(LinkClosed, 1)
        running.command(Ping(link=2, n=5))
        await recorder.wait(Ponged, 2, nth=2)
    assert closed.code == 500
    assert "can't be understood" in closed.detail
    assert [pong.n for pong in recorder.of(Ponged, 2)] == [99, 5]
    assert recorder.lost == []


async def test_a_silent_host_is_ended() -> None:
    """Without a hello in time the start fails with an explanation, and no process is left behind."""
    silent = host("time.sleep(60)", Recorder(), limits=HostLimits(hello_deadline_s=0.3, stop_deadline_s=0.1))
    with pytest.raises(EngineUnavailable, match=r"sent nothing within 0\.3 s"):
        await silent.__aenter__()
    assert await silent.ended() == "killed by SIGTERM"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("sys.stderr.write('no such module\\n'); sys.exit(3)", r"no such module \(exited with code 3\)"),
        ("hello(v=VERSION + 1); time.sleep(60)", f"speaks version {PROTOCOL_VERSION + 1}"),
        ("beat(); time.sleep(60)", "began with Heartbeat instead of a hello"),
    ],
)
async def test_a_host_with_a_wrong_hello_is_refused(body: str, says: str) -> None:
    """It ends at once, has another version, or sends something before the hello: the start fails and says which."""
    with pytest.raises(EngineUnavailable, match=says):
        await host(body, Recorder()).__aenter__()


async def test_a_missing_program_is_named() -> None:
    """The error is a sentence, not a traceback."""
    missing = EngineHost(HostProgram(argv=["/nowhere/node"]), listener=Recorder(), clock=SystemClock())
    with pytest.raises(EngineUnavailable, match="/nowhere/node: No such file"):
        await missing.__aenter__()


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ("sys.exit(70)", "exited with code 70"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("sys.stdout.write('oops 962700000001\\n'); sys.stdout.flush(); time.sleep(60)", "can't be understood"),
        ("say(r='telepathy'); time.sleep(60)", "can't be understood"),
        ("hello(); time.sleep(60)", "sent hello twice"),
        ("time.sleep(60)", "hung: no heartbeat for"),
        ("sys.stdout.write('x' * (17 << 20)); sys.stdout.flush(); time.sleep(60)", "longer than"),
    ],
)
async def test_a_host_that_dies_or_violates_the_protocol_is_lost_once(body: str, detail: str) -> None:
    """`host_lost` is reported exactly once, when the process is gone, with the reason and nothing of the host's
    output.
    """
    recorder = Recorder()
    async with host(f"hello()\n{body}", recorder) as running:
        await recorder.until(lambda: bool(recorder.lost), seconds=10)
        assert running.hello is not None
        assert not is_alive(running.hello.pid)
        running.command(CutLink(link=1))
    assert len(recorder.lost) == 1
    assert detail in recorder.lost[0]
    assert "962700000001" not in recorder.lost[0]
    assert await running.ended() == recorder.lost[0]


async def test_a_host_that_does_not_read_is_killed() -> None:
    """Unread commands don't accumulate without limit: a host that leaves too much unread is stuck."""
    recorder = Recorder()
    async with host("hello()\ntime.sleep(60)", recorder) as running:
        for n in range(60):
            running.command(Send(link=1, whatsapp_id=str(n), to="x", content={"text": "x" * 100_000}))
        await recorder.until(lambda: bool(recorder.lost), seconds=10)
    assert "stuck: it left" in recorder.lost[0]


async def test_a_host_that_will_not_stop_is_killed_with_its_children(tmp_path: Path) -> None:
    """After stop, TERM and KILL of the group: even what ignores all but the last is gone within the sum of the
    deadlines.
    """
    recorder = Recorder()
    body = """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        open(sys.argv[1], "w").write(str(child.pid))
        hello()
        while True:
            for line in sys.stdin:
                if json.loads(line)["c"] == "heartbeat": beat()
            time.sleep(0.01)
    """
    note = tmp_path / "child"
    began = asyncio.get_running_loop().time()
    async with host(body, recorder, str(note)) as running:
        child = int(note.read_text())
        assert is_alive(child)
    assert await running.ended() == "killed by SIGKILL"
    assert asyncio.get_running_loop().time() - began < 5
    assert not is_alive(child)
    assert recorder.lost == []


async def test_a_host_whose_shutdown_is_cancelled_is_killed_with_its_children(tmp_path: Path) -> None:
    """Cancelling the graceful shutdown leaves no process behind."""
    body = """
        child = subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        open(sys.argv[1], "w").write(str(child.pid))
        hello()
        time.sleep(60)
    """
    note = tmp_path / "child"
    entered = asyncio.Event()

    ending = host(body, Recorder(), str(note), limits=PATIENT)

    async def run() -> None:
        async with ending:
            entered.set()

    running = asyncio.ensure_future(run())
    await entered.wait()
    await asyncio.sleep(0)
    child = int(note.read_text())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with asyncio.timeout(5):
        while is_alive(child):  # noqa: ASYNC110 – nothing tells of it
            await asyncio.sleep(0.01)
        assert await ending.ended() == "killed by SIGKILL"


async def test_an_error_in_the_block_ends_the_host_too() -> None:
    """The process ends with the block, and the original error is raised."""
    running = host("hello()\nlist(commands())", Recorder())
    with pytest.raises(ZeroDivisionError):
        async with running:
            raise ZeroDivisionError
    assert await running.ended() == "exited with code 0"


async def test_stderr_of_a_host_is_logged_and_truncated(caplog: pytest.LogCaptureFixture) -> None:
    """Standard error and the bridge's own messages become log lines of at most 200 characters."""
    body = """
        hello()
        sys.stderr.write("first\\n" + "y" * 5000 + "\\nlast\\n"); sys.stderr.flush()
        say(r="log", level="error", message="z" * 5000)
        list(commands())
    """
    caplog.set_level(logging.INFO)
    async with host(body, Recorder()):
        while sum("Engine host: " in line for line in caplog.messages) < 4:  # noqa: ASYNC110 – nothing tells of it
            await asyncio.sleep(0.01)
    lines = {line.removeprefix("Engine host: ") for line in caplog.messages if line.startswith("Engine host: ")}
    assert lines == {"first", "last", "y" * 200, "z" * 200}


async def test_a_message_that_is_too_long_for_the_pipe_is_refused() -> None:
    """An oversized command raises nothing: the message is refused as bad content."""
    recorder = Recorder()
    async with host("hello()\nlist(commands())", recorder) as running:
        running.command(Send(link=1, whatsapp_id="3EB0", to="x", content={"text": "x" * MAX_LINE_BYTES}))
        refused = await recorder.wait(SendRefused, 1)
    assert (refused.whatsapp_id, refused.code) == ("3EB0", "bad-content")
