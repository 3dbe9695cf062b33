"""Sender keys: messages of libsignal's JavaScript decrypt once, in any order; changed ones do not."""

from __future__ import annotations

import pytest

from wasim.wire import senderkeys
from wasim.wire.curve import KeyPair
from wasim.wire.ratchet import MAX_SKIPPED, CannotDecrypt, KeyConsumed
from wasim.wire.senderkeys import SenderKey

# Written by Baileys 7.0.0-rc14's GroupCipher: the key, and three messages (numbers 0, 2 and 4).
DISTRIBUTION = bytes.fromhex(
    "33089db2b2930310001a207c8627c7978075ecb6c53eecc4a41fdd42d01be854dd62e952ba7929f0346056222105a325053bdd091b73cff5"
    "6b5ba2baf9ae9e828ba89df9818a41e6ccf922bb9711"
)
MESSAGES = [
    (
        b"one",
        (
            "33089db2b2930310001a10da0aef6d5e940d3676ea5a40a9b8be7c9eb801a80159246e71d25290e22074b05b11eaded66f4debc1e281407"
            "11776b46e934e71077ec5d45238c90477b185de7872df1d83012c238a62ec67afc68780"
        ),
    ),
    (
        b"two",
        (
            "33089db2b2930310021a1041055da018c7dad235a1ae18e3b584eeb5b3e5c649036c82b3e196a08425c163f37baebf9771d0984194c3df7"
            "3534a3d36ad00d3de99930599cdab286f6322c8780015594d580e207794b5d9af4ef183"
        ),
    ),
    (
        b"three",
        (
            "33089db2b2930310041a10b95a45b839ae2996a645cec10079bf8022175a138de87025c96ceb6086cf9398ca4c3f3473dd07e8e418a7be6"
            "e7a4a5c931d3495244161a60de15bc9f6939f93d2fa01a6ba49a8f824ffbb97e6979487"
        ),
    ),
]


def own() -> SenderKey:
    return senderkeys.new_key(id_=7, chain_key=b"c" * 32, signing=KeyPair.from_private(b"s" * 32))


def encrypted(key: SenderKey, text: bytes) -> bytes:
    return senderkeys.encrypt(key, text, nonce=b"n" * 64)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_messages_of_baileys_decrypt(order: tuple[int, ...]) -> None:
    """They decrypt in the order in which they were written, and in another one."""
    key = senderkeys.accept(DISTRIBUTION)
    for at in order:
        text, written = MESSAGES[at]
        data = bytes.fromhex(written)
        assert senderkeys.id_of(data) == key.id
        assert senderkeys.decrypt(key, data)[0] == text


def test_a_member_decrypts_messages_after_the_distribution() -> None:
    """A later member can decrypt only later messages."""
    key = own()
    first = senderkeys.accept(senderkeys.distribution(key))
    before = encrypted(key, b"before")
    later = senderkeys.accept(senderkeys.distribution(key))
    after = encrypted(key, b"after")
    assert senderkeys.decrypt(first, after)[0] == b"after"
    assert senderkeys.decrypt(first, before)[0] == b"before"
    assert senderkeys.decrypt(later, after)[0] == b"after"
    with pytest.raises(KeyConsumed):
        senderkeys.decrypt(later, before)


def test_a_message_key_decrypts_once() -> None:
    """A second decryption raises KeyConsumed with that key, to distinguish reuse from a redelivery."""
    key = own()
    member = senderkeys.accept(senderkeys.distribution(key))
    data = encrypted(key, b"once")
    _, use = senderkeys.decrypt(member, data)
    with pytest.raises(KeyConsumed) as consumed:
        senderkeys.decrypt(member, data)
    assert consumed.value.use == use


@pytest.mark.parametrize("at", [0, 3, 20, -1])
def test_a_changed_message_is_refused(at: int) -> None:
    """The original message still decrypts."""
    key = own()
    member = senderkeys.accept(senderkeys.distribution(key))
    data = encrypted(key, b"true")
    damaged = bytearray(data)
    damaged[at] ^= 1
    with pytest.raises(CannotDecrypt):
        senderkeys.decrypt(member, bytes(damaged))
    assert senderkeys.decrypt(member, data)[0] == b"true"


def test_a_message_too_far_ahead_is_refused() -> None:
    """A peer must not be able to make a phone derive an unlimited number of keys."""
    key = own()
    member = senderkeys.accept(senderkeys.distribution(key))
    key.next += MAX_SKIPPED + 1
    with pytest.raises(CannotDecrypt, match="ahead"):
        senderkeys.decrypt(member, encrypted(key, b"far"))


def test_an_incomplete_distribution_is_refused() -> None:
    with pytest.raises(CannotDecrypt):
        senderkeys.accept(b"\x33\x08\x01")
