"""The protocol on the pipe between Holdfast and an engine host: one JSON object a line, both ways.

Most messages are the port's commands and reports. The few that concern the host itself and no link (hello, heartbeat,
stop, log) are defined here. Errors say what is wrong with a line and never show its content: lines contain keys and
people's messages.
"""

from __future__ import annotations

import json
import re
from typing import Literal

import msgspec

from holdfast.engine.errors import WireError
from holdfast.session.engine import AnyCommand, AnyReport, LinkId

PROTOCOL_VERSION = 2
MAX_LINE_BYTES = 16 * 1024 * 1024
"""Upper bound of one line, both ways. The largest real one, credentials with 812 new pre-keys, has about 150 KB."""


class HostCommand(msgspec.Struct, frozen=True, kw_only=True, tag_field="c", rename="camel"):
    """A command to the host itself."""


class AskHeartbeat(HostCommand, frozen=True, kw_only=True, tag="heartbeat"):
    """Answered by `Heartbeat`. A host that gets none for a while assumes that its parent hangs, and ends."""

    lifetime_ms: int | None = None
    """How long its links may live without another one; None: the host's own default."""


class Stop(HostCommand, frozen=True, kw_only=True, tag="stop"):
    """Drop every link and end, without further reports."""


class HostReport(msgspec.Struct, frozen=True, kw_only=True, tag_field="r", rename="camel"):
    """A report of the host about itself."""


class Hello(HostReport, frozen=True, kw_only=True, tag="hello"):
    """The first line of every host."""

    v: int
    engine: str
    engine_version: str
    node_version: str
    pid: int


class Heartbeat(HostReport, frozen=True, kw_only=True, tag="heartbeat"):
    """Answer to `AskHeartbeat`."""

    rss_bytes: int
    heap_bytes: int
    links: int
    event_loop_delay_ms: float
    """The longest delay since the last heartbeat."""


class Logged(HostReport, frozen=True, kw_only=True, tag="log"):
    """A log line of the bridge; never of the engine, whose lines may contain keys and message text."""

    level: Literal["info", "warning", "error"]
    message: str


AnyHostCommand = AskHeartbeat | Stop
AnyHostReport = Hello | Heartbeat | Logged

_encoder = msgspec.json.Encoder()
_report_decoder: msgspec.json.Decoder[AnyReport | AnyHostReport] = msgspec.json.Decoder(AnyReport | AnyHostReport)


def encode(message: AnyCommand | AnyHostCommand | AnyReport | AnyHostReport) -> bytes:
    """One line with its newline; `WireError` when it is longer than `MAX_LINE_BYTES`."""
    line = _encoder.encode(message) + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise WireError(
            f"A {type(message).__name__} of {len(line)} bytes is too long: a line has {MAX_LINE_BYTES} bytes at most."
        )
    return line


def decode_report(line: bytes) -> AnyReport | AnyHostReport:
    """The report in a host's line; raises `WireError` for an invalid line."""
    try:
        return _report_decoder.decode(line)
    except msgspec.MsgspecError as error:
        raise _malformed(line, error) from None


class _OfLink(msgspec.Struct, frozen=True):
    link: LinkId


def link_of(line: bytes) -> LinkId | None:
    """The link that an invalid line names; None if it names none.

    Reads what JavaScript takes for JSON, lone surrogates included, which msgspec refuses.
    """
    try:
        return msgspec.convert(json.loads(line), _OfLink).link
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return None


def check_hello(report: AnyReport | AnyHostReport) -> Hello:
    """The first report, if it is a hello in our version of the protocol."""
    if not isinstance(report, Hello):
        raise WireError(f"The engine host began with {type(report).__name__} instead of a hello.")
    if report.v != PROTOCOL_VERSION:
        raise WireError(
            f"The engine host speaks version {report.v} of the pipe protocol, this Holdfast {PROTOCOL_VERSION}: "
            "the installed bridge is not the one that came with it."
        )
    return report


def _malformed(line: bytes, error: msgspec.MsgspecError) -> WireError:
    # msgspec quotes unknown tags and values, and the content of a line must not be shown.
    # `from None` above has the same reason: a chained error would print them.
    cause = re.sub(r"'[^']*'|\"[^\"]*\"", "'…'", str(error))
    return WireError(f"The engine host sent a line of {len(line)} bytes that can't be understood: {cause}.")


class LineSplitter:
    """Splits a stream of bytes into lines, and refuses a line that is too long."""

    def __init__(self, *, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._held = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes, without their newlines; raises `WireError` past the limit."""
        head, *rest = chunk.split(b"\n")
        self._buffer_part(head)
        if not rest:
            return []
        lines = [b"".join(self._parts), *rest[:-1]]
        self._parts, self._held = [], 0
        self._buffer_part(rest[-1])
        return lines

    def _buffer_part(self, part: bytes) -> None:
        self._held += len(part)
        if self._held > self._limit:
            raise WireError(f"The engine host sent a line longer than {self._limit} bytes.")
        if part:
            self._parts.append(part)
