"""Shifts stored times after the wall clock was set. They are text, so each SQL dialect has its own expression."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, DateTime, and_, cast, func, not_

from holdfast.base.clock import iso
from holdfast.base.clock_step import ClockStep


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockShift:
    """Which rows to change after a clock step, and their new times."""

    which: ColumnElement[bool]
    """Rows that were made before the clock was set."""
    to: ColumnElement[str]


def moved_with_clock(
    connection: Connection, times: ColumnElement[Any], step: ClockStep, *, made_at: ColumnElement[Any]
) -> ClockShift:
    """Move `times` by the clock step, so that they keep their distance from now. Rows made since then are not changed.

    Rows that the old clock dated into the same span are not changed either: those of a minute at most.
    """
    new = and_(made_at >= iso(step.after), made_at <= iso(step.at))
    return ClockShift(which=not_(new), to=_shifted(connection, times, step.set_by_s))


def _shifted(connection: Connection, times: ColumnElement[Any], by_s: float) -> ColumnElement[str]:
    if connection.dialect.name == "sqlite":
        return func.strftime("%Y-%m-%dT%H:%M:%fZ", times, f"{by_s:+.3f} seconds")
    moved = cast(times, DateTime(timezone=True)) + timedelta(seconds=by_s)
    return func.to_char(func.timezone("UTC", moved), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
