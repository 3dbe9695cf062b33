"""The label of a company: what people call it, such as `Bakery Irbid`. It is only shown; no decision depends on it."""

from __future__ import annotations

from holdfast.base.errors import BadInput

LONGEST = 100
_JOINERS = "\u200c\u200d"
"""Invisible, and part of words in Persian and of emoji."""


def checked_label(text: str) -> str | None:
    """The label with its white space tidied; None for an empty one. Raises `BadInput`."""
    label = " ".join(text.split())
    if len(label) > LONGEST:
        raise BadInput(f"label has {len(label)} characters: give at most {LONGEST}", field="label")
    hidden = next((each for each in label if not each.isprintable() and each not in _JOINERS), None)
    if hidden is not None:
        raise BadInput(f"label has the invisible character U+{ord(hidden):04X}: leave it out", field="label")
    return label or None
