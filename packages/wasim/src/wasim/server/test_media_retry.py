"""A phone uploads a file again when one of its linked devices asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wasim.server.media_retry import MediaRetryNotification, ServerErrorReceipt, retry_key
from wasim.server.message_builder import MessageRequest
from wasim.wire.attachments import Image
from wasim.wire.nodes import Node
from wasim.wire.protobuf import decode, encode

if TYPE_CHECKING:
    from wasim.server.conftest import ServerHarness

ALICE, BOB = "962302", "962303"
KEY, IV = b"k" * 32, b"i" * 12


def receipt(id_: str, *, key: bytes = KEY) -> Node:
    ciphertext = AESGCM(retry_key(key)).encrypt(IV, encode(ServerErrorReceipt(stanza_id=id_)), id_.encode())
    encrypted = Node("encrypt", {}, [Node("enc_p", {}, ciphertext), Node("enc_iv", {}, IV)])
    rmr = Node("rmr", {"jid": f"{BOB}@s.whatsapp.net", "from_me": "false"})
    attrs = {"id": id_, "to": f"{ALICE}@s.whatsapp.net", "type": "server-error"}
    return Node("receipt", attrs, [encrypted, rmr])


@pytest.fixture
def picture(harness: ServerHarness) -> str:
    """The id of a message with a picture from Bob to Alice."""
    harness.phone(ALICE)
    harness.phone(BOB)
    media = Image(mimetype="image/jpeg", key=KEY, direct_path="/v/image/x?a=b", sha256=b"s" * 32, length=5)
    id_ = harness.server.phone_actions.send(BOB, ALICE, MessageRequest(), None, media=media, now=harness.now)
    harness.exchange()
    return id_


def test_the_phone_answers_with_the_files_new_path(harness: ServerHarness, picture: str) -> None:
    """Encrypted with a key derived from the file's, for the device that requested it."""
    _, client = harness.online(ALICE)
    harness.send(client, receipt(picture))
    (notice,) = client.all("notification")
    assert (notice.attrs["type"], notice.attrs["id"]) == ("mediaretry", picture)
    encrypted, rmr = notice.children
    assert rmr.attrs["jid"] == f"{BOB}@s.whatsapp.net"
    plaintext = AESGCM(retry_key(KEY)).decrypt(
        encrypted.data_of("enc_iv"), encrypted.data_of("enc_p"), picture.encode()
    )
    result = decode(MediaRetryNotification, plaintext)
    assert (result.direct_path, result.result) == ("/v/image/x?a=b&again=1", 1)


def test_a_file_that_the_phone_does_not_have_is_an_error(harness: ServerHarness, picture: str) -> None:
    """Code 2; with a wrong key it is 3. No other account's phone gets the request."""
    _, client = harness.online(ALICE)
    harness.send(client, receipt("3A0000"))
    harness.send(client, receipt(picture, key=b"x" * 32))
    assert [each.children[0].attrs["code"] for each in client.all("notification")] == ["2", "3"]
    _, other = harness.online(BOB)
    harness.send(other, receipt(picture))
    assert other.all("notification") == []
