"""Who a message goes to: what people write as a number, and the JID that WhatsApp wants."""

from __future__ import annotations

import re

from holdfast.base.errors import BadInput

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
