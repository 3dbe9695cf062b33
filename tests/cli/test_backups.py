"""Commands for backups, imports and exports: with a running Holdfast, and on the data folder of a stopped one."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from holdfast.store.database import Database
from holdfast.store.sessions import SessionRows
from tests import peer_stores as stores
from tests.backup_service import FILES, bot_folder
from tests.cli.command import Command
from tests.databases import migrated
from tests.gateway_harness import COMPANY, GatewayHarness


@pytest.fixture
def still(tmp_path: Path) -> Command:
    """Commands for a stopped installation: its data folder, and nothing listens on its port."""
    data = tmp_path / "holdfast-data"
    data.mkdir()
    (data / "holdfast.db").write_bytes(migrated())
    return Command(tmp_path, {"HOLDFAST_PORT": "9"})


async def imported(still: Command) -> Path:
    """A company imported from a bot; returns the bot's folder."""
    folder = bot_folder(still.folder / "auth")
    ran = await still("import-baileys", COMPANY, "auth")
    assert (ran.code, ran.err) == (0, ""), ran
    assert ran.out == f"Company {COMPANY} is imported with 12 keys; it is connected at the next `holdfast serve`.\n"
    return folder


async def states(still: Command) -> dict[str, tuple[str, str | None]]:
    """State and reason of each session in the data folder."""
    database = Database(still.folder / "holdfast-data" / "holdfast.db")
    try:
        return {each.company: (each.state, each.reason) for each in await SessionRows(database).all()}
    finally:
        database.close()


def backups(still: Command) -> list[str]:
    return sorted(path.name for path in (still.folder / "holdfast-data" / "backups").iterdir())


# A stopped installation.


async def test_a_cleared_company_is_restored_from_a_backup(still: Command) -> None:
    """Create, list, clear, restore, as an operator does it; each step reports its result."""
    await imported(still)
    made = await still("backup", "create", "safe.backup")
    assert made.out.startswith("Backup of 1 company made: holdfast-2")
    assert "keys of every linked device and is not encrypted" in made.err
    assert stat.S_IMODE((still.folder / "safe.backup").stat().st_mode) == 0o600
    again = await still("backup", "create", "safe.backup")
    assert again.refused(2) == '"safe.backup" exists already: a backup never overwrites a file, so give another name'
    cleared = await still("clear", COMPANY, "--yes")
    assert cleared.out.startswith(f"Company {COMPANY} is removed; `holdfast backup restore holdfast-2")
    assert await states(still) == {}
    listed = await still("backup", "list", "--json")
    assert [(each["companies"], each["problem"]) for each in listed.json["items"]] == [([COMPANY], None)] * 2
    assert f"only {COMPANY}" in (await still("backup", "list")).out
    restored = await still("backup", "restore", "safe.backup")
    assert restored.code == 0, restored
    assert restored.out.startswith("Restored 1 company and ")
    assert await states(still) == {COMPANY: ("reconnecting", None)}
    before_clear = cleared.out.split("`holdfast ")[1].split("`")[0].split()
    refused = await still(*before_clear)
    assert (refused.code, "--replace backs it up" in refused.err) == (1, True)
    assert (await still(*before_clear, "--replace", "--take-stale", "all")).code == 0


async def test_a_restore_says_how_a_cleared_company_connects_again(still: Command) -> None:
    """A running Holdfast stops the session before it backs the company up, and so it is restored stopped."""
    await imported(still)
    with closing(sqlite3.connect(still.folder / "holdfast-data" / "holdfast.db")) as database, database:
        database.execute("UPDATE sessions SET state = 'stopped'")
    cleared = await still("clear", COMPANY, "--yes")
    restored = await still(*cleared.out.split("`holdfast ")[1].split("`")[0].split())
    assert restored.code == 0, restored
    assert restored.out.endswith(f"once Holdfast runs, `holdfast start {COMPANY}` connects it.\n")


async def test_a_restore_reports_a_company_that_stays_stopped(still: Command) -> None:
    """Exit code 1 and the reason on standard error; with --take-stale the company connects."""
    await imported(still)
    await still("backup", "create", "old.backup")
    await still("clear", COMPANY, "--yes")
    folder = still.folder / "auth"
    (folder / "lid-mapping-1.json").write_text('"2"')
    assert (await still("import-baileys", COMPANY, "auth")).code == 0
    refused = await still("backup", "restore", "old.backup")
    assert refused.code == 1
    assert (
        f"holdfast: company {COMPANY} is restored stopped: this installation has newer keys of its device"
        in refused.err
    )
    assert await states(still) == {COMPANY: ("stopped", "restored-stale")}
    copy = next(name for name in backups(still) if "before-restore" in name)
    restored = await still("backup", "restore", copy, "--take-stale", "all", "--json")
    assert (restored.code, restored.json["refused"]) == (0, [])


async def test_a_data_folder_in_use_is_not_changed(still: Command) -> None:
    """The error names the running `serve` and the folder."""
    await imported(still)
    database = Database(still.folder / "holdfast-data" / "holdfast.db")
    try:
        for arguments in (["backup", "restore", "x"], ["clear", COMPANY, "--yes"]):
            sentence = (await still(*arguments)).refused(1)
            assert sentence.startswith('the data folder "holdfast-data" is in use by another holdfast process: stop')
    finally:
        database.close()


async def test_a_damaged_backup_is_shown_in_the_list(still: Command) -> None:
    """Exit code 1, so that a script can detect it."""
    assert (await still("backup", "list")).err.startswith('There is no backup in "holdfast-data/backups"')
    made = await still("backup", "create", "--json")
    path = still.folder / "holdfast-data" / "backups" / made.json["name"]
    path.write_bytes(path.read_bytes()[:-100])
    listed = await still("backup", "list")
    assert listed.code == 1
    assert "was not copied completely" in listed.out
    assert "was not copied completely" in (await still("backup", "restore", path.name)).refused(1)


async def test_an_encrypted_backup_needs_its_passphrase(still: Command) -> None:
    """The setting with which it was made opens it."""
    made = await still("backup", "create", HOLDFAST_BACKUP_PASSPHRASE="correct horse")
    assert ".backup.age" in made.out
    assert made.err.count("not encrypted") == 0
    listed = await still("backup", "list")
    assert (listed.code, "encrypted, not examined" in listed.out) == (0, True)
    name = listed.out.splitlines()[1].split()[0]
    assert "is encrypted: set HOLDFAST_BACKUP_PASSPHRASE" in (await still("backup", "restore", name)).refused(1)


async def test_an_export_equals_the_import(still: Command) -> None:
    """File by file."""
    folder = await imported(still)
    ran = await still("export-baileys", COMPANY, "out")
    assert (
        ran.out
        == f"Wrote {len(FILES)} files to out. Anybody who has them can read and send messages as company {COMPANY}.\n"
    )
    for path in folder.iterdir():
        assert json.loads((still.folder / "out" / path.name).read_text()) == json.loads(path.read_text())
    assert "is not empty" in (await still("export-baileys", COMPANY, "out")).refused(1)
    assert "has no linked device" in (await still("export-baileys", "962309", "other")).refused(1)


async def test_nothing_of_a_damaged_folder_is_imported(still: Command) -> None:
    """The error names the file; with --skip-damaged the rest is imported, and the skipped files are listed."""
    folder = bot_folder(still.folder / "auth")
    (folder / "session-962777.0.json").write_text('{"_sess')
    sentence = (await still("import-baileys", COMPANY, "auth")).refused(1)
    assert "session-962777.0.json ends too early, half-written" in sentence
    assert await states(still) == {}
    ran = await still("import-baileys", COMPANY, "auth", "--skip-damaged")
    assert (ran.code, ran.err.startswith("Left out: session-962777.0.json ends too early")) == (0, True)


async def test_a_linked_company_is_not_overwritten(still: Command) -> None:
    """A mistyped company id must not overwrite credentials."""
    await imported(still)
    ran = await still("import-baileys", COMPANY, "auth")
    assert ran.refused(1) == (
        f'company "{COMPANY}" has a linked device already: `holdfast clear {COMPANY}` backs it up and removes it'
    )


async def test_a_folder_in_use_by_a_bot_is_imported_with_a_warning(still: Command) -> None:
    """Its keys may change further: chats are closed for sending, and the output says to stop the bot."""
    bot_folder(still.folder / "auth")
    (still.folder / "auth" / "creds.json").touch()
    ran = await still("import-baileys", COMPANY, "auth")
    assert ran.code == 0
    assert "a bot seems to use it. Stop it now" in ran.err
    await still("export-baileys", COMPANY, "out")
    exported = json.loads((still.folder / "out" / "session-962777.0.json").read_text())
    assert exported["_sessions"]["QQ=="]["indexInfo"]["closed"] > 0


async def test_clear_asks_for_confirmation(still: Command) -> None:
    """Without a terminal, or without a confirmation, nothing happens."""
    await imported(still)
    assert (await still("clear", COMPANY)).refused(2).endswith("is removed: add --yes")
    assert COMPANY in await states(still)


# A running one.


async def test_commands_use_the_running_holdfast(holdfast: Command, harness: GatewayHarness) -> None:
    """It makes the backup and returns the file, removes a company, and imports another, which connects."""
    await harness.pair()
    made = await holdfast("backup", "create", "safe.backup", "--json")
    assert (made.code, made.json["companies"]) == (0, [COMPANY])
    assert (holdfast.folder / "safe.backup").read_bytes() == (
        holdfast.folder / "backups" / made.json["name"]
    ).read_bytes()
    harness.clock.advance_to(harness.clock.monotonic() + 1)
    assert (await holdfast("clear", COMPANY, "--yes")).code == 0
    assert harness.gateway.views() == []
    assert "unknown" in (await holdfast("clear", COMPANY, "--yes")).refused(1)
    bot_folder(holdfast.folder / "auth")
    ran = await holdfast("import-baileys", COMPANY, "auth", "--json")
    assert ran.code == 0, ran
    assert (ran.code, ran.json["keys"], ran.json["skipped"]) == (0, 12, [])
    await harness.until_state("connected")
    assert (await holdfast("import-baileys", COMPANY, "auth")).refused(1).endswith("backs it up and removes it")
    assert "is connected: stop it first" in (await holdfast("export-baileys", COMPANY, "out")).refused(1)
    assert (await holdfast("stop", COMPANY)).code == 0
    assert (await holdfast("export-baileys", COMPANY, "out", "--json")).json["state"] == "stopped"


async def test_only_the_configured_holdfast_is_used(alone: Command) -> None:
    """If the Holdfast at HOLDFAST_URL does not answer, the local data folder is not changed."""
    ran = await asyncio.gather(
        alone("backup", "create"), alone("clear", COMPANY, "--yes"), alone("export-baileys", COMPANY, "out")
    )
    assert [each.code for each in ran] == [3, 3, 3]
    assert not (alone.folder / "holdfast-data").exists()


@pytest.mark.parametrize("runs", [False, True], ids=["stopped", "running"])
async def test_a_device_is_imported_from_another_program(
    still: Command, holdfast: Command, tmp_path: Path, runs: bool
) -> None:
    """Through the running Holdfast or into the data folder; one in use only with --force, and then chats get
    new keys.
    """
    command = holdfast if runs else still
    state = "reconnecting" if runs else "connected at the next `holdfast serve`"
    texts = {name: json.dumps(value) for name, value in FILES.items()}
    stores.openwa_sqlite(tmp_path / "openwa.sqlite", "shop", texts).touch()
    source = ("openwa", COMPANY, "openwa.sqlite")
    assert "seems to be in use" in (await command("import", *source)).refused(1)
    assert "is not usable" in (await command("import", "openwa", "no/id", "openwa.sqlite")).refused(2)
    ran = await command("import", *source, "--session", "shop", "--force", "--json")
    assert ran.json == {"companyId": COMPANY, "keys": 12, "skipped": [], "state": state}
    assert ran.err.startswith("In use: ")
    assert ran.err.endswith("Chats get new keys before Holdfast sends.\n")
    assert "has a linked device already" in (await command("import", *source, "--force")).err
