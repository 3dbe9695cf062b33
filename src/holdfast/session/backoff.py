"""How long to wait before the next connection: exponential backoff, with jitter so that sessions do not connect
in step."""

from __future__ import annotations

from dataclasses import dataclass

_JITTER_SHARE = 0.2
_AT_ONCE_S = 0.25
_BEAT_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """`delay_ms = min(base_ms * factor ** attempts, cap_ms)`."""

    base_ms: int = 1000
    factor: float = 1.5
    cap_ms: int = 60_000

    def delay_s(self, attempts: int, *, jitter: float) -> float:
        """Seconds to wait after `attempts` attempts; `jitter` in [0, 1) adds up to a fifth, never above the cap."""
        exact_ms = self.base_ms * self.factor ** min(attempts, 100)
        return min(exact_ms * (1 + _JITTER_SHARE * jitter), self.cap_ms) / 1000


def ping_interval_s(interval_s: float, *, jitter: float) -> float:
    """Seconds to the next ping: the interval or up to a tenth less, so that sessions do not ping in step."""
    return interval_s * (1 - _BEAT_SHARE * jitter)


def immediate_delay_s(*, jitter: float) -> float:
    """Seconds before the first attempt after a link that had opened: 0 to 0.25, so that sessions do not connect in
    step."""
    return _AT_ONCE_S * jitter


def spread_s(seconds: float, *, jitter: float) -> float:
    """A long wait plus up to 20 %, so that sessions that were refused together do not come back together."""
    return seconds * (1 + _JITTER_SHARE * jitter)
