"""whatsmeow (GOWA, wuzapi, mautrix-whatsapp, WAHA's GOWS): the tables `whatsmeow_…` in SQLite or PostgreSQL.

The device itself is imported: its identity, its one-time pre-keys, the keys of the account's settings, and the mappings
of hidden ids (LIDs). The ratchets of its chats are not, because libsignal's Go and JavaScript editions store them
differently. Chats start with new ratchets, and the sender of a message that used an old one is asked to send it again.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from holdfast.importing.databases import ForeignDatabase, open_postgres, open_sqlite
from holdfast.importing.device import (
    MAX_KEYS,
    MAX_SESSIONS,
    ImportedDevice,
    ImportRefused,
    Source,
    StoredSession,
    check_size,
    checked_device,
)
from holdfast.importing.x25519 import public_key

_DEVICE = "whatsmeow_device"
_KEY_BYTES = 32
_WANTED = {
    *("jid", "registration_id", "noise_key", "identity_key", "signed_pre_key", "signed_pre_key_id"),
    *("signed_pre_key_sig", "adv_key", "adv_details", "adv_account_sig", "adv_account_sig_key", "adv_device_sig"),
}
_AGENT = re.compile(r"^(\d+)\.\d+(?=[:@])")
"""Matches the agent, which is always 0, that older versions write into a JID."""


@contextlib.contextmanager
def open_whatsmeow_sqlite(path: Path) -> Iterator[Source]:
    with open_sqlite(path) as database:
        yield Whatsmeow(database=database)


@contextlib.contextmanager
def open_whatsmeow_postgres(address: str) -> Iterator[Source]:
    with open_postgres(address) as database:
        database.use_schema_of(_DEVICE)
        yield Whatsmeow(database=database)


@dataclass(frozen=True, slots=True, kw_only=True)
class Whatsmeow:
    database: ForeignDatabase

    @property
    def shown(self) -> str:
        return self.database.shown

    def sessions(self) -> Sequence[StoredSession]:
        columns = self.database.columns(_DEVICE)
        if missing := sorted(_WANTED - columns):
            what = f"no table {_DEVICE}" if not columns else f"a table {_DEVICE} without {', '.join(missing[:5])}"
            raise ImportRefused(f"{self.shown} has {what}: it is not a database of whatsmeow, or of an unknown version")
        found = self.database.rows(f"SELECT jid FROM {_DEVICE} ORDER BY 1 LIMIT :limit", limit=MAX_SESSIONS)  # noqa: S608
        return [StoredSession(name=str(jid).partition("@")[0], id=str(jid)) for (jid,) in found]

    def signs_of_use(self, session: StoredSession, *, now: datetime) -> Sequence[str]:
        return self.database.signs_of_use(now=now)

    def read(self, session: StoredSession, *, now: datetime, skip_damaged: bool) -> ImportedDevice:
        try:
            entries = dict(self._keys(session))
            check_size(len(entries), 0, 0, session=session, shown=self.shown)
            credentials = self._credentials(session, entries)
        except (ValueError, TypeError) as error:  # SQLite takes texts for numbers
            raise ImportRefused(f"{self.shown} can't be read: a column of numbers holds something else") from error
        written = ((name, json.dumps(value).encode()) for name, value in entries.items())
        return checked_device(
            json.dumps(credentials).encode(),
            written,
            session=session,
            shown=self.shown,
            skip_damaged=skip_damaged,
        )

    def _credentials(self, session: StoredSession, entries: Mapping[str, Any]) -> dict[str, Any]:
        names = sorted(self.database.columns(_DEVICE) & (_WANTED | {"lid", "platform", "push_name"}))
        (row,) = self.database.rows(f"SELECT {', '.join(names)} FROM {_DEVICE} WHERE jid = :id", id=session.id)  # noqa: S608
        device = dict(zip(names, row, strict=True))
        lid = _jid(device.get("lid"))
        next_id = 1 + max(
            (int(name.removeprefix("pre-key-")) for name in entries if name.startswith("pre-key-")), default=0
        )
        return {
            "noiseKey": _pair(device["noise_key"]),
            "pairingEphemeralKeyPair": _pair(device["noise_key"]),
            "signedIdentityKey": _pair(device["identity_key"]),
            "signedPreKey": {
                "keyPair": _pair(device["signed_pre_key"]),
                "signature": _buffer(device["signed_pre_key_sig"]),
                "keyId": device["signed_pre_key_id"],
            },
            "registrationId": device["registration_id"],
            "advSecretKey": _base64(device["adv_key"]),
            "account": {
                "details": _base64(device["adv_details"]),
                "accountSignatureKey": _base64(device["adv_account_sig_key"]),
                "accountSignature": _base64(device["adv_account_sig"]),
                "deviceSignature": _base64(device["adv_device_sig"]),
            },
            "me": {
                "id": _jid(device["jid"]),
                "name": str(device.get("push_name") or ""),
                **({"lid": lid} if lid else {}),
            },
            "signalIdentities": [
                {
                    "identifier": {"name": lid or _jid(device["jid"]), "deviceId": 0},
                    "identifierKey": _buffer(b"\x05" + _bytes(device["adv_account_sig_key"])),
                }
            ],
            "platform": str(device.get("platform") or ""),
            "processedHistoryMessages": [],
            "nextPreKeyId": next_id,
            "firstUnuploadedPreKeyId": next_id,
            "accountSyncCounter": 0,
            "accountSettings": {"unarchiveChats": False},
            "registered": False,
            **self._newest_settings_key(session),
        }

    def _keys(self, session: StoredSession) -> Iterator[tuple[str, Any]]:
        """The Signal keys, with names and values as Baileys writes them."""
        mine = {"id": session.id, "limit": MAX_KEYS}
        for key_id, key in self._rows("whatsmeow_pre_keys", "key_id, key", "WHERE jid = :id", **mine):
            yield f"pre-key-{int(key_id)}", _pair(key)
        for key_id, content, at in self._settings_keys(session):
            yield f"app-state-sync-key-{_base64(key_id)}", {"keyData": _base64(content), "timestamp": str(at)}
        for lid, number in self._rows("whatsmeow_lid_map", "lid, pn", "", limit=MAX_KEYS):
            yield f"lid-mapping-{number}", str(lid)
            yield f"lid-mapping-{lid}_reverse", str(number)

    def _settings_keys(self, session: StoredSession) -> Sequence[Sequence[Any]]:
        columns, mine = "key_id, key_data, timestamp", {"id": session.id, "limit": MAX_KEYS}
        return self._rows("whatsmeow_app_state_sync_keys", columns, "WHERE jid = :id", **mine)

    def _newest_settings_key(self, session: StoredSession) -> dict[str, str]:
        newest = max(self._settings_keys(session), key=lambda row: int(row[2]), default=None)
        return {} if newest is None else {"myAppStateKeyId": _base64(newest[0])}

    def _rows(self, table: str, columns: str, condition: str, **values: object) -> Sequence[Sequence[Any]]:
        if not self.database.has(table):
            return []
        return self.database.rows(f"SELECT {columns} FROM {table} {condition} LIMIT :limit", **values)  # noqa: S608


def _bytes(value: object) -> bytes:
    return bytes(value) if isinstance(value, bytes | memoryview | bytearray) else b""


def _base64(value: object) -> str:
    """Base64, which is how Baileys writes the bytes of protobuf messages."""
    return base64.b64encode(_bytes(value)).decode()


def _buffer(value: object) -> dict[str, str]:
    return {"type": "Buffer", "data": _base64(value)}


def _pair(private: object) -> dict[str, Any]:
    """A key pair from a private key; whatsmeow stores no public keys. Later checks refuse a key of the wrong length."""
    key = _bytes(private)
    return {"private": _buffer(key), "public": _buffer(public_key(key) if len(key) == _KEY_BYTES else b"")}


def _jid(value: object) -> str:
    return _AGENT.sub(r"\1", str(value or ""))
