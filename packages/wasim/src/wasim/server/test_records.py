"""Records on disk: states of earlier versions can be read, whatever their fields are called in the code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from wasim.server.groupkeys import OwnKey
from wasim.server.message_builder import MessageRequest
from wasim.server.phone_sender import SentMessage
from wasim.server.state import Device, SignedPreKey
from wasim.wire.senderkeys import SenderKey

if TYPE_CHECKING:
    from wasim.server.conftest import ServerHarness

SIGNED_PREKEY = SignedPreKey(id=1, public=b"", signature=b"")
DEVICE = Device(
    number="962302", device=1, identity=b"", registration_id=1, signed_prekey=SIGNED_PREKEY, initial_sync_sent=True
)
OWN_KEY = OwnKey(
    key=SenderKey(id=1, next=0, chain_key=b"", signing_public=b""),
    distributed_to={"962302:1"},
)


@pytest.mark.parametrize(
    ("record", "name", "value"),
    [
        (DEVICE, "welcomed", True),
        (OWN_KEY, "given", ["962302:1"]),
        (SentMessage(to="962302", plaintext=b"hello"), "words", b"hello"),
    ],
)
def test_renamed_fields_keep_their_names_on_disk(record: msgspec.Struct, name: str, value: object) -> None:
    """A state that an earlier version wrote has these names."""
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(record))[name] == value


def test_record_kinds_keep_their_names(harness: ServerHarness) -> None:
    """A conversation of two accounts, one of which has a linked device, is stored under these kinds."""
    harness.online("962302")
    harness.phone("962303")
    harness.server.phone_actions.send("962303", "962302", MessageRequest(text="hello"), None, now=harness.now)
    harness.exchange()
    harness.advance(1)
    kinds = {kind for kind, _ in harness.records}
    assert kinds == {
        "account", "app-state", "device", "keyuse", "letter", "message", "pending", "phone", "prekey", "said", "server",
        "session", "settings", "tally",
    }  # fmt: skip
