"""Addresses."""

from __future__ import annotations

import pytest

from wasim.wire.jids import Jid, parse_jid


@pytest.mark.parametrize(
    ("text", "jid"),
    [
        ("962302@s.whatsapp.net", Jid("962302", "s.whatsapp.net")),
        ("962302:5@s.whatsapp.net", Jid("962302", "s.whatsapp.net", 5)),
        ("962302:0@s.whatsapp.net", Jid("962302", "s.whatsapp.net", 0)),
        ("962302_1:5@s.whatsapp.net", Jid("962302", "s.whatsapp.net", 5)),
        ("962302@c.us", Jid("962302", "s.whatsapp.net")),
        ("123456:2@lid", Jid("123456", "lid", 2)),
        ("@s.whatsapp.net", Jid("", "s.whatsapp.net")),
        ("962302", None),
        ("962302:x@lid", None),
        ("", None),
    ],
)
def test_addresses_are_parsed(text: str, jid: Jid | None) -> None:
    """User, device and server are parsed; an invalid address is None."""
    assert parse_jid(text) == jid


def test_addresses_are_written() -> None:
    """Device 0 is not written; the bare address has none."""
    assert str(Jid("962302", "lid", 0)) == "962302@lid"
    assert str(Jid("962302", "lid", 3)) == "962302:3@lid"
    assert str(Jid("962302", "lid", 3).bare) == "962302@lid"
