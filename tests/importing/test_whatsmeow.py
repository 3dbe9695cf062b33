"""Devices from whatsmeow's tables: the imported data, and the reasons of refusals."""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from holdfast.importing.x25519 import public_key
from tests import peer_stores as stores
from tests.backup_service import FILES, credentials, octets
from tests.importing.test_sources import contents, read, refused

PRIVATE = bytes(range(32))
PAIR = {"private": octets(PRIVATE), "public": octets(public_key(PRIVATE))}
KEY = base64.b64encode(b"k" * 32).decode()
ACCOUNT = {
    name: base64.b64encode(name[:1].encode() * length).decode()
    for name, length in (
        ("details", 10),
        ("accountSignatureKey", 32),
        ("accountSignature", 64),
        ("deviceSignature", 64),
    )
}
DEVICE: dict[str, Any] = {
    **credentials("962790000001"),
    "noiseKey": PAIR,
    "signedIdentityKey": PAIR,
    "signedPreKey": {"keyPair": PAIR, "signature": octets(b"s" * 64), "keyId": 1},
    "registrationId": 4_000_000_000,
    "account": ACCOUNT,
    "platform": "android",
}
TEXTS = {
    **{name: json.dumps(value) for name, value in FILES.items()},
    "creds.json": json.dumps(DEVICE),
    "pre-key-1.json": json.dumps(PAIR),
    "pre-key-31.json": json.dumps(PAIR),
    "app-state-sync-key-AAAA__B+C.json": json.dumps({"keyData": KEY, "timestamp": "1700000000"}),
    "app-state-sync-key-AAA__BB+C=.json": json.dumps({"keyData": KEY, "timestamp": "1"}),
}
del TEXTS["app-state-sync-key-AAA__BB+C=.json"]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return stores.whatsmeow_sqlite(tmp_path / "whatsmeow.db", TEXTS)


@given(st.binary(min_size=32, max_size=32))
def test_public_keys_are_those_of_another_implementation(private: bytes) -> None:
    """For any 32 bytes."""
    assert public_key(private) == X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def test_the_device_is_imported_without_its_ratchets(database: Path, tmp_path: Path) -> None:
    """Identity, pre-keys, the keys of the settings and the mappings of hidden ids; the source is not changed."""
    before = contents(tmp_path)
    imported = read("whatsmeow", database)
    found = json.loads(imported.device.credentials)
    assert {name: found[name] for name in DEVICE} == DEVICE
    assert (found["nextPreKeyId"], found["firstUnuploadedPreKeyId"]) == (32, 32)
    assert found["myAppStateKeyId"] == "AAAA/B+C"
    assert {(key.type, key.id): json.loads(key.value) for key in imported.device.keys} == {
        ("pre-key", "1"): PAIR,
        ("pre-key", "31"): PAIR,
        ("app-state-sync-key", "AAAA/B+C"): {"keyData": KEY, "timestamp": "1700000000"},
        ("lid-mapping", "962777"): "77",
        ("lid-mapping", "77_reverse"): "962777",
    }
    assert contents(tmp_path) == before


def change(database: Path, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute(statement, values)
        connection.commit()
    stores.rested(database)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE whatsmeow_device SET noise_key = x'00'", "has a noiseKey whose private key is not 32 bytes"),
        ("UPDATE whatsmeow_device SET identity_key = 'text'", "signedIdentityKey whose private key is not 32 bytes"),
        ("UPDATE whatsmeow_device SET signed_pre_key_sig = x'00'", "1 bytes in signedPreKey.signature"),
        ("UPDATE whatsmeow_device SET registration_id = 5000000000", "registrationId 5000000000"),
        ("UPDATE whatsmeow_device SET adv_key = x'00'", "advSecretKey"),
        ("UPDATE whatsmeow_pre_keys SET key = x'00' WHERE key_id = 1", "1 damaged key: pre-key-1"),
        ("UPDATE whatsmeow_pre_keys SET key_id = 'x'", "can't be read"),
        ("UPDATE whatsmeow_app_state_sync_keys SET timestamp = 'x'", "can't be read"),
        ("DELETE FROM whatsmeow_device", "holds no session"),
        ("ALTER TABLE whatsmeow_device DROP COLUMN adv_key", "a table whatsmeow_device without adv_key"),
        ("DROP TABLE whatsmeow_device", "has no table whatsmeow_device: it is not a database of whatsmeow"),
    ],
)
def test_damaged_data_is_refused_with_a_reason(database: Path, statement: str, said: str) -> None:
    """The error uses the field's name in Baileys' credentials."""
    change(database, statement)
    assert said in refused("whatsmeow", database)


def test_older_jids_and_several_devices(database: Path) -> None:
    """An agent in a JID is removed; one of several devices is selected by number and device."""
    change(database, "UPDATE whatsmeow_device SET jid = '962790000001.0:7@s.whatsapp.net'")
    change(database, "UPDATE whatsmeow_pre_keys SET jid = '962790000001.0:7@s.whatsapp.net'")
    assert json.loads(read("whatsmeow", database).device.credentials)["me"]["id"] == "962790000001:7@s.whatsapp.net"
    other = {**TEXTS, "creds.json": json.dumps({**DEVICE, "me": {"id": "962790000002:3@s.whatsapp.net"}})}
    with contextlib.closing(sqlite3.connect(database)) as connection:
        row = dict(stores.whatsmeow_rows(other))["whatsmeow_device"]
        connection.execute(f"INSERT INTO whatsmeow_device VALUES ({', '.join('?' * len(row))})", row)
        connection.commit()
    stores.rested(database)
    assert '"962790000001.0:7", "962790000002:3"' in refused("whatsmeow", database)
    assert not [
        key for key in read("whatsmeow", database, wanted="962790000002:3").device.keys if key.type == "pre-key"
    ]
