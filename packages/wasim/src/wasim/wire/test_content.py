"""Contents of messages, in the bytes that Baileys 7.0.0-rc14 writes."""

from __future__ import annotations

import pytest

from wasim.wire.content import Content
from wasim.wire.protobuf import decode, encode

_CONTEXT = "8a01110a01511201501a030a01717a01787a0179"
MEDIA = {
    "image": "1a350a017512016d1a016322017328073001380242016b4a01655a01646009820101748a01110a01511201501a030a01717a0178"
    "7a0179",
    "video": "4a310a017512016d1a01732007280332016b3a016340015a01656a016470098a01110a01511201501a030a01717a01787a0179",
    "audio": "422e0a017512016d1a01732007280330013a016b4201654a016450098a01110a01511201501a030a01717a01787a0179",
    "document": "3a340a017512016d1a015422017328073a016b4201664a016552016458098a01110a01511201501a030a01717a01787a0179"
    "a2010163",
    "sticker": "d2012a0a01751201731a016522016b2a016d420164480750098a01110a01511201501a030a01717a01787a0179",
}
OWN: dict[str, dict[str, object]] = {
    "image": {"caption": "c"},
    "video": {"caption": "c", "seconds": 3, "gif": 1},
    "audio": {"seconds": 3, "voice": 1},
    "document": {"caption": "c", "filename": "f"},
    "sticker": {},
}


def read(hexadecimal: str) -> Content:
    return decode(Content, bytes.fromhex(hexadecimal))


@pytest.mark.parametrize("kind", MEDIA)
def test_all_kinds_of_media_have_the_same_fields(kind: str) -> None:
    """The field numbers differ, the fields that are read and written are the same."""
    content = read(MEDIA[kind])
    media = content.media
    assert (content.kind, media is not None) == (kind, True)
    assert media is not None
    assert (media.url, media.mimetype, media.sha256, media.length, media.key) == ("u", "m", b"s", 7, b"k")
    assert (media.encrypted_sha256, media.direct_path, media.key_timestamp) == (b"e", "d", 9)
    assert {name: getattr(media, name) for name in OWN[kind]} == OWN[kind]
    assert content.context is not None
    assert (content.context.stanza_id, content.context.participant) == ("Q", "P")
    assert content.context.mentioned == ("x", "y")
    assert read(encode(content).hex()) == content


def test_locations_and_contacts() -> None:
    location = read("2a18093333333333f33f40113333333333f341c01a016e220161").location
    assert location is not None
    assert (location.latitude, location.longitude, location.name, location.address) == (31.95, -35.9, "n", "a")
    contact = read("22070a014482010156").contact
    assert contact is not None
    assert (contact.name, contact.vcard) == ("D", "V")


def test_reactions_deletions_and_edits() -> None:
    """Each has the id of its message; an edit has its text, wrapped or not."""
    reaction = read("f202140a0b0a017210011a01492201701203e29da42005").reaction
    assert reaction is not None
    assert reaction.key is not None
    assert (reaction.key.id, reaction.key.from_me, reaction.emoji) == ("I", 1, "❤")
    deletion = read("620c0a080a017210011a01491000")
    assert deletion.kind == "delete"
    for edit in ("62130a080a017210011a0149100e72030a016e7806", "d203100a0e620c0a031a0149100e72030a016e"):
        content = read(edit)
        assert (content.kind, content.text) == ("edit", "n")
        assert content.inner.protocol is not None
        assert content.inner.protocol.key is not None
        assert content.inner.protocol.key.id == "I"


def test_wrapped_messages_are_unwrapped() -> None:
    """A document with a caption, a text with a quote; a sender key alone has no kind."""
    assert read("aa03070a053a03420166").kind == "document"
    answer = read("32170a0174" + _CONTEXT)
    assert (answer.kind, answer.text) == ("text", "t")
    assert answer.context is not None
    assert answer.context.stanza_id == "Q"
    distribution = read("12060a0167120161")
    assert (distribution.kind, distribution.sender_key is not None) == ("unknown", True)


def test_a_message_without_known_fields_is_unknown() -> None:
    assert (Content().kind, Content().text) == ("unknown", None)
