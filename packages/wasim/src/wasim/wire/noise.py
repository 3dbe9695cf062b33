"""Noise_XX_25519_AESGCM_SHA256 as WhatsApp uses it: `Responder` for a server, `Initiator` for tests and load.

Both take one handshake payload and return the next; then `Transport` encrypts and decrypts frames. Framing is not done
here. Ephemeral keys are passed in as arguments.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wasim.wire.curve import KeyPair, hkdf
from wasim.wire.errors import WireError
from wasim.wire.framing import HEADER
from wasim.wire.messages import ClientFinish, ClientHello, HandshakeMessage, ServerHello
from wasim.wire.protobuf import decode, encode

_PROTOCOL = b"Noise_XX_25519_AESGCM_SHA256\0\0\0\0"


class _Symmetric:
    """Noise's SymmetricState and CipherState during the handshake."""

    def __init__(self) -> None:
        self._hash = _PROTOCOL
        self._chaining_key = _PROTOCOL
        self._cipher = AESGCM(_PROTOCOL)
        self._counter = 0
        self.mix_hash(HEADER)

    def mix_hash(self, data: bytes) -> None:
        self._hash = hashlib.sha256(self._hash + data).digest()

    def mix_key(self, secret: bytes) -> None:
        keys = hkdf(secret, salt=self._chaining_key, length=64)
        self._chaining_key = keys[:32]
        self._cipher = AESGCM(keys[32:])
        self._counter = 0

    def encrypt(self, plaintext: bytes) -> bytes:
        ciphertext = self._cipher.encrypt(self._nonce(), plaintext, self._hash)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt(self, ciphertext: bytes) -> bytes:
        try:
            plaintext = self._cipher.decrypt(self._nonce(), ciphertext, self._hash)
        except InvalidTag as error:
            raise WireError("the handshake does not decrypt") from error
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        """The keys of the two directions: initiator to responder, responder to initiator."""
        keys = hkdf(b"", salt=self._chaining_key, length=64)
        return keys[:32], keys[32:]

    def _nonce(self) -> bytes:
        counter = self._counter
        self._counter += 1
        return counter.to_bytes(12, "big")


class Transport:
    """The encrypted stream after the handshake; frames must arrive in the order in which they were made."""

    def __init__(self, *, write_key: bytes, read_key: bytes) -> None:
        self._write = AESGCM(write_key)
        self._read = AESGCM(read_key)
        self._written = 0
        self._been_read = 0

    def encrypt(self, plaintext: bytes) -> bytes:
        nonce = self._written.to_bytes(12, "big")
        self._written += 1
        return self._write.encrypt(nonce, plaintext, b"")

    def decrypt(self, ciphertext: bytes) -> bytes:
        """Raises WireError for a frame that the peer did not make, or that is out of order."""
        nonce = self._been_read.to_bytes(12, "big")
        self._been_read += 1
        try:
            return self._read.decrypt(nonce, ciphertext, b"")
        except InvalidTag as error:
            raise WireError(f"frame {self._been_read} does not decrypt") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A completed handshake: the peer, its payload, and the stream."""

    peer: bytes
    """The peer's static public key, authenticated."""
    payload: bytes
    transport: Transport


class Responder:
    """The server's side: `answer_hello`, then `finish`."""

    def __init__(self, *, static: KeyPair, ephemeral: KeyPair, certificate: bytes) -> None:
        self._static = static
        self._ephemeral = ephemeral
        self._certificate = certificate
        self._state = _Symmetric()

    def answer_hello(self, payload: bytes) -> bytes:
        """The ServerHello for a ClientHello."""
        hello = decode(HandshakeMessage, payload).client_hello
        if hello is None or hello.ephemeral is None:
            raise WireError("the first frame is not a ClientHello")
        state = self._state
        state.mix_hash(hello.ephemeral)
        state.mix_hash(self._ephemeral.public)
        state.mix_key(self._ephemeral.agree(hello.ephemeral))
        static = state.encrypt(self._static.public)
        state.mix_key(self._static.agree(hello.ephemeral))
        certificate = state.encrypt(self._certificate)
        answer = ServerHello(ephemeral=self._ephemeral.public, static=static, payload=certificate)
        return encode(HandshakeMessage(server_hello=answer))

    def finish(self, payload: bytes) -> Finished:
        """Check the ClientFinish; returns the completed handshake."""
        finish = decode(HandshakeMessage, payload).client_finish
        if finish is None or finish.static is None or finish.payload is None:
            raise WireError("the second frame is not a ClientFinish")
        state = self._state
        peer = state.decrypt(finish.static)
        state.mix_key(self._ephemeral.agree(peer))
        said = state.decrypt(finish.payload)
        read_key, write_key = state.split()
        return Finished(peer=peer, payload=said, transport=Transport(write_key=write_key, read_key=read_key))


class Initiator:
    """The client's side: `hello`, then `finish`."""

    def __init__(self, *, static: KeyPair, ephemeral: KeyPair) -> None:
        self._static = static
        self._ephemeral = ephemeral
        self._state = _Symmetric()

    def hello(self) -> bytes:
        self._state.mix_hash(self._ephemeral.public)
        return encode(HandshakeMessage(client_hello=ClientHello(ephemeral=self._ephemeral.public)))

    def finish(self, answer: bytes, payload: bytes) -> tuple[bytes, Finished]:
        """The ClientFinish that carries `payload`, and the finished handshake; its payload is the certificate chain."""
        hello = decode(HandshakeMessage, answer).server_hello
        if hello is None or hello.ephemeral is None or hello.static is None or hello.payload is None:
            raise WireError("the server's frame is not a ServerHello")
        state = self._state
        state.mix_hash(hello.ephemeral)
        state.mix_key(self._ephemeral.agree(hello.ephemeral))
        peer = state.decrypt(hello.static)
        state.mix_key(self._ephemeral.agree(peer))
        certificate = state.decrypt(hello.payload)
        static = state.encrypt(self._static.public)
        state.mix_key(self._static.agree(hello.ephemeral))
        finish = ClientFinish(static=static, payload=state.encrypt(payload))
        write_key, read_key = state.split()
        transport = Transport(write_key=write_key, read_key=read_key)
        done = Finished(peer=peer, payload=certificate, transport=transport)
        return encode(HandshakeMessage(client_finish=finish)), done
