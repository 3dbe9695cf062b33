"""Names that people give, such as the label of a company (`Bakery Irbid`) and the name of an API key. They are only
shown; no decision depends on them."""

from __future__ import annotations

from holdfast.base.errors import BadInput

LONGEST = 100
_JOINERS = "\u200c\u200d"
"""Invisible, and part of words in Persian and of emoji."""


def checked_label(text: str) -> str | None:
    """The label with its white space tidied; None for an empty one. Raises `BadInput`."""
    return checked_name(text, field="label") or None


def checked_name(text: str, *, field: str) -> str:
    """A name with its white space tidied; one that nobody can see is empty. Raises `BadInput`."""
    name = " ".join(text.split())
    if len(name) > LONGEST:
        raise BadInput(f"{field} has {len(name)} characters: give at most {LONGEST}", field=field)
    found = next((each for each in name if not each.isprintable() and each not in _JOINERS), None)
    if found is not None:
        raise BadInput(f"{field} has the invisible character U+{ord(found):04X}: leave it out", field=field)
    return name if name.strip(_JOINERS + " ") else ""
