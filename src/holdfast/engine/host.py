"""An engine host: one subprocess that speaks WhatsApp's protocol for N links, from its first line to its end.

It starts the process in its own process group, passes commands in and reports out, asks for heartbeats, and ends the
process: by request, then by force. It makes no decisions about sessions and never restarts a host. A host that died or
stopped answering is reported once, by `Listener.host_lost`, and only after its process, and with it every socket it
held, is really gone: a socket that is still open makes WhatsApp answer 440 to the next login.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from holdfast.base.clock import Clock
from holdfast.engine.errors import EngineUnavailable, WireError
from holdfast.engine.pipes import STDERR_LINE_CHARS, Pipes
from holdfast.engine.silence import Silence
from holdfast.engine.start_failures import failure, host_failure
from holdfast.engine.wire import (
    AnyHostCommand,
    AskHeartbeat,
    Heartbeat,
    Hello,
    Logged,
    Stop,
    check_hello,
    decode_report,
    encode,
    link_of,
)
from holdfast.session.credentials import fault_of_text
from holdfast.session.engine import (
    BAD_CREDENTIALS,
    AnyCommand,
    AnyReport,
    CutLink,
    HostFacts,
    LinkClosed,
    LinkId,
    Listener,
    OpenLink,
    Send,
    SendRefused,
)

log = logging.getLogger(__name__)

_UNREADABLE_CODE = 500
"""The code with which the bridge reports the end of a link that came without a code."""
_MAX_CUT = 1_000
"""Links of one host that may end because of an invalid report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostProgram:
    """What to start: a program that speaks `engine.wire` on its standard input and output."""

    argv: Sequence[str]
    cwd: Path | None = None
    env: Mapping[str, str] | None = None
    """None: the environment of this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLimits:
    """Timeouts of a host, and how much input it may leave unread."""

    hello_deadline_s: float = 60
    """Node starts in half a second, but on a machine on which Holdfast takes 18 s to start, it is as slow. A host that
    is ended too early is started again, and ended again."""
    heartbeat_interval_s: float = 2
    heartbeat_deadline_s: float = 10
    """Without a sign of life for this long, the host counts as hung. Longer than the longest legitimate stall:
    unpacking a chat history after pairing keeps Node busy for seconds."""
    stop_deadline_s: float = 3
    term_deadline_s: float = 2
    kill_deadline_s: float = 5
    unread_bytes: int = 64 * 1024 * 1024
    """How many bytes of commands the host may leave unread before it counts as stuck."""


class EngineHost:
    """A running engine host; an `Engine` for as long as it lives.

        async with EngineHost(program, listener=listener, clock=clock) as host:
            host.command(OpenLink(...))
            why = await host.ended()

    Entering returns after the host's hello, or raises `EngineUnavailable`; leaving ends the process within the sum
    of the three stop deadlines. It owns all of its tasks. Must be entered and left by the same task.
    """

    def __init__(
        self,
        program: HostProgram,
        *,
        listener: Listener,
        clock: Clock,
        limits: HostLimits = HostLimits(),
        lifetime_s: Callable[[], float | None] = lambda: None,
    ) -> None:
        """`lifetime_s`: how long its sockets may live without another heartbeat; None: the host's own default."""
        self._program = program
        self._lifetime_s = lifetime_s
        self._listener = listener
        self._clock = clock
        self._limits = limits
        self._tasks = asyncio.TaskGroup()
        self._state = _State()
        self._pipes: Pipes | None = None
        self._silence = Silence(now=0)
        self._cut: set[LinkId] = set()
        """Links that ended because of an invalid report."""
        self.hello: Hello | None = None
        self.heartbeat: Heartbeat | None = None
        """The latest figures of the process: memory, links, event loop delay."""

    @property
    def pid(self) -> int | None:
        return self._pipes.transport.get_pid() if self._pipes else None

    async def __aenter__(self) -> Self:
        await self._start()
        try:
            await self._await_hello()
        except BaseException:
            await self._end()
            raise
        self._silence = Silence(now=self._clock.monotonic())
        await self._tasks.__aenter__()
        self._watching = self._tasks.create_task(self._watch(), name="engine host heartbeat")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watching.cancel()
        try:
            await self._end()
        finally:
            # An error of the block must not be wrapped by the group; its cancellation may be.
            if isinstance(error, asyncio.CancelledError):
                await self._tasks.__aexit__(kind, error, trace)
            else:
                await self._tasks.__aexit__(None, None, None)

    @property
    def silent_s(self) -> float:
        return self._silence.lasted_s(now=self._clock.monotonic())

    @property
    def facts(self) -> HostFacts:
        assert self.hello is not None
        beat = self.heartbeat
        return HostFacts(
            pid=self.hello.pid,
            engine=self.hello.engine,
            version=self.hello.engine_version,
            rss_bytes=None if beat is None else beat.rss_bytes,
            links=None if beat is None else beat.links,
        )

    def command(self, command: AnyCommand) -> None:
        """Pass a command on. If the host is gone, which `host_lost` reports, the command is dropped."""
        if isinstance(command, OpenLink):
            if command.credentials is not None and (fault := fault_of_text(command.credentials)):
                log.error("Session %s: its stored credentials can't be used: they %s", command.company, fault)
                self._report_soon(LinkClosed(link=command.link, code=BAD_CREDENTIALS, detail=fault[:200]))
                return
            self._ask_heartbeat()  # a host whose time is over would end with its first link
        try:
            self._write(command)
        except WireError as error:
            self._refuse(command, error)

    def _refuse(self, command: AnyCommand, error: WireError) -> None:
        """A command is longer than a line may be: fail one message or one link instead of the host."""
        if isinstance(command, Send):
            refusal = SendRefused(
                link=command.link, whatsapp_id=command.whatsapp_id, code="bad-content", detail=error.sentence
            )
            self._report_soon(refusal)
            return
        log.error("Link %d: %s", command.link, error.sentence)
        self._write(CutLink(link=command.link))  # the host answers with the link's end

    def _report_soon(self, report: AnyReport) -> None:
        """Report in a later iteration of the event loop, like every report, so that no listener is called while it
        commands."""
        asyncio.get_running_loop().call_soon(self._listener.report, report)

    async def ended(self) -> str:
        """Wait until the process has ended, and return why: `exited with code 70`."""
        await self._state.ended.wait()
        return self._state.detail

    # -- starting

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, protocol = await loop.subprocess_exec(
                lambda: Pipes(self),
                *self._program.argv,
                cwd=self._program.cwd,
                env=self._program.env,
                # In its own process group: Ctrl-C in a terminal reaches Holdfast, which then stops the host in order,
                # and a forced end also kills whatever the host may have started.
                start_new_session=True,
            )
        except OSError as error:
            raise EngineUnavailable(host_failure(self._program.argv[0], error)) from error
        self._pipes = protocol

    async def _await_hello(self) -> None:
        deadline_s = self._limits.hello_deadline_s
        try:
            async with asyncio.timeout(deadline_s):
                await self._state.greeted_or_ended.wait()
        except TimeoutError:
            raise EngineUnavailable(
                f"The engine host sent nothing within {deadline_s:g} s of its start: it was ended."
            ) from None
        if self.hello is None:
            environment = os.environ if self._program.env is None else self._program.env  # noqa: TID251 – the host's
            lines = self._pipes.first_errors if self._pipes else []
            raise EngineUnavailable(
                f"The engine host ended at its start: {failure(self._state.detail, lines, environment)}"
            )
        log.info(
            "Engine host started as process %d: %s %s on Node %s",
            self.hello.pid, self.hello.engine, self.hello.engine_version, self.hello.node_version,
        )  # fmt: skip

    # -- running

    async def _watch(self) -> None:
        """Ask for a heartbeat, and end a host that stops answering."""
        while not self._state.ended.is_set():
            self._ask_heartbeat()
            due_at = self._clock.monotonic() + self._limits.heartbeat_interval_s
            await self._clock.sleep(self._limits.heartbeat_interval_s)
            self._silence.excuse(self._clock.monotonic() - due_at)
            if self.silent_s > self._limits.heartbeat_deadline_s and not self._state.ended.is_set():
                self.kill(f"hung: no heartbeat for {self.silent_s:.1f} s")
                return

    def _ask_heartbeat(self) -> None:
        lifetime_s = self._lifetime_s()
        self._write(AskHeartbeat(lifetime_ms=None if lifetime_s is None else int(lifetime_s * 1000)))

    def _write(self, command: AnyCommand | AnyHostCommand) -> None:
        if self._pipes is None or self._state.is_over:
            return
        self._pipes.write(encode(command))
        unread = self._pipes.stdin.get_write_buffer_size()
        if unread > self._limits.unread_bytes:
            self.kill(f"stuck: it left {unread // 1024 // 1024} MiB of commands unread")

    def handle_line(self, line: bytes) -> None:
        """One line of the host's standard output."""
        if self._state.is_over:
            return
        self._silence.end(now=self._clock.monotonic())
        try:
            report = decode_report(line)
            if self.hello is None:
                self.hello = check_hello(report)
                self._state.greeted_or_ended.set()
                return
        except WireError as error:
            self._handle_invalid_line(line, error)
            return
        match report:
            case Heartbeat():
                self.heartbeat = report
            case Logged(level=level, message=message):
                log.log(_LEVELS[level], "Engine host: %s", message[:STDERR_LINE_CHARS])
            case Hello():
                self.kill("protocol error: it sent hello twice")
            case _:
                self._listener.report(report)

    def _handle_invalid_line(self, line: bytes, error: WireError) -> None:
        """An invalid line ends the link that it names, because a message of one contact may have caused it, and other
        links of the host must not be affected. Further ones of that link are ignored. An invalid line without a link,
        and lines of very many links, mean that the host can't be trusted.
        """
        link = link_of(line) if self.hello is not None else None
        if link is None or len(self._cut) == _MAX_CUT:
            self.kill(error.sentence.rstrip("."))
            return
        if link in self._cut:
            return
        self._cut.add(link)
        log.error("Link %d is cut: %s", link, error.sentence)
        self._write(CutLink(link=link))
        self._report_soon(LinkClosed(link=link, code=_UNREADABLE_CODE, detail=error.sentence[:200]))

    # -- ending

    def kill(self, detail: str) -> None:
        """Kill a host that violated the protocol; `host_lost` follows when its process is gone."""
        if self._state.is_over:
            return
        self._state.kill_reason = detail
        log.warning("Engine host %s is being killed: %s", self.pid, detail)
        self._signal(signal.SIGKILL)

    def process_ended(self, detail: str) -> None:
        """The process has ended, and everything it wrote was read."""
        state = self._state
        state.detail = state.kill_reason or detail
        state.ended.set()
        state.greeted_or_ended.set()
        if self.hello is not None and not state.stopping:
            self._listener.host_lost(detail=state.detail)

    async def _end(self) -> None:
        """Ask, then TERM, then KILL the whole group; each has its deadline."""
        self._state.stopping = True
        if self._pipes is None:
            return
        try:
            await self._end_in_order(self._pipes)
        finally:
            # Also when this task is cancelled: the rest of the process group is killed at once.
            self._signal(signal.SIGKILL)
            self._pipes.transport.close()

    async def _end_in_order(self, pipes: Pipes) -> None:
        limits = self._limits
        if self._state.ended.is_set():
            return
        pipes.write(encode(Stop()))
        pipes.flush()
        pipes.stdin.close()
        if await self._ended_within(limits.stop_deadline_s):
            return
        self._signal(signal.SIGTERM)
        if await self._ended_within(limits.term_deadline_s):
            return
        self._signal(signal.SIGKILL)
        await self._ended_within(limits.kill_deadline_s)

    async def _ended_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._state.ended.wait()
        return self._state.ended.is_set()

    def _signal(self, number: signal.Signals) -> None:
        pid = self.pid
        # The process may have ended since the check above; then there is nothing left to do.
        with contextlib.suppress(ProcessLookupError):
            if pid is not None and not self._state.ended.is_set():
                os.killpg(pid, number)


_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


@dataclass(slots=True, kw_only=True)
class _State:
    greeted_or_ended: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: bool = False
    kill_reason: str | None = None
    detail: str = ""

    @property
    def is_over(self) -> bool:
        """Nothing more is passed in or out."""
        return self.stopping or self.kill_reason is not None or self.ended.is_set()
