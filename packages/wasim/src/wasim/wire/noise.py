"""The Noise handshake (25519, AESGCM, SHA256) as WhatsApp uses it: `Responder` for a server, `Initiator` for tests.

A client that connects for the first time uses the pattern XX. One that remembers the server's static key uses IK, which
saves a round trip: its first message already has its own key and payload. A server with another static key can't read
that message; it answers as in XX, and both continue with XXfallback.

Both sides take one handshake payload and return the next; then `Transport` encrypts and decrypts frames. Framing is not
done here. Ephemeral keys are passed in as arguments.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wasim.wire.curve import KeyPair, hkdf
from wasim.wire.errors import WireError
from wasim.wire.framing import HEADER
from wasim.wire.messages import ClientFinish, ClientHello, HandshakeMessage, ServerHello
from wasim.wire.protobuf import decode, encode

Pattern = Literal["XX", "IK", "XXfallback"]


class _Symmetric:
    """Noise's SymmetricState and CipherState during the handshake."""

    def __init__(self, pattern: Pattern) -> None:
        name = f"Noise_{pattern}_25519_AESGCM_SHA256".encode()
        start = name.ljust(32, b"\0") if len(name) <= 32 else hashlib.sha256(name).digest()
        self._hash = start
        self._chaining_key = start
        self._cipher = AESGCM(start)
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
    """The encrypted stream after the handshake; frames must arrive in the order in which they were encrypted."""

    def __init__(self, *, write_key: bytes, read_key: bytes) -> None:
        self._write = AESGCM(write_key)
        self._read = AESGCM(read_key)
        self._frames_written = 0
        self._frames_read = 0

    def encrypt(self, plaintext: bytes) -> bytes:
        nonce = self._frames_written.to_bytes(12, "big")
        self._frames_written += 1
        return self._write.encrypt(nonce, plaintext, b"")

    def decrypt(self, ciphertext: bytes) -> bytes:
        """Raises WireError for a frame that was not encrypted by the peer, or is out of order."""
        nonce = self._frames_read.to_bytes(12, "big")
        self._frames_read += 1
        try:
            return self._read.decrypt(nonce, ciphertext, b"")
        except InvalidTag as error:
            raise WireError(f"frame {self._frames_read} does not decrypt") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedHandshake:
    """A completed handshake: the peer, its payload, and the stream."""

    peer: bytes
    """The peer's static public key, authenticated."""
    payload: bytes
    transport: Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class HelloAnswer:
    """The answer to a ClientHello."""

    frame: bytes
    finished: CompletedHandshake | None = None
    """The completed handshake of a client that resumed; None: its ClientFinish is awaited."""


class Responder:
    """The server's side: `answer_hello`, then `finish` unless the client resumed."""

    def __init__(
        self, *, static: KeyPair, ephemeral: KeyPair, certificate: bytes, allows_resuming: bool = True
    ) -> None:
        self._static = static
        self._ephemeral = ephemeral
        self._certificate = certificate
        self._allows_resuming = allows_resuming
        self._state = _Symmetric("XX")
        self.pattern: Pattern = "XX"

    def answer_hello(self, payload: bytes) -> HelloAnswer:
        """The ServerHello for a ClientHello."""
        hello = decode(HandshakeMessage, payload).client_hello
        if hello is None or hello.ephemeral is None:
            raise WireError("the first frame is not a ClientHello")
        if hello.static is None or hello.payload is None:
            return self._answer_in_full("XX", hello.ephemeral)
        resumed = self._resume(hello.ephemeral, hello.static, hello.payload) if self._allows_resuming else None
        return resumed or self._answer_in_full("XXfallback", hello.ephemeral)

    def _answer_in_full(self, pattern: Pattern, ephemeral: bytes) -> HelloAnswer:
        self.pattern, self._state = pattern, _Symmetric(pattern)
        state = self._state
        state.mix_hash(ephemeral)
        state.mix_hash(self._ephemeral.public)
        state.mix_key(self._ephemeral.agree(ephemeral))
        static = state.encrypt(self._static.public)
        state.mix_key(self._static.agree(ephemeral))
        certificate = state.encrypt(self._certificate)
        answer = ServerHello(ephemeral=self._ephemeral.public, static=static, payload=certificate)
        return HelloAnswer(frame=encode(HandshakeMessage(server_hello=answer)))

    def _resume(self, ephemeral: bytes, static: bytes, payload: bytes) -> HelloAnswer | None:
        """The answer without a static key; None when the client encrypted for another static key than this server's."""
        state = _Symmetric("IK")
        state.mix_hash(self._static.public)
        state.mix_hash(ephemeral)
        state.mix_key(self._static.agree(ephemeral))
        try:
            peer = state.decrypt(static)
            state.mix_key(self._static.agree(peer))
            client_payload = state.decrypt(payload)
        except WireError:
            return None
        self.pattern = "IK"
        state.mix_hash(self._ephemeral.public)
        state.mix_key(self._ephemeral.agree(ephemeral))
        state.mix_key(self._ephemeral.agree(peer))
        answer = ServerHello(ephemeral=self._ephemeral.public, payload=state.encrypt(self._certificate))
        read_key, write_key = state.split()
        finished = CompletedHandshake(
            peer=peer, payload=client_payload, transport=Transport(write_key=write_key, read_key=read_key)
        )
        return HelloAnswer(frame=encode(HandshakeMessage(server_hello=answer)), finished=finished)

    def finish(self, payload: bytes) -> CompletedHandshake:
        """Check the ClientFinish; returns the completed handshake."""
        finish = decode(HandshakeMessage, payload).client_finish
        if finish is None or finish.static is None or finish.payload is None:
            raise WireError("the second frame is not a ClientFinish")
        state = self._state
        peer = state.decrypt(finish.static)
        state.mix_key(self._ephemeral.agree(peer))
        client_payload = state.decrypt(finish.payload)
        read_key, write_key = state.split()
        return CompletedHandshake(
            peer=peer, payload=client_payload, transport=Transport(write_key=write_key, read_key=read_key)
        )


class Initiator:
    """The client's side, for tests: `hello`, then `finish`. With the server's static key, `server`, it resumes."""

    def __init__(
        self, *, static: KeyPair, ephemeral: KeyPair, payload: bytes = b"", server: bytes | None = None
    ) -> None:
        self._static = static
        self._ephemeral = ephemeral
        self._payload = payload
        self._server = server
        self._state = _Symmetric("XX" if server is None else "IK")

    def hello(self) -> bytes:
        if self._server is not None:
            return self._resume(self._server)
        self._state.mix_hash(self._ephemeral.public)
        return encode(HandshakeMessage(client_hello=ClientHello(ephemeral=self._ephemeral.public)))

    def _resume(self, server: bytes) -> bytes:
        state = self._state
        state.mix_hash(server)
        state.mix_hash(self._ephemeral.public)
        state.mix_key(self._ephemeral.agree(server))
        static = state.encrypt(self._static.public)
        state.mix_key(self._static.agree(server))
        payload = state.encrypt(self._payload)
        hello = ClientHello(ephemeral=self._ephemeral.public, static=static, payload=payload)
        return encode(HandshakeMessage(client_hello=hello))

    def finish(self, answer: bytes) -> tuple[bytes | None, CompletedHandshake]:
        """The ClientFinish, unless the handshake was resumed, and the finished handshake, whose payload is the
        certificate chain."""
        hello = decode(HandshakeMessage, answer).server_hello
        if hello is None or hello.ephemeral is None or hello.payload is None:
            raise WireError("the server's frame is not a ServerHello")
        if hello.static is not None:
            return self._finish_in_full(hello.ephemeral, hello.static, hello.payload)
        if self._server is None:
            raise WireError("the server's frame is not a ServerHello")
        return None, self._finish_resumed(self._server, hello.ephemeral, hello.payload)

    def _finish_resumed(self, server: bytes, ephemeral: bytes, payload: bytes) -> CompletedHandshake:
        state = self._state
        state.mix_hash(ephemeral)
        state.mix_key(self._ephemeral.agree(ephemeral))
        state.mix_key(self._static.agree(ephemeral))
        certificate = state.decrypt(payload)
        write_key, read_key = state.split()
        transport = Transport(write_key=write_key, read_key=read_key)
        return CompletedHandshake(peer=server, payload=certificate, transport=transport)

    def _finish_in_full(self, ephemeral: bytes, static: bytes, payload: bytes) -> tuple[bytes, CompletedHandshake]:
        if self._server is not None:
            self._state = _Symmetric("XXfallback")
            self._state.mix_hash(self._ephemeral.public)
        state = self._state
        state.mix_hash(ephemeral)
        state.mix_key(self._ephemeral.agree(ephemeral))
        peer = state.decrypt(static)
        state.mix_key(self._ephemeral.agree(peer))
        certificate = state.decrypt(payload)
        own = state.encrypt(self._static.public)
        state.mix_key(self._static.agree(ephemeral))
        finish = ClientFinish(static=own, payload=state.encrypt(self._payload))
        write_key, read_key = state.split()
        transport = Transport(write_key=write_key, read_key=read_key)
        done = CompletedHandshake(peer=peer, payload=certificate, transport=transport)
        return encode(HandshakeMessage(client_finish=finish)), done
