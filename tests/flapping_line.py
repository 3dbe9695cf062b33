"""Simulates a line that drops its links again and again: the real session machine, a simulated WhatsApp, no clock.

Used by the tests of the reconnection policy and by `bench.flapping_policy`, which prints the table.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from holdfast.session.engine import LinkClosed, LinkOpened, Ping
from holdfast.session.events import Event, StartAsked, StartLink, Tick
from holdfast.session.machine import deadline
from holdfast.session.state import Policy, State, restored
from tests.doubles.engine_reports import granted_step, link_closed, link_opened, ponged

LOGIN_S = 0.06
"""Seconds from the start of a link until it is open; a login on a good line takes tens of milliseconds."""
ROUND_TRIP_S = 0.08


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one session did over the simulated time."""

    started_at: tuple[float, ...]
    """When each link was started, in seconds since the beginning."""
    up_s: tuple[float, ...]
    """Seconds connected within each minute."""

    @property
    def uptime(self) -> float:
        """Share of the time in which it was connected."""
        return sum(self.up_s) / (60 * len(self.up_s))

    @property
    def busiest_hour(self) -> int:
        """The largest number of links started within an hour."""
        return max(sum(start <= at < start + 3600 for at in self.started_at) for start in self.started_at)

    def uptime_between(self, first_minute: int, last_minute: int) -> float:
        """Share of these minutes in which it was connected; the last one is not included."""
        return sum(self.up_s[first_minute:last_minute]) / (60 * (last_minute - first_minute))


def simulate(*, link_lives_s: float, minutes: int = 60, seed: int = 1, policy: Policy | None = None) -> Outcome:
    """One session whose links are all cut `link_lives_s` after they opened; pings are answered until then."""
    randomness, policy, end = random.Random(seed), policy or Policy(), minutes * 60.0
    session = restored(state=State.CONNECTED, paired=True, attempts=0, resumes_at=None)
    started_at: list[float] = []
    up_s = [0.0] * minutes
    reports: list[tuple[float, Event]] = [(0.0, StartAsked())]
    now, opened_at = 0.0, None
    while True:
        due_at = deadline(session, policy=policy)
        times = [at for at, _ in reports] + ([] if due_at is None else [due_at])
        now = max(now, min(times))
        if now >= end:
            break
        heard = min((report for report in reports if report[0] <= now), key=lambda report: report[0], default=None)
        if heard is not None:
            reports.remove(heard)
        event = Tick() if heard is None else heard[1]
        session, effects = granted_step(session, event, now=now, jitter=randomness.random(), policy=policy)
        if isinstance(event, LinkOpened):
            opened_at = now
        if isinstance(event, LinkClosed) and opened_at is not None:
            _add(up_s, opened_at, now)
            opened_at, reports = None, []
        for effect in effects:
            match effect:
                case StartLink(link=link):
                    started_at.append(now)
                    opens_at = now + LOGIN_S
                    reports = [(opens_at, link_opened(link)), (opens_at + link_lives_s, link_closed(link, 428))]
                case Ping(link=link, n=ping):
                    reports.append((now + ROUND_TRIP_S, ponged(link, ping)))
                case _:
                    pass
    if opened_at is not None:
        _add(up_s, opened_at, end)
    return Outcome(started_at=tuple(started_at), up_s=tuple(up_s))


def _add(up_s: list[float], since: float, until: float) -> None:
    """Distribute a connected span over its minutes."""
    for minute in range(int(since // 60), min(int(until // 60) + 1, len(up_s))):
        up_s[minute] += max(min(until, 60 * (minute + 1)) - max(since, 60 * minute), 0)
