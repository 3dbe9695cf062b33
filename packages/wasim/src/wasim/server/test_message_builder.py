"""Messages of phones: each kind as its recipient reads it, and invalid requests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from wasim.server.message_builder import BadMessageRequest, MessageAction, MessageRequest, NewPoll, Vote
from wasim.server.phone_actions import UnknownNumber
from wasim.server.phone_inbox import ContactCard, PhoneLocation, PhoneMessage
from wasim.server.phone_sender import MAX_SENT
from wasim.wire.attachments import Audio, Document, Image, Media, MessageKey, Sticker, Video
from wasim.wire.content import Content, ProtocolMessage, media_content
from wasim.wire.nodes import Node
from wasim.wire.polls import PollUpdate, VoteKey
from wasim.wire.protobuf import encode

if TYPE_CHECKING:
    from wasim.server.conftest import ServerHarness

ALICE, BOB = "962302", "962303"
SEEN: dict[str, Any] = {
    "url": "https://h/v/x/y",
    "direct_path": "/v/x/y",
    "mimetype": "a/b",
    "sha256": b"s" * 32,
    "key": b"k" * 32,
}


@pytest.fixture
def phones(harness: ServerHarness) -> ServerHarness:
    """Alice and Bob, who only have phones."""
    harness.phone(ALICE)
    harness.phone(BOB)
    return harness


def send(
    harness: ServerHarness,
    message_request: MessageRequest,
    id_: str | None = None,
    *,
    sender: str = ALICE,
    media: Media | None = None,
) -> str:
    to = BOB if sender == ALICE else ALICE
    sent = harness.server.phone_actions.send(sender, to, message_request, id_, media=media, now=harness.now)
    harness.exchange()
    return sent


def phone_message(harness: ServerHarness, id_: str, number: str = BOB) -> PhoneMessage:
    found = harness.server.phone_clients.phone_message(number, id_)
    assert found is not None
    return found


LUNCH = NewPoll(name="Lunch?", options=("Falafel", "Mansaf", "Pizza"), selectable=2)


def test_a_poll_and_a_vote(phones: ServerHarness) -> None:
    """The question and the options arrive; the author's phone reads which options were chosen, and that a vote was
    withdrawn."""
    poll = send(phones, MessageRequest(poll=LUNCH))
    received = phone_message(phones, poll)
    assert (received.kind, received.text) == ("poll", "Lunch?")
    assert received.poll is not None
    assert (received.poll.options, received.poll.selectable) == (LUNCH.options, 2)
    for options in (("Pizza", "Falafel"), ()):
        vote = send(phones, MessageRequest(vote=Vote(id=poll, options=options)), sender=BOB)
        seen = phone_message(phones, vote, ALICE)
        assert (seen.kind, seen.target) == ("vote", poll)
        assert set(seen.chosen or ()) == set(options)


def test_votes_in_an_own_poll(phones: ServerHarness) -> None:
    """A poll's author may vote too, and accounts that are identified by number read the vote as well."""
    for addressing in ("lid", "pn"):
        phones.server.directory.accounts[ALICE].addressing = addressing
        poll = send(phones, MessageRequest(poll=LUNCH))
        vote = send(phones, MessageRequest(vote=Vote(id=poll, options=("Mansaf",))))
        assert phone_message(phones, vote).chosen == ("Mansaf",)


def test_invalid_votes_are_refused(phones: ServerHarness) -> None:
    """An unknown poll, an option that the poll does not have, and too many options are refused with a sentence."""
    poll = send(phones, MessageRequest(poll=LUNCH))
    text = send(phones, MessageRequest(text="Lunch?"))
    bad = [Vote(id="nothing"), Vote(id=text), Vote(id=poll, options=("Fish",)), Vote(id=poll, options=LUNCH.options)]
    for vote in bad:
        with pytest.raises(BadMessageRequest, match=r"^vote for .+: "):
            send(phones, MessageRequest(vote=vote), sender=BOB)


def test_an_undecryptable_vote_has_no_options(phones: ServerHarness) -> None:
    """A vote that was encrypted with another secret, or in an unknown poll, is shown without options."""
    poll = send(phones, MessageRequest(poll=LUNCH))
    key = MessageKey(remote_jid=f"{ALICE}@s.whatsapp.net", from_me=0, id=poll)
    encrypted = VoteKey(secret=bytes(32), poll=poll, creator="1@lid", voter="2@lid").encrypt(("Pizza",), iv=bytes(12))
    for target in (poll, "nothing"):
        update = PollUpdate(key=replace(key, id=target), vote=encrypted)
        vote = send(phones, MessageRequest(payload=encode(Content(vote=update))), sender=BOB)
        seen = phone_message(phones, vote, ALICE)
        assert (seen.kind, seen.chosen) == ("vote", None)


def test_locations_and_contacts(phones: ServerHarness) -> None:
    place, card = PhoneLocation(latitude=31, longitude=35.9, name="Amman"), ContactCard(name="Dan", vcard="V")
    assert phone_message(phones, send(phones, MessageRequest(location=place))).location == place
    got = phone_message(phones, send(phones, MessageRequest(contact=card)))
    assert (got.kind, got.contact) == ("contact", card)


@pytest.mark.parametrize(
    ("media", "kind"),
    [
        (Image(**SEEN, caption="look"), "image"),
        (Video(**SEEN, gif=1, caption="look"), "video"),
        (Audio(**SEEN, voice=1, seconds=3), "audio"),
        (Document(**SEEN, filename="a.pdf"), "document"),
        (Sticker(**SEEN), "sticker"),
    ],
)
def test_media(phones: ServerHarness, media: Media, kind: str) -> None:
    """Its keys arrive with it, and its caption is its text."""
    got = phone_message(phones, send(phones, MessageRequest(), media=media))
    assert got.media is not None
    assert (got.kind, got.media.kind, got.text) == (kind, kind, media.caption)
    assert (got.media.key, got.media.direct_path, got.media.sha256) == (b"k" * 32, "/v/x/y", b"s" * 32)
    assert (got.media.voice, got.media.gif) == (bool(media.voice), bool(media.gif))
    assert (got.media.seconds, got.media.filename) == (media.seconds, media.filename)


def test_only_kinds_of_media_are_accepted() -> None:
    with pytest.raises(ValueError, match="not a kind of media"):
        media_content(Media())


def test_a_message_contains_the_timer_of_its_chat(phones: ServerHarness) -> None:
    """The message states after how long messages disappear."""
    got = phone_message(phones, send(phones, MessageRequest(text="soon gone", disappears_after_s=86_400)))
    assert (got.text, got.disappears_after_s) == ("soon gone", 86_400)


def test_a_reply_quotes_and_mentions(phones: ServerHarness) -> None:
    """A reply can quote the phone's own message or the other's, and mentions people."""
    question = send(phones, MessageRequest(text="when?"))
    answer = send(phones, MessageRequest(text="now", reply_to=question, mentions=(ALICE,)), sender=BOB)
    got = phone_message(phones, answer, ALICE)
    assert (got.text, got.quoted, got.mentions) == ("now", question, (f"{ALICE}@s.whatsapp.net",))
    assert (
        phone_message(phones, send(phones, MessageRequest(text="I mean today", reply_to=question))).quoted == question
    )
    assert phone_message(phones, send(phones, MessageRequest(text="you", mentions=(BOB,)))).quoted is None


def test_reactions_are_added_and_removed(phones: ServerHarness) -> None:
    """A reaction names the message from the sender's view; an empty one removes it."""
    question = send(phones, MessageRequest(text="when?"))
    for emoji in ("❤", ""):
        got = phone_message(
            phones, send(phones, MessageRequest(reaction=MessageAction(id=question, emoji=emoji)), sender=BOB), ALICE
        )
        assert (got.kind, got.target, got.emoji) == ("reaction", question, emoji)


def test_edits_and_deletions_reach_the_older_message(phones: ServerHarness) -> None:
    """The older message has its first text and the change."""
    first = send(phones, MessageRequest(text="helo"))
    edit = phone_message(phones, send(phones, MessageRequest(edit=MessageAction(id=first, text="hello"))))
    assert (edit.kind, edit.target, edit.text) == ("edit", first, "hello")
    assert (phone_message(phones, first).text, phone_message(phones, first).edited) == ("helo", "hello")
    assert phone_message(phones, send(phones, MessageRequest(delete=MessageAction(id=first)))).kind == "delete"
    assert phone_message(phones, first).deleted


def test_only_own_messages_can_be_changed(phones: ServerHarness) -> None:
    """The phone refuses the request."""
    first = send(phones, MessageRequest(text="hello"))
    for message_request in (
        MessageRequest(edit=MessageAction(id=first, text="x")),
        MessageRequest(delete=MessageAction(id=first)),
    ):
        with pytest.raises(BadMessageRequest, match="not the phone's own"):
            send(phones, message_request, sender=BOB)


def test_changes_of_other_peoples_messages_have_no_effect(phones: ServerHarness) -> None:
    """An edit or a deletion of somebody else's message changes nothing in the inbox."""
    first = send(phones, MessageRequest(text="hello"))
    mallory = phones.phone("962304")
    linked, client = phones.online(mallory.number)
    key = MessageKey(remote_jid=f"{BOB}@s.whatsapp.net", from_me=1, id=first)
    for n, note in enumerate((ProtocolMessage(key=key, type=0), ProtocolMessage(key=key, type=14, edited=Content()))):
        enc = phones.encrypt(linked, client, f"{BOB}@s.whatsapp.net", Content(protocol=note))
        holder = Node("participants", {}, [Node("to", {"jid": f"{BOB}@s.whatsapp.net"}, [enc])])
        attrs = {"to": f"{BOB}@s.whatsapp.net", "id": f"E{n}", "type": "text"}
        phones.send(client, Node("message", attrs, [holder]))
    assert [phone_message(phones, f"E{n}").kind for n in range(2)] == ["delete", "edit"]
    assert (phone_message(phones, first).deleted, phone_message(phones, first).edited) == (False, None)


def test_a_reference_in_a_group_includes_the_author(phones: ServerHarness) -> None:
    """The author of an own message or of another one is identified as the group requires."""
    group = phones.server.groups.create("Team", [ALICE, BOB], addressing="lid", now=phones.now)
    question = phones.server.phone_actions.send(
        ALICE, str(group.jid), MessageRequest(text="when?"), None, now=phones.now
    )
    phones.exchange()
    alice = f"{phones.server.directory.accounts[ALICE].lid}@lid"
    for number, from_me in ((ALICE, 1), (BOB, 0)):
        message_request = MessageRequest(reaction=MessageAction(id=question, emoji="❤"))
        sent = phones.server.phone_actions.send(number, str(group.jid), message_request, None, now=phones.now)
        content = phones.server.phone_clients.phone_sender.sent(number, sent)
        assert content is not None
        assert content.reaction is not None
        key = content.reaction.key
        assert key is not None
        assert (key.remote_jid, key.participant, key.from_me) == (str(group.jid), alice, from_me)


@pytest.mark.parametrize(
    ("message_request", "sentence"),
    [
        (MessageRequest(), "has nothing"),
        (MessageRequest(text="a", delete=MessageAction(id="x")), "has text and delete"),
        (MessageRequest(text="a", reply_to="X1"), "neither received nor sent"),
        (MessageRequest(text="a", mentions=("999",)), "mentions 999: there is no such phone"),
    ],
)
def test_an_invalid_request_is_refused(phones: ServerHarness, message_request: MessageRequest, sentence: str) -> None:
    """The error says what is wrong; nothing is sent."""
    with pytest.raises(BadMessageRequest, match=sentence):
        send(phones, message_request)
    assert phones.server.phone_clients.inbox(BOB) == []


def test_unknown_groups_are_refused(phones: ServerHarness) -> None:
    with pytest.raises(UnknownNumber, match="no group 1@g"):
        phones.server.phone_actions.send(ALICE, "1@g.us", MessageRequest(text="x"), None, now=phones.now)


def test_long_texts_are_truncated_in_the_inbox(phones: ServerHarness) -> None:
    """A phone stores a limited number of characters."""
    assert len(phone_message(phones, send(phones, MessageRequest(text="x" * 100_000))).text or "") == 65_536


def test_only_the_newest_messages_are_kept_for_resends(phones: ServerHarness) -> None:
    """Only the newest messages can be resent, also after a restart."""
    for n in range(MAX_SENT + 2):
        phones.server.phone_clients.phone_sender.send(ALICE, phones.phone(BOB), Content(conversation="x"), f"S{n}")
    phones.restart()
    assert phones.server.phone_clients.phone_sender.sent(ALICE, "S1") is None
    assert phones.server.phone_clients.phone_sender.sent(ALICE, "S2") is not None


def test_a_pending_read_receipt_is_sent_after_a_restart(phones: ServerHarness) -> None:
    """If the process ended between delivery and reading, the sender gets the read receipt after the restart."""
    phones.online(ALICE)
    sent = send(phones, MessageRequest(text="hello"))
    phones.restart()
    record = phones.server.directory.messages[ALICE, sent]
    assert (record.delivered, record.read) == (1, 0)
    phones.advance(1)
    assert (phones.server.directory.messages[ALICE, sent].read, phone_message(phones, sent).read) == (1, True)
    phones.restart()
    phones.advance(1)
    assert phones.server.directory.messages[ALICE, sent].read == 1


def test_a_message_can_be_given_as_a_complete_payload(phones: ServerHarness) -> None:
    """Fields that a phone does not use arrive unchanged, also in a resend."""
    poll = bytes.fromhex("8a040d") + b"\x12\x06Lunch?\x1a\x03\x0a\x01A"  # pollCreationMessageV3 and its fields
    sent = send(phones, MessageRequest(payload=encode(Content(conversation="beside", unknown_fields=poll))))
    assert phone_message(phones, sent).text == "beside"
    kept = phones.server.phone_clients.phone_sender.sent(ALICE, sent)
    assert kept == Content(conversation="beside", unknown_fields=poll)
    with pytest.raises(BadMessageRequest, match="payload is not a message of WAProto: protobuf cut off"):
        send(phones, MessageRequest(payload=poll[:-1]))


def test_a_plaintext_is_encrypted_unchanged(phones: ServerHarness) -> None:
    """An invalid plaintext can't be decrypted by the phone, which requests it again and gets the same bytes."""
    got = phone_message(phones, send(phones, MessageRequest(plaintext=b"\x0a\x02hi\x01")))
    assert (got.kind, got.text) == ("text", "hi")
    broken = phone_message(phones, send(phones, MessageRequest(plaintext=b"\xff\xff\x01")))
    assert (broken.count, broken.undecryptable) == (0, 6)
