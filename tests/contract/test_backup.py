"""Backups: one file with a consistent snapshot, from either database into either, verified, and never partial."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
import zipfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import URL, Connection, select

from holdfast.backup.backup_dir import Opener, inspect, names, prune
from holdfast.backup.creating import BackupMaker, BackupOrigin, BackupResult
from holdfast.backup.encryption import NO_ENCRYPTION, BackupEncryption
from holdfast.backup.errors import BackupFailed, BadBackup, RestoreRefused
from holdfast.backup.restoring import EVERY, Restored, Restorer
from holdfast.backup.rows import KEPT, NOT_KEPT
from holdfast.base.errors import Misconfigured
from holdfast.base.ids import SystemRandomSource
from holdfast.delivery.message import MessageState
from holdfast.delivery.stores import Draft
from holdfast.session.engine import Commit, Decrypted, InboundMessage
from holdfast.session.state import State
from holdfast.session.stores import Record
from holdfast.store.credentials import EngineRows
from holdfast.store.database import Database
from holdfast.store.inbox import InboxRows
from holdfast.store.outbox import OutboxRows
from holdfast.store.postgres import parse
from holdfast.store.sessions import SessionRows
from holdfast.store.tables import media, media_chunks, metadata, notes, signal_keys
from holdfast.store.webhooks import WebhookRows
from tests.contract.places import make_place
from tests.databases import migrated
from tests.doubles.disk import record_syncs, survives_power_cut
from tests.doubles.fake_clock import FakeClock
from tests.postgres_process import PostgresProcess

COMPANY, OTHER = "962302", "962303"
CREDENTIALS = json.dumps({"me": {"id": "962302:7@s.whatsapp.net", "lid": "77:7@lid"}, "account": {}})
OPEN_SESSION = '{"_sessions":{"B":{"registrationId":5,"indexInfo":{"baseKey":"B","closed":-1}}},"version":"v1"}'
CHUNK = bytes(range(256))

NewPlace = Callable[[], Path | URL]


@dataclass(slots=True)
class Installation:
    """An installation: a database, its folder of backups, and time."""

    database: Database
    folder: Path
    clock: FakeClock
    encryption: BackupEncryption = NO_ENCRYPTION

    async def make(self, *, kind: str = "manual") -> BackupResult:
        return await self.maker.make(kind=kind, now=self.clock.now())

    @property
    def maker(self) -> BackupMaker:
        origin = BackupOrigin(made_by="0.1.0", settings={"port": 3000, "apiKey": "(set)"})
        return BackupMaker(self.database, self.folder, origin=origin, encryption=self.encryption)

    async def restore(self, file: Path, *, take_stale: tuple[str, ...] = (), staging: bool = False) -> Restored:
        restorer = Restorer(
            self.database,
            self.maker,
            folder=self.folder,
            opener=Opener(passphrase=self.encryption.passphrase),
            clock=self.clock,
        )
        return await restorer.restore(file, take_stale=take_stale, staging=staging, progress=lambda _: None)

    async def contents(self) -> dict[str, list[tuple[object, ...]]]:
        """Every row of every table that is kept."""

        def work(connection: Connection) -> dict[str, list[tuple[object, ...]]]:
            return {
                table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
                for table in KEPT
            }

        return await self.database.read(work)

    @property
    def engine(self) -> EngineRows:
        return EngineRows(self.database, clock=self.clock, randomness=SystemRandomSource())

    async def use_keys(self, company: str = COMPANY) -> None:
        """Send a message, which advances the ratchet."""
        await self.engine.commit(company, Commit(link=1, seq=1, keys={"pre-key": {"9": "used"}}))

    async def fill(self, state: State = State.CONNECTED) -> None:
        """Two companies, one of them linked and busy."""
        now = "2026-01-01T00:00:01.000Z"
        for company, its in ((COMPANY, state), (OTHER, State.UNPAIRED)):
            await SessionRows(self.database).save(Record(company=company, state=its, since=now, created_at=now))
        message = InboundMessage(
            whatsapp_id="IN1", chat="c", sender="s", type="text", text="größer 🙂 \u2028", sent_at_s=1, from_me=False
        )
        keys: dict[str, dict[str, str | None]] = {
            "session": {"77.0": OPEN_SESSION},
            "sender-key": {"1@g.us::962302::7": "ours", "1@g.us::962777::0": "theirs"},
            "sender-key-memory": {"1@g.us": "{}"},
        }
        decrypted = [Decrypted(ciphertext_sha256="ab", plaintext="AAEC", message=message)]
        await self.engine.commit(
            COMPANY, Commit(link=1, seq=1, credentials=CREDENTIALS, paired=True, keys=keys, decrypted=decrypted)
        )
        await OutboxRows(self.database, clock=self.clock).accept(draft("OUT1"))
        await self.database.write(_add_media)


def draft(whatsapp_id: str) -> Draft:
    return Draft(
        id=f"msg_{whatsapp_id}",
        whatsapp_id=whatsapp_id,
        company=COMPANY,
        recipient="962777",
        chat="962777@s.whatsapp.net",
        content={"text": "hello"},
        idempotency_key=None,
        request_hash="h",
    )


def _add_media(connection: Connection) -> None:
    row = {"id": "m", "company_id": COMPANY, "mimetype": "image/png", "size_bytes": 512, "sha256": "", "created_at": ""}
    connection.execute(media.insert(), [{**row, "is_whole": True}])
    connection.execute(media_chunks.insert(), [{"media_id": "m", "n": n, "bytes": CHUNK} for n in range(20)])


@pytest.fixture
async def build(tmp_path: Path) -> AsyncIterator[Callable[[Path | URL], Installation]]:
    """Creates installations; their databases are closed at the end."""
    built: list[Installation] = []

    def make(place: Path | URL) -> Installation:
        installation = Installation(
            database=Database(place), folder=tmp_path / f"backups-{len(built)}", clock=FakeClock()
        )
        built.append(installation)
        return installation

    yield make
    for installation in built:
        installation.database.close()


@pytest.fixture
async def installation(new_place: NewPlace, build: Callable[[Path | URL], Installation]) -> Installation:
    made = build(new_place())
    await made.fill()
    return made


@pytest.fixture
async def lone(tmp_path: Path, build: Callable[[Path | URL], Installation]) -> Installation:
    """An installation on SQLite, for tests that do not depend on the database."""
    path = tmp_path / "lone.db"
    path.write_bytes(migrated())
    made = build(path)
    await made.fill()
    return made


# One file.


def test_every_table_is_kept_or_named_with_its_reason() -> None:
    """A table that a later version adds is included automatically."""
    assert {table.name for table in KEPT} | NOT_KEPT == set(metadata.tables)


async def test_a_backup_restores_everything(
    installation: Installation, new_place: NewPlace, build: Callable[..., Installation]
) -> None:
    """Every row of every table is restored into an empty database of the same kind; restored ratchets can't send."""
    made, before = await installation.make(), await installation.contents()
    empty = build(new_place())
    restored = await empty.restore(made.path)
    after = await empty.contents()
    keys = after.pop("signal_keys")
    assert before.pop("signal_keys") != keys
    assert after == before
    assert (restored.refused, restored.copy) == ({}, None)
    assert restored.rows == sum(part.rows for part in made.manifest.tables.values()) > 25


@pytest.mark.slow
@pytest.mark.parametrize(("source", "target"), [("sqlite", "postgres"), ("postgres", "sqlite")])
async def test_a_backup_of_one_database_fits_the_other(
    request: pytest.FixtureRequest, tmp_path: Path, build: Callable[..., Installation], source: str, target: str
) -> None:
    """An installation moves from SQLite to PostgreSQL, or back, by a backup; new rows get new numbers there."""
    installation = build(make_place(source, request, tmp_path))
    await installation.fill()
    made = await installation.make()
    other = build(make_place(target, request, tmp_path))
    await other.restore(made.path)
    before, after = await installation.contents(), await other.contents()
    assert before.pop("signal_keys") != after.pop("signal_keys")
    assert before == after
    await OutboxRows(other.database, clock=other.clock).accept(draft("OUT2"))
    assert len((await other.contents())["outbox"]) == 2


async def test_a_backup_is_consistent_while_writers_continue(installation: Installation) -> None:
    """A message accepted during the backup is in it completely or not at all, and the writer never waits for the
    backup.
    """
    outbox, made = OutboxRows(installation.database, clock=installation.clock), asyncio.Event()

    async def write() -> int:
        count = 0
        while not made.is_set():
            await outbox.accept(draft(f"N{count:05}"))
            count += 1
        return count

    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(write())
        await asyncio.sleep(0)
        backup = await installation.make()
        made.set()
    assert inspect(backup.path, Opener()).problem is None
    assert backup.manifest.tables["outbox"].rows <= 1 + writing.result()
    assert len(await InboxRows(installation.database).received(COMPANY, after=0, limit=9)) == 1


async def test_the_manifest_describes_the_backup(lone: Installation) -> None:
    """It contains time, version, companies and settings; only its owner can read it, and no temporary file remains."""
    made = await lone.make()
    manifest = made.manifest
    assert [(each.company_id, each.state, each.is_paired) for each in manifest.companies] == [
        (COMPANY, "connected", True),
        (OTHER, "unpaired", False),
    ]
    assert (manifest.settings["apiKey"], manifest.made_by, manifest.kind) == ("(set)", "0.1.0", "manual")
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(lone.folder.stat().st_mode) == 0o700
    assert list(lone.folder.iterdir()) == [made.path]
    with zipfile.ZipFile(made.path) as plain:
        assert json.loads(plain.read("manifest.json"))["companies"][0]["companyId"] == COMPANY


@pytest.mark.parametrize(
    "encryption", [NO_ENCRYPTION, BackupEncryption(passphrase="correct horse")], ids=["plain", "encrypted"]
)
async def test_a_backup_survives_a_power_cut(
    lone: Installation, monkeypatch: pytest.MonkeyPatch, encryption: BackupEncryption
) -> None:
    """A backup that was reported is on disk: first the content, then the name."""
    lone.encryption = encryption
    lone.folder.mkdir()
    syncs = record_syncs(monkeypatch, lone.folder)
    made = await lone.make()
    assert survives_power_cut(made.path, syncs)


async def test_two_simultaneous_backups_are_two_files(lone: Installation) -> None:
    """Two companies that are cleared at once each have their own file; none is overwritten or refused."""
    maker, now = lone.maker, lone.clock.now()
    made = await asyncio.gather(maker.make(kind="before-clear", now=now), maker.make(kind="before-clear", now=now))
    assert len({each.path for each in made}) == len(list(lone.folder.iterdir())) == 2


async def test_a_backup_that_fails_leaves_nothing(lone: Installation) -> None:
    """No partial file is left, and the error says where and what to do."""
    lone.folder.mkdir()
    lone.folder = lone.folder / "holdfast.db"
    lone.folder.write_text("a file in the way")
    with pytest.raises(BackupFailed, match="check that the disk has free space"):
        await lone.make()


async def test_a_cancelled_backup_ends_soon(tmp_path: Path) -> None:
    """A stop of Holdfast does not wait for the remaining gigabytes; no file is left."""
    (tmp_path / "its.db").write_bytes(migrated())
    installation = Installation(database=Database(tmp_path / "its.db"), folder=tmp_path / "backups", clock=FakeClock())

    def fill(connection: Connection) -> None:
        connection.execute(notes.insert(), [{"name": f"{n}", "value": ""} for n in range(1000)])
        keys = [{"company_id": COMPANY, "type": "t", "id": f"{n}", "value": ""} for n in range(1000)]
        connection.execute(signal_keys.insert(), keys)

    await installation.database.write(fill)
    told: list[str] = []
    begun, may_finish, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()

    def progress(sentence: str) -> None:
        told.append(sentence)
        loop.call_soon_threadsafe(begun.set)
        may_finish.wait(10)

    making = asyncio.create_task(
        installation.maker.make(kind="manual", now=installation.clock.now(), progress=progress)
    )
    await begun.wait()
    making.cancel()
    await asyncio.wait([making])
    may_finish.set()
    await asyncio.to_thread(installation.database.close)  # waits for what reads
    assert told == ["notes: 1000 rows"]
    assert list(installation.folder.iterdir()) == []


async def test_the_next_backup_removes_the_file_of_an_interrupted_one(lone: Installation) -> None:
    """A crash during a backup leaves a hidden file only until the next one."""
    lone.folder.mkdir()
    (lone.folder / ".holdfast-x.backup.part").write_text("half")
    await lone.make()
    assert [path.name[:9] for path in lone.folder.iterdir()] == ["holdfast-"]


# Verified.


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def _flip(path: Path) -> None:
    with zipfile.ZipFile(path) as found:
        offset = found.getinfo("tables/signal_keys.jsonl").header_offset
    content = bytearray(path.read_bytes())
    content[offset + 90] ^= 0xFF
    path.write_bytes(content)


def _swap(path: Path) -> None:
    """A member that somebody changed with a ZIP tool: its own checksum is right."""
    _rewrite(path, "tables/outbox.jsonl", lambda text: text.replace(b"hello", b"owned"))


def _forge(path: Path) -> None:
    _rewrite(path, "manifest.json", lambda text: text.replace(b"connected", b"stopped"))


def _lose(path: Path) -> None:
    _rewrite(path, "tables/inbox.jsonl", lambda _: None)


def _rewrite(path: Path, member: str, change: Callable[[bytes], bytes | None]) -> None:
    with zipfile.ZipFile(path) as old:
        parts, comment = {name: old.read(name) for name in old.namelist()}, old.comment
    with zipfile.ZipFile(path, "w") as new:
        new.comment = comment
        for name, text in parts.items():
            changed = change(text) if name == member else text
            if changed is not None:
                new.writestr(name, changed)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_cut, "was not copied completely"),
        (_flip, "tables/signal_keys.jsonl can't be read"),
        (_swap, "tables/outbox.jsonl does not match its checksum"),
        (_forge, "its manifest does not match its checksum"),
        (_lose, "the part tables/inbox.jsonl is missing"),
        (lambda path: path.write_text("hello"), "it is not a backup"),
        (Path.unlink, "there is no backup"),
    ],
)
async def test_a_damaged_backup_is_refused_before_anything_changes(
    lone: Installation, damage: Callable[[Path], None], said: str
) -> None:
    """The error names the file and the fault; the database stays unchanged, and no backup of it is made."""
    made = await lone.make()
    before = await lone.contents()
    damage(made.path)
    with pytest.raises(BadBackup, match=said):
        await lone.restore(made.path)
    assert await lone.contents() == before
    assert all("before-restore" not in path.name for path in lone.folder.iterdir())


@pytest.mark.parametrize(
    ("field", "value", "said"), [("revision", "9999", "newer than this Holdfast"), ("format", 9, "format 9")]
)
async def test_a_backup_of_a_newer_holdfast_is_refused(
    lone: Installation, field: str, value: object, said: str
) -> None:
    """Its rows could have a meaning that this version does not know."""
    import hashlib

    made = await lone.make()
    with zipfile.ZipFile(made.path) as old:
        manifest = json.loads(old.read("manifest.json")) | {field: value}
    text = json.dumps(manifest).encode()
    _rewrite(made.path, "manifest.json", lambda _: text)
    with zipfile.ZipFile(made.path, "a") as changed:
        changed.comment = hashlib.sha256(text).hexdigest().encode()
    with pytest.raises((RestoreRefused, BadBackup), match=said):
        await lone.restore(made.path)


# Restoring.


async def test_a_restore_replaces_everything_and_makes_a_backup_first(installation: Installation) -> None:
    """Afterwards the database has the content of the backup, and the content before is in another backup."""
    made, backed_up = await installation.make(), await installation.contents()
    await OutboxRows(installation.database, clock=installation.clock).accept(draft("LATER"))
    later = await installation.contents()
    installation.clock.advance_to(installation.clock.monotonic() + 1)
    restored = await installation.restore(made.path)
    assert (await installation.contents())["outbox"] == backed_up["outbox"]
    assert restored.copy is not None
    installation.clock.advance_to(installation.clock.monotonic() + 1)
    await installation.restore(restored.copy)
    assert (await installation.contents())["outbox"] == later["outbox"]


async def test_restored_ratchets_never_send_again(lone: Installation) -> None:
    """Sessions with devices are closed, and the account's own sender keys of groups are removed; those of others are
    unchanged.
    """
    made = await lone.make()
    lone.clock.advance_to(lone.clock.monotonic() + 1)
    await lone.restore(made.path)
    (session,) = (await lone.engine.keys(COMPANY, "session", ["77.0"])).values()
    assert json.loads(session)["_sessions"]["B"]["indexInfo"]["closed"] > 1e12
    assert await lone.engine.keys(COMPANY, "sender-key", ["1@g.us::962302::7"]) == {}
    assert await lone.engine.keys(COMPANY, "sender-key", ["1@g.us::962777::0"]) == {"1@g.us::962777::0": "theirs"}
    assert await lone.engine.keys(COMPANY, "sender-key-memory", ["1@g.us"]) == {}


async def test_companies_used_since_the_backup_are_restored_stopped(installation: Installation) -> None:
    """Their keys were used after the backup: the message and the record say so; the other companies start."""
    made = await installation.make()
    await installation.use_keys()
    installation.clock.advance_to(installation.clock.monotonic() + 1)
    restored = await installation.restore(made.path)
    assert list(restored.refused) == [COMPANY]
    assert restored.refused[COMPANY].startswith(
        "company 962302 is restored stopped: this installation has newer keys of its device. Messages that it "
    )
    assert "`holdfast start 962302`" in restored.refused[COMPANY]
    record = await SessionRows(installation.database).find(COMPANY)
    assert record is not None
    assert (record.state, record.reason) == (State.STOPPED, "restored-stale")


@pytest.mark.parametrize("told", [COMPANY, EVERY])
async def test_a_stale_company_is_started_on_request(lone: Installation, told: str) -> None:
    """The operator accepts the consequences; a company that is not in the backup is an error."""
    made = await lone.make()
    await lone.use_keys()
    lone.clock.advance_to(lone.clock.monotonic() + 1)
    with pytest.raises(RestoreRefused, match='company "962309" of --take-stale is not in this backup'):
        await lone.restore(made.path, take_stale=("962309",))
    restored = await lone.restore(made.path, take_stale=(told,))
    assert restored.refused == {}


@pytest.mark.parametrize(("days", "words"), [(1, "1 d ago"), (-1, "(by this machine's clock, in the future)")])
async def test_a_backup_of_another_day_on_an_empty_machine_stops_connected_companies(
    lone: Installation, tmp_path: Path, build: Callable[..., Installation], days: int, words: str
) -> None:
    """An empty machine has no evidence, so a backup older than an hour is treated as stale, and so is one whose age
    can't be known, because this machine's clock is behind.
    """
    made = await lone.make()
    path = tmp_path / "empty.db"
    path.write_bytes(migrated())
    empty = build(path)
    empty.clock.set_wall(empty.clock.now() + timedelta(days=days))
    restored = await empty.restore(made.path)
    assert list(restored.refused) == [COMPANY]
    assert f"it was connected when this backup was made {words}" in restored.refused[COMPANY]


async def test_a_later_backup_shows_that_keys_were_used_since(
    lone: Installation, tmp_path: Path, build: Callable[..., Installation]
) -> None:
    """Also on an empty machine that has the folder of backups."""
    made = await lone.make()
    await lone.use_keys()
    lone.clock.advance_to(lone.clock.monotonic() + 60)
    later = await lone.make()
    path = tmp_path / "empty.db"
    path.write_bytes(migrated())
    empty = build(path)
    empty.folder = lone.folder
    empty.clock.advance_to(empty.clock.monotonic() + 61)
    restored = await empty.restore(made.path)
    assert f"the later backup of {later.manifest.created_at} has newer keys" in restored.refused[COMPANY]


@pytest.mark.slow
async def test_a_staging_copy_can_send_nothing(
    installation: Installation, new_place: NewPlace, build: Callable[..., Installation]
) -> None:
    """It has no device, no keys, no webhook receiver and nothing left to send, but the messages and companies. An old
    backup can be used, because no session of it connects.
    """
    await WebhookRows(installation.database).set_default("https://crm.example/", "whsec_x")
    made = await installation.make()
    copy = build(new_place())
    copy.clock.advance_to(copy.clock.monotonic() + timedelta(days=1).total_seconds())
    restored = await copy.restore(made.path, staging=True)
    before, after = await installation.contents(), await copy.contents()
    assert restored.refused == {}
    for table in ("credentials", "signal_keys", "decrypted", "webhook_endpoints"):
        assert before[table], f"no {table} to begin with"
        assert not after[table]
    assert not after["webhook_deliveries"]
    assert len(before["outbox"]) == len(after["outbox"]) > 0
    assert before["inbox"] == after["inbox"] != []
    records = await SessionRows(copy.database).all()
    assert [(record.company, record.state, record.phone_number) for record in records] == [
        (COMPANY, State.UNPAIRED, None),
        (OTHER, State.UNPAIRED, None),
    ]
    outbox = OutboxRows(copy.database, clock=copy.clock)
    messages = await outbox.messages(COMPANY, state=None, after=0, limit=99)
    assert {message.state for message in messages} == {MessageState.CANCELLED}


async def test_a_staging_copy_never_replaces_an_installation_with_linked_phones(lone: Installation) -> None:
    """Unless another folder is given, there is an error, and nothing is changed."""
    made, before = await lone.make(), await lone.contents()
    with pytest.raises(RestoreRefused, match=r'company "962302" is linked in this installation.*HOLDFAST_DATA_DIR'):
        await lone.restore(made.path, staging=True)
    assert await lone.contents() == before


async def test_a_restore_refuses_a_database_in_use(
    postgres: PostgresProcess, build: Callable[..., Installation]
) -> None:
    """The error names a node with valid leases; after they expire the restore succeeds."""
    url = postgres.new_migrated()
    installation = build(parse(url))
    await installation.fill()
    made = await installation.make()
    installation.clock.advance_to(installation.clock.monotonic() + 1)
    lease = f"INSERT INTO leases VALUES ('{COMPANY}', 'node-a', 'h', 1, now() + interval '1 hour')"
    with postgres.operator(url) as operator:
        operator.execute(lease)
        with pytest.raises(RestoreRefused, match='in use by the Holdfast process "node-a"'):
            await installation.restore(made.path)
        operator.execute("UPDATE leases SET expires_at = now()")
    installation.clock.advance_to(installation.clock.monotonic() + 1)
    await installation.restore(made.path)


# Encrypted.


async def test_an_encrypted_backup_shows_nothing_and_opens_with_its_passphrase(lone: Installation) -> None:
    """It opens with no other passphrase; nothing unencrypted is left in the folder."""
    lone.encryption = BackupEncryption(passphrase="correct horse battery")
    made = await lone.make()
    assert list(lone.folder.iterdir()) == [made.path]
    assert made.path.read_bytes().startswith(b"age-encryption.org/")
    locked = inspect(made.path, Opener())
    assert (locked.manifest, locked.problem, locked.is_encrypted) == (None, None, True)
    assert "can't be decrypted" in str(inspect(made.path, Opener(passphrase="x")).problem)
    assert inspect(made.path, Opener(passphrase="correct horse battery")).problem is None
    assert list(lone.folder.iterdir()) == [made.path]


async def test_a_backup_for_recipients_opens_with_their_identity(lone: Installation, tmp_path: Path) -> None:
    """The machine that makes it need not be able to read it."""
    import pyrage

    from holdfast.backup.encryption import read_encryption

    identity = pyrage.x25519.Identity.generate()
    lone.encryption = read_encryption(passphrase=None, recipients=str(identity.to_public()))
    made = await lone.make()
    file = tmp_path / "key.txt"
    file.write_text(f"# created: today\n{identity}\n")
    assert inspect(made.path, Opener(identity=file)).problem is None
    file.write_text("nonsense")
    assert "holds no secret key of age" in str(inspect(made.path, Opener(identity=file)).problem)
    for passphrase, recipients, said in [(None, "age1nonsense", "begin with age1"), ("p", "age1x", "both set")]:
        with pytest.raises(Misconfigured, match=said):
            read_encryption(passphrase=passphrase, recipients=recipients)


# The folder of backups.


async def test_only_old_scheduled_backups_are_removed(lone: Installation) -> None:
    """The newest are kept, and all that a person requested, however many."""
    for kind in ("manual", "scheduled", "scheduled", "before-clear", "scheduled"):
        await lone.make(kind=kind)
        lone.clock.advance_to(lone.clock.monotonic() + 60)
    (gone,) = prune(lone.folder, keep=2, now=lone.clock.now())
    assert "scheduled" in gone.name
    kinds = [path.name.removesuffix(".backup").partition("Z-")[2] for path in names(lone.folder)]
    assert kinds == ["scheduled", "before-clear", "scheduled", "manual"]


async def test_backups_of_before_the_clock_was_set_back_are_the_oldest(lone: Installation) -> None:
    """Their names are of a time that is still to come. The backup that was just made must not be removed for them."""
    lone.clock.set_wall(lone.clock.now() + timedelta(days=400))
    for _ in range(2):
        await lone.make(kind="scheduled")
        lone.clock.advance_to(lone.clock.monotonic() + 60)
    lone.clock.set_wall(lone.clock.now() - timedelta(days=400))
    made = await lone.make(kind="scheduled")
    oldest, newer = [path for path in reversed(names(lone.folder)) if path != made.path]
    assert prune(lone.folder, keep=2, now=lone.clock.now()) == [oldest]
    assert set(names(lone.folder)) == {made.path, newer}
