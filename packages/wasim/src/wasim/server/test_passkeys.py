"""Linking a device whose account requires a passkey."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey, derive_private_key
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from wasim.server.events import DevicePaired, PairingFailed, PasskeyRequested
from wasim.server.fault_hooks import NoFaults, PasskeyVerdict
from wasim.server.pairing import PairingError
from wasim.server.passkeys import base32_code
from wasim.server.state import Address
from wasim.server.webauthn import BadCredential, base64url, from_base64url, passkey, registered, verify
from wasim.wire.conftest import DeviceKeys
from wasim.wire.curve import KeyPair, hkdf
from wasim.wire.messages import (
    CompanionCommitment,
    CompanionEphemeralIdentity,
    EncryptedPairingRequest,
    PairingRequest,
    PrimaryEphemeralIdentity,
    ProloguePayload,
)
from wasim.wire.nodes import Node
from wasim.wire.protobuf import decode, encode

if TYPE_CHECKING:
    from wasim.server.conftest import Client, ClientDevice, ServerHarness

NUMBER = "962302"
UP, UV = 0x01, 0x04


@dataclass(slots=True, kw_only=True)
class Owner:
    """The account's owner with a passkey, which signs as a browser on WhatsApp's site does."""

    key: EllipticCurvePrivateKey = field(default_factory=lambda: derive_private_key(4711, SECP256R1()))
    id: bytes = b"credential-1"
    origin: str = "https://web.whatsapp.com"
    rp_id: str = "whatsapp.com"
    flags: int = UP | UV
    counter: int = 1
    type: str = "webauthn.get"

    @property
    def public(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, challenge: str) -> dict[str, Any]:
        fields = {"type": self.type, "challenge": challenge, "origin": self.origin, "crossOrigin": False}
        client_data = json.dumps(fields).encode()
        data = hashlib.sha256(self.rp_id.encode()).digest() + bytes((self.flags,)) + self.counter.to_bytes(4, "big")
        signature = self.key.sign(data + hashlib.sha256(client_data).digest(), ECDSA(SHA256()))
        response = {
            "clientDataJSON": client_data,
            "authenticatorData": data,
            "signature": signature,
            "userHandle": b"1",
        }
        return {
            "id": base64url(self.id),
            "rawId": base64url(self.id),
            "type": "public-key",
            "response": {name: base64url(value) for name, value in response.items()},
        }


@dataclass(slots=True, kw_only=True)
class Companion:
    """A device in the ceremony; tests may make every step invalid."""

    harness: ServerHarness
    linked: ClientDevice
    client: Client
    ephemeral: KeyPair
    nonce: bytes
    new_secret: bytes
    payload: bytes = b""
    ref: str = ""

    def ask(self, tag: str, type_: str, content: bytes | list[Node] | None = None) -> Node:
        return self.harness.ask(self.client, "md", type_, Node(tag, {}, content))

    @property
    def options(self) -> dict[str, Any]:
        notice = next(n for n in self.client.all("notification") if n.attrs["type"] == "passkey_prologue_request")
        found: dict[str, Any] = json.loads(notice.data_of("passkey_request_options"))
        return found

    def prologue(
        self, assertion: dict[str, Any], *, proof: bool = True, invalid: dict[str, bytes] | None = None
    ) -> Node:
        invalid = invalid or {}
        self.ref = self.ask("ref", "get").data_of("ref").decode()
        identity = encode(CompanionEphemeralIdentity(public_key=self.ephemeral.public, device_type=1, ref=self.ref))
        commitment = hashlib.sha256(invalid.get("identity", identity) + self.nonce).digest()
        self.payload = encode(
            ProloguePayload(companion_ephemeral_identity=identity, commitment=CompanionCommitment(hash=commitment))
        )
        key = hkdf(self.linked.keys.adv_secret, salt=b"", info=b"shortcake-passkey-handoff-v1", length=32)
        children = [
            Node("credential_id", {}, invalid.get("credential_id", from_base64url(assertion["rawId"], field="rawId"))),
            Node("webauthn_assertion", {}, json.dumps(assertion).encode()),
            Node("prologue_payload", {}, self.payload),
        ]
        if proof:
            mac = invalid.get("mac", hmac.digest(key, self.payload, hashlib.sha256))
            children.append(Node("pairing_handoff_proof", {}, mac))
        answer = self.ask("passkey_prologue", "set", children)
        self.harness.advance(0)
        return answer

    @property
    def continuations(self) -> list[Node]:
        return [n for n in self.client.all("notification") if n.attrs["type"] == "crsc_continuation"]

    def key(self) -> bytes:
        primary = decode(PrimaryEphemeralIdentity, self.continuations[0].data_of("primary_ephemeral_identity"))
        shared = self.ephemeral.agree(primary.public_key or b"")
        salt = f"Companion Pairing 1 with ref {self.ref}".encode()
        return hkdf(shared, salt=salt, info=b"Pairing Information Encryption Key", length=32)

    def request(self, **invalid: bytes) -> Node:
        keys = self.linked.keys
        request = PairingRequest(
            companion_public_key=invalid.get("noise", keys.noise.public),
            companion_identity_key=invalid.get("identity", keys.identity.public),
            adv_secret=invalid.get("secret", self.new_secret),
        )
        iv = bytes(12)
        ciphertext = AESGCM(invalid.get("key", self.key())).encrypt(iv, encode(request), None)
        return self.ask(
            "encrypted_pairing_request", "set", encode(EncryptedPairingRequest(encrypted_payload=ciphertext, iv=iv))
        )

    def finish(self) -> None:
        """Sign with the new secret what the phone signed."""
        self.linked.keys = _with_secret(self.linked, self.new_secret)
        self.harness.send(self.client, self.harness.sign(self.linked, self.client.all("iq")[-1]))


def _with_secret(linked: ClientDevice, secret: bytes) -> DeviceKeys:

    return replace(linked.keys, adv_secret=secret)


def scanned(harness: ServerHarness, owner: Owner | None = None) -> Companion:
    """A device whose code was scanned by a phone with a passkey."""
    account = harness.phone(NUMBER)
    account.passkeys = [passkey((owner or Owner()).id, (owner or Owner()).public)]
    linked = harness.new_device()
    client = harness.register(linked)
    harness.scan(linked, NUMBER, client.one("iq").children[0].children[0].data.decode())
    return Companion(
        harness=harness,
        linked=linked,
        client=client,
        ephemeral=harness.key(),
        nonce=harness.entropy(32),
        new_secret=harness.entropy(32),
    )


def refusals(harness: ServerHarness) -> list[str]:
    return [event.detail for event in harness.events if isinstance(event, PairingFailed)]


def test_a_scan_requests_a_passkey_of_the_account(harness: ServerHarness) -> None:
    """The scan alone links nothing: the device must get an assertion by one of the account's passkeys, and may request
    the options again."""
    companion = scanned(harness)
    assert harness.events == [PasskeyRequested(number=NUMBER, link=companion.client.id)]
    options = companion.options
    assert (options["rpId"], options["timeout"], options["userVerification"]) == ("whatsapp.com", 600_000, "required")
    assert options["allowCredentials"] == [{"type": "public-key", "id": base64url(Owner().id)}]
    again = companion.ask("passkey_request_options", "get")
    assert json.loads(again.data_of("passkey_request_options")) == options


def test_the_owner_signs_and_the_device_is_linked(harness: ServerHarness) -> None:
    """After assertion, commitment, proof, nonce and pairing request, the phone signs with the new secret, and the
    passkey's counter is stored."""
    companion = scanned(harness)
    answer = companion.prologue(Owner().sign(companion.options["challenge"]))
    assert answer.attrs["type"] == "result"
    assert companion.ask("companion_nonce", "set", companion.nonce).attrs["type"] == "result"
    assert companion.request().attrs["type"] == "result"
    companion.finish()
    assert harness.events[-1] == DevicePaired(address=Address(NUMBER, 1), link=companion.client.id)
    assert harness.server.directory.accounts[NUMBER].passkeys[0].counter == 1


def test_without_proof_the_owner_compares_codes(harness: ServerHarness) -> None:
    """A device that can't prove that the phone saw its code is linked only after the codes were compared."""
    companion = scanned(harness)
    harness.now += 301
    companion.prologue(Owner().sign(companion.options["challenge"]), proof=False)
    companion.ask("companion_nonce", "set", companion.nonce)
    companion.request()
    assert companion.client.all("iq")[-1].child("pair-success") is None
    ceremony = harness.server.pairing_flow.ceremony(NUMBER)
    assert ceremony is not None
    assert len(ceremony.code) == 9
    harness.server.pairing_flow.confirm(harness.phone(NUMBER), ceremony.code, now=harness.now)
    harness.exchange()
    companion.finish()
    assert isinstance(harness.events[-1], DevicePaired)


def test_codes_that_differ_end_the_ceremony(harness: ServerHarness) -> None:
    """With somebody else's code nothing is linked, whatever the device sends afterwards."""
    companion = scanned(harness)
    companion.prologue(Owner().sign(companion.options["challenge"]), proof=False)
    companion.ask("companion_nonce", "set", companion.nonce)
    with pytest.raises(PairingError, match="differ"):
        harness.server.pairing_flow.confirm(harness.phone(NUMBER), "AAAA-AAAA", now=harness.now)
    harness.exchange()
    assert companion.request().attrs["type"] == "error"


def test_codes_are_shown_in_whatsapps_base32() -> None:
    """Five bytes become eight letters of an alphabet without 0, I, O and U, in two groups."""

    assert base32_code(bytes(5)) == "1111-1111"
    assert base32_code(bytes([0xFF] * 5)) == "ZZZZ-ZZZZ"
    assert base32_code(bytes([0x00, 0x44, 0x32, 0x14, 0xC7])) == "1234-5678"


Change = Callable[[Owner], None]


def _set(name: str, value: object) -> Change:
    return lambda owner: setattr(owner, name, value)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_set("origin", "https://web.whatsapp.com.evil.example"), "not on https://web.whatsapp.com"),
        (_set("rp_id", "evil.example"), "not for the relying party"),
        (_set("flags", UP), "not verified"),
        (_set("flags", UV), "not verified"),
        (_set("id", b"another"), "not one of this account's passkeys"),
        (_set("key", derive_private_key(4712, SECP256R1())), "signature is wrong"),
        (_set("type", "webauthn.create"), "not of type webauthn.get"),
    ],
)
def test_an_invalid_assertion_is_refused(harness: ServerHarness, change: Change, why: str) -> None:
    """Origin, relying party, flags, credential, signature and type are checked, and an error prevents the linking."""
    companion = scanned(harness, Owner())
    owner = Owner()
    change(owner)
    assert companion.prologue(owner.sign(companion.options["challenge"])).attrs["type"] == "error"
    (refusal,) = refusals(harness)
    assert why in refusal
    assert companion.prologue(Owner().sign(companion.options["challenge"])).attrs["type"] == "error"


def test_another_challenge_or_an_old_one_is_refused(harness: ServerHarness) -> None:
    """An assertion is valid for the challenge that it signed, and for ten minutes."""
    companion = scanned(harness)
    companion.prologue(Owner().sign(base64url(bytes(32))))
    other = scanned(harness)
    harness.now += 601
    other.prologue(Owner().sign(other.options["challenge"]))
    assert refusals(harness) == ["it answers another challenge", "the challenge is too old"]


def test_a_wrong_commitment_proof_or_id_is_refused(harness: ServerHarness) -> None:
    """The nonce must match the commitment, and the proof must be that of the scanned code and recent."""
    companion = scanned(harness)
    companion.prologue(Owner().sign(companion.options["challenge"]), invalid={"identity": b"another"})
    companion.ask("companion_nonce", "set", companion.nonce)
    for invalid in ({"mac": bytes(32)}, {"credential_id": b"another"}):
        companion = scanned(harness)
        companion.prologue(Owner().sign(companion.options["challenge"]), invalid=invalid)
    companion = scanned(harness)
    harness.now += 301
    companion.prologue(Owner().sign(companion.options["challenge"]))
    assert refusals(harness) == [
        "the nonce is not the one of the commitment",
        "the handoff proof is wrong",
        "credential_id is not that of the assertion",
        "the handoff proof is too old",
    ]


@pytest.mark.parametrize(
    ("invalid", "why"),
    [
        ({"noise": bytes(32)}, "other keys"),
        ({"identity": bytes(32)}, "other keys"),
        ({"secret": b"short"}, "no new ADV secret"),
        ({"key": bytes(32)}, "can't be decrypted"),
    ],
)
def test_a_wrong_pairing_request_is_refused(harness: ServerHarness, invalid: dict[str, bytes], why: str) -> None:
    """The request must be encrypted under the agreed key and contain the keys of the connected device."""
    companion = scanned(harness)
    companion.prologue(Owner().sign(companion.options["challenge"]))
    companion.ask("companion_nonce", "set", companion.nonce)
    companion.request(**invalid)
    (refusal,) = refusals(harness)
    assert why in refusal


def test_the_new_secret_must_differ_from_the_old_one(harness: ServerHarness) -> None:
    """Anybody who saw the QR code knows the old secret, so the phone must not sign with it."""
    companion = scanned(harness)
    companion.prologue(Owner().sign(companion.options["challenge"]))
    companion.ask("companion_nonce", "set", companion.nonce)
    companion.request(secret=companion.linked.keys.adv_secret)
    assert refusals(harness) == ["the pairing request has no new ADV secret of 32 bytes"]


def test_steps_out_of_order_are_refused(harness: ServerHarness) -> None:
    """A nonce or request before the assertion, and a second assertion, end the ceremony."""
    companion = scanned(harness)
    companion.ask("companion_nonce", "set", companion.nonce)
    companion = scanned(harness)
    companion.ask("encrypted_pairing_request", "set", b"")
    companion = scanned(harness)
    companion.prologue(Owner().sign(companion.options["challenge"]))
    companion.prologue(Owner(counter=2).sign(companion.options["challenge"]))
    assert refusals(harness) == [
        "the nonce came before it was requested",
        "the pairing request came before the nonce",
        "this challenge was answered already",
    ]


class FixedVerdict(NoFaults):
    def __init__(self, verdict: PasskeyVerdict) -> None:
        self.verdict = verdict

    def on_passkey(self, number: str, *, now: float) -> PasskeyVerdict:
        return self.verdict


def test_faults_refuse_delay_or_drop_an_assertion(harness_with: Callable[[Any], ServerHarness]) -> None:
    """An assertion is answered with an error, or accepted and continued later, or accepted without anything
    following."""
    refused = scanned(harness_with(FixedVerdict(PasskeyVerdict(refused=True))))
    assert refused.prologue(Owner().sign(refused.options["challenge"])).attrs["type"] == "error"
    late = scanned(harness_with(FixedVerdict(PasskeyVerdict(delay_s=5))))
    assert late.prologue(Owner().sign(late.options["challenge"])).attrs["type"] == "result"
    assert not late.continuations
    late.harness.advance(5)
    assert late.continuations
    silent = scanned(harness_with(FixedVerdict(PasskeyVerdict(silent=True))))
    assert silent.prologue(Owner().sign(silent.options["challenge"])).attrs["type"] == "result"
    silent.harness.advance(600)
    assert not silent.continuations


def test_a_cloned_passkey_is_detected(harness: ServerHarness) -> None:
    """A counter that does not grow is refused; passkeys without a counter stay at zero."""
    owner = Owner(counter=5)
    known = passkey(owner.id, owner.public)
    signed = verify(owner.sign(base64url(b"a")), challenge=b"a", passkeys=[known])
    with pytest.raises(BadCredential, match="did not grow"):
        verify(owner.sign(base64url(b"a")), challenge=b"a", passkeys=[signed])
    synced = Owner(counter=0)
    verify(
        synced.sign(base64url(b"a")),
        challenge=b"a",
        passkeys=[verify(synced.sign(base64url(b"a")), challenge=b"a", passkeys=[known])],
    )


def test_a_registration_adds_the_passkey(harness: ServerHarness) -> None:
    """The result of `navigator.credentials.create` on WhatsApp's site is accepted, but no other challenge or invalid
    key."""
    owner = Owner(type="webauthn.create", flags=UP | UV | 0x40)
    made = owner.sign(base64url(b"challenge"))
    head = from_base64url(made["response"]["authenticatorData"], field="")
    attested = head + bytes(16) + len(owner.id).to_bytes(2, "big") + owner.id + b"\xa0"
    made["response"] |= {
        "authenticatorData": base64url(attested),
        "publicKey": base64url(owner.public),
        "publicKeyAlgorithm": -7,
    }
    assert registered(made, challenge=b"challenge") == passkey(owner.id, owner.public)
    with pytest.raises(BadCredential, match="another challenge"):
        registered(made, challenge=b"another")
    with pytest.raises(BadCredential, match="SubjectPublicKeyInfo"):
        passkey(b"id", b"no key")


@pytest.mark.parametrize(
    "body", [None, 5, {}, {"type": "public-key"}, {"type": "public-key", "id": "a=", "rawId": "a="}]
)
def test_an_invalid_credential_is_refused(body: object) -> None:
    """Any JSON gets a sentence as answer."""
    with pytest.raises(BadCredential):
        verify(body, challenge=b"", passkeys=[])
