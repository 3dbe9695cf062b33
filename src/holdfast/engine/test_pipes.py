"""Writing to an engine host's standard input."""

import asyncio
from typing import Any, cast

from holdfast.engine.pipes import PipeReader, Pipes


class Process(asyncio.SubprocessTransport):
    """A process that keeps each write to its standard input."""

    def __init__(self) -> None:
        super().__init__()
        self.stdin = Stdin()

    def get_pipe_transport(self, fd: int) -> asyncio.BaseTransport:
        return self.stdin


class Stdin(asyncio.WriteTransport):
    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.is_gone = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.is_gone


def started() -> tuple[Pipes, Stdin]:
    process, pipes = Process(), Pipes(cast(PipeReader, None))
    pipes.connection_made(process)
    return pipes, process.stdin


async def test_lines_of_one_iteration_are_one_write() -> None:
    """Each write wakes the host, and after a commit many of its sessions get an answer; the order stays."""
    pipes, stdin = started()
    pipes.write(b"one\n")
    pipes.write(b"two\n")
    await asyncio.sleep(0)
    pipes.write(b"three\n")
    await asyncio.sleep(0)
    assert stdin.writes == [b"one\ntwo\n", b"three\n"]


async def test_lines_for_a_process_that_is_gone_are_dropped() -> None:
    """Its pipe may be closed before its end is reported."""
    pipes, stdin = started()
    pipes.write(b"one\n")
    stdin.is_gone = True
    await asyncio.sleep(0)
    assert stdin.writes == []
