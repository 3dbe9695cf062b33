from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.session.credentials import MAX_BYTES, fault_of, fault_of_text


def octets(size: int) -> dict[str, Any]:
    return {"type": "Buffer", "data": base64.b64encode(b"x" * size).decode()}


def pair() -> dict[str, Any]:
    return {"private": octets(32), "public": octets(32)}


def real() -> dict[str, Any]:
    return {
        "noiseKey": pair(),
        "pairingEphemeralKeyPair": pair(),
        "signedIdentityKey": pair(),
        "signedPreKey": {"keyPair": pair(), "signature": octets(64), "keyId": 1},
        "registrationId": 204,
        "advSecretKey": base64.b64encode(b"x" * 32).decode(),
        "processedHistoryMessages": [{"key": {"id": "A"}, "messageTimestamp": 1764000000}],
        "nextPreKeyId": 843,
        "firstUnuploadedPreKeyId": 843,
        "accountSyncCounter": 3,
        "routingInfo": octets(7),
        "me": {"id": "962302:7@s.whatsapp.net"},
        "account": {"details": octets(60)},
        "lastPropHash": None,
        "registered": True,
        "score": 0.5,
    }


BAD: list[tuple[str, Any, str]] = [
    ("nextPreKeyId", 2**24, "nextPreKeyId 16777216: a whole number from 0 to 16777215"),
    ("nextPreKeyId", -1, "nextPreKeyId -1:"),
    ("nextPreKeyId", 843.5, "nextPreKeyId 843.5:"),
    ("nextPreKeyId", True, "that is not a number (bool)"),
    ("nextPreKeyId", "843", "that is not a number (str)"),
    ("nextPreKeyId", 10**40, "of more than 30 digits"),
    ("firstUnuploadedPreKeyId", 844, "firstUnuploadedPreKeyId 844 after nextPreKeyId 843"),
    ("nextPreKeyId", 1844, "1001 pre-keys from firstUnuploadedPreKeyId 843 to nextPreKeyId 1844: 1000 are allowed"),
    ("registrationId", 10**10, "registrationId 10000000000"),
    ("noiseKey", "a pair", "a noiseKey that is not a pair of keys"),
    ("noiseKey", {"private": octets(31), "public": octets(32)}, "31 bytes in noiseKey.private: 32 are needed"),
    ("signedIdentityKey", {"private": octets(32)}, "no bytes in signedIdentityKey.public: 32 or 33"),
    ("signedPreKey", [], "a signedPreKey that is not an object"),
    ("signedPreKey", {"keyPair": pair(), "signature": octets(63), "keyId": 1}, "63 bytes in signedPreKey.signature"),
    ("signedPreKey", {"keyPair": pair(), "signature": octets(64), "keyId": -1}, "signedPreKey.keyId -1"),
    ("advSecretKey", "c2hvcnQ=", "an advSecretKey that is not 32 bytes"),
    ("advSecretKey", 5, "an advSecretKey that is not 32 bytes"),
    ("routingInfo", octets(20_000), "in routingInfo: 16384 are allowed"),
    ("routingInfo", {"type": "Buffer", "data": "%%%"}, "bytes in routingInfo that are not base64"),
    ("routingInfo", {"type": "Buffer", "data": [256]}, "bytes in routingInfo that are not base64"),
    ("routingInfo", {"type": "Buffer", "data": {}}, "bytes in routingInfo that are not base64"),
    ("accountSyncCounter", 2**53, "accountSyncCounter 9007199254740992"),
    ("score", 1e300, "score 1e+300"),
    ("lastPropHash", "x" * 20_000, "20000 characters in lastPropHash"),
    ("processedHistoryMessages", [0] * 10_001, "10001 entries in processedHistoryMessages"),
]


def test_real_credentials_have_no_fault() -> None:
    """Credentials of a device that is being linked, which lack many fields, and keys of older versions have no fault
    either."""
    assert fault_of(real()) is None
    assert fault_of_text(json.dumps(real())) is None
    assert fault_of({"registered": False}) is None
    assert fault_of({**real(), "routingInfo": {"type": "Buffer", "data": [1, 2, 255]}}) is None
    assert fault_of({"firstUnuploadedPreKeyId": 0, "nextPreKeyId": 1000}) is None


@pytest.mark.parametrize(("name", "value", "says"), BAD)
def test_a_fault_names_field_and_value(name: str, value: object, says: str) -> None:
    """A fault says what is allowed, and never shows bytes of a key."""
    fault = fault_of({**real(), name: value})
    assert fault is not None
    assert says in fault


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "are not JSON"),
        ("[" * 100_000, "are not JSON"),
        ('{"nextPreKeyId": NaN}', "are not JSON"),
        ("9" * 5000, "are not JSON"),
        ("[]", "are not a JSON object"),
        (" " * (MAX_BYTES + 1), "1048577 bytes: 1048576 are allowed"),
        ("ä" * (MAX_BYTES - 1), "2097150 bytes"),
    ],
)
def test_text_that_a_host_could_not_read_is_refused(text: str, says: str) -> None:
    """Text of any size and depth is refused without an exception."""
    assert says in (fault_of_text(text) or "")


def test_values_are_bounded_in_depth() -> None:
    """JavaScript overflows its stack at a smaller depth than a hostile file may have."""
    value: Any = 1
    for _ in range(30):
        value = {"a": value}
    assert "nested more than 20 deep" in (fault_of({"nested": value}) or "")
    assert fault_of({"nested": {"counter": 1, "keys": [octets(32)]}}) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(sorted(real())), json_values)
def test_any_value_in_any_field_is_judged_and_numbers_stay_in_bounds(name: str, value: object) -> None:
    """The check never raises, and credentials that pass can't make Baileys loop for long."""
    changed = {**real(), name: value}
    if fault_of(changed) is None:
        first, following = changed["firstUnuploadedPreKeyId"], changed["nextPreKeyId"]
        assert first is None or following is None or 0 <= following - first <= 1000
