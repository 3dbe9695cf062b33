"""The three pipes of an engine host's process, and its end.

Pipes are read by callbacks, not by a task. Everything from one read is handled in one iteration of the event loop, so a
host that writes a lot can't starve other work. Lines for the host that are written in one iteration go in one write,
because each write wakes the host.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
from typing import Protocol, cast

from holdfast.engine.errors import WireError
from holdfast.engine.wire import LineSplitter

log = logging.getLogger(__name__)

STDERR_LINE_CHARS = 200
_FIRST_LINES = 40
_UNKNOWN_EXIT = 255
"""What asyncio reports for a process that was reaped by something else."""


class PipeReader(Protocol):
    """Receives what a process writes, and its end."""

    def handle_line(self, line: bytes) -> None:
        """One line of standard output."""

    def kill(self, detail: str) -> None:
        """Standard output can't be split into lines."""

    def process_ended(self, detail: str) -> None:
        """The process has ended, and all its output was passed on. `detail` says how, as the end of a sentence."""


class Pipes(asyncio.SubprocessProtocol):
    transport: asyncio.SubprocessTransport
    stdin: asyncio.WriteTransport

    def __init__(self, reader: PipeReader) -> None:
        self._reader = reader
        self._out = LineSplitter()
        self._err = _Stderr()
        self._unwritten: list[bytes] = []

    @property
    def first_errors(self) -> list[str]:
        """The first lines of standard error, where a program says why it ends at its start."""
        return self._err.first

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.SubprocessTransport, transport)
        self.stdin = cast(asyncio.WriteTransport, self.transport.get_pipe_transport(0))

    def write(self, line: bytes) -> None:
        """Write a line to standard input at the end of this iteration of the event loop."""
        if not self._unwritten:
            asyncio.get_running_loop().call_soon(self.flush)
        self._unwritten.append(line)

    def flush(self) -> None:
        """Write the waiting lines. Does nothing when the host has ended."""
        lines, self._unwritten = self._unwritten, []
        if lines and not self.stdin.is_closing():  # uvloop may close it before it reports the end of the process
            self.stdin.write(b"".join(lines))

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2:
            self._err.take(data)
            return
        try:
            lines = self._out.feed(data)
        except WireError as error:
            self._reader.kill(error.sentence.rstrip("."))
            return
        for line in lines:
            self._reader.handle_line(line)

    def connection_lost(self, exc: Exception | None) -> None:
        # Called when the process has ended and all its pipes were read to their end.
        code = self.transport.get_returncode()
        process: subprocess.Popen[bytes] | None = self.transport.get_extra_info("subprocess")  # None under uvloop
        if code == _UNKNOWN_EXIT and process is not None:
            # `Popen.kill` reaped the process before asyncio's child watcher did: only `Popen` knows the code.
            code = process.returncode
        self._reader.process_ended(_describe_exit(code))


class _Stderr:
    """Writes lines of standard error to the log, truncated: a crash of Node may quote the data it was working on."""

    def __init__(self) -> None:
        self._held = b""
        self.first: list[str] = []

    def take(self, data: bytes) -> None:
        *lines, self._held = (self._held + data).split(b"\n")
        self._held = self._held[:STDERR_LINE_CHARS]
        for line in lines:
            text = line.decode(errors="replace").strip()[:STDERR_LINE_CHARS]
            if text:
                if len(self.first) < _FIRST_LINES:
                    self.first.append(text)
                log.warning("Engine host: %s", text)


def _describe_exit(returncode: int | None) -> str:
    if returncode is None:
        return "ended"
    if returncode < 0:
        return f"killed by {signal.Signals(-returncode).name}"
    return f"exited with code {returncode}"
