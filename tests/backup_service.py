"""Backups of a `GatewayHarness`, and a hand-made auth folder of a Baileys bot."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from holdfast.backup.backup_dir import Opener
from holdfast.backup.creating import BackupMaker, BackupOrigin
from holdfast.backup.service import BackupService
from holdfast.base.clock import Clock
from holdfast.runtime.gateway import Gateway
from holdfast.store.database import Database

LONG_AGO = 1_700_000_000


async def _no_keys() -> None:
    """Without `/v1/keys` there are no created keys."""


def backup_service_of(
    gateway: Gateway,
    database: Database,
    folder: Path,
    *,
    clock: Clock,
    load_api_keys: Callable[[], Awaitable[None]] = _no_keys,
) -> BackupService:
    origin = BackupOrigin(made_by="0.1.0", settings={})
    return BackupService(
        gateway=gateway,
        database=database,
        maker=BackupMaker(database, folder, origin=origin),
        folder=folder,
        opener=Opener(),
        clock=clock,
        load_api_keys=load_api_keys,
    )


def octets(content: bytes) -> dict[str, str]:
    """Bytes in the form of Baileys' BufferJSON."""
    return {"type": "Buffer", "data": base64.b64encode(content).decode()}


def pair() -> dict[str, Any]:
    return {"private": octets(bytes(range(32))), "public": octets(bytes(range(32, 64)))}


def credentials(number: str = "962302") -> dict[str, Any]:
    return {
        "noiseKey": pair(),
        "signedIdentityKey": pair(),
        "signedPreKey": {"keyPair": pair(), "signature": octets(b"s" * 64), "keyId": 1},
        "registrationId": 0,
        "advSecretKey": base64.b64encode(b"a" * 32).decode(),
        "me": {"id": f"{number}:7@s.whatsapp.net", "lid": "77:7@lid", "name": "Layla’s Flowers"},
        "account": {"details": octets(b"d")},
    }


def session(closed: int = -1) -> dict[str, Any]:
    index = {
        "baseKey": "QQ==",
        "baseKeyType": 2,
        "closed": closed,
        "used": 1,
        "created": 1,
        "remoteIdentityKey": "QQ==",
    }
    return {"_sessions": {"QQ==": {"registrationId": 5, "indexInfo": index, "_chains": {}}}, "version": "v1"}


FILES: dict[str, Any] = {
    "creds.json": credentials(),
    "pre-key-1.json": pair(),
    "session-962777.0.json": session(),
    "session-77_1.12.json": session(),
    "sender-key-1203@g.us--77_1--12.json": octets(b"[]"),
    "sender-key-96-15@g.us--962302--7.json": octets(b"[]"),
    "sender-key-memory-96-15@g.us.json": {"962777.0": True},
    "app-state-sync-key-AAA__BB+C=.json": {"keyData": octets(b"k"), "timestamp": "1"},
    "app-state-sync-version-critical_block.json": {"version": 1, "hash": octets(b"h"), "indexValueMap": {}},
    "lid-mapping-962777.json": "77",
    "lid-mapping-77_reverse.json": "962777",
    "device-list-962777.json": ["0", "12"],
    "tctoken-77@lid.json": {"token": octets(b"t"), "timestamp": "1"},
}


def bot_folder(folder: Path, *, newest: float = LONG_AGO) -> Path:
    """The folder that `useMultiFileAuthState` writes: one file for each key."""
    folder.mkdir()
    for name, value in FILES.items():
        (folder / name).write_text(json.dumps(value, separators=(",", ":"), ensure_ascii=False))
        os.utime(folder / name, (newest, newest))
    return folder
