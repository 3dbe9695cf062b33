"""Reading the stores of other programs: every kind of source except servers, with a reason for each refusal."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from holdfast.importing.device import ImportedDevice, ImportRefused, import_from
from holdfast.importing.kinds import KINDS, open_source
from holdfast.importing.redis_hashes import unwrapped
from tests import peer_stores as stores
from tests.backup_service import FILES, bot_folder, credentials, octets, pair

NOW = datetime(2026, 11, 28, tzinfo=UTC)
TEXTS = {name: json.dumps(value, separators=(",", ":")) for name, value in FILES.items()}
KEYS = {
    ("pre-key", "1"),
    ("session", "962777.0"),
    ("session", "77_1.12"),
    ("sender-key", "1203@g.us::77_1::12"),
    ("sender-key", "96-15@g.us::962302::7"),
    ("sender-key-memory", "96-15@g.us"),
    ("app-state-sync-key", "AAA/BB+C="),
    ("app-state-sync-version", "critical_block"),
    ("lid-mapping", "962777"),
    ("lid-mapping", "77_reverse"),
    ("device-list", "962777"),
    ("tctoken", "77@lid"),
}
"""The imported data, whatever the source."""

Files = Mapping[str, str]


def read(
    kind: str, source: object, *, wanted: str | None = None, keys: str | None = None, **how: bool
) -> ImportedDevice:
    with open_source(kind, str(source), keys=keys) as opened:
        return import_from(opened, session_name=wanted, now=NOW, **how)


def refused(kind: str, source: object, **how: Any) -> str:
    with pytest.raises(ImportRefused) as error:
        read(kind, source, **how)
    return error.value.sentence


def waha_folder(path: Path, files: Files) -> tuple[str, Path]:
    return "waha", stores.rested(stores.waha_folder(path / "sessions", "shop", files)).parent


def waha_sqlite(path: Path, files: Files) -> tuple[str, Path]:
    return "waha", stores.waha_sqlite(path / "waha.sqlite3", "shop", files)


def openwa_folder(path: Path, files: Files) -> tuple[str, Path]:
    return "openwa", stores.rested(stores.folder(path / "baileys" / "shop", files)).parent


def openwa_sqlite(path: Path, files: Files) -> tuple[str, Path]:
    return "openwa", stores.openwa_sqlite(path / "openwa.sqlite", "shop", files)


def baileys_folder(path: Path, files: Files) -> tuple[str, Path]:
    return "baileys", stores.rested(stores.folder(path / "shop", files))


Store = Callable[[Path, Files], tuple[str, Path]]
PLACES = [waha_folder, waha_sqlite, openwa_folder, openwa_sqlite, baileys_folder]


@pytest.fixture(params=PLACES, ids=lambda place: place.__name__)
def store(request: pytest.FixtureRequest) -> Store:
    made: Store = request.param
    return made


def contents(path: Path) -> dict[Path, bytes]:
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    return {each: each.read_bytes() for each in files}


def test_every_key_is_imported_and_the_source_is_not_changed(store: Store, tmp_path: Path) -> None:
    """Under the names that Baileys uses; the source is byte for byte the same afterwards, with no file beside it."""
    kind, source = store(tmp_path, TEXTS)
    before = contents(tmp_path)
    imported = read(kind, source)
    assert {(key.type, key.id) for key in imported.device.keys} == KEYS
    assert json.loads(imported.device.credentials) == credentials()
    assert (imported.session, imported.skipped, imported.in_use) == ("shop", (), ())
    assert contents(tmp_path) == before


def _creds(**changes: object) -> Callable[[dict[str, str]], object]:
    left = {name: value for name, value in (credentials() | changes).items() if value is not None}
    return lambda files: files.update({"creds.json": json.dumps(left)})


def _put(name: str, text: str) -> Callable[[dict[str, str]], object]:
    return lambda files: files.update({name: text})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_put("creds.json", json.dumps(credentials())[:300]), "ends too early, half-written (after 300 "),
        (_put("creds.json", "gAAAAABnVlZ9c2VjcmV0"), "it is damaged, or encrypted by another program"),
        (_put("creds.json", "[]"), "it is not a JSON object"),
        (_put("creds.json", '"text"'), "it is not a JSON object"),
        (_put("creds.json", "[" * 100_000), "is nested too deeply"),
        (_put("creds.json", "9" * 5000), "a number that JavaScript can't read"),
        (_creds(me=None, account=None), "belongs to a device that was never linked"),
        (_creds(signedIdentityKey=None), "lacks signedIdentityKey: it is incomplete"),
        (_creds(noiseKey=None, registrationId=None), "lacks noiseKey, registrationId"),
        (_creds(registrationId="five"), "have registrationId that is not a number"),
        (_creds(noiseKey="text"), "has a noiseKey whose private key is not 32 bytes"),
        (_creds(signedIdentityKey={"private": octets(b"x"), "public": octets(b"y")}), "is not 32 bytes"),
        (_creds(nextPreKeyId=900_001, firstUnuploadedPreKeyId=10**9), "firstUnuploadedPreKeyId 1000000000"),
        (_creds(advSecretKey="short"), "advSecretKey"),
        (_creds(me={"id": ["x"]}), "has no account name in me.id"),
        (_creds(platform="x" * 100_000), "100000 characters in platform"),
        (_creds(routingInfo={"type": "Buffer", "data": [300]}), "neither numbers from 0 to 255 nor base64"),
    ],
)
def test_damaged_credentials_are_refused_with_a_reason(
    store: Store, tmp_path: Path, damage: Callable[[dict[str, str]], object], said: str
) -> None:
    """In every kind of source, also with --skip-damaged: the error says what is wrong, and shows no key."""
    files = dict(TEXTS)
    damage(files)
    kind, source = store(tmp_path, files)
    sentence = refused(kind, source, skip_damaged=True)
    assert said in sentence
    assert credentials()["advSecretKey"] not in sentence


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("session-962777.0", '{"_sessions":{"QQ==":{"regist', "ends too early"),
        ("session-962777.0", '{"_sessions":{"A":5}}', "holds an incomplete session"),
        ("session-962777.0", '{"_sessions":[]}', "holds no session"),
        ("pre-key-1", '{"public":{}}', "holds no key pair"),
        ("pre-key-1", '{"private":{"type":"Buffer","data":["x"]},"public":{}}', "neither numbers"),
        ("lid-mapping-962777", "null", "holds nothing"),
        ("tctoken-77@lid", "[" * 70 + "]" * 70, "is nested too deeply"),
        ("tctoken-77@lid", "", "is empty (0 bytes)"),
    ],
)
def test_a_damaged_key_is_named_and_left_out_only_on_request(
    store: Store, tmp_path: Path, name: str, text: str, said: str
) -> None:
    """The import is all or nothing, unless damaged keys are skipped explicitly."""
    kind, source = store(tmp_path, {**TEXTS, f"{name}.json": text})
    sentence = refused(kind, source)
    assert "1 damaged" in sentence
    assert said in sentence
    assert "Nothing was imported; with --skip-damaged" in sentence
    imported = read(kind, source, skip_damaged=True)
    assert len(imported.skipped) == 1
    assert len(imported.device.keys) == len(KEYS) - 1


@pytest.mark.parametrize(
    "form",
    [
        lambda content: {"type": "Buffer", "data": list(content)},
        lambda content: {str(index): each for index, each in enumerate(content)},
        lambda content: {"buffer": True, "data": octets(content)["data"]},
        lambda content: {"data": list(content), "type": "Buffer"},
    ],
    ids=["numbers", "uint8array", "old-replacer", "jsonb"],
)
def test_bytes_in_every_form_that_baileys_has_had_are_read(
    store: Store, tmp_path: Path, form: Callable[[bytes], object]
) -> None:
    """Lists of numbers, numbered members, the replacer of 2021, and the order in which JSONB stores members."""
    old = {name: form(bytes(range(first, first + 32))) for name, first in (("private", 0), ("public", 32))}
    changed = {**credentials(), "noiseKey": old}
    kind, source = store(tmp_path, {**TEXTS, "creds.json": json.dumps(changed), "pre-key-1.json": json.dumps(old)})
    imported = read(kind, source)
    assert json.loads(imported.device.credentials)["noiseKey"] == pair()
    assert [json.loads(key.value) for key in imported.device.keys if key.type == "pre-key"] == [pair()]


@pytest.mark.parametrize(
    ("name", "stored", "value"),
    [
        ("creds", b'"{\\"a\\":1}"', b'{"a":1}'),
        ("creds", b'"\\"{\\\\\\"a\\\\\\":1}\\""', b'{"a":1}'),
        ("lid-mapping-9", b'"\\"77\\""', b'"77"'),
        ("lid-mapping-9", b'"77"', b'"77"'),
        ("pre-key-1", b'{"a":1}', b'{"a":1}'),
        ("pre-key-1", b'"half', b'"half'),
    ],
)
def test_a_value_that_was_serialised_twice_is_read(name: str, stored: bytes, value: bytes) -> None:
    """As Evolution API does; a mapping, which is itself a JSON string, stays a string."""
    assert unwrapped(name, stored) == value


# Selecting a session.


def test_of_several_sessions_one_must_be_named(store: Store, tmp_path: Path) -> None:
    """The error lists the sessions."""
    kind, source = store(tmp_path, TEXTS)
    if kind == "baileys":
        source = source.parent  # a folder that has several
    _another(kind, source)
    assert refused(kind, source).endswith('holds 2 sessions: name one with --session: "other", "shop"')
    assert refused(kind, source, wanted="shops").endswith('has no session "shops": it has "other", "shop"')
    assert read(kind, source, wanted="shop").session == "shop"


def _another(kind: str, source: Path) -> None:
    changed = {**TEXTS, "creds.json": json.dumps(credentials("962303"))}
    if source.is_file() and kind == "openwa":
        stores.openwa_sqlite(source, "other", changed)
    elif source.is_file():
        with contextlib.closing(sqlite3.connect(source)) as connection:
            row = ("other", "creds", "creds", changed["creds.json"])
            connection.execute("INSERT INTO noweb_auth_state VALUES (?, ?, ?, ?)", row)
            connection.commit()
        stores.rested(source)
    else:
        parent = source / "noweb" if kind == "waha" else source
        stores.rested(stores.folder(parent / "other", changed))


# Other files and folders.


@pytest.mark.parametrize(
    ("kind", "source", "said"),
    [
        ("whatsmeow", "x.db", '"x.db" does not exist: give the SQLite file with the table whatsmeow_device'),
        ("waha", "nowhere", '"nowhere" does not exist: give the folder .sessions/noweb, or postgresql'),
        ("waha", "mongodb://u:secret@h/x", "an address of mongodb is not a source for waha: give the folder"),
        ("evolution", "mysql://u:secret@h/x", "an address of mysql is not a source for evolution: give postgresql://"),
        ("evolution", "postgresql://u:secret@h/x", "keeps only credentials in PostgreSQL: name the place"),
        ("evolution", ".", '"." is not a source for evolution: give postgresql://… with --keys'),
        ("baileys-api", "postgresql://u:secret@h/x", "is not a source for baileys-api: give redis://…"),
        ("openwa", "redis://u:secret@h", "is not a source for openwa: give the folder data/baileys"),
        ("waha", "postgresql://u:secret@:x/y", "the address can't be parsed: write postgresql://"),
        ("waha", "postgresql://u:secret@127.0.0.1:9/y", "PostgreSQL database 127.0.0.1:9/y can't be read"),
        ("waha", "postgresql://u:secret@127.0.0.1:9/y?schema=a;b", "the schema in the address is not valid"),
        ("baileys-api", "redis://u:secret@127.0.0.1:9/0", "Redis database 127.0.0.1:9/0 can't be read"),
        ("baileys-api", "redis://u:secret@h:port", "the address can't be parsed: write redis://"),
        ("baileys-api", "redis://u:secret@127.0.0.1:9/0?family=0", "Redis database 127.0.0.1:9/0 can't be read"),
    ],
)
def test_a_source_of_another_kind_is_refused(
    kind: str, source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to give instead, and never contains the password in the URL."""
    monkeypatch.chdir(tmp_path)
    sentence = refused(kind, source)
    assert said in sentence
    assert "secret" not in sentence


def test_only_evolution_has_keys_in_a_second_place(tmp_path: Path) -> None:
    """Other programs have keys and credentials in one place."""
    kind, source = openwa_folder(tmp_path, TEXTS)
    assert refused(kind, source, keys="x").startswith("--keys is only for Evolution API with PostgreSQL")


@pytest.mark.parametrize("engine", ["webjs", "gows"])
def test_sessions_of_wahas_other_engines_are_refused_by_name(engine: str, tmp_path: Path) -> None:
    """They have no keys of Baileys; those of GOWS are whatsmeow's."""
    (tmp_path / "sessions" / engine / "shop" / "session" / "Default").mkdir(parents=True)
    assert f"is of WAHA's engine {engine.upper()}" in refused("waha", tmp_path / "sessions")
    assert f"is of WAHA's engine {engine.upper()}" in refused("waha", tmp_path / "sessions" / engine)


@pytest.mark.parametrize(
    ("kind", "statement", "said"),
    [
        ("waha", "CREATE TABLE whatsmeow_device (jid TEXT)", "is of WAHA's engine GOWS"),
        (
            "waha",
            "CREATE TABLE chats (id TEXT)",
            "has no table of NOWEB's credentials: with local storage they are files",
        ),
        ("openwa", "CREATE TABLE sessions (name TEXT)", "has no credentials of Baileys: give the folder data/baileys"),
        ("openwa", "CREATE VIEW baileys_auth_state AS SELECT 1 AS value", "has no credentials of Baileys"),
    ],
)
def test_databases_without_credentials_are_refused(kind: str, statement: str, said: str, tmp_path: Path) -> None:
    """The error names their tables."""
    path = tmp_path / "a.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
    assert said in refused(kind, stores.rested(path))


def test_a_file_that_only_looks_like_a_database_is_refused(tmp_path: Path) -> None:
    """A truncated file, or any other file."""
    kind, source = openwa_sqlite(tmp_path, TEXTS)
    source.write_bytes(source.read_bytes()[:5000])
    assert "can't be read" in refused(kind, stores.rested(source))
    (tmp_path / "text").write_text("no database")
    assert "is not a source for openwa" in refused("openwa", tmp_path / "text")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    """The error says what to check."""
    assert f'folder "{tmp_path}" holds no session' in refused("waha", tmp_path)


# In use.


def test_a_source_that_was_written_just_now_is_refused_unless_forced(store: Store, tmp_path: Path) -> None:
    """With --force it is imported and reported as in use: chats then get new keys."""
    kind, source = store(tmp_path, TEXTS)
    just_now = NOW.timestamp() - 5
    for each in (source, *source.rglob("*")):
        if each.is_file():
            os.utime(each, (just_now, just_now))
    assert "seems to be in use" in (sentence := refused(kind, source))
    assert "was written 5 s ago" in sentence
    assert "repeat this with --force" in sentence
    assert read(kind, source, force=True).in_use


def test_a_database_that_a_process_has_open_is_refused(tmp_path: Path) -> None:
    """SQLite's locks show it, also between writes; its log is read from a copy."""
    kind, source = openwa_sqlite(tmp_path, {**TEXTS, "pre-key-1.json": "{}"})
    connection = sqlite3.connect(source)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(
        "UPDATE baileys_auth_state SET value = ? WHERE \"keyType\" = 'pre-key'", (TEXTS["pre-key-1.json"],)
    )
    connection.commit()
    stores.rested(tmp_path)
    assert "has " in (sentence := refused(kind, source))
    assert "open" in sentence
    before = contents(tmp_path)
    imported = read(kind, source, force=True)
    assert [json.loads(key.value) for key in imported.device.keys if key.type == "pre-key"] == [pair()]
    assert contents(tmp_path) == before
    connection.close()


def test_a_valid_lease_is_a_sign_of_use(tmp_path: Path) -> None:
    """OpenWA's processes hold leases on sessions."""
    kind, source = openwa_sqlite(tmp_path, TEXTS)
    with contextlib.closing(sqlite3.connect(source)) as connection:
        connection.execute("UPDATE sessions SET \"leaseExpiresAt\" = '2026-11-28 00:00:30'")
        connection.commit()
    assert 'the process "node-1" of OpenWA holds the lease on it' in refused(kind, stores.rested(source))


def test_each_kind_describes_its_sources() -> None:
    """For the error that refuses any other source."""
    assert all(kind.expects for kind in KINDS.values())


def test_a_bot_folder_is_read_in_the_same_way(tmp_path: Path) -> None:
    """`holdfast import baileys` reads what `import-baileys` reads."""
    assert len(read("baileys", bot_folder(tmp_path / "auth")).device.keys) == len(KEYS)
