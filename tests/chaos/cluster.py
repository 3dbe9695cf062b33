"""The fault table of a cluster: three nodes behind a round-robin proxy, under traffic in both directions.

`uv run python -m tests.chaos.cluster [FAULT…]` causes one fault after another and prints a row for each: what was lost,
duplicated or out of order, which first attempts failed and why, and how long links were disconnected. The test beside
it runs a part; `tests.chaos.endurance` causes random faults for an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tests.chaos.cluster_faults import BACK_SINCE_END, FAULTS
from tests.chaos.nodes import Cluster, Observed, counted, running_cluster


async def cause_fault(cluster: Cluster, name: str) -> str:
    """One row of the table."""
    loop, replaced_before = asyncio.get_running_loop(), cluster.replaced()
    cluster.observed = Observed()
    async with cluster.traffic():
        await asyncio.sleep(2)
        cluster.observed.back_at.clear()
        cluster.observed.ever_down.clear()
        began_at = loop.time()
        await FAULTS[name](cluster)
        ended_at = loop.time()
        await asyncio.sleep(3)
        await cluster.until_all_open()
        await asyncio.sleep(2)
        observed = cluster.observed
    await cluster.until_arrived()
    sent, received = await cluster.outcome()
    since = ended_at if name in BACK_SINCE_END else began_at
    back = sorted(observed.back_at[number] - since for number in observed.ever_down if number in observed.back_at)
    times = f"{back[0]:.1f}/{median(back):.1f}/{back[-1]:.1f}" if back else "–"
    pairs = [f"{sent[what]}/{received[what]}" for what in ("lost", "doubled", "disorder")]
    cells = [
        name,
        str(observed.posted),
        counted(observed.first_failures),
        *pairs,
        f"≤ {observed.max_links}",
        str(cluster.replaced() - replaced_before),
        str(len(observed.ever_down)),
        times,
        counted(observed.probes),
    ]
    return f"| {' | '.join(cells)} |"


_HEAD = """| fault | posted | first try failed | lost out/in | doubled | disorder | links | 440 | down | back | owner |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


async def main(names: Sequence[str], *, companies: int, folder: Path | None, pooler: str | None) -> None:
    """`folder`: where the logs of the nodes are kept."""
    with tempfile.TemporaryDirectory(prefix="holdfast-cluster-") as name:
        async with running_cluster(folder or Path(name), nodes=3, pooler=pooler) as cluster:
            await cluster.pair(companies)
            proxy = "nginx" if shutil.which("nginx") else "a proxy of our own"
            before = "" if pooler is None else f", PgBouncer in {pooler} mode"
            print(f"{companies} companies on three nodes behind {proxy}{before}\n{_HEAD}", flush=True)  # noqa: T201
            for fault in names:
                print(await cause_fault(cluster, fault), flush=True)  # noqa: T201


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("faults", nargs="*", choices=[*FAULTS, []], help="all of them, if none is named")
    arguments.add_argument("--companies", type=int, default=12)
    arguments.add_argument(
        "--folder", type=Path, help="an empty folder for the nodes and their logs; unset: none is kept"
    )
    arguments.add_argument("--pooler", choices=["session", "transaction"], help="put PgBouncer before the database")
    given = arguments.parse_args()
    names = given.faults or list(FAULTS)
    asyncio.run(main(names, companies=given.companies, folder=given.folder, pooler=given.pooler))
