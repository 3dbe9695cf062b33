"""The stability goals (M26), and helpers to compare measurements with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_PERCENT = 95.0
"""Uptime and delivery must both be above this percentage."""
MAX_RECONNECT_S = 10.0
MAX_DISCONNECTIONS_AN_HOUR = 1.0


@dataclass(frozen=True, slots=True)
class GoalResult:
    """One measurement compared with its goal."""

    what: str
    measured: str
    goal: str
    holds: bool


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Nearest-rank percentile of sorted values; None without values."""
    if not values:
        return None
    return values[max(math.ceil(len(values) * percent / 100) - 1, 0)]


def percent_of(part: float, total: float) -> float | None:
    """`part` as a percentage of `total`; None when `total` is zero."""
    return 100.0 * part / total if total > 0 else None
