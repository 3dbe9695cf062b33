"""The name of a linked device: what the phone shows in its list."""

from __future__ import annotations

LONGEST = 50
ALLOWED = f"a name of 1 to {LONGEST} visible characters, such as Ubuntu"


class BadDeviceName(ValueError):
    """Not a name that a phone could show."""


def device_name(text: str) -> str:
    """The name as it is used. Raises `BadDeviceName`.

    Line ends, control characters, and characters that are invisible or change the direction of writing are refused: the
    list of linked devices is where a person recognises who reads the account.
    """
    name = text.strip()
    if not name.isprintable():
        raise BadDeviceName(f"it has invisible characters: give {ALLOWED}")
    if not 1 <= len(name) <= LONGEST:
        raise BadDeviceName(f"it has {len(name)} characters: give {ALLOWED}")
    return name
