"""Small pictures without a graphics library: eight by eight squares of one colour on another, as a baseline JPEG.

Every square is one block of the format, of which only the mean is stored (source: ITU-T T.81, annexes B and F).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator

SQUARES = 8
SIDE = SQUARES * 8
"""Pixels."""
_STEP = 8
"""The mean of a block is an eighth of its first coefficient: with this quantisation it is stored as it is."""
_CATEGORIES = range(9)
"""How many bits the difference of two means can have."""
_DC_CODE_BITS = 4
_END_OF_BLOCK = "0"
_START, _END = b"\xff\xd8", b"\xff\xd9"

Colour = tuple[int, int, int]
"""Luma and the two chromas, 0 to 255."""


def picture_of(seed: str) -> bytes:
    """A picture that is always the same for this seed: a symmetric pattern in a colour of its own."""
    digest = hashlib.sha256(seed.encode()).digest()
    background, foreground = (225, 128, 128), (90 + digest[0] % 60, 60 + digest[1] % 136, 60 + digest[2] % 136)
    half = SQUARES // 2
    bits = [digest[3 + row] >> column & 1 for row in range(SQUARES) for column in range(half)]
    rows = [bits[row * half : (row + 1) * half] for row in range(SQUARES)]
    return _jpeg([foreground if bit else background for row in rows for bit in (*row, *reversed(row))])


def _jpeg(colours: list[Colour]) -> bytes:
    """The file; `colours` row by row."""
    components = b"".join(bytes((id_, 0x11, 0)) for id_ in (1, 2, 3))
    selected = b"".join(bytes((id_, 0)) for id_ in (1, 2, 3))
    dc_counts = bytes(len(_CATEGORIES) if bits == _DC_CODE_BITS else 0 for bits in range(1, 17))
    ac_counts = bytes((1, *(15 * [0])))
    return b"".join(
        (
            _START,
            _segment(0xE0, b"JFIF\0" + struct.pack(">HBHHBB", 0x0101, 0, 1, 1, 0, 0)),
            _segment(0xDB, b"\0" + bytes([_STEP] * 64)),
            _segment(0xC0, struct.pack(">BHHB", 8, SIDE, SIDE, 3) + components),
            _segment(0xC4, b"\x00" + dc_counts + bytes(_CATEGORIES)),
            _segment(0xC4, b"\x10" + ac_counts + b"\0"),
            _segment(0xDA, b"\x03" + selected + b"\0\x3f\0"),
            _packed("".join(_bits(colours))),
            _END,
        )
    )


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _bits(colours: list[Colour]) -> Iterator[str]:
    """Each mean as the difference from the one before, of luma and both chromas."""
    before = (128, 128, 128)
    for colour in colours:
        for value, last in zip(colour, before, strict=True):
            yield _difference(value - last) + _END_OF_BLOCK
        before = colour


def _difference(value: int) -> str:
    category = abs(value).bit_length()
    magnitude = value if value >= 0 else value + (1 << category) - 1
    return f"{category:0{_DC_CODE_BITS}b}" + (f"{magnitude:0{category}b}" if category else "")


def _packed(bits: str) -> bytes:
    """Filled up with ones; a byte of ones is followed by a zero, so that it is no marker."""
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
