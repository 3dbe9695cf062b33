"""Simulates a large installation: how long sessions are away, and what WhatsApp and the database see.

    uv run python -m bench.fleet_simulation [--sessions 100000] [--nodes 200] [--connects 100 1000] [--svg FILE]

Nothing is measured here: the sessions decide by the same pure code as a running Holdfast (`session/connect_limiter.py`,
`connect_rate.py`, the backoff), and logins, leases and nodes follow the measured costs named below. One
seed gives one result. The defaults take a few minutes.

Node deaths: ten nodes are gone at once. WhatsApp's restart: all links end, and it can't be reached for five seconds.
Rolling upgrade: each node is stopped and starts again, ten at a time. `--connects` is HOLDFAST_CONNECTS_PER_SECOND.
"""

from __future__ import annotations

import argparse
import functools
import heapq
import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from holdfast.runtime.ownership import RENEW_EVERY_S, TTL_S
from holdfast.session import connect_limiter
from holdfast.session.backoff import Backoff, immediate_delay_s
from holdfast.session.connect_limiter import ConnectNow, Limiter, LimiterPolicy
from holdfast.session.connect_rate import RatePolicy
from holdfast.session.reasons import BY_CODE
from holdfast.session.sharing import SharingPolicy

_print = functools.partial(print, flush=True)
LOGIN_S = 0.4
"""From the start of a link to WhatsApp's acceptance over the Internet, when nobody waits."""
LOGINS_PER_S = 50
"""What one node can log in a second: 10 ms of Python and 11 ms of an engine host each (bench.fleet_return)."""
RESTART_S = 4.0
"""From a node's SIGTERM until its next process connects sessions."""
QUERIES_OF_A_LOGIN = 9
"""Statements: credentials, three reads of keys, two commits of the engine, record, history and event."""
QUERIES_OF_A_LOOK = 8
"""Statements of one renewal of a node's leases."""
UNREACHABLE = BY_CODE[408]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    what: str
    connects_per_second: int
    """HOLDFAST_CONNECTS_PER_SECOND."""
    sessions_away: int
    p50_s: float
    p99_s: float
    max_s: float
    connects: int
    max_connects_a_second: int
    max_queries_a_second: int
    away_by_second: tuple[int, ...]


@dataclass
class Node:
    """The sessions of one node that have to connect, and its connect limiter."""

    policy_at: Callable[[float], LimiterPolicy]
    """By time: the share of the connects may change."""
    server: Callable[[float], bool]
    """By time: can WhatsApp be reached?"""
    chance: random.Random
    events: list[tuple[float, int, str, str]] = field(default_factory=list)
    limiter: Limiter = field(default_factory=Limiter)
    due: dict[str, float] = field(default_factory=dict)
    attempts: Counter[str] = field(default_factory=Counter)
    unreached: set[str] = field(default_factory=set)
    free_at: float = 0
    number: int = 0
    connects: list[float] = field(default_factory=list)
    back: dict[str, float] = field(default_factory=dict)

    def add(self, company: str, at: float) -> None:
        """It has to connect from then on."""
        self._ask_at(company, at)

    def run(self) -> None:
        while self.events:
            now, _, kind, company = heapq.heappop(self.events)
            if kind == "ask" and self.due.get(company) == now:
                self._ask(company, now)
            elif kind == "in":
                self._opened(company, now)
            elif kind == "out":
                self._failed(company, now)

    def _push(self, at: float, kind: str, company: str) -> None:
        self.number += 1
        heapq.heappush(self.events, (at, self.number, kind, company))

    def _ask_at(self, company: str, at: float) -> None:
        self.due[company] = at
        self._push(at, "ask", company)

    def _ask(self, company: str, now: float) -> None:
        self.unreached.discard(company)
        self.limiter, answer = connect_limiter.ask(self.limiter, company, now=now, policy=self.policy_at(now))
        if not isinstance(answer, ConnectNow):
            self._ask_at(company, answer.until)
            return
        del self.due[company]
        if not self.server(now):
            self._push(now + 0.05, "out", company)
            return
        self.connects.append(now)
        self.free_at = max(self.free_at, now) + 1 / LOGINS_PER_S
        self._push(self.free_at + LOGIN_S * (0.75 + self.chance.random() / 2), "in", company)

    def _opened(self, company: str, now: float) -> None:
        was_unreachable = self.limiter.rate.unreachable
        self.limiter, wakes = connect_limiter.opened(self.limiter, company, now=now, policy=self.policy_at(now))
        self.back[company] = now
        self._wake(wakes)
        if was_unreachable:
            for other in sorted(self.unreached):
                self._ask_at(other, now)
            self.unreached.clear()

    def _failed(self, company: str, now: float) -> None:
        self.limiter, wakes = connect_limiter.ended(
            self.limiter, company, UNREACHABLE, was_open=False, now=now, policy=self.policy_at(now)
        )
        self.attempts[company] += 1
        self.unreached.add(company)
        self._ask_at(company, now + Backoff().delay_s(self.attempts[company], jitter=self.chance.random()))
        self._wake(wakes)

    def _wake(self, wakes: Iterable[tuple[str, float]]) -> None:
        for company, at in wakes:
            self._ask_at(company, at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    sessions: int
    nodes: int
    connects: int
    seed: int

    def node(
        self, server: Callable[[float], bool], number: int, *, others_wait: int | None = None, since: float = 0
    ) -> Node:
        """`others_wait`: how many nodes, this one included, have sessions to connect from `since` on; None: all."""
        alone, equal = self._policy(others_wait or self.nodes), self._policy(self.nodes)
        known_at = since + SharingPolicy().demand_known_s + RENEW_EVERY_S
        return Node(lambda now: alone if now >= known_at else equal, server, random.Random(f"{self.seed} {number}"))

    def _policy(self, nodes: int) -> LimiterPolicy:
        return LimiterPolicy(rate=RatePolicy(cap=self.connects / nodes))

    @property
    def each(self) -> int:
        return self.sessions // self.nodes

    # What happens.

    def whatsapp_restarts(self, down_s: float = 5) -> Result:
        """All links end at 0; seconds away count from then."""
        nodes = [self.node(lambda now: now >= down_s, number) for number in range(self.nodes)]
        for number, node in enumerate(nodes):
            for each in range(self.each):
                node.add(f"{number}-{each}", immediate_delay_s(jitter=node.chance.random()))
        return self._result(f"WhatsApp restarts, away {down_s:g} s", nodes, lambda company: 0.0)

    def nodes_die(self, count: int = 10) -> Result:
        """The others claim their sessions when the leases run out, each its share."""
        others = [self.node(lambda now: True, number) for number in range(self.nodes - count)]
        for number in range(count * self.each):
            node = others[number % len(others)]
            claimed_at = TTL_S - node.chance.random() * RENEW_EVERY_S + node.chance.random() * 0.1
            node.add(f"{number}", claimed_at)
        return self._result(f"{count} nodes die", others, lambda company: 0.0)

    def roll(self, at_once: int = 10) -> Result:
        """The sessions of a node wait for its next process; the next nodes follow when all are back."""
        ended: dict[str, float] = {}
        nodes, start = [], 0.0
        for number in range(self.nodes):
            node = self.node(lambda now: True, number, others_wait=at_once, since=start + RESTART_S)
            for each in range(self.each):
                company = f"{number}-{each}"
                ended[company] = start
                node.add(
                    company, start + RESTART_S * (0.8 + 0.4 * node.chance.random()) if not each else start + RESTART_S
                )
            node.run()
            nodes.append(node)
            if number % at_once == at_once - 1:
                start = max(max(done.back.values()) for done in nodes[-at_once:])
        return self._result(f"rolling upgrade, {at_once} nodes at a time", nodes, lambda company: ended[company])

    def _result(self, what: str, nodes: list[Node], ended: Callable[[str], float]) -> Result:
        for node in nodes:
            node.run()
        absences = [(ended(company), at) for node in nodes for company, at in node.back.items()]
        away = sorted(back - end for end, back in absences)
        connects = Counter(int(at) for node in nodes for at in node.connects)
        renewals = self.nodes / RENEW_EVERY_S * QUERIES_OF_A_LOOK
        return Result(
            what=what,
            connects_per_second=self.connects,
            sessions_away=len(away),
            p50_s=round(away[len(away) // 2], 1),
            p99_s=round(away[math.ceil(len(away) * 0.99) - 1], 1),
            max_s=round(away[-1], 1),
            connects=sum(connects.values()),
            max_connects_a_second=max(connects.values()),
            max_queries_a_second=round(max(connects.values()) * QUERIES_OF_A_LOGIN + renewals),
            away_by_second=_by_second(absences),
        )


def _by_second(absences: Sequence[tuple[float, float]]) -> tuple[int, ...]:
    """How many sessions are away at the end of each second."""
    changes = Counter(math.ceil(end) for end, _ in absences)
    changes.subtract(math.ceil(back) for _, back in absences)
    return tuple(itertools.accumulate(changes[second] for second in range(max(changes) + 1)))


# The drawing.

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 720, 230, 64, 40, 34
_COLOURS = ("#1565c0", "#2e7d32", "#c62828", "#6a1b9a")


def drawing(results: Sequence[Result]) -> str:
    """Sessions that are away over time, as SVG: a chart for each event, a line for each rate of connects."""
    charts: dict[str, list[Result]] = {}
    for result in results:
        charts.setdefault(result.what, []).append(result)
    drawn = "".join(
        f'<g transform="translate(0 {number * _HEIGHT})">{_chart(what, shown)}</g>'
        for number, (what, shown) in enumerate(charts.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT * len(charts)}" '
        f'font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="#fff"/>{drawn}</svg>\n'
    )


def _chart(what: str, shown: Sequence[Result]) -> str:
    """The time axis ends when the second slowest line has ended, so that the slowest does not flatten the others."""
    lengths = sorted(len(result.away_by_second) for result in shown)
    seconds = lengths[-2] if len(lengths) > 1 else lengths[-1]
    most = max(max(result.away_by_second) for result in shown)
    floor = _HEIGHT - _BOTTOM
    across, down = (_WIDTH - _LEFT - 20) / max(seconds, 1), (floor - _TOP) / most
    lines = []
    for number, (result, colour) in enumerate(zip(shown, _COLOURS, strict=False)):
        step = max(seconds // (_WIDTH - _LEFT), 1)
        points = " ".join(
            f"{_LEFT + second * across:.0f},{floor - away * down:.0f}"
            for second, away in enumerate(result.away_by_second[: seconds + 1])
            if not second % step
        )
        lines.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>'
            f'<text x="{_LEFT + 360 + 95 * number}" y="22" fill="{colour}">{result.connects_per_second} a second</text>'
        )
    return (
        f'<text x="{_LEFT}" y="22" font-weight="bold">{what}: sessions away</text>'
        f'<path d="M{_LEFT} {_TOP}V{floor}H{_WIDTH - 20}" fill="none" stroke="#555"/>'
        f'<text x="{_LEFT - 6}" y="{_TOP + 5}" text-anchor="end">{most}</text>'
        f'<text x="{_LEFT - 6}" y="{floor}" text-anchor="end">0</text>'
        f'<text x="{_LEFT}" y="{floor + 18}">0 s</text>'
        f'<text x="{_WIDTH - 20}" y="{floor + 18}" text-anchor="end">{seconds} s</text>{"".join(lines)}'
    )


def simulate(sessions: int, nodes: int, connects: list[int], seed: int) -> list[Result]:
    results = []
    for rate in connects:
        fleet = Fleet(sessions=sessions, nodes=nodes, connects=rate, seed=seed)
        results += [fleet.whatsapp_restarts(), fleet.nodes_die(max(nodes // 20, 1)), fleet.roll(max(nodes // 20, 1))]
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description="What does a large installation go through?")
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--connects", type=int, nargs="+", default=[100, 1000, 4000])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--svg", type=Path, help="draw how sessions come back into this file")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    results = simulate(asked.sessions, asked.nodes, asked.connects, asked.seed)
    if asked.svg is not None:
        asked.svg.write_text(drawing(results))
    if asked.json:
        _print(json.dumps([asdict(result) for result in results]))
        return
    _print(f"{asked.sessions} sessions on {asked.nodes} nodes")
    _print("| | connects/s allowed | sessions away | p50 s | p99 s | max s | connects | connects/s | queries/s |")
    _print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for each in results:
        figures = (each.connects_per_second, each.sessions_away, each.p50_s, each.p99_s, each.max_s, each.connects)
        rates = (each.max_connects_a_second, each.max_queries_a_second)
        _print(f"| {each.what} | {' | '.join(map(str, (*figures, *rates)))} |")


if __name__ == "__main__":
    main()
