"""Frames: an intro from the client, then payloads with three bytes of length each, in both directions."""

from __future__ import annotations

from wasim.wire.errors import WireError

HEADER = b"WA\x06\x03"
"""The first bytes from a client; the last one is the version of the token dictionary."""
_ROUTING = b"ED\x00\x01"
_LENGTH_BYTES = 3
MAX_PAYLOAD_BYTES = (1 << 24) - 1


def frame(payload: bytes) -> bytes:
    """The payload with its length. Raises WireError when it does not fit into one frame."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise WireError(f"a frame carries at most {MAX_PAYLOAD_BYTES} bytes, not {len(payload)}")
    return len(payload).to_bytes(_LENGTH_BYTES, "big") + payload


class FrameReader:
    """Splits a byte stream into payloads. On the server's side it also removes the intro, with its optional routing
    part."""

    def __init__(self, *, expects_intro: bool) -> None:
        self._buffer = bytearray()
        self._expects_intro = expects_intro

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that are complete now. Raises WireError when the intro is not WhatsApp's."""
        self._buffer += data
        if self._expects_intro and not self._take_intro():
            return []
        payloads = []
        while (payload := self._take_payload()) is not None:
            payloads.append(payload)
        return payloads

    def _take_payload(self) -> bytes | None:
        end = _LENGTH_BYTES + int.from_bytes(self._buffer[:_LENGTH_BYTES], "big")
        if len(self._buffer) < _LENGTH_BYTES or len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[_LENGTH_BYTES:end])
        del self._buffer[:end]
        return payload

    def _take_intro(self) -> bool:
        at = 0
        if self._buffer[:2] == _ROUTING[:2]:
            at = len(_ROUTING) + _LENGTH_BYTES
            at += int.from_bytes(self._buffer[len(_ROUTING) : at], "big")
        if len(self._buffer) < at + len(HEADER):
            return False
        if self._buffer[at : at + len(HEADER)] != HEADER:
            raise WireError("the connection does not begin with WhatsApp's header")
        del self._buffer[: at + len(HEADER)]
        self._expects_intro = False
        return True
