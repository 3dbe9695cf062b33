"""`holdfast check`: inspects everything, changes nothing, and says what to do."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from holdfast.base.errors import Misconfigured
from holdfast.store.inspect import inspect_database
from holdfast.store.migrate import revisions
from tests.cli.command import Command, Ran
from tests.cli.conftest import KEY
from tests.databases import migrated
from tests.gateway_harness import GatewayHarness
from tests.postgres_process import PASSWORD, PostgresProcess
from tests.redis_process import RedisProcess

PARTS = {
    "data folder", "API key", "disk", "database", "clock", "Redis", "Node", "engine sandbox", "Baileys", "HTTP",
    "running Holdfast", "alerts", "backups", "proxy",
}  # fmt: skip


def states(ran: Ran) -> dict[str, str]:
    return {row["what"]: row["state"] for row in ran.json["findings"]}


def sentence(ran: Ran, what: str) -> str:
    return str(next(row for row in ran.json["findings"] if row["what"] == what)["sentence"])


async def test_a_machine_before_the_first_start_is_good(alone: Command) -> None:
    """Every part has its row, and the check creates nothing. A configured server that is missing is reported."""
    ran = await alone("check", "--json", HOLDFAST_URL="", HOLDFAST_PORT="0")
    assert (ran.code, ran.json["good"], set(states(ran))) == (0, True, PARTS)
    assert {what for what, state in states(ran).items() if state == "warning"} - {"Baileys", "clock"} == {
        "running Holdfast", "alerts", "backups",
    }  # fmt: skip
    assert list(alone.folder.iterdir()) == []
    named = await alone("check", "--json")
    assert (named.code, states(named)["running Holdfast"]) == (1, "problem")


async def test_the_table_has_a_row_for_each_part_and_what_to_do(alone: Command) -> None:
    """In words, with the count at the end."""
    ran = await alone("check", HOLDFAST_URL="", HOLDFAST_PORT="0")
    assert (ran.code, ran.err) == (0, "")
    assert all(part in ran.out for part in PARTS)
    assert "→ `holdfast serve` starts it" in ran.out
    assert ran.out.splitlines()[-1].startswith("problems: 0, ")


async def test_each_problem_is_reported_with_what_to_do(alone: Command) -> None:
    """An accessible folder, a readable key, a damaged database, no Redis and no Node are reported."""
    data = alone.folder / "data"
    data.mkdir(mode=0o755)
    (data / "api-key").write_text(KEY)
    (data / "api-key").chmod(0o644)
    (data / "holdfast.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    ran = await alone(
        "check", "--json", HOLDFAST_DATA_DIR="data", HOLDFAST_REDIS_URL="redis://:secret@127.0.0.1:9/0",
        HOLDFAST_NODE_BIN="no-node", HOLDFAST_ALERT_URLS="nonsense", HOLDFAST_HOST="0.0.0.0",
    )  # fmt: skip
    assert ran.code == 1
    found = states(ran)
    assert [found[what] for what in ("data folder", "API key", "HTTP")] == ["warning"] * 3
    assert [found[what] for what in ("database", "Redis", "Node", "alerts")] == ["problem"] * 4
    assert sentence(ran, "Redis").startswith("127.0.0.1:9 does not answer")
    assert "secret" not in ran.out
    assert all(row["cure"] for row in ran.json["findings"] if row["state"] != "ok")


async def test_a_running_gateway_is_inspected(holdfast: Command, harness: GatewayHarness) -> None:
    """Its version, its sessions, and its database while it writes."""
    await harness.pair()
    ran = await holdfast("check", "--json", HOLDFAST_DATA_DIR=str(holdfast.folder))
    assert (ran.code, states(ran)["running Holdfast"], states(ran)["sessions"]) == (0, "ok", "ok"), ran.json
    assert sentence(ran, "database").endswith("undamaged")
    wrong = await holdfast("check", "--json", HOLDFAST_API_KEY="a-key-that-is-wrong")
    assert (wrong.code, states(wrong)["running Holdfast"]) == (1, "problem")
    assert "the API key is unknown" in sentence(wrong, "running Holdfast")


async def test_the_version_of_redis_is_shown(alone: Command, tmp_path: Path) -> None:
    """As the server itself reports it."""
    server = RedisProcess(tmp_path)
    await server.start()
    try:
        ran = await alone("check", "--json", HOLDFAST_URL="", HOLDFAST_PORT="0", HOLDFAST_REDIS_URL=server.url)
    finally:
        await server.kill()
    assert re.fullmatch(rf"{server.where}, (Redis|Valkey) \d+\.\d+\.\d+", sentence(ran, "Redis"))


# Inspecting a database.


def test_an_inspection_of_sqlite_reads_version_newest_row_and_damage(tmp_path: Path) -> None:
    """The file is not changed."""
    path = tmp_path / "hold?fast#.db"
    path.write_bytes(migrated())
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute(
            "INSERT INTO turns (company_id, at, before, after, event, attempts, lasted_s)"
            " VALUES ('962302', '2026-01-01T00:00:00.000Z', 'stopped', 'connecting', 'StartAsked', 0, 0)"
        )
    before = path.read_bytes()
    seen = inspect_database(path)
    assert (seen.revision, seen.newest_at, seen.damage) == (revisions()[0], "2026-01-01T00:00:00.000Z", None)
    assert path.read_bytes() == before
    half = len(before) // 2
    path.write_bytes(before[:half] + b"\xaa" * 4096 + before[half + 4096 :])
    assert inspect_database(path).damage


def test_an_inspection_creates_no_database(tmp_path: Path) -> None:
    """A missing database is reported as unreadable and is not created."""
    with pytest.raises(Misconfigured, match="can't be read"):
        inspect_database(tmp_path / "holdfast.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_inspection_of_postgres_reads_the_version_and_shows_no_password(postgres: PostgresProcess) -> None:
    """Also for an empty database, and for one that refuses the connection."""
    url = postgres.new_migrated()
    seen = inspect_database(url)
    assert (seen.revision, seen.newest_at, seen.damage) == (revisions()[0], None, None)
    assert PASSWORD not in seen.name
    with pytest.raises(Misconfigured) as caught:
        inspect_database(url + "_gone")
    assert PASSWORD not in caught.value.sentence
