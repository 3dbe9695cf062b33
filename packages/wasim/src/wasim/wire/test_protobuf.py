"""The protobuf codec: the same bytes as protoc, unknown fields skipped, errors for damage."""

# ruff: noqa: RUF009 – a field specification is immutable

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasim.wire.errors import WireError
from wasim.wire.messages import ClientHello, ClientPayload, DeviceIdentity, HandshakeMessage, PairingData
from wasim.wire.protobuf import decode, encode, optional, repeated, varint


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    number: int | None = optional(1, "uint")
    data: bytes | None = optional(2, "bytes")
    text: str | None = optional(3, "string")
    inner: Sample | None = optional(4, lambda: Sample)
    numbers: tuple[int, ...] = repeated(5, "uint")
    texts: tuple[str, ...] = repeated(6, "string")


def test_writes_the_bytes_of_the_format() -> None:
    """Each kind in its wire form: varint, length-delimited, nested, packed."""
    sample = Sample(number=300, data=b"\x01", text="é", inner=Sample(number=0), numbers=(1, 300), texts=("a", ""))
    assert encode(sample).hex() == "08ac02" + "120101" + "1a02c3a9" + "22020800" + "2a0301ac02" + "320161" + "3200"


def test_reads_what_baileys_writes() -> None:
    """A ClientHello as protobufjs writes it."""
    key = bytes(range(32))
    assert decode(HandshakeMessage, bytes.fromhex("12220a20") + key) == HandshakeMessage(
        client_hello=ClientHello(ephemeral=key)
    )


samples = st.recursive(
    st.builds(
        Sample,
        number=st.none() | st.integers(0, 2**64 - 1),
        data=st.none() | st.binary(max_size=40),
        text=st.none() | st.text(max_size=20),
        numbers=st.lists(st.integers(0, 2**32), max_size=4).map(tuple),
        texts=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    ),
    lambda inner: st.builds(Sample, number=st.integers(0, 9), inner=inner),
    max_leaves=4,
)


@given(samples)
def test_messages_survive_a_round_trip(sample: Sample) -> None:
    """Whatever is written reads back the same."""
    assert decode(Sample, encode(sample)) == sample


@given(st.binary(max_size=60))
def test_invalid_bytes_raise_wire_error(data: bytes) -> None:
    """Bytes that are not a message raise no other exception."""
    with contextlib.suppress(WireError):
        decode(Sample, data)


def test_skips_unknown_fields() -> None:
    """Unknown fields of every wire type are skipped."""
    unknown = "9806" + "01" + "9906" + "00" * 8 + "9a06" + "0161" + "9d06" + "00" * 4
    assert decode(DeviceIdentity, bytes.fromhex(unknown + "1805")) == DeviceIdentity(key_index=5)


def test_reads_unpacked_numbers_too() -> None:
    """Repeated numbers may also be unpacked."""
    assert decode(Sample, bytes.fromhex("28012802")).numbers == (1, 2)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("08", "inside a varint"),
        ("08" + "ff" * 11, "longer than 10"),
        ("1205ff", "cut off"),
        ("0b", "wire type 3"),
        ("0a0101", "wrong wire type"),
        ("1001", "wrong wire type"),
    ],
)
def test_errors_state_the_reason(data: str, why: str) -> None:
    """Each kind of damage has its own sentence."""
    with pytest.raises(WireError, match=why):
        decode(Sample, bytes.fromhex(data))


def test_the_depth_of_nesting_is_limited() -> None:
    """Messages nested a hundred deep are read, five thousand deep are refused."""
    assert decode(Sample, _nested(100)) is not None
    with pytest.raises(WireError, match="nested more than 100 deep"):
        decode(Sample, _nested(5000))


def _nested(depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = b"\x22" + varint(len(data)) + data
    return data


def test_a_login_has_no_pairing_data() -> None:
    """Absent fields are None, not empty, which distinguishes a login from a registration."""
    assert decode(ClientPayload, encode(ClientPayload(username=962302, device=1))).pairing is None
    assert decode(ClientPayload, encode(ClientPayload(pairing=PairingData()))).pairing == PairingData()


@given(st.integers(0, 2**63))
def test_varints_are_minimal(value: int) -> None:
    """A varint has seven bits a byte and no padding."""
    assert len(varint(value)) == max(1, -(-value.bit_length() // 7))
