"""A backup is untrusted input: whoever creates a file can make its checksums fit. Nothing of a bad one is stored."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from holdfast.backup.archive import ArchiveReader
from holdfast.backup.backup_dir import Opener
from holdfast.backup.creating import BackupMaker, BackupOrigin
from holdfast.backup.errors import BadBackup, RestoreRefused
from holdfast.backup.restoring import Restorer
from holdfast.store.database import Database
from holdfast.store.tables import metadata
from tests import filling
from tests.databases import migrated
from tests.doubles.fake_clock import FakeClock

COMPANY, OTHER = filling.company(1), filling.company(2)
FILLING = filling.Filling(companies=3, total=30, largest=0.003)

Parts = dict[str, list[Any]]
"""Of each table, the names of its columns, then its rows."""


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    path = tmp_path / "holdfast.db"
    path.write_bytes(migrated())
    opened = Database(path)
    yield opened
    opened.close()


@pytest.fixture
async def maker(database: Database, tmp_path: Path) -> BackupMaker:
    def fill(connection: Connection) -> None:
        FILLING.add_sessions(connection)
        for add in (FILLING.add_messages, FILLING.add_events, FILLING.add_rest):
            add(connection, range(30))

    await database.write(fill)
    return BackupMaker(database, tmp_path / "backups", origin=BackupOrigin(made_by="0.1.0", settings={}))


def forge(path: Path, change: Callable[[Parts], object], **manifest: Any) -> None:
    """Change the rows of a backup, and make every checksum fit again."""
    with zipfile.ZipFile(path) as old:
        told = json.loads(old.read("manifest.json"))
        parts = {
            name: [json.loads(line) for line in old.read(f"tables/{name}.jsonl").splitlines()]
            for name in told["tables"]
        }
    change(parts)
    texts = {name: b"".join(json.dumps(row).encode() + b"\n" for row in rows) for name, rows in parts.items()}
    told["tables"] = {
        name: {"rows": len(parts[name]) - 1, "sha256": hashlib.sha256(text).hexdigest()} for name, text in texts.items()
    }
    write(path, {f"tables/{name}.jsonl": text for name, text in texts.items()}, told | manifest)


def write(
    path: Path, members: Mapping[str, bytes], manifest: Mapping[str, Any] | bytes, *, how: int = zipfile.ZIP_DEFLATED
) -> None:
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w", how) as new:
        for name, content in members.items():
            new.writestr(name, content)
        new.writestr("manifest.json", text)
        new.comment = hashlib.sha256(text).hexdigest().encode()


def set_to(table: str, column: str, value: object) -> Callable[[Parts], None]:
    """Change a column of the first row."""

    def change(parts: Parts) -> None:
        columns, *rows = parts[table]
        rows[0][columns.index(column)] = value

    return change


def add_column(parts: Parts) -> None:
    parts["outbox"][0].append("evil")
    for row in parts["outbox"][1:]:
        row.append(1)


ROWS = {
    "a company that is a path": (set_to("sessions", "company_id", "../../etc"), "which is not a valid company id"),
    "a state that does not exist": (set_to("sessions", "state", "evil"), "a state that does not exist"),
    "a state of a message": (set_to("outbox", "state", "evil"), "can't be stored"),
    "an unknown column": (add_column, "which no version of Holdfast has"),
    "a column twice": (lambda parts: parts["outbox"].__setitem__(0, ["seq"] * 31), "has a column twice"),
    "a row too short": (lambda parts: parts["outbox"][1].pop(), "for 31 columns|values for"),
    "a row that is an object": (lambda parts: parts["outbox"].__setitem__(1, {"a": 1}), "can't be understood"),
    "a value that is a list": (set_to("outbox", "content", [[]]), "can't be understood"),
    "a number below nothing": (set_to("inbox", "seq", -1), "a row of inbox with the number -1"),
    "the largest number": (set_to("inbox", "seq", 2**63 - 1), "a row of inbox with the number"),
    "a number that is none": (set_to("inbox", "seq", "x' OR 1"), "a row of inbox with the number"),
    "a number above 64 bits": (set_to("media", "size_bytes", 2**80), "can't be stored"),
    "bytes that are none": (set_to("media_chunks", "bytes", "§§§"), "can't be stored"),
    "a null": (set_to("outbox", "company_id", None), "which is not a valid company id"),
    "a row of nobody": (set_to("outbox", "company_id", "nobody"), "can't be stored"),
    "the same row twice": (lambda parts: parts["inbox"].append(parts["inbox"][1]), "can't be stored"),
}  # fmt: skip


async def count(database: Database) -> int:
    def work(connection: Connection) -> int:
        each = (connection.scalar(select(func.count()).select_from(table)) for table in metadata.sorted_tables)
        return sum(found or 0 for found in each)

    return await database.read(work)


async def restore(database: Database, maker: BackupMaker, file: Path) -> None:
    clock = FakeClock()
    clock.advance_to(clock.monotonic() + 10)
    restorer = Restorer(database, maker, folder=file.parent, opener=Opener(), clock=clock)
    await restorer.restore(file, replace=True, take_stale=["all"], progress=lambda _: None)


@pytest.mark.parametrize("case", ROWS)
async def test_an_invalid_row_is_refused(database: Database, maker: BackupMaker, tmp_path: Path, case: str) -> None:
    """Although its checksum is right. The database stays unchanged."""
    change, said = ROWS[case]
    made = await maker.make(kind="manual", now=FakeClock().now())
    before = await count(database)
    forge(made.path, change)
    with pytest.raises((BadBackup, RestoreRefused), match=said):
        await restore(database, maker, made.path)
    assert await count(database) == before


def give_to_other(table: str) -> Callable[[Parts], None]:
    return set_to(table, "company_id", OTHER)


OF_ANOTHER = {
    "messages": (give_to_other("outbox"), "but it has rows of"),
    "a session": (give_to_other("sessions"), "but it has rows of"),
    "a file's part": (set_to("media_chunks", "media_id", "med_1"), "does not belong to the company"),
    "a file of another's": (set_to("inbox", "media_id", "med_1"), "refer to those of another company"),
    "a delivery of another's event": (set_to("webhook_deliveries", "event_seq", 2), "refer to those|can't be stored"),
}


@pytest.mark.parametrize("case", OF_ANOTHER)
async def test_a_backup_of_one_company_changes_no_other(database: Database, maker: BackupMaker, case: str) -> None:
    """A tenant may restore a file of its own company."""
    change, said = OF_ANOTHER[case]
    made = await maker.make(kind="manual", now=FakeClock().now(), company=COMPANY)
    before = await count(database)
    forge(made.path, change)
    with pytest.raises((BadBackup, RestoreRefused), match=said):
        await restore(database, maker, made.path)
    assert await count(database) == before


MANIFEST: Mapping[str, Any] = {
    "format": 2, "createdAt": "2026-01-01T00:00:00.000Z", "madeBy": "0", "revision": "0001", "kind": "manual",
    "companies": [], "tables": {}, "settings": {},
}  # fmt: skip


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"../../etc/passwd": b"x"}, "it has an unknown part"),
        ({"/etc/passwd": b"x"}, "it has an unknown part"),
        ({"tables/evil.jsonl": b"x"}, "it has an unknown part"),
        ({"tables/outbox.jsonl": b"[]\n"}, "does not list the part tables/outbox.jsonl"),
        ({"tables/outbox.jsonl": bytes(100 << 20)}, "would unpack to 100 MB"),
    ],
)
def test_an_unknown_member_is_refused(tmp_path: Path, members: dict[str, bytes], said: str) -> None:
    """Whatever its name is: nothing is ever unpacked to a name from the file. A zip bomb is refused without
    being read.
    """
    write(tmp_path / "evil.backup", members, MANIFEST)
    with pytest.raises(BadBackup, match=said):
        ArchiveReader(tmp_path / "evil.backup", name="evil")


@pytest.mark.parametrize(
    "manifest",
    [b"", b"[]", b"{}", b"null", b'{"format": "x"}', b'{"format": 1}', b"\xff", b'{"format":' + b"[" * 100_000],
)
def test_an_invalid_manifest_is_refused(tmp_path: Path, manifest: bytes) -> None:
    """With an explanation."""
    write(tmp_path / "evil.backup", {}, manifest)
    with pytest.raises(BadBackup, match="its manifest"):
        ArchiveReader(tmp_path / "evil.backup", name="evil")


def test_a_line_without_end_is_refused_before_it_is_in_memory(tmp_path: Path) -> None:
    """No row has more than 64 MB."""
    manifest = {**MANIFEST, "tables": {"notes": {"rows": 0, "sha256": ""}}}
    text = b"x" * (70 << 20)
    write(tmp_path / "evil.backup", {"tables/notes.jsonl": text}, manifest, how=zipfile.ZIP_STORED)
    with (
        ArchiveReader(tmp_path / "evil.backup", name="evil") as reader,
        pytest.raises(BadBackup, match="more than 64 MB"),
    ):
        reader.rows("notes")
