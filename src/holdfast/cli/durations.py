"""Durations as people type them: `30s`, `5m`, `1h`, `24h`, `7d`."""

from __future__ import annotations

import re

import typer

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TYPED = re.compile(r"([0-9]{1,6})\s*([smhd])")
MIN_S, MAX_S = 1, 7 * 86_400


def seconds(text: str, *, option: str | None = None) -> int:
    """The seconds of a typed duration, from one second to seven days.

    Raises `BadParameter`, which names `option`; typer adds the name itself where this is the parser of an option.
    """
    hint = None if option is None else f"'{option}'"
    typed = _TYPED.fullmatch(text.strip().lower())
    if typed is None:
        raise typer.BadParameter(
            f'"{text}" is not a duration: give a number and its unit, such as 30s, 5m, 1h or 7d', param_hint=hint
        )
    found = int(typed[1]) * _UNITS_S[typed[2]]
    if not MIN_S <= found <= MAX_S:
        raise typer.BadParameter(f'"{text}" is out of range: give 1s to 7d', param_hint=hint)
    return found


def clock(of_s: float) -> str:
    """`1:23`, or `2:01:23` from an hour on."""
    minutes, rest = divmod(int(of_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
