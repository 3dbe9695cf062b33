"""Records on disk: states of earlier versions can be read, whatever their fields are called in the code."""

from __future__ import annotations

import msgspec
import pytest

from wasim.server.phone_sender import SentMessage
from wasim.server.state import Device, SignedPreKey

SIGNED_PREKEY = SignedPreKey(id=1, public=b"", signature=b"")
DEVICE = Device(
    number="962302", device=1, identity=b"", registration_id=1, signed_prekey=SIGNED_PREKEY, initial_sync_sent=True
)


@pytest.mark.parametrize(
    ("record", "name", "value"),
    [(DEVICE, "welcomed", True), (SentMessage(to="962302", plaintext=b"hello"), "words", b"hello")],
)
def test_renamed_fields_keep_their_names_on_disk(record: msgspec.Struct, name: str, value: object) -> None:
    """A state that an earlier version wrote has these names."""
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(record))[name] == value
