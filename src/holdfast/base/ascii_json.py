"""JSON in ASCII, which every database stores and every connection carries unchanged."""

from __future__ import annotations

import json

import msgspec

_encode = msgspec.json.Encoder().encode
_escape = json.JSONEncoder(separators=(",", ":")).encode


def ascii_json(value: object) -> str:
    """The value as compact JSON without line breaks.

    Most values are ASCII already, and msgspec encodes them in a small part of the time that `json` takes.
    """
    try:
        encoded = _encode(value)
    except (UnicodeEncodeError, OverflowError):  # half of a surrogate pair, or an integer of more than 64 bits
        return _escape(value)
    return encoded.decode() if encoded.isascii() else _escape(value)
