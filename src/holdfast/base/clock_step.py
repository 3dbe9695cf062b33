"""A step of the wall clock, as a value: pure packages know it, and no clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockStep:
    """The wall clock moved against the monotonic one."""

    by_s: float
    """Forward; negative when the clock was set back."""
    suspended_s: float
    """How much of it is time that really passed, while the machine was suspended."""
    after: datetime
    """The step came after this time, in the wall clock's new time."""
    at: datetime
    """When the step was noticed."""

    @property
    def set_by_s(self) -> float:
        """By how much somebody set the clock."""
        return self.by_s - self.suspended_s
