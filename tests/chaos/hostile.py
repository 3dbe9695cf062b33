"""The attacks of a hostile contact: bad texts, bytes, protobuf messages and stanzas, and mutations of honest ones.

A contact controls everything inside a message, its id, its sending time as far as WhatsApp passes it on, and the type
of each receipt, but not the address it comes from. Everything is drawn from a `random.Random`, so a seed repeats it.
"""

from __future__ import annotations

import base64
import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from wasim.wire.errors import WireError
from wasim.wire.protobuf import varint

Json = dict[str, Any]

STRINGS: tuple[str, ...] = (
    "",
    "\0",
    "AB\0CD",
    "\n\r\x1b[2J\x1b]0;owned\x07",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "'; DROP TABLE inbox; --",
    "\u202egnp.exe\u2066\u2069\u200f",
    "\ufeff\u200b\u2028\u2029",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467" * 50,
    "e" + "\u0301" * 2000,
    "{{7*7}}${7*7}%s%n%x",
    "../../../../etc/passwd",
    "__proto__",
    "constructor",
    "9" * 400,
    "-1",
    "NaN",
    "1e309",
    "18446744073709551616",
    "962790000001@s.whatsapp.net",
    "status@broadcast",
    "@",
    ":@lid",
    "A" * 9000,
    "\u00e9" * 5000,
    "\x01" * 20_000,
)
NUMBERS: tuple[int, ...] = (0, 1, 2, 127, 128, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
TIMES: tuple[str, ...] = ("0", "-1", "1", "253402300800", "9" * 25, "1e12", "NaN", "")
RECEIPTS = (
    "read",
    "played",
    "retry",
    "sender",
    "inactive",
    "peer_msg",
    "hist_sync",
    "server-error",
    "read-self",
    "x",
    "",
)
NOTIFICATIONS = (
    "w:gp2", "picture", "status", "devices", "encrypt", "account_sync", "server_sync", "mediaretry", "newsletter",
    "privacy_token", "business", "disappearing_mode", "mex", "link_code_companion_reg", "passkey_prologue_request",
    "crsc_continuation", "psa", "registration", "x",
)  # fmt: skip
TAGS = ("message", "receipt", "notification", "presence", "chatstate", "call", "ack", "iq", "ib", "x")
KNOWN_FIELDS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 17, 20, 26, 31, 35, 37, 40, 46, 49, 53, 55, 58, 60, 62, 64, 77)
"""Field numbers of WAProto's `Message`: its most common kinds and its wrappers."""
_MAX_BYTES = 300_000
_MAX_DEPTH = 12


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a protobuf message, read without a schema."""

    number: int
    wire: int
    value: int | bytes


def fields_of(data: bytes) -> list[Field]:
    """The fields in these bytes. Raises WireError if they are not valid."""
    found: list[Field] = []
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        number, wire = key >> 3, key & 7
        match wire:
            case 0:
                value, at = _read_varint(data, at)
                found.append(Field(number, wire, value))
            case 1 | 5:
                size = 8 if wire == 1 else 4
                found.append(Field(number, wire, data[at : at + size]))
                at += size
            case 2:
                length, at = _read_varint(data, at)
                if at + length > len(data):
                    raise WireError("cut off")
                found.append(Field(number, wire, data[at : at + length]))
                at += length
            case _:
                raise WireError(f"wire type {wire}")
    return found


def encoded(fields: Sequence[Field]) -> bytes:
    out = bytearray()
    for field in fields:
        out += varint(field.number << 3 | field.wire)
        if isinstance(field.value, int):
            out += varint(field.value)
        elif field.wire == 2:
            out += varint(len(field.value)) + field.value
        else:
            out += field.value
    return bytes(out)


def text_message(text: str) -> bytes:
    """`Message{conversation}`."""
    return encoded([Field(1, 2, text.encode())])


def nested(depth: int, *, field: int = 40) -> bytes:
    """A message nested in messages: `ephemeralMessage` and similar wrappers."""
    inner = text_message("deep")
    for _ in range(depth):
        inner = encoded([Field(field, 2, encoded([Field(1, 2, inner)]))])
    return inner


def padded(message: bytes) -> bytes:
    """The message with the padding that every plaintext has."""
    return message + b"\x01"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def binary(data: bytes) -> Json:
    """Bytes as the content of a stanza."""
    return {"base64": b64(data)}


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise WireError("varint")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


class Mutator:
    """Makes hostile variants of honest values."""

    def __init__(self, randomness: random.Random) -> None:
        self._random = randomness

    # Bytes and texts

    def text(self) -> str:
        return self._random.choice(STRINGS)

    def bytes_(self, data: bytes) -> bytes:
        """A few changes at random places."""
        changed = bytearray(data[:_MAX_BYTES])
        for _ in range(self._random.randint(1, 4)):
            self._random.choice(self._byte_changes)(self, changed)
        return bytes(changed)

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)

    def _cut(self, data: bytearray) -> None:
        if data:
            del data[self._random.randrange(len(data)) :]

    def _insert(self, data: bytearray) -> None:
        at = self._random.randint(0, len(data))
        data[at:at] = self._random.randbytes(self._random.choice((1, 4, 40, 4000)))

    def _double(self, data: bytearray) -> None:
        data += data[self._random.randint(0, len(data)) :]

    def _falsify(self, data: bytearray) -> None:
        """Replace a length or number by a wrong one."""
        if data:
            at = self._random.randrange(len(data))
            data[at : at + 1] = varint(self._random.choice(NUMBERS))

    _byte_changes: Sequence[Callable[[Mutator, bytearray], None]] = (_flip, _cut, _insert, _double, _falsify)

    # Protobuf

    def message(self, data: bytes, depth: int = 0) -> bytes:
        """A variant of a message: its fields changed, doubled, left out, nested, of another type."""
        try:
            fields = fields_of(data)
        except WireError:
            return self._leaf(data)
        for _ in range(self._random.randint(1, 3)):
            if not fields:
                fields.append(self.field(depth))
            at = self._random.randrange(len(fields))
            match self._random.randrange(8):
                case 0:
                    del fields[at]
                case 1:
                    fields += fields[at : at + 1] * self._random.choice((1, 3, 200))
                case 2:
                    fields.append(self.field(depth))
                case 3:
                    fields[at] = Field(self._number(), fields[at].wire, fields[at].value)
                case 4:
                    wrapped = encoded([Field(1, 2, encoded(fields))])
                    fields = [Field(self._random.choice((26, 31, 37, 40, 53, 55, 58)), 2, wrapped)]
                case _:
                    fields[at] = self._changed(fields[at], depth)
        return encoded(fields)[:_MAX_BYTES]

    def _changed(self, field: Field, depth: int) -> Field:
        if isinstance(field.value, int):
            return Field(field.number, 0, self._random.choice(NUMBERS))
        if field.wire != 2 or depth > _MAX_DEPTH:
            return Field(field.number, field.wire, self._random.randbytes(len(field.value)))
        return Field(field.number, 2, self.message(field.value, depth + 1))

    def _leaf(self, data: bytes) -> bytes:
        return self.text().encode() if self._random.random() < 0.6 else self.bytes_(data)

    def field(self, depth: int = 0) -> Field:
        """A random field."""
        number = self._number()
        match self._random.randrange(4):
            case 0:
                return Field(number, 0, self._random.choice(NUMBERS))
            case 1 if depth < _MAX_DEPTH:
                return Field(number, 2, self.any_message(depth + 1))
            case 2:
                return Field(number, self._random.choice((1, 5)), self._random.randbytes(8))
            case _:
                return Field(number, 2, self._leaf(b"\xff" * 20))

    def any_message(self, depth: int = 0) -> bytes:
        """A message of random fields."""
        return encoded([self.field(depth) for _ in range(self._random.randint(0, 5))])[:_MAX_BYTES]

    def _number(self) -> int:
        return self._random.choice(KNOWN_FIELDS) if self._random.random() < 0.8 else self._random.randint(1, 2**20)

    # Stanzas

    def stanza(self, stanza: Json) -> Json:
        """A variant of a stanza, from the same sender."""
        changed = copy.deepcopy(stanza)
        for _ in range(self._random.randint(1, 3)):
            self._change_node(self._any_node(changed))
        return changed

    def _any_node(self, node: Json) -> Json:
        """The stanza itself, or a node in it."""
        while isinstance(node.get("content"), list) and node["content"] and self._random.random() < 0.5:
            node = self._random.choice(node["content"])
        return node

    def _change_node(self, node: Json) -> None:
        attrs, content = node.setdefault("attrs", {}), node.get("content")
        match self._random.randrange(9):
            case 0 if attrs.keys() - {"from"}:
                del attrs[self._random.choice(sorted(attrs.keys() - {"from"}))]
            case 1 | 2 if attrs.keys() - {"from"}:
                attrs[self._random.choice(sorted(attrs.keys() - {"from"}))] = self._attribute()
            case 3:
                attrs[
                    self._random.choice(("type", "participant", "recipient", "t", "id", "edit", "offline", "category"))
                ] = self._attribute()
            case 4 if isinstance(content, list) and content:
                child = self._random.choice(content)
                most = 2 if isinstance(child.get("content"), list) else 300
                content += [copy.deepcopy(child) for _ in range(self._random.choice((1, most)))]
            case 5 if isinstance(content, list) and content:
                del content[self._random.randrange(len(content))]
            case 6:
                node["content"] = [self.node() for _ in range(self._random.randint(0, 3))]
            case 7 if isinstance(content, dict):
                node["content"] = binary(self.bytes_(base64.b64decode(content["base64"])))
            case _:
                node["content"] = self._random.choice((None, self.text(), binary(self._random.randbytes(40)), []))

    def _attribute(self) -> str:
        return self._random.choice((self.text(), *TIMES, *RECEIPTS))

    def node(self, depth: int = 0) -> Json:
        """A random node."""
        names = ("enc", "retry", "list", "item", "keys", "participants", "unavailable", "add", "remove", "subject", "x")
        attrs = {
            self._random.choice(("id", "type", "v", "count", "t", "jid", "x")): self._attribute() for _ in range(3)
        }
        content: object = self._random.choice((None, self.text(), binary(self._random.randbytes(20))))
        if depth < _MAX_DEPTH and self._random.random() < 0.25:
            content = [self.node(depth + 1) for _ in range(self._random.randint(0, 3))]
        return {"tag": self._random.choice(names), "attrs": attrs, "content": content}
