"""The user's goals (M26), and how measurements are held against them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_PERCENT = 95.0
"""Of uptime and of delivery; both must be above it."""
MOST_RECONNECT_S = 10.0
MOST_DISCONNECTIONS_AN_HOUR = 1.0


@dataclass(frozen=True, slots=True)
class GoalResult:
    """One line of a table of success."""

    what: str
    measured: str
    goal: str
    holds: bool


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Nearest-rank percentile of sorted values; None of none."""
    if not values:
        return None
    return values[max(math.ceil(len(values) * percent / 100) - 1, 0)]


def percent_of(part: float, whole: float) -> float | None:
    """None where there is no whole to have a part of."""
    return 100.0 * part / whole if whole > 0 else None
