"""The handshake: compatible with a real client's bytes, and authenticated."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wasim.wire.certificates import make_chain
from wasim.wire.curve import KeyPair, verify
from wasim.wire.errors import WireError
from wasim.wire.framing import FrameReader
from wasim.wire.messages import CertChain, CertificateDetails, HandshakeMessage
from wasim.wire.noise import CompletedHandshake, Initiator, Responder
from wasim.wire.protobuf import decode, encode

EPHEMERAL, STATIC, SERVER_STATIC, SERVER_EPHEMERAL, ROOT, INTERMEDIATE = (
    KeyPair.from_private(bytes([n]) * 32) for n in range(1, 7)
)
CHAIN = make_chain(
    root=ROOT,
    intermediate=INTERMEDIATE,
    leaf_public=SERVER_STATIC.public,
    now_s=1_700_000_000,
    nonces=(b"\x01" * 64, b"\x02" * 64),
)

# Sent by Baileys 7.0.0-rc14 with those keys and routing information 0805, to a server with the keys and chain above.
BAILEYS_HELLO = (
    "4544000100000208055741060300002412220a20a4e09292b651c278b9772c569f5fa9bb13d906b46ab68c9df9dc2b4409f8a209"
)
BAILEYS_FINISH = (
    "000051224f0a309e0830d759ab5d96198a19353637d99a270233f7d6452ef10cba13caaa2489cb27697801140739ab6a764f7cc03e6b5a12"
    "1b815de44a6d4d66c0bd481d1851ee858929a4f40fa48d2b749e8db7"
)
BAILEYS_FRAMES = [
    "000015c1f6b6cb152e17c73706ba6a8106ff4d00cd0e897b",
    "00001613e1f3f8a83c2d95611d8782ec0bbe47cb9501661d18",
]


def responder() -> Responder:
    return Responder(static=SERVER_STATIC, ephemeral=SERVER_EPHEMERAL, certificate=CHAIN)


def initiator(payload: bytes = b"payload", *, server: bytes | None = None) -> Initiator:
    return Initiator(static=STATIC, ephemeral=EPHEMERAL, payload=payload, server=server)


def finished(client: Initiator, server: Responder) -> tuple[CompletedHandshake, CompletedHandshake]:
    """The results of client and server after a handshake."""
    answer = server.answer_hello(client.hello())
    finish, client_done = client.finish(answer.frame)
    assert (finish is None) == (answer.finished is not None), "both sides agree on whether a third message follows"
    return client_done, answer.finished or server.finish(finish or b"")


def shake(payload: bytes = b"payload") -> tuple[CompletedHandshake, CompletedHandshake]:
    return finished(initiator(payload), responder())


def test_a_handshake_of_baileys_is_read() -> None:
    """A handshake and two frames that Baileys made with known keys yield payload, authenticated key and contents."""
    reader, server = FrameReader(expects_intro=True), responder()
    (hello,) = reader.feed(bytes.fromhex(BAILEYS_HELLO))
    server.answer_hello(hello)
    (finish,) = reader.feed(bytes.fromhex(BAILEYS_FINISH))
    done = server.finish(finish)
    assert (done.payload, done.peer) == (b"the payload", STATIC.public)
    frames = [payload for written in BAILEYS_FRAMES for payload in reader.feed(bytes.fromhex(written))]
    assert [done.transport.decrypt(payload) for payload in frames] == [b"first", b"second"]


def test_each_side_gets_the_key_of_the_other() -> None:
    """The server gets the client's authenticated key and payload, the client the server's key and certificates."""
    client, server = shake(b"who I am")
    assert (server.peer, server.payload) == (STATIC.public, b"who I am")
    assert (client.peer, client.payload) == (SERVER_STATIC.public, CHAIN)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=200)), max_size=20))
def test_frames_are_decrypted_in_both_directions(messages: list[tuple[bool, bytes]]) -> None:
    """Whatever either side sends, in any order, arrives unchanged."""
    client, server = shake()
    for by_client, plaintext in messages:
        speaker, listener = (client, server) if by_client else (server, client)
        assert listener.transport.decrypt(speaker.transport.encrypt(plaintext)) == plaintext


def test_a_changed_frame_is_refused() -> None:
    """With one inverted bit anywhere, the frame does not decrypt."""
    client, server = shake()
    written = client.transport.encrypt(b"words")
    with pytest.raises(WireError, match="frame 1"):
        server.transport.decrypt(written[:-1] + bytes([written[-1] ^ 1]))


def test_a_repeated_frame_is_refused() -> None:
    """Frames are numbered: a second copy does not decrypt."""
    client, server = shake()
    written = client.transport.encrypt(b"words")
    server.transport.decrypt(written)
    with pytest.raises(WireError, match="frame 2"):
        server.transport.decrypt(written)


def test_a_changed_finish_is_refused() -> None:
    """Nobody else can finish a client's handshake."""
    client, server = initiator(), responder()
    finish, _ = client.finish(server.answer_hello(client.hello()).frame)
    assert finish is not None
    with pytest.raises(WireError, match="decrypt"):
        server.finish(finish[:-1] + bytes([finish[-1] ^ 1]))


@pytest.mark.parametrize("frame", [b"", encode(HandshakeMessage()), b"\xff"])
def test_other_frames_are_refused(frame: bytes) -> None:
    """Both sides refuse a first or second frame that is not the expected handshake message."""
    with pytest.raises(WireError):
        responder().answer_hello(frame)
    with pytest.raises(WireError):
        responder().finish(frame)
    with pytest.raises(WireError):
        initiator().finish(frame)


@pytest.mark.parametrize(
    ("remembered", "allows_resuming", "pattern"),
    [
        (SERVER_STATIC.public, True, "IK"),
        (SERVER_STATIC.public, False, "XXfallback"),
        (ROOT.public, True, "XXfallback"),
    ],
)
def test_a_client_that_remembers_a_key_resumes(remembered: bytes, allows_resuming: bool, pattern: str) -> None:
    """With the server's own key two messages suffice (IK). If the key is another server's, or resuming is not allowed,
    the handshake continues with three messages. In both cases each side gets the other's key."""
    server = Responder(
        static=SERVER_STATIC, ephemeral=SERVER_EPHEMERAL, certificate=CHAIN, allows_resuming=allows_resuming
    )
    client_done, server_done = finished(initiator(b"who I am", server=remembered), server)
    assert server.pattern == pattern
    assert (server_done.peer, server_done.payload) == (STATIC.public, b"who I am")
    assert (client_done.peer, client_done.payload) == (SERVER_STATIC.public, CHAIN)
    for speaker, listener in ((client_done, server_done), (server_done, client_done)):
        assert listener.transport.decrypt(speaker.transport.encrypt(b"words")) == b"words"


def test_a_changed_first_message_does_not_resume() -> None:
    """With a changed payload, the server answers with the full handshake."""
    hello = decode(HandshakeMessage, initiator(server=SERVER_STATIC.public).hello()).client_hello
    assert hello is not None
    assert hello.payload is not None
    forged = replace(hello, payload=hello.payload[:-1] + bytes([hello.payload[-1] ^ 1]))
    assert responder().answer_hello(encode(HandshakeMessage(client_hello=forged))).finished is None


def test_a_short_answer_is_only_for_clients_that_resume() -> None:
    """A client without the server's key refuses a ServerHello without one."""
    server = responder()
    short = server.answer_hello(initiator(server=SERVER_STATIC.public).hello()).frame
    with pytest.raises(WireError, match="ServerHello"):
        initiator().finish(short)


def test_the_chain_is_signed_down_to_the_static_key() -> None:
    """Root signs the intermediate (issuer serial 0), the intermediate signs the leaf, the leaf is the server's key."""
    chain = decode(CertChain, CHAIN)
    assert chain.leaf is not None
    assert chain.intermediate is not None
    leaf, middle = ((c.details or b"", c.signature or b"") for c in (chain.leaf, chain.intermediate))
    assert verify(ROOT.public, *middle)
    assert verify(INTERMEDIATE.public, *leaf)
    assert decode(CertificateDetails, middle[0]).issuer_serial == 0
    assert decode(CertificateDetails, middle[0]).key == INTERMEDIATE.public
    assert decode(CertificateDetails, leaf[0]).key == SERVER_STATIC.public
    assert decode(CertificateDetails, leaf[0]).issuer_serial == decode(CertificateDetails, middle[0]).serial
