"""Random faults of every kind, one after another, on a cluster of three nodes under traffic in both directions.

    uv run python -m tests.chaos.endurance [--minutes 60] [--sessions 100] [--seed N] [--every 5]

The faults are those of `tests.chaos.cluster`, each as often as the others; the seed decides their order, the nodes that
they hit and the pauses between them. It prints a row for each fault, then memory and descriptors of each node over
time, then the verdict, which is also the exit code: no text may be lost, duplicated or out of order, no number may have
two links at once, and all links must reconnect after each fault.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from bench.figures import rss_mb
from tests.chaos.cluster_faults import FAULTS
from tests.chaos.nodes import Cluster, Observed, Pace, counted, running_cluster
from tests.served import Served

_print = functools.partial(print, flush=True)
_PAIRED_AT_ONCE = 6
_SAMPLE_S = 30
_BACK_WITHIN_S = 60
_ARRIVED_WITHIN_S = 60
_LOST_AFTER_S = 240
"""A text that has not arrived this long after the end of the traffic is lost."""
_PAUSE_S = (3.0, 20.0)
"""The shortest and the longest pause between two faults, in seconds."""
_COLUMNS = 12
"""Rows of the table of memory and descriptors: parts of the whole time."""
_HEAD = """| minute | fault | links away | back s | posted | first try failed | links | 440 | late | shares | |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a node used at a moment."""

    at_s: float
    service_mb: float
    service_fds: int
    hosts_mb: float
    hosts_fds: int


@dataclass(slots=True)
class Verdict:
    faults: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    """By node."""


class Endurance:
    def __init__(self, cluster: Cluster, *, minutes: float, seed: int, every_s: float) -> None:
        self._cluster = cluster
        self._pace = Pace(sent_s=every_s, received_s=every_s, probe_s=0.5, look_s=0.5)
        self._loop = asyncio.get_running_loop()
        self._began_at = self._loop.time()
        self._until = self._began_at + minutes * 60
        self._random = random.Random(seed)
        self.verdict = Verdict()

    async def run(self) -> None:
        cluster = self._cluster
        _print(_HEAD)
        async with cluster.traffic(self._pace), asyncio.TaskGroup() as tasks:
            sampling = tasks.create_task(self._sample())
            for name in self._faults():
                await asyncio.sleep(self._random.uniform(*_PAUSE_S))
                if self._loop.time() >= self._until:
                    break
                await self._cause(name)
            sampling.cancel()
        for text in await cluster.until_arrived(within_s=_LOST_AFTER_S):
            self._record_failure(f"lost: {text}")
        for way, counts in zip(("sent", "received"), await cluster.outcome(), strict=True):
            self.verdict.problems += [f"{way}: {count} {what}" for what, count in counts.items() if count]

    def _faults(self) -> Iterator[str]:
        """All faults in a random order, again and again."""
        while True:
            yield from self._random.sample(sorted(FAULTS), len(FAULTS))

    async def _cause(self, name: str) -> None:
        cluster, replaced_before = self._cluster, self._cluster.replaced()
        self._random.shuffle(cluster.nodes)
        observed = cluster.observed = Observed()
        began_at, notes = self._loop.time(), list[str]()
        try:
            await FAULTS[name](cluster)
            await asyncio.sleep(1)
            await cluster.until_all_open(within_s=_BACK_WITHIN_S)
        except AssertionError as error:
            notes.append(str(error))
        late = await cluster.until_arrived(within_s=_ARRIVED_WITHIN_S)
        replaced = cluster.replaced() - replaced_before
        notes += [f"late: {text}" for text in late[:3]]
        notes += [f"{observed.max_links} links of a number"] if observed.max_links > 1 else []
        notes += [f"{replaced} links replaced"] if replaced else []
        for note in notes:
            self._record_failure(f"{name} at minute {self._minute(began_at):.1f}: {note}")
        self.verdict.faults[name] += 1
        back = sorted(observed.back_at[number] - began_at for number in observed.ever_down & observed.back_at.keys())
        cells = [
            f"{self._minute(began_at):.1f}",
            name,
            str(len(observed.ever_down)),
            f"{back[0]:.1f}/{median(back):.1f}/{back[-1]:.1f}" if back else "–",
            str(observed.posted),
            counted(observed.first_failures),
            f"≤ {observed.max_links}",
            str(replaced),
            str(len(late)),
            "/".join(map(str, await cluster.shares())),
            "; ".join(notes),
        ]
        _print(f"| {' | '.join(cells)} |")

    def _record_failure(self, problem: str) -> None:
        self.verdict.problems.append(problem)

    def _minute(self, at: float) -> float:
        return (at - self._began_at) / 60

    async def _sample(self) -> None:
        names = {node: f"n{n}" for n, node in enumerate(self._cluster.nodes)}
        while True:
            for node, name in names.items():
                if node.up.is_set() and (sample := _sample_of(node, self._loop.time() - self._began_at)):
                    self.verdict.samples.setdefault(name, []).append(sample)
            await asyncio.sleep(_SAMPLE_S)


def _sample_of(node: Served, at_s: float) -> Sample | None:
    """None when one of its processes ends while it is measured."""
    hosts = node.hosts()
    try:
        return Sample(
            at_s=at_s,
            service_mb=rss_mb(node.pid),
            service_fds=_descriptors(node.pid),
            hosts_mb=sum(map(rss_mb, hosts)),
            hosts_fds=sum(map(_descriptors, hosts)),
        )
    except (OSError, StopIteration):
        return None


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def table(samples: dict[str, list[Sample]], *, minutes: float) -> str:
    """The median of each part of the time, by node."""
    step_s = minutes * 60 / _COLUMNS
    heads = [f"{step_s * (n + 1) / 60:.0f}" for n in range(_COLUMNS)]
    lines = [f"| until minute | {' | '.join(heads)} |", f"|{' --- |' * (_COLUMNS + 1)}"]
    for name, of_node in sorted(samples.items()):
        for what in ("service_mb", "service_fds", "hosts_mb", "hosts_fds"):
            cells = []
            for n in range(_COLUMNS):
                part = [getattr(each, what) for each in of_node if step_s * n <= each.at_s < step_s * (n + 1)]
                cells.append(f"{median(part):.0f}" if part else "–")
            lines.append(f"| {name} {what.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


async def _pair(cluster: Cluster, sessions: int) -> None:
    turns = asyncio.Semaphore(_PAIRED_AT_ONCE)

    async def pair(n: int) -> None:
        async with turns:
            await cluster.pair_one(n)

    await asyncio.gather(*(pair(n) for n in range(sessions)))


async def main(
    *, minutes: float, sessions: int, seed: int, every: float, folder: Path | None, pooler: str | None
) -> Sequence[str]:
    """Returns what went wrong."""
    with tempfile.TemporaryDirectory(prefix="holdfast-endurance-") as name:
        async with running_cluster(folder or Path(name), nodes=3, pooler=pooler) as cluster:
            await _pair(cluster, sessions)
            started = datetime.now(UTC).isoformat(timespec="seconds")
            _print(f"{started}: {sessions} sessions on three nodes, a text every {every:g} s each way")
            _print(f"{minutes:g} minutes, seed {seed}")
            endurance = Endurance(cluster, minutes=minutes, seed=seed, every_s=every)
            await endurance.run()
            verdict = endurance.verdict
            sent = sum(len(company.sent) for company in cluster.companies)
            received = sum(len(company.received) for company in cluster.companies)
            _print(table(verdict.samples, minutes=minutes))
            _print(
                f"{sum(verdict.faults.values())} faults ({counted(verdict.faults)}), {sent} sent, {received} received"
            )
            for problem in verdict.problems:
                _print(f"PROBLEM {problem}")
            return verdict.problems


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=5, help="seconds between two texts of a company, each way")
    parser.add_argument("--folder", type=Path, help="an empty folder for the nodes and their logs; unset: none is kept")
    parser.add_argument("--pooler", choices=["session"], help="put PgBouncer before the database")
    given = vars(parser.parse_args())
    for number in (signal.SIGINT, signal.SIGTERM):  # in the background, too, an interrupted run ends its processes
        signal.signal(number, signal.default_int_handler)
    sys.exit(1 if asyncio.run(main(**given)) else 0)
