"""The Double Ratchet: each message decrypts once in any order, nothing else decrypts, and failures change nothing."""

from __future__ import annotations

import copy
import hashlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wasim.wire import ratchet
from wasim.wire.content import Content, ExtendedText, FutureProofMessage, decode_padded, encode_padded
from wasim.wire.curve import KeyPair
from wasim.wire.errors import WireError
from wasim.wire.ratchet import Bundle, CannotDecrypt, KeyConsumed, Session


class Party:
    """One device in a conversation of two."""

    def __init__(self, name: str) -> None:
        self._name, self._count = name, 0
        self.identity, self.signed, self.one_time = self.key(), self.key(), self.key()
        self.session: Session | None = None

    def key(self) -> KeyPair:
        self._count += 1
        return KeyPair.from_private(hashlib.sha256(f"{self._name}{self._count}".encode()).digest())

    def bundle(self, *, one_time: bool = True) -> Bundle:
        prekey = (7, self.one_time.public) if one_time else (None, None)
        return Bundle(self.identity.public, 1, self.signed.public, *prekey)

    def start_session(self, other: Party, *, one_time: bool = True) -> None:
        bundle = other.bundle(one_time=one_time)
        self.session = ratchet.start(self.identity, bundle, base=self.key(), ratchet=self.key())

    def write(self, text: bytes) -> tuple[str, bytes]:
        assert self.session is not None
        return ratchet.encrypt(self.session, text, registration_id=4711)

    def read(self, message: tuple[str, bytes]) -> bytes:
        kind, data = message
        if kind == "pkmsg":
            first = ratchet.parse_first(data)
            if self.session is None:
                prekey = self.one_time if first.prekey_id else None
                self.session = ratchet.accept(self.identity, first, signed_prekey=self.signed, prekey=prekey)
            data = first.message or b""
        assert self.session is not None
        return ratchet.decrypt(self.session, data, fresh=self.key)[0]


def two(*, one_time: bool = True) -> tuple[Party, Party]:
    alice, bob = Party("alice"), Party("bob")
    alice.start_session(bob, one_time=one_time)
    return alice, bob


@pytest.mark.parametrize("one_time", [True, False])
def test_a_session_starts_with_or_without_one_time_prekey(one_time: bool) -> None:
    """Messages are `pkmsg` until the other side answers, then `msg`."""
    alice, bob = two(one_time=one_time)
    first, second = alice.write(b"one"), alice.write(b"two")
    assert [first[0], second[0]] == ["pkmsg", "pkmsg"]
    assert [bob.read(first), bob.read(second)] == [b"one", b"two"]
    assert alice.read(bob.write(b"three")) == b"three"
    assert alice.write(b"four")[0] == "msg"


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["alice writes", "bob writes", "deliver"]), st.integers(0, 99)), max_size=40))
def test_messages_decrypt_in_any_order(events: list[tuple[str, int]]) -> None:
    """Messages of both sides, delivered late and in any order, decrypt to the text that was written."""
    alice, bob = two()
    bob.read(alice.write(b"hello"))
    in_transit: list[tuple[Party, tuple[str, bytes], bytes]] = []
    for n, (event, choice) in enumerate(events):
        if event == "deliver" and in_transit:
            reader, message, text = in_transit.pop(choice % len(in_transit))
            assert reader.read(message) == text
        elif event != "deliver":
            writer, reader = (alice, bob) if event == "alice writes" else (bob, alice)
            text = str(n).encode()
            in_transit.append((reader, writer.write(text), text))
    for reader, message, text in in_transit:
        assert reader.read(message) == text


def test_a_message_key_decrypts_once() -> None:
    """The second time KeyConsumed is raised, in the current chain and in an earlier one."""
    alice, bob = two()
    first = alice.write(b"one")
    bob.read(first)
    with pytest.raises(KeyConsumed) as raised:
        bob.read(first)
    assert raised.value.use.counter == 0
    alice.read(bob.write(b"two"))
    bob.read(alice.write(b"three"))
    with pytest.raises(KeyConsumed):
        bob.read(first)


def test_a_late_message_of_an_earlier_chain_decrypts() -> None:
    """Its key was stored when the ratchet stepped; a message beyond the chain's end has none."""
    alice, bob = two()
    bob.read(alice.write(b"one"))
    late = alice.write(b"late")
    beyond = copy.deepcopy(alice)
    beyond.write(b"x")
    never = beyond.write(b"never sent")
    alice.read(bob.write(b"answer"))
    bob.read(alice.write(b"new chain"))
    assert bob.read(late) == b"late"
    with pytest.raises(KeyConsumed):
        bob.read(never)


@given(st.integers(0, 10_000), st.integers(1, 255))
@settings(max_examples=40)
def test_a_changed_message_is_refused_and_changes_nothing(at: int, flip: int) -> None:
    """With any byte changed it does not decrypt; the session is the same as before, and the original still decrypts."""
    alice, bob = two()
    bob.read(alice.write(b"hello"))
    alice.read(bob.write(b"turn"))
    kind, data = alice.write(b"text")
    assert bob.session is not None
    before = msgspec.msgpack.encode(bob.session)
    changed = bytearray(data)
    changed[at % len(data)] ^= flip
    with pytest.raises(WireError):
        bob.read((kind, bytes(changed)))
    assert msgspec.msgpack.encode(bob.session) == before
    assert bob.read((kind, data)) == b"text"


def test_a_message_too_far_ahead_is_refused() -> None:
    """A peer must not be able to make the other side derive an unlimited number of keys."""
    alice, bob = two()
    bob.read(alice.write(b"hello"))
    alice.read(bob.write(b"turn"))
    bob.read(alice.write(b"first of its chain"))
    for _ in range(ratchet.MAX_SKIPPED + 2):
        message = alice.write(b"x")
    with pytest.raises(CannotDecrypt, match="ahead"):
        bob.read(message)


def test_a_session_must_receive_before_it_sends() -> None:
    """The accepting side has no sending chain until it has decrypted a message."""
    alice, bob = two()
    first = ratchet.parse_first(alice.write(b"hello")[1])
    bob.session = ratchet.accept(bob.identity, first, signed_prekey=bob.signed, prekey=bob.one_time)
    with pytest.raises(CannotDecrypt, match="before it has received"):
        bob.write(b"too early")


@pytest.mark.parametrize("data", [b"", b"\x33", b"\x22abcdefghij", b"\x33" + b"\x10\x01" + bytes(8)])
def test_invalid_messages_are_refused(data: bytes) -> None:
    """They are empty, of another version, or without keys."""
    alice, bob = two()
    bob.read(alice.write(b"hello"))
    assert bob.session is not None
    with pytest.raises(WireError):
        ratchet.decrypt(bob.session, data, fresh=bob.key)


@pytest.mark.parametrize("data", [b"", b"\x22\x08\x01"])
def test_invalid_first_messages_are_refused(data: bytes) -> None:
    """A message of another version is refused, and one without its keys can't be accepted."""
    with pytest.raises(CannotDecrypt):
        ratchet.parse_first(data)
    bob = Party("bob")
    with pytest.raises(CannotDecrypt, match="lacks keys"):
        ratchet.accept(bob.identity, ratchet.parse_first(b"\x33"), signed_prekey=bob.signed, prekey=None)


def test_a_session_can_be_stored_and_loaded() -> None:
    """The loaded session decrypts and encrypts the next messages."""
    alice, bob = two()
    bob.read(alice.write(b"hello"))
    bob.session = msgspec.msgpack.decode(msgspec.msgpack.encode(bob.session), type=Session)
    assert alice.read(bob.write(b"still here")) == b"still here"


# Contents


@given(st.text(max_size=40), st.integers(1, 16))
def test_plaintexts_are_padded(text: str, pad: int) -> None:
    """Any padding is removed, and plain, extended and wrapped texts are read."""
    plain = Content(conversation=text)
    assert decode_padded(encode_padded(plain, pad=pad)) == plain
    assert Content(extended_text=ExtendedText(text=text)).text == text
    assert Content(ephemeral=FutureProofMessage(message=plain)).text == text
    assert Content(ephemeral=FutureProofMessage(message=plain)).kind == "text"


@pytest.mark.parametrize("plaintext", [b"", b"\x00", b"\x05", b"abc\x11"])
def test_bad_padding_is_refused(plaintext: bytes) -> None:
    """No padding, too much, or more than there are bytes."""
    with pytest.raises(WireError, match="padding"):
        decode_padded(plaintext)
