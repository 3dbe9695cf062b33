"""A small declarative protobuf codec: a message is a frozen dataclass whose fields carry their number and kind.

Proto2 semantics with every field optional; unknown fields are skipped, or kept if a class has `unknown_fields`.
Supports only the kinds that WhatsApp's messages need here: varints (unsigned), doubles, bytes, strings, embedded
messages, and repeated ones of these. Fields without a number are not encoded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, Literal, TypeVar, cast

from wasim.wire.errors import WireError

Kind = Literal["uint", "double", "bytes", "string"] | Callable[[], type[Any]]
M = TypeVar("M")

_MAX_DEPTH = 100
"""The same limit as in other protobuf decoders."""
_MAX_VARINT_BYTES = 10


@dataclass(frozen=True, slots=True)
class _Spec:
    name: str
    number: int
    kind: Kind
    repeated: bool


def optional(number: int, kind: Kind) -> Any:  # Any: the annotation of the field states its type
    """A field that may be absent (None). A message kind is given as `lambda: Class`, so that it may refer to itself."""
    return field(default=None, metadata={"number": number, "kind": kind, "repeated": False})


def repeated(number: int, kind: Kind) -> Any:
    """A field with any number of values, a tuple; varints are written packed."""
    return field(default=(), metadata={"number": number, "kind": kind, "repeated": True})


def unknown_fields() -> Any:
    """The encoded fields of other numbers, unchanged: written after the declared ones. At most one in a class."""
    return field(default=b"", metadata={"unknown_fields": True})


@cache
def _unknown_fields_of(cls: Hashable) -> str | None:
    return next((f.name for f in fields(cast(type[Any], cls)) if "unknown_fields" in f.metadata), None)


@cache
def _specs(cls: Hashable) -> tuple[_Spec, ...]:
    found = ((f.name, f.metadata) for f in fields(cast(type[Any], cls)) if "number" in f.metadata)
    return tuple(_Spec(name, spec["number"], spec["kind"], spec["repeated"]) for name, spec in found)


def encode(message: Any) -> bytes:
    """The message's bytes, its fields in the order of declaration."""
    out = bytearray()
    for spec in _specs(cast(Hashable, type(message))):
        value = getattr(message, spec.name)
        if value is None:
            continue
        if not spec.repeated:
            _write(out, spec.number, value)
        elif spec.kind == "uint" and value:
            _write(out, spec.number, b"".join(varint(item) for item in value))
        else:
            for item in value:
                _write(out, spec.number, item)
    unknown = _unknown_fields_of(cast(Hashable, type(message)))
    if unknown is not None:
        out += getattr(message, unknown)
    return bytes(out)


def _write(out: bytearray, number: int, value: Any) -> None:
    if isinstance(value, float):
        out += varint(number << 3 | 1) + struct.pack("<d", value)
        return
    if isinstance(value, int):
        out += varint(number << 3) + varint(int(value))
        return
    if isinstance(value, str):
        value = value.encode()
    elif not isinstance(value, (bytes, bytearray)):
        value = encode(value)
    out += varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(cls: type[M], data: bytes, depth: int = 0) -> M:
    """The message in these bytes, nested `depth` deep in others.

    Raises WireError when they are truncated, of another type, or nested too deep.
    """
    if depth > _MAX_DEPTH:
        raise WireError(f"protobuf nested more than {_MAX_DEPTH} deep")
    specs, unknown = _specs_by_number(cast(Hashable, cls)), _unknown_fields_of(cast(Hashable, cls))
    values: dict[str, Any] = {}
    at, end = 0, len(data)
    while at < end:
        begin = at
        number, wire_value, at = _read_field(data, at)
        spec = specs.get(number)
        if spec is None or wire_value is None:
            if unknown is not None:
                values[unknown] = values.get(unknown, b"") + data[begin:at]
            continue
        if spec.repeated:
            values[spec.name] = values.get(spec.name, ()) + _many(spec, wire_value, depth)
        else:
            values[spec.name] = _one(spec, wire_value, depth)
    return cls(**values)


@cache
def _specs_by_number(cls: Hashable) -> dict[int, _Spec]:
    return {spec.number: spec for spec in _specs(cls)}


def _many(spec: _Spec, wire_value: int | float | bytes, depth: int) -> tuple[Any, ...]:
    if spec.kind == "uint" and isinstance(wire_value, bytes):
        return tuple(_read_packed(wire_value))
    return (_one(spec, wire_value, depth),)


def _one(spec: _Spec, wire_value: int | float | bytes, depth: int) -> Any:
    kind = spec.kind
    if type(wire_value) is not _WIRE_TYPES.get(cast(Hashable, kind), bytes):
        raise WireError(f"protobuf field {spec.number} ({spec.name}) has the wrong wire type")
    if not isinstance(wire_value, bytes) or kind == "bytes":
        return wire_value
    if kind == "string":
        return wire_value.decode("utf-8", errors="replace")
    assert callable(kind)
    return decode(kind(), wire_value, depth + 1)


_WIRE_TYPES: dict[Hashable, type] = {"uint": int, "double": float}


def _read_field(data: bytes, at: int) -> tuple[int, int | float | bytes | None, int]:
    """A field's number, its value (None: of a wire type that is not used here), and the position of the next field."""
    key, at = _read_varint(data, at)
    match key & 7:
        case 2:
            length, at = _read_varint(data, at)
            return key >> 3, _slice(data, at, length), at + length
        case 0:
            value, at = _read_varint(data, at)
            return key >> 3, value, at
        case 1:
            (number,) = struct.unpack("<d", _slice(data, at, 8))
            return key >> 3, number, at + 8
        case 5:
            _slice(data, at, 4)
            return key >> 3, None, at + 4
        case other:
            raise WireError(f"protobuf wire type {other} is not supported")


def _read_packed(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _read_varint(data, at)
        yield value


def _slice(data: bytes, at: int, length: int) -> bytes:
    if at + length > len(data):
        raise WireError(f"protobuf cut off: {length} bytes expected at {at} of {len(data)}")
    return data[at : at + length]


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    if at < len(data) and data[at] < 0x80:  # the common case
        return data[at], at + 1
    value = 0
    for n in range(_MAX_VARINT_BYTES):
        if at + n >= len(data):
            raise WireError("protobuf cut off inside a varint")
        byte = data[at + n]
        value |= (byte & 0x7F) << (7 * n)
        if byte < 0x80:
            return value, at + n + 1
    raise WireError("protobuf varint longer than 10 bytes")
