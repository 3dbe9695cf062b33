"""Hostile bodies, and the schema of valid ones."""

from __future__ import annotations

import tracemalloc

import pytest

from holdfast.api.bodies import check_import, read_message, schemas
from holdfast.base.errors import BadInput
from holdfast.delivery.content import MediaKind
from holdfast.delivery.kinds import KINDS
from holdfast.delivery.requests import MessageRequest

JSON = "application/json"
MB = 1024 * 1024


@pytest.mark.parametrize(
    ("body", "field", "sentence"),
    [
        (
            b"{" + b",".join(b'"k%07d":0' % n for n in range(500_000)) + b"}",
            "k0000000",
            "k0000000 is not a known field",
        ),
        (b'{"to":[' + b"[]," * MB + b"[]]}", "to", "to can't be used: give a text"),
        (b'{"text":' + b"[" * 3 * MB, "text", "text can't be used: give a text"),
        (b'{"to":' + b'{"a":' * MB, "to", "to can't be used: give a text"),
        (b'{"mentions":[' + b'"",' * MB + b'""]}', "mentions", "mentions can't be used: give at most 1024 entries"),
        (
            b'{"image":{"base64":"' + b"A" * 2 * MB + b'","caption":7}}',
            "image.caption",
            "image.caption can't be used: give a text",
        ),
    ],
    ids=["keys", "lists", "depth", "objects", "mentions", "behind a file"],
)
async def test_a_hostile_body_costs_one_error(body: bytes, field: str, sentence: str) -> None:
    """Reading stops at the first fault: no list of a million errors, and no second pass over the whole body."""
    with pytest.raises(BadInput, match=f"^{sentence}") as refused:
        await read_message(body, content_type=JSON)
    assert refused.value.field == field


LONG = b"ab" * 4 * MB


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"' + LONG + b'":1}', None),
        (b'{"image":{"' + LONG + b'":1}}', None),
        (b'{"to":"1","text":"x","priority":"' + LONG + b'"}', "priority"),
    ],
    ids=["name", "name in a kind", "enumeration"],
)
async def test_a_long_name_or_value_costs_no_time(body: bytes, field: str | None) -> None:
    """The error is made of its beginning: nothing compares eight million characters."""
    tracemalloc.start()
    try:
        with pytest.raises(BadInput) as refused:
            await read_message(body, content_type=JSON)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(body)
    finally:
        tracemalloc.stop()
    assert len(str(refused.value)) < 500
    assert field is None or refused.value.field == field
    if field is None:
        assert refused.value.field is not None
        assert "ababab" in refused.value.field
        assert refused.value.field.startswith("image.") == body.startswith(b'{"image"')


async def test_a_large_body_is_accepted() -> None:
    """16 MB in base64 are decoded outside the event loop."""
    message = await read_message(b'{"image":{"base64":"' + b"A" * 2 * MB + b'"}}', content_type=JSON)
    assert message.image.base64 == "A" * 2 * MB  # type: ignore[attr-defined]  # the kinds are fields of `MessageRequest`


@pytest.mark.parametrize("content_type", [JSON, "application/json; charset=utf-8", "Application/Holdfast+JSON"])
async def test_every_spelling_of_the_json_type_is_accepted(content_type: str) -> None:
    """Parameters, a suffix and any case are accepted."""
    message = await read_message(b'{"to":"1","text":null}', content_type=content_type)
    assert message.to == "1"


def test_the_schema_of_a_message_names_every_kind() -> None:
    """The schema comes from the types that read it: one schema for each kind but text, of which exactly one applies."""
    found = schemas()
    message = found[MessageRequest.__name__]
    assert set(KINDS) < set(message["properties"])
    assert [alternative["required"][-1] for alternative in message["oneOf"]] == list(KINDS)
    assert {kind.__name__ for name, kind in KINDS.items() if name != "text"} < set(found)
    assert all(found[KINDS[kind].__name__]["oneOf"] for kind in MediaKind)


async def test_a_large_import_stops_at_the_first_fault() -> None:
    """Unknown members and too many keys are refused; small bodies and real devices pass."""
    key = b'{"type":"pre-key","id":"1","value":"{}"}'
    device = b'{"credentials":"{}","keys":[%s]}'
    unknown = b"{" + b",".join(b'"k%07d":0' % n for n in range(100_000)) + b"}"
    for body, field in ((unknown, "k0000000"), (device % b",".join([key] * 50_001), "keys")):
        with pytest.raises(BadInput) as refused:
            await check_import(body)
        assert refused.value.field == field
    await check_import(unknown[:100])
    await check_import(device % b",".join([key] * 40_000))
