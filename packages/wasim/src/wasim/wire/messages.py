"""WhatsApp's protobuf messages, as far as a server and a simulated phone need them; field numbers as in WAProto."""

# ruff: noqa: RUF009 – a field specification is immutable

from __future__ import annotations

from dataclasses import dataclass

from wasim.wire.protobuf import optional, repeated


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientHello:
    ephemeral: bytes | None = optional(1, "bytes")
    static: bytes | None = optional(2, "bytes")
    payload: bytes | None = optional(3, "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerHello:
    ephemeral: bytes | None = optional(1, "bytes")
    static: bytes | None = optional(2, "bytes")
    payload: bytes | None = optional(3, "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFinish:
    static: bytes | None = optional(1, "bytes")
    payload: bytes | None = optional(2, "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeMessage:
    client_hello: ClientHello | None = optional(2, lambda: ClientHello)
    server_hello: ServerHello | None = optional(3, lambda: ServerHello)
    client_finish: ClientFinish | None = optional(4, lambda: ClientFinish)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateDetails:
    serial: int | None = optional(1, "uint")
    issuer_serial: int | None = optional(2, "uint")
    key: bytes | None = optional(3, "bytes")
    not_before: int | None = optional(4, "uint")
    not_after: int | None = optional(5, "uint")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseCertificate:
    details: bytes | None = optional(1, "bytes")
    signature: bytes | None = optional(2, "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class CertChain:
    leaf: NoiseCertificate | None = optional(1, lambda: NoiseCertificate)
    intermediate: NoiseCertificate | None = optional(2, lambda: NoiseCertificate)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingData:
    """ClientPayload.DevicePairingRegistrationData: the keys of a device that requests to be linked."""

    registration_id: bytes | None = optional(1, "bytes")
    key_type: bytes | None = optional(2, "bytes")
    identity: bytes | None = optional(3, "bytes")
    signed_prekey_id: bytes | None = optional(4, "bytes")
    signed_prekey: bytes | None = optional(5, "bytes")
    signed_prekey_signature: bytes | None = optional(6, "bytes")
    build_hash: bytes | None = optional(7, "bytes")
    device_props: bytes | None = optional(8, "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProps:
    """The self-description of a device that requests to be linked."""

    os: str | None = optional(1, "string")
    platform_type: int | None = optional(3, "uint")
    require_full_sync: int | None = optional(4, "uint")


@dataclass(frozen=True, slots=True, kw_only=True)
class AppVersion:
    primary: int | None = optional(1, "uint")
    secondary: int | None = optional(2, "uint")
    tertiary: int | None = optional(3, "uint")


@dataclass(frozen=True, slots=True, kw_only=True)
class UserAgent:
    app_version: AppVersion | None = optional(2, lambda: AppVersion)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPayload:
    username: int | None = optional(1, "uint")
    passive: int | None = optional(3, "uint")
    user_agent: UserAgent | None = optional(5, lambda: UserAgent)
    push_name: str | None = optional(7, "string")
    device: int | None = optional(18, "uint")
    pairing: PairingData | None = optional(19, lambda: PairingData)
    pull: int | None = optional(33, "uint")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceIdentity:
    """ADVDeviceIdentity: what the phone signs about a linked device."""

    raw_id: int | None = optional(1, "uint")
    timestamp: int | None = optional(2, "uint")
    key_index: int | None = optional(3, "uint")
    account_type: int | None = optional(4, "uint")
    device_type: int | None = optional(5, "uint")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedDeviceIdentity:
    details: bytes | None = optional(1, "bytes")
    account_signature_key: bytes | None = optional(2, "bytes")
    account_signature: bytes | None = optional(3, "bytes")
    device_signature: bytes | None = optional(4, "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyIndexList:
    """ADVKeyIndexList: which devices are linked to a phone."""

    raw_id: int | None = optional(1, "uint")
    timestamp: int | None = optional(2, "uint")
    current_index: int | None = optional(3, "uint")
    valid_indexes: tuple[int, ...] = repeated(4, "uint")
    account_type: int | None = optional(5, "uint")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedKeyIndexList:
    details: bytes | None = optional(1, "bytes")
    account_signature: bytes | None = optional(2, "bytes")
    account_signature_key: bytes | None = optional(3, "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedDeviceIdentityHmac:
    details: bytes | None = optional(1, "bytes")
    hmac: bytes | None = optional(2, "bytes")
    account_type: int | None = optional(3, "uint")


@dataclass(frozen=True, slots=True, kw_only=True)
class WhisperMessage:
    """Signal's ratcheted message, between its version byte and its MAC."""

    ratchet_key: bytes | None = optional(1, "bytes")
    counter: int | None = optional(2, "uint")
    previous_counter: int | None = optional(3, "uint")
    ciphertext: bytes | None = optional(4, "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class PreKeyMessage:
    """Signal's first message of a session: a whisper message, with what the recipient needs to start the session."""

    prekey_id: int | None = optional(1, "uint")
    base_key: bytes | None = optional(2, "bytes")
    identity_key: bytes | None = optional(3, "bytes")
    message: bytes | None = optional(4, "bytes")
    registration_id: int | None = optional(5, "uint")
    signed_prekey_id: int | None = optional(6, "uint")


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderKeyMessage:
    """A group message, between its version byte and its signature."""

    id: int | None = optional(1, "uint")
    iteration: int | None = optional(2, "uint")
    ciphertext: bytes | None = optional(3, "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderKeyDistribution:
    """The key for a sender's group messages, after its version byte."""

    id: int | None = optional(1, "uint")
    iteration: int | None = optional(2, "uint")
    chain_key: bytes | None = optional(3, "bytes")
    signing_key: bytes | None = optional(4, "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanionEphemeralIdentity:
    """The commitment of a device that links with a passkey."""

    public_key: bytes | None = optional(1, "bytes")
    device_type: int | None = optional(2, "uint")
    ref: str | None = optional(3, "string")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanionCommitment:
    hash: bytes | None = optional(1, "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProloguePayload:
    companion_ephemeral_identity: bytes | None = optional(1, "bytes")
    commitment: CompanionCommitment | None = optional(2, lambda: CompanionCommitment)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrimaryEphemeralIdentity:
    public_key: bytes | None = optional(1, "bytes")
    nonce: bytes | None = optional(2, "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingRequest:
    companion_public_key: bytes | None = optional(1, "bytes")
    companion_identity_key: bytes | None = optional(2, "bytes")
    adv_secret: bytes | None = optional(3, "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedPairingRequest:
    encrypted_payload: bytes | None = optional(1, "bytes")
    iv: bytes | None = optional(2, "bytes")
