"""The record as others read it."""

from __future__ import annotations

import json

from holdfast.live.encoding import decode, document, encode, key
from holdfast.session.state import State
from holdfast.session.stores import Record

CONNECTED = Record(
    company="962302",
    state=State.CONNECTED,
    since="2026-11-22T10:56:00.000Z",
    attempts=2,
    phone_number="962790000001",
    jid="962790000001:7@s.whatsapp.net",
    connected_at="2026-11-22T10:56:00.000Z",
    last_activity="2026-11-22T10:56:30.000Z",
    created_at="2026-01-01T00:00:00.000Z",
)


def test_the_documented_fields_come_first_and_unchanged() -> None:
    """Names, order and types are those that existing tools read."""
    assert key("962302") == "whatsapp:session:962302"
    text = encode(document(CONNECTED, node="one"))
    assert text.startswith(
        '{"state": "connected", "connectedAt": "2026-11-22T10:56:00.000Z", '
        '"lastActivity": "2026-11-22T10:56:30.000Z", "phoneNumber": "962790000001", "reconnectAttempts": 2, '
    )
    assert list(json.loads(text))[5:] == ["companyId", "since", "reason", "code", "resumesAt", "node"]


def test_connected_at_is_null_while_no_link_is_open() -> None:
    """The same word means the same in the API."""
    lost = Record(company="1", state=State.RECONNECTING, since="t", connected_at="t", created_at="t")
    assert document(lost, node="one")["connectedAt"] is None


def test_a_value_that_is_not_a_json_object_is_no_record() -> None:
    """Any other value of the key is not treated as a record."""
    assert decode(b'{"state": "connected", "new": 1}') == {"state": "connected", "new": 1}
    for strange in (b"", b"hello", b"[1]", b"\xff\xfe\x00", None, 7, True, b"[" * 100_000, b'{"a":' * 100_000):
        assert decode(strange) is None
