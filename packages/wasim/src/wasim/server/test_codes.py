"""Linking by pairing code."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from wasim.server.events import DevicePaired, PairingFailed
from wasim.server.fault_hooks import FaultHooks, NoFaults
from wasim.server.pairing import PairingError
from wasim.server.state import Address
from wasim.wire.conftest import DeviceKeys
from wasim.wire.curve import KeyPair, hkdf
from wasim.wire.nodes import Node

if TYPE_CHECKING:
    from wasim.server.conftest import Client, ClientDevice, ServerHarness

CODE = "K7QX2M9P"
SALT, IV = b"\x11" * 32, b"\x22" * 16
EPHEMERAL = KeyPair.from_private(b"\x33" * 32)
RANDOM = b"\x44" * 32


def crypt(code: str, salt: bytes, iv: bytes, data: bytes) -> bytes:
    key = hashlib.pbkdf2_hmac("sha256", code.encode(), salt, 131_072)
    cipher = Cipher(AES256(key), CTR(iv)).encryptor()
    return cipher.update(data) + cipher.finalize()


def ask_for_code(
    harness: ServerHarness, client: Client, *, number: str = "962302", wrapped: bytes | None = None
) -> Node:
    """`companion_hello` of a device that shows CODE."""
    key = SALT + IV + crypt(CODE, SALT, IV, EPHEMERAL.public) if wrapped is None else wrapped
    children = [Node("link_code_pairing_wrapped_companion_ephemeral_pub", {}, key)]
    attrs = {"jid": f"{number}@s.whatsapp.net", "stage": "companion_hello"}
    return harness.ask(client, "md", "set", Node("link_code_companion_reg", attrs, children))


def finish(harness: ServerHarness, linked: ClientDevice, client: Client, *, identity: bytes | None = None) -> Node:
    """`companion_finish`: the device's answer to the phone's keys. The device stores the secret."""
    notice = client.one("notification").children[0]
    wrapped = notice.data_of("link_code_pairing_wrapped_primary_ephemeral_pub")
    primary_identity = notice.data_of("primary_identity_pub")
    primary = crypt(CODE, wrapped[:32], wrapped[32:48], wrapped[48:])
    shared = EPHEMERAL.agree(primary)
    salt, iv = b"\x55" * 32, b"\x66" * 12
    key = hkdf(shared, salt=salt, info=b"link_code_pairing_key_bundle_encryption_key", length=32)
    own = identity or linked.keys.identity.public
    ciphertext = AESGCM(key).encrypt(iv, own + primary_identity + RANDOM, b"")
    secret = hkdf(
        shared + linked.keys.identity.agree(primary_identity) + RANDOM, salt=bytes(32), info=b"adv_secret", length=32
    )
    linked.keys = DeviceKeys(
        noise=linked.keys.noise,
        identity=linked.keys.identity,
        signed_prekey=linked.keys.signed_prekey,
        registration_id=4711,
        adv_secret=secret,
    )
    children = [
        Node("link_code_pairing_wrapped_key_bundle", {}, salt + iv + ciphertext),
        Node("companion_identity_public", {}, own),
        Node("link_code_pairing_ref", {}, notice.data_of("link_code_pairing_ref")),
    ]
    attrs = {"jid": "962302@s.whatsapp.net", "stage": "companion_finish"}
    return harness.ask(client, "md", "set", Node("link_code_companion_reg", attrs, children))


def enter(harness: ServerHarness, code: str) -> int:
    link = harness.server.pairing_flow.enter_code(harness.phone("962302"), code, now=harness.now)
    harness.exchange()
    return link


def test_a_typed_code_links_the_device(harness: ServerHarness) -> None:
    """Hello, code, finish, and then as with a QR code: the device checks and signs, and is linked."""
    linked = harness.new_device()
    client = harness.register(linked)
    answer = ask_for_code(harness, client)
    ref = answer.children[0].data_of("link_code_pairing_ref")
    assert enter(harness, CODE) == client.id
    notice = client.one("notification")
    assert (notice.attrs["type"], notice.children[0].attrs["stage"]) == ("link_code_companion_reg", "primary_hello")
    assert notice.children[0].data_of("link_code_pairing_ref") == ref
    assert finish(harness, linked, client).attrs["type"] == "result"
    harness.send(client, harness.sign(linked, client.all("iq")[-1]))
    assert harness.events == [DevicePaired(address=Address("962302", 1), link=client.id)]


class Refusing(NoFaults):
    """Answers requests for a pairing code with an error while `refuses` is set."""

    error: tuple[int, str] | None = (429, "rate-overlimit")

    def on_query(self, address: Address, *, xmlns: str, tag: str, now: float) -> tuple[int, str] | None:
        return self.error if (address.number, xmlns, tag) == ("962302", "md", "link_code_companion_reg") else None


def test_a_request_for_a_code_can_be_refused(harness_with: Callable[[FaultHooks], ServerHarness]) -> None:
    """A fault refuses the request of its number. No code can be typed then; a later request may succeed."""
    faults = Refusing()
    harness = harness_with(faults)
    client = harness.register(harness.new_device())
    refused = ask_for_code(harness, client)
    assert refused.children[0].attrs == {"code": "429", "text": "rate-overlimit"}
    faults.error = None
    assert ask_for_code(harness, client).attrs["type"] == "result"


def test_a_wrong_code_links_nothing(harness: ServerHarness) -> None:
    """The device's answer does not decrypt, and the waiting caller gets an error."""
    linked = harness.new_device()
    client = harness.register(linked)
    ask_for_code(harness, client)
    enter(harness, "WRONG123")
    assert finish(harness, linked, client).attrs["type"] == "error"
    (event,) = harness.events
    assert event == PairingFailed(link=client.id, detail="the code is wrong")
    assert list(harness.server.directory.devices["962302"]) == [0]


def test_another_identity_links_nothing(harness: ServerHarness) -> None:
    """The device must answer with the identity it registered with."""
    linked = harness.new_device()
    client = harness.register(linked)
    ask_for_code(harness, client)
    enter(harness, CODE)
    answer = finish(harness, linked, client, identity=harness.new_device().keys.identity.public)
    assert "other identities" in answer.children[0].attrs["text"]


def test_the_latest_request_counts(harness: ServerHarness) -> None:
    """If two devices ask for a code for one number, the code goes to the newer one; for another number, to none."""
    older, newer, other = (harness.register(harness.new_device()) for _ in range(3))
    ask_for_code(harness, older)
    ask_for_code(harness, newer)
    ask_for_code(harness, other, number="962399")
    assert enter(harness, CODE) == newer.id
    assert older.all("notification") == other.all("notification") == []


def test_a_code_without_a_request_is_refused(harness: ServerHarness) -> None:
    """A code that no device requested is refused with a sentence."""
    harness.register(harness.new_device())
    with pytest.raises(PairingError, match="no device requested a code for 962302"):
        enter(harness, CODE)


@pytest.mark.parametrize("stage", ["companion_finish", "companion_hello"])
def test_steps_out_of_order_are_refused(harness: ServerHarness, stage: str) -> None:
    """A finish without a hello, and a hello without a key."""
    harness.phone("962302")
    client = harness.register(harness.new_device())
    reg = Node("link_code_companion_reg", {"jid": "962302@s.whatsapp.net", "stage": stage})
    assert harness.ask(client, "md", "set", reg).attrs["type"] == "error"


def test_a_finish_before_the_code_is_refused(harness: ServerHarness) -> None:
    """No code has been typed yet."""
    harness.phone("962302")
    client = harness.register(harness.new_device())
    ask_for_code(harness, client)
    reg = Node("link_code_companion_reg", {"jid": "962302@s.whatsapp.net", "stage": "companion_finish"})
    assert "has not been typed" in harness.ask(client, "md", "set", reg).children[0].attrs["text"]
