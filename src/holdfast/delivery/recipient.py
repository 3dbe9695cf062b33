"""Who a message goes to: what people write as a number, and the JID that WhatsApp wants."""

from __future__ import annotations

import re

from holdfast.base.errors import BadInput

_JID = re.compile(r"(?P<user>[0-9]{1,20}(-[0-9]{1,20})?)@(?P<server>s\.whatsapp\.net|g\.us|lid)")
_SEPARATORS = re.compile(r"[ ().\-/]")
_SERVER = "s.whatsapp.net"
SHORTEST, LONGEST = 7, 15
"""Digits of an international phone number (ITU-T E.164 sets the upper bound)."""


def phone_number(text: str, *, field: str) -> str:
    """The digits of an international phone number: `+962 79 000 0001` → `962790000001`.

    Raises `BadInput`, naming `field`.
    """
    digits = _SEPARATORS.sub("", text).removeprefix("+")
    if not digits.isascii() or not digits.isdigit() or not SHORTEST <= len(digits) <= LONGEST:
        raise BadInput(
            f'{field} "{text[:40]}" is not a phone number: give {SHORTEST} to {LONGEST} digits '
            "with the country code, such as 962790000001",
            field=field,
        )
    if digits.startswith("0"):
        raise BadInput(
            f'{field} "{text[:40]}" begins with 0: give the number with its country code, without leading zeros',
            field=field,
        )
    return digits


def jid(number: str) -> str:
    """The JID of a person by phone number (digits)."""
    return f"{number}@{_SERVER}"


def parse_recipient(text: str, *, field: str) -> tuple[str, str]:
    """Who a message goes to, as it is shown, and the JID of that chat: a phone number, a group or a hidden id.

    `+962 79 000 0001` → `962790000001`, `962790000001@s.whatsapp.net`. Raises `BadInput`, naming `field`.
    """
    if "@" not in text:
        number = phone_number(text, field=field)
        return number, jid(number)
    found = _JID.fullmatch(text.strip())
    if found is None or ("-" in found["user"] and found["server"] != "g.us"):
        raise BadInput(
            f'{field} "{text[:60]}" is no chat that can be written to: give a phone number, '
            "a group such as 120363012345678901@g.us, or a hidden id such as 123456789012345@lid",
            field=field,
        )
    if found["server"] == _SERVER:
        number = phone_number(found["user"], field=field)
        return number, jid(number)
    return found[0], found[0]
