"""Measured numbers and how they are printed."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Spread:
    """Repeated measurements of one thing."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        places = 0 if self.median >= 100 else 1 if self.median >= 10 else 2
        return f"{self.median:.{places}f} ({min(self.values):.{places}f}–{max(self.values):.{places}f})"

    def as_json(self) -> dict[str, float]:
        found = {"median": self.median, "min": min(self.values), "max": max(self.values)}
        return {**{name: round(value, 3) for name, value in found.items()}, "count": len(self.values)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing that was measured for both in the same run."""

    key: str
    what: str
    unit: str
    holdfast: Spread
    bare: Spread

    @property
    def ratio(self) -> float:
        """Holdfast's median divided by bare Baileys'."""
        return self.holdfast.median / self.bare.median

    def as_json(self) -> dict[str, Any]:
        both = {"holdfast": self.holdfast.as_json(), "bare": self.bare.as_json()}
        return {"unit": self.unit, **both, "ratio": round(self.ratio, 3)}


def table(rows: Sequence[Row]) -> str:
    """Format the median (min–max) of both, and the ratio of the medians."""
    cells = [("", "Holdfast", "bare Baileys", "ratio")]
    cells += [(f"{row.what}, {row.unit}", str(row.holdfast), str(row.bare), f"{row.ratio:.2f}") for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    return "\n".join("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the percentile by the nearest-rank method."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    kib = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    return kib / 1024


def cpu_s(pid: int) -> float:
    """Return the processor time of a process and all its threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
