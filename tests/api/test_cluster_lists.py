"""Data of a cluster as a whole, requested at any of its nodes: backups and metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.api.backups import add_backups
from holdfast.api.metrics import merged
from tests.api.two_nodes import OTHER, OWNER, Nodes, two_nodes
from tests.backup_service import backup_service_of
from tests.gateway_harness import COMPANY, GatewayHarness


@pytest.fixture
async def nodes(harness: GatewayHarness, tmp_path: Path) -> AsyncIterator[Nodes]:
    """Two nodes, each with a folder of its own for backups."""
    async with harness.running() as gateway:
        await harness.pair()
        async with two_nodes(harness) as made:
            for name, api in ((OWNER, made.owner), (OTHER, made.other.api)):
                add_backups(api, backup_service_of(gateway, harness.database, tmp_path / name, clock=harness.clock))
            yield made


async def test_backups_of_all_nodes_are_listed_and_downloaded_at_any_of_them(nodes: Nodes, tmp_path: Path) -> None:
    """Each with the node that has it; a node that does not answer is named."""
    for name in (OWNER, OTHER):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / f"holdfast-2026-{name}.backup").write_bytes(name.encode())
    listed = (await nodes.other("GET", "/v1/backups")).json
    assert {backup["name"]: backup["node"] for backup in listed["items"]} == {
        "holdfast-2026-owner.backup": "a",
        "holdfast-2026-other.backup": None,
    }
    assert listed["missing"] == []
    download = await nodes.other("GET", "/v1/backups/holdfast-2026-owner.backup")
    assert (download.status, download.body) == (200, b"owner")
    (await nodes.other("GET", "/v1/backups/holdfast-1999.backup")).problem(404, "not-found", field="name")
    nodes.known[OWNER] = replace(nodes.known[OWNER], url="http://127.0.0.1:9")
    listed = (await nodes.other("GET", "/v1/backups")).json
    assert ([backup["name"] for backup in listed["items"]], listed["missing"]) == (
        ["holdfast-2026-other.backup"],
        ["a"],
    )


async def test_each_company_occurs_once_in_the_metrics_of_a_cluster(nodes: Nodes) -> None:
    """At its owner, so that a sum over all nodes is right; with `nodes=all` any node has the metrics of all."""
    state = f'holdfast_session_state{{company="{COMPANY}"'
    alone = (await nodes.other("GET", "/metrics")).body.decode()
    assert COMPANY not in alone
    together = (await nodes.other("GET", "/metrics?nodes=all")).body.decode()
    series = [line for line in together.splitlines() if f'company="{COMPANY}"' in line]
    assert series, state
    assert all('node="a"' in line for line in series)
    assert len(series) == len(set(series))


def test_merged_metrics_keep_each_family_together() -> None:
    """A label `node` tells equal series of several nodes apart; a description occurs once."""
    one = b'# HELP up Is it up\n# TYPE up gauge\nup 1.0\n# TYPE n gauge\nn{a="b c"} 2.0\n'
    two = b"# HELP up Is it up\n# TYPE up gauge\nup 0.0\n"
    assert merged({"x": one, "y": two}).decode().splitlines() == [
        "# HELP up Is it up",
        "# TYPE up gauge",
        'up{node="x"} 1.0',
        'up{node="y"} 0.0',
        "# TYPE n gauge",
        'n{node="x",a="b c"} 2.0',
    ]
