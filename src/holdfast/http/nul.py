"""Refuses the character U+0000: PostgreSQL accepts no text with it, not even to look for it."""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.base.errors import BadInput

_LONGEST_SHOWN = 80


def refuse_nul(values: Iterable[tuple[str, str]]) -> None:
    """Names and values of what a caller sent. Raises `BadInput`."""
    for name, value in values:
        if "\0" in value:
            shown = name[:_LONGEST_SHOWN]
            raise BadInput(f"{shown} has the character U+0000: leave it out", field=shown)
