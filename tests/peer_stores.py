"""The stores of other programs, written in their layouts from the files of a Baileys folder.

The packages of these programs are in no registry (npm has neither evolution-api, waha, baileys-api nor openwa), so
their own code can't be used here. The layouts follow their public sources: docs/moving.md names the versions. The
folders of WAHA and OpenWA are those of Baileys' own `useMultiFileAuthState`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
from redis import Redis

LONG_AGO = 1_700_000_000
INSTANCE = "0b7ad5ae-93f4-4f5f-9e8a-5b3f4a8f6c11"

_TYPES = (
    *("app-state-sync-version", "app-state-sync-key", "sender-key-memory", "sender-key", "identity-key"),
    *("device-list", "lid-mapping", "pre-key", "session", "tctoken"),
)

Files = Mapping[str, str]
"""Texts by file name, such as `creds.json` and `pre-key-1.json`."""


def files_of(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def fields_of(files: Files) -> dict[str, str]:
    """Texts by Baileys' names for a store: `creds`, or type and id of a key."""
    return {_field(name.removesuffix(".json")): text for name, text in files.items()}


def _field(name: str) -> str:
    if name.startswith("app-state-sync-key-"):
        return name.replace("__", "/")
    if name.startswith("sender-key-") and not name.startswith("sender-key-memory-"):
        return "::".join(name.rsplit("--", 2))
    return name


def _parts(name: str) -> tuple[str, str]:
    """Type and id of the key in a file name."""
    type_ = next((each for each in _TYPES if name.startswith(each + "-")), name)
    return type_, name.removeprefix(f"{type_}-")


def rested(path: Path) -> Path:
    """Set the times of `path` and everything below to long ago, as if the program had been stopped."""
    for each in (path, *path.rglob("*")):
        os.utime(each, (LONG_AGO, LONG_AGO))
    return path


# Folders.


def folder(path: Path, files: Files) -> Path:
    path.mkdir(parents=True)
    for name, text in files.items():
        (path / name).write_text(text)
    return path


def waha_folder(base: Path, session: str, files: Files) -> Path:
    """Returns the folder of the engine, which is beside that of another one."""
    made = folder(base / "noweb" / session, files)
    (made / ".waha.session.config.json").write_text("{}")
    (made / "store.sqlite3").write_bytes(b"")
    (base / "webjs").mkdir(exist_ok=True)
    return made.parent


# SQL.

OPENWA_SESSIONS = (
    'CREATE TABLE sessions (id varchar PRIMARY KEY, name varchar(100), status varchar(50), "nodeId" varchar(190), '
    '"leaseExpiresAt" {time})'
)
OPENWA_AUTH = (
    'CREATE TABLE baileys_auth_state ("sessionName" varchar NOT NULL, "keyType" varchar NOT NULL, '
    '"keyId" varchar NOT NULL, value text NOT NULL, "updatedAt" {time} NOT NULL, '
    'PRIMARY KEY ("sessionName", "keyType", "keyId"))'
)
_THEN = "2026-01-01 00:00:00"


def openwa_rows(session: str, files: Files) -> list[tuple[str, str, str, str, str]]:
    """Ids have the form of file names there."""
    names = ((name.removesuffix(".json"), text) for name, text in files.items())
    places = ((("creds", "creds") if name == "creds" else _parts(name), text) for name, text in names)
    return [(session, *place, text, _THEN) for place, text in places]


def openwa_sqlite(path: Path, session: str, files: Files) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            connection.execute(OPENWA_SESSIONS.format(time="datetime"))
            connection.execute(OPENWA_AUTH.format(time="datetime"))
        row = (session, session, "ready", "node-1", _THEN)  # a lease that has run out
        connection.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?)", row)
        connection.executemany("INSERT INTO baileys_auth_state VALUES (?, ?, ?, ?, ?)", openwa_rows(session, files))
        connection.commit()
    return rested(path)


def openwa_postgres(url: str, session: str, files: Files) -> str:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(OPENWA_SESSIONS.format(time="timestamp").encode())
        connection.execute(OPENWA_AUTH.format(time="timestamp").encode())
        row = (session, session, "ready", None, None)
        connection.execute("INSERT INTO sessions VALUES (%s, %s, %s, %s, %s)", row)
        connection.cursor().executemany(
            "INSERT INTO baileys_auth_state VALUES (%s, %s, %s, %s, %s)", openwa_rows(session, files)
        )
    return url


def waha_sqlite(path: Path, session: str, files: Files) -> Path:
    """The table of public forks; WAHA itself stores NOWEB's credentials in files or in PostgreSQL."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(
            'CREATE TABLE "noweb_auth_state" (session TEXT NOT NULL, category TEXT NOT NULL, id TEXT NOT NULL, '
            "data TEXT NOT NULL, PRIMARY KEY (session, category, id))"
        )
        for name, text in fields_of(files).items():
            place = ("creds", "creds") if name == "creds" else _parts(name)
            connection.execute("INSERT INTO noweb_auth_state VALUES (?, ?, ?, ?)", (session, *place, text))
        connection.commit()
    return rested(path)


def waha_postgres(server: str, session: str, files: Files) -> str:
    """`server`: the URL of any database of the server. Returns it: WAHA creates a database for each session.

    Databases that an earlier test made for WAHA on this server are removed.
    """
    address = server.rsplit("/", 1)[0]
    with psycopg.connect(server, autocommit=True) as connection:
        for (name,) in connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'waha%'").fetchall():
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
        connection.execute(b"CREATE DATABASE waha_noweb")
        connection.execute(f'CREATE DATABASE "waha_noweb_{session}"'.encode())
    with psycopg.connect(f"{address}/waha_noweb_{session}", autocommit=True) as connection:
        connection.execute("CREATE TABLE auth (id TEXT PRIMARY KEY, data TEXT)")
        rows = [(name, json.dumps({"id": name, "data": json.loads(text)})) for name, text in fields_of(files).items()]
        connection.cursor().executemany("INSERT INTO auth VALUES (%s, %s)", rows)
    return server


def evolution_postgres(url: str, name: str, files: Files, *, status: str = "close") -> str:
    """Only credentials, in Prisma's schema, as a JSON text within a JSON text."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA evolution_api")
        connection.execute("SET search_path TO evolution_api")
        connection.execute("CREATE TYPE \"InstanceConnectionStatus\" AS ENUM ('open', 'close', 'connecting')")
        connection.execute(
            'CREATE TABLE "Instance" (id TEXT PRIMARY KEY, name VARCHAR(255) UNIQUE NOT NULL, "connectionStatus" '
            '"InstanceConnectionStatus" NOT NULL DEFAULT \'open\', "ownerJid" VARCHAR(100), integration VARCHAR(100), '
            '"updatedAt" TIMESTAMP)'
        )
        connection.execute(
            'CREATE TABLE "Session" (id TEXT PRIMARY KEY, "sessionId" TEXT UNIQUE NOT NULL REFERENCES "Instance"(id), '
            'creds TEXT, "createdAt" TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)'
        )
        connection.execute(
            'INSERT INTO "Instance" VALUES (%s, %s, %s, NULL, %s, %s)',
            (INSTANCE, name, status, "WHATSAPP-BAILEYS", _THEN),
        )
        connection.execute(
            'INSERT INTO "Session" (id, "sessionId", creds) VALUES (%s, %s, %s)',
            ("a-session", INSTANCE, json.dumps(files["creds.json"])),
        )
    return url


# whatsmeow: those of its tables that are read.

_WHATSMEOW = """
CREATE TABLE whatsmeow_device (
    jid TEXT PRIMARY KEY, lid TEXT, registration_id BIGINT NOT NULL, noise_key {blob} NOT NULL,
    identity_key {blob} NOT NULL, signed_pre_key {blob} NOT NULL, signed_pre_key_id INTEGER NOT NULL,
    signed_pre_key_sig {blob} NOT NULL, adv_key {blob} NOT NULL, adv_details {blob} NOT NULL,
    adv_account_sig {blob} NOT NULL, adv_account_sig_key {blob} NOT NULL, adv_device_sig {blob} NOT NULL,
    platform TEXT NOT NULL DEFAULT '', business_name TEXT NOT NULL DEFAULT '', push_name TEXT NOT NULL DEFAULT '');
CREATE TABLE whatsmeow_pre_keys (jid TEXT, key_id INTEGER, key {blob} NOT NULL, uploaded BOOLEAN NOT NULL);
CREATE TABLE whatsmeow_app_state_sync_keys (
    jid TEXT, key_id {blob}, key_data {blob} NOT NULL, timestamp BIGINT NOT NULL, fingerprint {blob} NOT NULL);
CREATE TABLE whatsmeow_lid_map (lid TEXT PRIMARY KEY, pn TEXT UNIQUE NOT NULL);
CREATE TABLE whatsmeow_sessions (our_jid TEXT, their_id TEXT, session {blob});
"""


def whatsmeow_sqlite(path: Path, files: Files) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(_WHATSMEOW.format(blob="bytea"))
        for table, row in whatsmeow_rows(files):
            connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        connection.commit()
    return rested(path)


def whatsmeow_rows(files: Files) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """What whatsmeow would store about the device in these files; it stores ratchets of chats in another form."""
    creds = json.loads(files["creds.json"])
    me, account, signed = creds["me"], creds["account"], creds["signedPreKey"]
    device = (
        *(me["id"], me.get("lid", ""), creds["registrationId"]),
        *(_content(creds[name]["private"]) for name in ("noiseKey", "signedIdentityKey")),
        *(_content(signed["keyPair"]["private"]), signed["keyId"], _content(signed["signature"])),
        *(base64.b64decode(creds["advSecretKey"]), _content(account["details"])),
        *(_content(account[name]) for name in ("accountSignature", "accountSignatureKey", "deviceSignature")),
        *(creds.get("platform", ""), "", me.get("name", "")),
    )
    yield "whatsmeow_device", device
    for name, text in fields_of(files).items():
        type_, id_ = _parts(name)
        value = json.loads(text)
        if type_ == "pre-key":
            yield "whatsmeow_pre_keys", (me["id"], int(id_), _content(value["private"]), True)
        if type_ == "app-state-sync-key":
            key = (_content(value["keyData"]), int(value.get("timestamp") or 0), b"")
            yield "whatsmeow_app_state_sync_keys", (me["id"], base64.b64decode(id_), *key)
        if type_ == "lid-mapping" and id_.endswith("_reverse"):
            yield "whatsmeow_lid_map", (id_.removesuffix("_reverse"), value)


def _content(value: dict[str, str] | str) -> bytes:
    """Baileys writes bytes of protobuf messages as plain base64."""
    return base64.b64decode(value if isinstance(value, str) else value["data"])


# Redis.


def evolution_redis(url: str, files: Files, *, with_credentials: bool = True) -> str:
    """Evolution's cache serialises a second time what its store has serialised."""
    fields: dict[Any, Any] = {name: json.dumps(text) for name, text in fields_of(files).items()}
    if not with_credentials:
        del fields["creds"]
    with contextlib.closing(Redis.from_url(url)) as client:
        client.hset(f"evolution-cache:instance:{INSTANCE}", mapping=fields)
        client.set("evolution-cache:chatwoot:x", "1", ex=3600)
        client.hset("evolution-cache:baileys:other", mapping={"x": "1"})
    return url


def baileys_api_redis(url: str, phone: str, files: Files) -> str:
    fields: dict[Any, Any] = {**fields_of(files), "metadata": '{"webhookUrl":"http://127.0.0.1:9"}'}
    with contextlib.closing(Redis.from_url(url)) as client:
        client.hset(f"@baileys-api:connections:{phone}:authState", mapping=fields)
        client.incr(f"@baileys-api:cluster:lease-epoch:{phone}")
    return url


def dump(url: str) -> dict[bytes, object]:
    """Everything in a Redis database. Hashes are read by field: Redis changes the order in DUMP at any time."""
    with contextlib.closing(Redis.from_url(url)) as client:
        return {
            key: client.hgetall(key) if client.type(key) == b"hash" else client.dump(key) for key in client.scan_iter()
        }
