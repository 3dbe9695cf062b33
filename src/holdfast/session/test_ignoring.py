from __future__ import annotations

import pytest

from holdfast.base.errors import BadInput
from holdfast.session.engine import Commit, Decrypted, InboundMessage, Undecryptable
from holdfast.session.ignoring import IGNORABLE, checked_ignored, ignored_kinds, kind_of, without_ignored

PERSON = "962799999999@s.whatsapp.net"
CHATS = {
    "status@broadcast": "status",
    "120363001@newsletter": "channels",
    "120363002@g.us": "groups",
    PERSON: None,
    "2002@lid": None,
}


@pytest.mark.parametrize(("chat", "kind"), CHATS.items())
def test_the_kind_of_a_message_is_that_of_its_chat(chat: str, kind: str | None) -> None:
    assert kind_of(chat) == kind


def test_a_message_to_a_broadcast_list_is_known_by_its_mark() -> None:
    """Its chat is the sender's."""
    assert kind_of(PERSON, {"broadcast": True}) == "broadcast"
    assert kind_of(PERSON, {"broadcast": "true"}) is None


def commit_of(*chats: str) -> Commit:
    return Commit(
        link=1,
        seq=1,
        keys={"session": {"a": "ratchet"}},
        decrypted=[
            Decrypted(
                ciphertext_sha256=str(number),
                plaintext="AQ==",
                message=InboundMessage(whatsapp_id=str(number), chat=chat, sender=PERSON, type="text"),
            )
            for number, chat in enumerate(chats)
        ],
        undecryptable=[Undecryptable(whatsapp_id="u", chat=chat, sender=PERSON) for chat in chats],
    )


def test_ignored_messages_are_left_out_and_counted_and_nothing_else_is() -> None:
    """The plaintext and the keys stay: WhatsApp may deliver the message again."""
    left, counts = without_ignored(commit_of(*CHATS), ["status", "groups"])
    assert [item.message and item.message.chat for item in left.decrypted] == [
        None,
        "120363001@newsletter",
        None,
        PERSON,
        "2002@lid",
    ]
    assert [item.chat for item in left.undecryptable] == ["120363001@newsletter", PERSON, "2002@lid"]
    assert counts == {"status": 2, "groups": 2}
    assert left.keys == {"session": {"a": "ratchet"}}


def test_without_a_setting_everything_is_stored() -> None:
    commit = commit_of(*CHATS)
    assert without_ignored(commit, ignored_kinds(None)) == (commit, {})


def test_the_setting_is_stored_in_one_order_and_an_unknown_kind_is_refused_by_name() -> None:
    assert checked_ignored(reversed(IGNORABLE)) == "status channels groups broadcast"
    assert ignored_kinds(checked_ignored(["groups", "groups", "status"])) == ("status", "groups")
    assert checked_ignored([]) is None
    with pytest.raises(BadInput, match='ignore "stories": give any of status, channels, groups, broadcast'):
        checked_ignored(["stories"])
