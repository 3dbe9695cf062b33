"""WABinary: WhatsApp's binary XML. `encode(Node) -> bytes`, `decode(bytes) -> Node`, both without the noise layer.

Values that look like WhatsApp addresses are written as JID tokens, because some clients accept addresses in no other
form. Dictionary words, packed digits and packed hex are used wherever the format allows them.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from wasim.wire import tokens
from wasim.wire.errors import WireError

LIST_EMPTY, DICTIONARY_0, DICTIONARY_3 = 0, 236, 239
INTEROP_JID, FB_JID, AD_JID, LIST_8, LIST_16, JID_PAIR = 245, 246, 247, 248, 249, 250
HEX_8, BINARY_8, BINARY_20, BINARY_32, NIBBLE_8 = 251, 252, 253, 254, 255

MAX_INFLATED_BYTES = 16 * 1024 * 1024
_COMPRESSED = 0x02
_PACKED_MAX = 127
_SINGLES = len(tokens.SINGLE)
"""Tags below are dictionary words; the first of them, 0, is the empty word."""
_DOMAINS = {0: "s.whatsapp.net", 1: "lid", 128: "hosted", 129: "hosted.lid"}
_DOMAIN_NUMBERS = {server: number for number, server in _DOMAINS.items()}
_JID = re.compile(
    r"([0-9A-Za-z._-]*)(?::(\d{1,3}))?"
    r"@(s\.whatsapp\.net|lid|hosted|hosted\.lid|g\.us|c\.us|broadcast|call|newsletter|bot)"
)
_NIBBLES = re.compile(r"[0-9.-]{1,127}")
_HEX = re.compile(r"[0-9A-F]{1,127}")
_NIBBLE_DIGITS = "0123456789-.\0\0\0\0"
_HEX_DIGITS = "0123456789ABCDEF"
_HEX_LETTERS = str.maketrans("abcdef", "ABCDEF")
_NIBBLE_LETTERS = str.maketrans("abcdef", _NIBBLE_DIGITS[10:])
"""From Python's hex digits to those of the two packings."""


@dataclass(slots=True)
class Node:
    """One element: its tag, its attributes, and its content, which is nothing, bytes, a word, or children."""

    tag: str
    attrs: dict[str, str] = field(default_factory=dict)
    content: bytes | str | list[Node] | None = None

    @property
    def children(self) -> list[Node]:
        return self.content if isinstance(self.content, list) else []

    def child(self, tag: str) -> Node | None:
        """The first child with that tag."""
        return next((node for node in self.children if node.tag == tag), None)

    def all(self, tag: str) -> Iterator[Node]:
        return (node for node in self.children if node.tag == tag)

    @property
    def data(self) -> bytes:
        """The content as bytes; empty for children and for none. A reader can't know in which form the peer wrote
        it."""
        if isinstance(self.content, str):
            return self.content.encode()
        return self.content if isinstance(self.content, bytes) else b""

    def data_of(self, tag: str) -> bytes:
        """The content of the first child with that tag; empty when there is none."""
        node = self.child(tag)
        return node.data if node else b""


def _dictionary() -> dict[str, bytes]:
    words = {
        word: bytes((DICTIONARY_0 + page, at))
        for page, page_words in enumerate(tokens.DOUBLE)
        for at, word in enumerate(page_words)
    }
    words |= {word: bytes((at,)) for at, word in enumerate(tokens.SINGLE) if word}
    return words


_WORDS = _dictionary()


def encode(node: Node) -> bytes:
    """The node's bytes, with the leading flag byte (uncompressed)."""
    out = bytearray(1)
    _write_node(out, node)
    return bytes(out)


def _write_node(out: bytearray, node: Node) -> None:
    content = node.content
    _write_list_start(out, 2 * len(node.attrs) + 1 + (content is not None))
    out += _string(node.tag)
    for key, value in node.attrs.items():
        out += _string(key)
        out += _string(value)
    if isinstance(content, list):
        _write_list_start(out, len(content))
        for child in content:
            _write_node(out, child)
    elif isinstance(content, bytes):
        out += _length(len(content)) + content
    elif content is not None:
        out += _string(content)


def _write_list_start(out: bytearray, size: int) -> None:
    if size == 0:
        out.append(LIST_EMPTY)
    elif size < 256:
        out += bytes((LIST_8, size))
    else:
        out.append(LIST_16)
        out += size.to_bytes(2, "big")


def _length(length: int) -> bytes:
    if length < 256:
        return bytes((BINARY_8, length))
    if length < 1 << 20:
        return bytes((BINARY_20,)) + length.to_bytes(3, "big")
    return bytes((BINARY_32,)) + length.to_bytes(4, "big")


@lru_cache(maxsize=16_384)
def _string(value: str) -> bytes:
    word = _WORDS.get(value)
    if word is not None:
        return word
    if _NIBBLES.fullmatch(value):
        return _packed(NIBBLE_8, value, _NIBBLE_DIGITS)
    if _HEX.fullmatch(value):
        return _packed(HEX_8, value, _HEX_DIGITS)
    jid = _JID.fullmatch(value)
    if jid is not None:
        return _jid(*jid.groups())
    data = value.encode()
    return _length(len(data)) + data


def _jid(user: str, device: str | None, server: str) -> bytes:
    if device is not None and server in _DOMAIN_NUMBERS and int(device) < 256:
        return bytes((AD_JID, _DOMAIN_NUMBERS[server], int(device))) + _string(user)
    who = user if device is None else f"{user}:{device}"
    return bytes((JID_PAIR,)) + (_string(who) if who else bytes((LIST_EMPTY,))) + _string(server)


def _packed(tag: int, value: str, digits: str) -> bytes:
    codes = [digits.index(char) for char in value]
    odd = len(codes) % 2
    if odd:
        codes.append(15)
    pairs = bytes(high << 4 | low for high, low in zip(codes[::2], codes[1::2], strict=True))
    return bytes((tag, odd << 7 | len(pairs))) + pairs


def decode(data: bytes) -> Node:
    """The node in a decrypted frame.

    Raises WireError when the bytes are not exactly one node.
    """
    if not data:
        raise WireError("empty node")
    if data[0] & _COMPRESSED:
        data = b"\0" + _inflate(data[1:])
    reader = _Reader(data)
    try:
        node = reader.node()
    except IndexError as error:
        raise WireError("node cut off") from error
    if reader.at != len(data):
        raise WireError(f"{len(data) - reader.at} bytes follow the node")
    return node


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        out = inflater.decompress(data, MAX_INFLATED_BYTES)
    except zlib.error as error:
        raise WireError(f"compressed node: {error}") from error
    if inflater.unconsumed_tail:
        raise WireError(f"compressed node larger than {MAX_INFLATED_BYTES} bytes")
    return out


class _Reader:
    """Reads one tree of nodes from bytes; every method advances `at`."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 1

    def node(self) -> Node:
        size = self._list_size(self._byte())
        tag = self._word()
        if not size or not tag:
            raise WireError("the node has no tag")
        attrs = {}
        for _ in range((size - 1) >> 1):
            key = self._word()
            attrs[key] = self._word()
        return Node(tag, attrs, None if size % 2 else self._content())

    def _content(self) -> bytes | str | list[Node]:
        tag = self._byte()
        if tag in (LIST_EMPTY, LIST_8, LIST_16):
            return [self.node() for _ in range(self._list_size(tag))]
        length = self._binary_length(tag)
        return self._string(tag) if length is None else self._take(length)

    def _byte(self) -> int:
        at = self.at
        self.at = at + 1
        return self.data[at]

    def _word(self) -> str:
        at = self.at
        self.at = at + 1
        tag = self.data[at]
        return tokens.SINGLE[tag] if tag < _SINGLES else self._string(tag)

    def _take(self, length: int) -> bytes:
        at = self.at
        if at + length > len(self.data):
            raise WireError(f"node cut off: {length} bytes expected at {at} of {len(self.data)}")
        self.at = at + length
        return self.data[at : at + length]

    def _int(self, size: int) -> int:
        return int.from_bytes(self._take(size), "big")

    def _list_size(self, tag: int) -> int:
        match tag:
            case 0:
                return 0
            case 248:
                return self._byte()
            case 249:
                return self._int(2)
        raise WireError(f"{tag} does not start a list")

    def _binary_length(self, tag: int) -> int | None:
        match tag:
            case 252:
                return self._byte()
            case 253:
                return self._int(3) & 0xFFFFF
            case 254:
                return self._int(4)
        return None

    def _string(self, tag: int) -> str:
        if tag < _SINGLES:
            return tokens.SINGLE[tag]
        if DICTIONARY_0 <= tag <= DICTIONARY_3:
            return tokens.DOUBLE[tag - DICTIONARY_0][self._byte()]
        length = self._binary_length(tag)
        if length is not None:
            return self._take(length).decode("utf-8", errors="replace")
        if tag in (HEX_8, NIBBLE_8):
            return self._unpack(_HEX_LETTERS if tag == HEX_8 else _NIBBLE_LETTERS)
        return self._address(tag)

    def _unpack(self, digits: dict[int, int]) -> str:
        start = self._byte()
        text = self._take(start & _PACKED_MAX).hex().translate(digits)
        return text[:-1] if start >> 7 else text

    def _address(self, tag: int) -> str:
        match tag:
            case 250:
                user = self._word()
                return f"{user}@{self._word()}"
            case 247:
                domain, device = self._byte(), self._byte()
                user = self._word()
                server = _DOMAINS.get(domain, "s.whatsapp.net")
                return f"{user}:{device}@{server}" if device else f"{user}@{server}"
            case 246:
                user = self._word()
                device = self._int(2)
                return f"{user}:{device}@{self._word()}"
            case 245:
                user = self._word()
                device, integrator = self._int(2), self._int(2)
                return f"{integrator}-{user}:{device}@{self._word()}"
        raise WireError(f"{tag} does not start a string")
