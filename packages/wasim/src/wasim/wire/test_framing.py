"""Frames are split correctly, however the bytes arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasim.wire.errors import WireError
from wasim.wire.framing import HEADER, MAX_PAYLOAD_BYTES, FrameReader, frame

ROUTED = b"ED\x00\x01\x00\x00\x04\x08\x05\x08\x0c" + HEADER
"""The intro of a client that has four bytes of routing information."""


@given(
    st.lists(st.binary(max_size=40), max_size=5),
    st.sampled_from([HEADER, ROUTED]),
    st.lists(st.integers(1, 30), max_size=20),
)
def test_frames_are_split_correctly_in_chunks_of_any_size(
    payloads: list[bytes], intro: bytes, sizes: list[int]
) -> None:
    """The payloads are the same, with and without routing information in front."""
    stream = intro + b"".join(frame(payload) for payload in payloads)
    reader, got, at = FrameReader(expects_intro=True), [], 0
    for size in [*sizes, len(stream)]:
        got += reader.feed(stream[at : at + size])
        at += size
    assert got == payloads


def test_other_protocols_are_refused() -> None:
    """A connection that does not begin with the header is refused."""
    with pytest.raises(WireError, match="header"):
        FrameReader(expects_intro=True).feed(b"GET / HTTP/1.1\r\n")


def test_an_oversized_frame_is_refused() -> None:
    """Three bytes of length can't express more."""
    with pytest.raises(WireError, match="at most"):
        frame(bytes(MAX_PAYLOAD_BYTES + 1))
