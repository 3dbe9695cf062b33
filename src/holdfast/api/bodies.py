"""The JSON body of a request to send a message: read once, by the types that `holdfast.delivery.kinds` defines, and
described by the same types in the OpenAPI document.

The decoder stops at the first field that is unknown or of another type, so a hostile body costs no more than the bytes
before that. Only then is the body read again, if it is small, to show the value at fault.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import math
import re
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

from holdfast.base.errors import BadInput, HoldfastError
from holdfast.delivery.content import MediaBody
from holdfast.delivery.kinds import KINDS
from holdfast.delivery.requests import MessageOptions, MessageRequest

_JSON = re.compile(r"application/(?:[\w.-]+\+)?json", re.ASCII)
_LARGE = 1024 * 1024
"""Bodies of more bytes than this are decoded in a separate thread."""
_MAX_CREDENTIALS = 1024 * 1024
_MAX_KEYS = 50_000
"""Upper bound of the Signal keys of one device; devices in use have some thousands."""
_EXPLAINED = 128 * 1024
"""Only for bodies of up to this many bytes does an error show the value at fault."""
_LONGEST_SHOWN = 80
_LONGEST_MESSAGE = 1000
"""Characters of a decoder's error. It contains an unknown field's whole name, or a value that no enumeration has."""
_decode = msgspec.json.Decoder(MessageRequest).decode


class Unreadable(HoldfastError):
    """The body is not JSON in UTF-8."""

    code = "bad-request"

    def __init__(self) -> None:
        super().__init__("the body can't be read: it must be JSON in UTF-8")


async def read_message(body: bytes, *, content_type: str | None) -> MessageOptions:
    """The message in a body. Raises `BadInput`, naming the field at fault, and `Unreadable`."""
    _check_type(body, content_type)
    try:
        return await asyncio.to_thread(_decode, body) if len(body) > _LARGE else _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _explained(error, body) from None


class _Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    id: str
    value: str


class _Import(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The outline of an import, as `holdfast.api.backups.ImportRequest` describes it."""

    credentials: Annotated[str, msgspec.Meta(max_length=_MAX_CREDENTIALS)]
    keys: Annotated[list[_Key], msgspec.Meta(max_length=_MAX_KEYS)]
    in_use: bool = False


_decode_import = msgspec.json.Decoder(_Import).decode


async def check_import(body: bytes) -> None:
    """Refuse a large import with unknown members, or with more keys than a device has, at the first fault.

    Raises `BadInput`. Small bodies are left to the framework, which explains more.
    """
    if len(body) <= _LARGE:
        return
    try:
        await asyncio.to_thread(_decode_import, body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _explained(error, body) from None


def _check_type(body: bytes, content_type: str | None) -> None:
    if not body:
        raise BadInput("the body is missing: give a JSON object", field="body")
    if content_type == "application/json":
        return
    if not is_json(content_type):
        raise BadInput(other_type(content_type), field="body")


def is_json(content_type: str | None) -> bool:
    return _JSON.fullmatch(_media_type(content_type)) is not None


def other_type(content_type: str | None) -> str:
    """The sentence for a body that was not sent as JSON: `curl -d` sends forms."""
    sent = _media_type(content_type)
    what = f'was sent as Content-Type: "{_shortened(sent)}"' if sent else "was sent without a Content-Type"
    return (
        f"the body {what}: give a JSON object, sent as Content-Type: application/json "
        "(with curl: -H 'Content-Type: application/json')"
    )


def _media_type(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


# Errors. The decoder's own sentences name the place of the fault and the type; ours also the value and the cure.

_DECODER_ERROR = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<place>.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_EXPECTED = re.compile(r"Expected `(?P<type>\w+)[^`]*`(?P<rest>.*)")
_OTHER_NAMES: dict[str, dict[str, str]] = {
    "": {"chatId": "to", "number": "to", "phone": "to", "recipient": "to", "message": "text", "body": "text"},
    "location": {"lat": "latitude", "lng": "longitude", "lon": "longitude", "long": "longitude"},
    "contact": {"number": "phoneNumber", "phone": "phoneNumber"},
    "poll": {"question": "text", "name": "text", "values": "options", "selectableCount": "selectable"},
}
"""Field names of other gateways, and ours, by the place of the field."""


def _names(type_: type[msgspec.Struct]) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(type_)]


_NAMES = {"": _names(MessageRequest)} | {kind: _names(each) for kind, each in KINDS.items()}
"""The fields of a message, and of each kind."""


def _explained(error: Exception, body: bytes) -> HoldfastError:
    if isinstance(error, msgspec.ValidationError):
        return _invalid(_without_middle(str(error)), body)
    if isinstance(error, UnicodeDecodeError | RecursionError):
        return Unreadable()
    return _malformed(str(error), body)


def _without_middle(message: str) -> str:
    """The beginning says what is wrong and the end says where."""
    half = _LONGEST_MESSAGE // 2
    return message if len(message) <= _LONGEST_MESSAGE else f"{message[:half]}…{message[-half:]}"


def _malformed(message: str, body: bytes) -> HoldfastError:
    """The error for a body that no decoder accepts, or with a number or a lone surrogate that only some accept."""
    if len(body) > _EXPLAINED:
        return BadInput(f"the body is not JSON: {message}", field="body")
    try:
        value = json.loads(body)
    except json.JSONDecodeError as error:
        return BadInput(f"the body is not JSON: {error.msg} (character {error.pos})", field="body")
    except (ValueError, RecursionError):
        return Unreadable()
    field, found, cure = next(_unusable(value), ("body", None, "give a JSON object"))
    return BadInput(f"{_shortened(field)} is {_shortened(repr(found))}: {cure}", field=_shortened(field))


def _unusable(value: Any, place: str = "") -> Iterator[tuple[str, object, str]]:
    """Values that Python's JSON decoder accepts and others reject: NaN, and lone surrogates."""
    match value:
        case float() if not math.isfinite(value):
            yield place or "body", value, _advice(place)
        case str() if any("\ud800" <= character <= "\udfff" for character in value):
            yield place or "body", value, "give a text of whole Unicode characters"
        case dict():
            for name, each in value.items():
                yield from ((place or "body", found, cure) for _, found, cure in _unusable(name))
                yield from _unusable(each, f"{place}.{name}".lstrip("."))
        case list():
            for n, each in enumerate(value):
                yield from _unusable(each, f"{place}.{n}".lstrip("."))


def _advice(place: str) -> str:
    return "give a finite number" if place.startswith("location.") else "give a text"


def _invalid(message: str, body: bytes) -> BadInput:
    matched = _DECODER_ERROR.fullmatch(message)
    assert matched is not None, "the place is optional"
    what, path = matched["what"], re.sub(r"\[(\d+|\.\.\.)\]", r".\1", matched["place"] or "").lstrip(".")
    if unknown := _UNKNOWN.fullmatch(what):
        return _unknown(path, unknown[1])
    if missing := _MISSING.fullmatch(what):
        field = f"{path}.{missing[1]}".lstrip(".")
        return BadInput(f"{field} is missing", field=field)
    field = _shortened(path or "body")
    return BadInput(f"{field} {_value(path, body)}: {_expectation(path, what)}", field=field)


def _unknown(path: str, name: str) -> BadInput:
    field, names = f"{path}.{name}".lstrip("."), _NAMES.get(path, [])
    near = difflib.get_close_matches(name, names, n=1)
    having = [kind for kind, each in KINDS.items() if issubclass(each, MediaBody) and name in _NAMES[kind]]
    if ours := _OTHER_NAMES.get(path, {}).get(name) or next(iter(near), None):
        cure = f'did you mean "{ours}"?'
    elif path in KINDS and issubclass(KINDS[path], MediaBody) and having:
        *others, last = having
        kinds = f"{', '.join(others)} or {last}" if others else last
        cure = f"remove it, or send the file as {kinds}"
    elif names and path:
        cure = f"remove it; {path} has {', '.join(names)}"
    else:
        cure = "remove it, or see /openapi.json for the valid fields"
    return BadInput(f"{_shortened(field)} is not a known field: {cure}", field=_shortened(field))


def _value(path: str, body: bytes) -> str:
    """`is 962790000001`, or "can't be used" where the body is too large to show the value."""
    if len(body) > _EXPLAINED:
        return "can't be used"
    try:
        value = json.loads(body)
        for name in filter(None, path.split(".")):
            value = value[int(name)] if isinstance(value, list) else value[name]
        return f"is {_shortened(repr(value))}"
    except (ValueError, RecursionError, LookupError):  # the rest of the body is broken, or nested too deeply for Python
        return "can't be used"


_GIVE = {
    "str": "give a text",
    "int": "give a whole number",
    "float": "give a number",
    "bool": "give true or false",
    "array": "give a list",
    "object": "give a JSON object",
}


def _expectation(path: str, what: str) -> str:
    if what.startswith("Invalid enum value"):
        return "give interactive or bulk"
    if what.startswith("Number out of range"):
        return "give a smaller number"
    expected = _EXPECTED.fullmatch(what)
    if expected is None:
        return f"{what[:1].lower()}{what[1:]}"
    type_, rest = expected["type"], expected["rest"]
    if path in KINDS and KINDS[path].one_of and type_ == "object":
        return f'give an object such as {{"{KINDS[path].one_of[0]}": "…"}}'
    if bound := re.fullmatch(r" of length (>=|<=) (\d+)", rest):
        of = "entries" if type_ == "array" else "characters" if bound[2] != "1" else "character"
        return f"give at {'most' if bound[1] == '<=' else 'least'} {bound[2]} {of}"
    if bound := re.fullmatch(r" (>=|<=) (-?\d+)", rest):
        return f"give at {'most' if bound[1] == '<=' else 'least'} {bound[2]}"
    return _GIVE.get(type_, f"give {type_}")


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


# The OpenAPI document.


def schemas() -> dict[str, Any]:
    """JSON Schema of a message and of every kind, by name."""
    _, found = msgspec.json.schema_components([MessageRequest], ref_template="#/components/schemas/{name}")
    message = found[MessageRequest.__name__]
    for kind in KINDS.values():
        if kind.__name__ in found:
            found[kind.__name__] |= _exactly_one(kind.one_of)
    message["oneOf"] = [_alternative(name) for name in KINDS]
    message["examples"] = [{"to": "962790000001", "text": "Your order is on its way."}]
    return {**found}


def _exactly_one(names: tuple[str, ...]) -> dict[str, Any]:
    if not names:
        return {}
    return {"oneOf": [{"required": [name], "properties": {name: {"type": "string"}}} for name in names]}


def _alternative(kind: str) -> dict[str, Any]:
    """The schema of a message of this kind, and whether it needs `to`."""
    type_ = {"type": "string" if kind == "text" else "object"}
    if not KINDS[kind].can_reply:
        return {"required": [kind], "properties": {kind: type_}}
    return {"required": ["to", kind], "properties": {"to": {"type": "string"}, kind: type_}}
