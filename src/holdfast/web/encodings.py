"""Decodes `Content-Encoding` in chunks.

It protects against decompression bombs: the size limit applies to the output of every layer. The number of parts is
limited as well, because a body may consist of a million parts that are empty and each take time to open.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from typing import Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_STEP = 64 * 1024
_MAX_LAYERS = 3
_MAX_SMALL_PARTS = 1000
_PART_BYTES = 4096
"""Concatenated gzip members or zstd frames: beyond `_MAX_SMALL_PARTS`, they must have this many bytes on average."""
_MEANS_NOTHING = frozenset({"", "identity", "none", "binary", "7bit", "8bit", "utf-8", "utf8", "aws-chunked"})
"""Values that servers send for bodies that are not encoded. `aws-chunked` only describes an upload."""
_COMPRESSED_FILES = frozenset(
    {
        "application/gzip",
        "application/x-gzip",
        "application/x-gunzip",
        "application/x-tgz",
        "application/gzip-compressed",
    }
)
_GZIP_NAMES = ("gzip", "x-gzip")


class CannotDecode(Exception):
    """A body does not match its `Content-Encoding`, or the encoding is not supported. The message is for users."""


class TooLong(Exception):
    """The decoded body exceeds the limit."""


class _Layer(Protocol):
    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Decoded bytes, at most `_STEP` at a time."""

    @property
    def is_whole(self) -> bool:
        """Whether the encoded data is complete."""


class Decoder:
    """Decodes a body that is fed to it in chunks."""

    def __init__(self, codings: str, *, mimetype: str | None, max_bytes: int) -> None:
        """`codings` is the value of the header. Raises `CannotDecode` for an unsupported encoding."""
        self._max_bytes = max_bytes
        self._layers = [_layer(name) for name in reversed(_names(codings, mimetype))]
        self._decoded_bytes = [0] * len(self._layers)

    @property
    def is_needed(self) -> bool:
        """Whether the body is encoded at all."""
        return bool(self._layers)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Decode a chunk. Raises `CannotDecode` and `TooLong`.

        Yields empty pieces as well, so that each step takes only a few milliseconds.
        """
        yield from self._through(chunk, 0)

    def end(self) -> None:
        """Raise `CannotDecode` when the body is incomplete."""
        if not all(layer.is_whole for layer in self._layers):
            raise CannotDecode("ends in the middle of its compressed data")

    def _through(self, chunk: bytes, depth: int) -> Iterator[bytes]:
        if depth == len(self._layers):
            yield chunk
            return
        for piece in self._layers[depth].feed(chunk):
            self._decoded_bytes[depth] += len(piece)
            if self._decoded_bytes[depth] > self._max_bytes:
                raise TooLong
            yield from self._through(piece, depth + 1)
            yield b""


def has_coding(codings: str, *, mimetype: str | None) -> bool:
    """Whether this value of `Content-Encoding` names a coding that a `Decoder` has to decode."""
    return bool(_to_undo(codings, mimetype))


def _names(codings: str, mimetype: str | None) -> list[str]:
    names = _to_undo(codings, mimetype)
    if len(names) > _MAX_LAYERS:
        raise CannotDecode(f"is encoded {len(names)} times over")
    return names


def _to_undo(codings: str, mimetype: str | None) -> list[str]:
    names = [name.strip().lower() for name in codings.split(",")]
    names = [name for name in names if name not in _MEANS_NOTHING]
    if mimetype in _COMPRESSED_FILES and names and names[-1] in _GZIP_NAMES:
        # The file itself is a .gz, which some servers also announce as an encoding. Browsers keep it compressed, too.
        names.pop()
    return names


def _layer(name: str) -> _Layer:
    match name:
        case "gzip" | "x-gzip":
            return _Gzip()
        case "deflate":
            return _Deflate()
        case "br":
            return _Brotli()
        case "zstd":
            return _Zstd()
    raise CannotDecode(f'has the Content-Encoding "{name[:40]}", which Holdfast can\'t decode: send it without')


class _Parts:
    """Counts the parts that a stream consists of."""

    def __init__(self) -> None:
        self._small = 0
        self._bytes = 0

    def decoded(self, size_bytes: int) -> None:
        self._bytes += size_bytes

    def begin(self) -> None:
        """Another part begins. Raises `CannotDecode` when there are too many for what they contain."""
        self._small += 1
        if self._bytes >= _PART_BYTES:
            self._small = max(self._small - self._bytes // _PART_BYTES, 0)
            self._bytes %= _PART_BYTES
        if self._small > _MAX_SMALL_PARTS:
            raise CannotDecode("consists of too many small parts")


class _Gzip:
    """One or more concatenated members (RFC 1952). Trailing zeros are padding."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._began = False
        self._parts = _Parts()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            if self._member.eof:
                chunk = chunk.lstrip(b"\0")
                if not chunk:
                    return
                self._parts.begin()
                self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
            for piece in _inflated(self._member, chunk, "gzip"):
                self._parts.decoded(len(piece))
                yield piece
            self._began, chunk = True, self._member.unused_data

    @property
    def is_whole(self) -> bool:
        return self._began and self._member.eof


class _Deflate:
    """With a zlib header, as the standard demands (RFC 9110), or raw, as some servers send it."""

    def __init__(self) -> None:
        self._stream: zlib._Decompress | None = None
        self._head = b""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        if self._stream is None:
            self._head += chunk
            if len(self._head) < 2:
                return
            chunk = self._head
            has_head = chunk[0] & 0x0F == 8 and int.from_bytes(chunk[:2], "big") % 31 == 0
            self._stream = zlib.decompressobj(zlib.MAX_WBITS if has_head else -zlib.MAX_WBITS)
        if not self._stream.eof:
            yield from _inflated(self._stream, chunk, "deflate")

    @property
    def is_whole(self) -> bool:
        return self._stream is not None and self._stream.eof


def _inflated(stream: zlib._Decompress, chunk: bytes, name: str) -> Iterator[bytes]:
    try:
        while chunk and not stream.eof:
            piece = stream.decompress(chunk, _STEP)
            if piece:
                yield piece
            chunk = stream.unconsumed_tail
            if not piece and not chunk:
                return
        while not stream.eof and (piece := stream.decompress(b"", _STEP)):
            yield piece
    except zlib.error as error:
        raise _invalid(name) from error


class _Brotli:
    def __init__(self) -> None:
        self._stream = brotli.Decompressor()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        try:
            if self._stream.is_finished():
                return
            yield from filter(None, [self._stream.process(chunk, output_buffer_limit=_STEP)])
            while not self._stream.is_finished() and not self._stream.can_accept_more_data():
                yield self._stream.process(b"", output_buffer_limit=_STEP)
        except brotli.error as error:
            raise _invalid("br") from error

    @property
    def is_whole(self) -> bool:
        return bool(self._stream.is_finished())


class _Zstd:
    """One or more concatenated frames (RFC 8878)."""

    def __init__(self) -> None:
        self._frame = zstd.ZstdDecompressor()
        self._parts = _Parts()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        try:
            while chunk:
                if self._frame.eof:
                    self._parts.begin()
                    self._frame = zstd.ZstdDecompressor()
                for piece in self._decompressed(chunk):
                    self._parts.decoded(len(piece))
                    yield piece
                chunk = self._frame.unused_data if self._frame.eof else b""
        except zstd.ZstdError as error:
            raise _invalid("zstd") from error

    def _decompressed(self, chunk: bytes) -> Iterator[bytes]:
        yield from filter(None, [self._frame.decompress(chunk, _STEP)])
        while not self._frame.eof and not self._frame.needs_input:
            yield self._frame.decompress(b"", _STEP)

    @property
    def is_whole(self) -> bool:
        return self._frame.eof


def _invalid(name: str) -> CannotDecode:
    return CannotDecode(f"is not valid {name} data, although its Content-Encoding says so")
