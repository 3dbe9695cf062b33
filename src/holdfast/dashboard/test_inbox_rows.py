"""A row of the inbox describes every kind of message."""

from __future__ import annotations

from dataclasses import replace

import pytest

from holdfast.dashboard.inbox_details import _DETAILS
from holdfast.dashboard.inbox_rows import InboxRow, inbox_row, person
from holdfast.delivery.content import Content
from holdfast.delivery.stores import Received

TEXT = Received(
    seq=1, id="msg_1", company="962302", chat="962790000001@s.whatsapp.net", sender="962790000001@s.whatsapp.net",
    whatsapp_id="3A01", type="text", text="hello", from_me=False, sent_at="2026-11-22T10:00:00.000Z",
    stored_at="2026-11-22T10:00:01.000Z",
)  # fmt: skip


class Addresses:
    """Implements `MediaAddresses`."""

    def url(self, received: Received) -> str | None:
        return (
            None if received.media is None else f"https://wa.example/holdfast/v1/media/{received.id}?expires=1&token=t"
        )


def row(received: Received) -> InboxRow:
    return inbox_row(received, Addresses())


@pytest.mark.parametrize(
    ("kind", "content", "shown"),
    [
        ("contact", {"contact": {"name": "Rania", "vcard": "BEGIN:VCARD"}}, "Rania"),
        ("contacts", {"contacts": [{"name": "Omar", "vcard": ""}]}, "Omar"),
        ("location", {"location": {"latitude": 32.5, "longitude": 35.8}}, "32.5, 35.8"),
        ("location", {"location": {"latitude": 32.5, "longitude": 35.8, "name": "Bakery"}}, "Bakery"),
        ("reaction", {"reaction": {"emoji": "👍"}}, "👍"),
    ],
)
def test_a_message_without_text_shows_its_content(kind: str, content: Content, shown: str) -> None:
    """The contact's name, the place, the emoji."""
    made = row(replace(TEXT, type=kind, text=None, content=content))
    assert (made.text, made.note) == (shown, None)


def test_a_file_has_its_name_its_size_and_a_link() -> None:
    """The link is a path, so it works under any host name of the dashboard."""
    media: Content = {"mimetype": "application/pdf", "filename": "invoice.pdf", "sizeBytes": 2_450_000}
    made = row(replace(TEXT, type="document", text=None, media=media))
    assert (made.text, made.note, made.file) == ("", None, "invoice.pdf, 2.5 MB")
    assert made.file_url == "/holdfast/v1/media/msg_1?expires=1&token=t"


@pytest.mark.parametrize(
    ("media", "label"),
    [
        (
            {"mimetype": "audio/ogg; codecs=opus", "voice": True, "seconds": 7, "sizeBytes": 500},
            "Voice message, 7 s, 1 KB",
        ),
        ({"mimetype": "audio/mpeg", "voice": False, "sizeBytes": 48_000}, "Audio, 48 KB"),
        ({"mimetype": "image/jpeg", "sizeBytes": 90_000}, "Image (JPEG), 90 KB"),
        ({"mimetype": "video/x-matroska"}, "Video (MATROSKA)"),
        ({"mimetype": "application/pdf"}, "application/pdf"),
        ({"mimetype": None}, "File"),
    ],
)
def test_a_file_without_a_name_has_the_word_that_people_use(media: Content, label: str) -> None:
    """A voice message is not called audio/ogg; codecs=opus."""
    assert row(replace(TEXT, type="audio", text=None, media=media)).file == label


def test_details_replace_a_note_that_would_only_repeat_the_kind() -> None:
    """A row "(call) Call." would repeat itself; that a vote was withdrawn is shown."""
    call = row(replace(TEXT, type="call", text=None, content={"call": {"video": True}}))
    assert (call.note, call.details) == (None, "video call")
    vote = row(replace(TEXT, type="poll_vote", text=None, content={"poll": {"options": ["A"], "votes": []}}))
    assert (vote.note, vote.details) == ("(vote withdrawn)", "options: A")


@pytest.mark.parametrize("kind", ["undecryptable", "unknown", "revoke", "call", "text"])
def test_a_message_without_content_shows_its_kind(kind: str) -> None:
    """No row is empty."""
    made = row(replace(TEXT, type=kind, text=None))
    assert made.text == ""
    assert made.note
    assert made.note.startswith("(")


@pytest.mark.parametrize(
    ("kind", "content", "shown"),
    [
        ("poll", {"poll": {"options": ["A", "B"], "votes": []}}, "options: A, B"),
        ("poll_result", {"poll": {"options": ["A"], "votes": [{"option": "A", "count": 2}]}}, "options: A; A: 2"),
        ("list", {"choices": {"options": [{"id": "r1", "title": "Row"}, {"id": "r2"}]}}, "choices: Row, r2"),
        ("text", {"selected": {"id": "b1", "title": "Yes"}}, "id of the choice: b1"),
        ("contact", {"contact": {"name": "R", "vcard": "BEGIN:VCARD\r\nitem1.TEL;waid=1:+1 2\r\nEND"}}, "+1 2"),
        ("contact", {"contacts": [{"name": "R", "vcard": "TEL:+1"}, {"name": "O", "vcard": ""}]}, "R +1; O"),
        ("location", {"location": {"latitude": 1, "longitude": 2, "name": "B", "address": "Road"}}, "Road; 1, 2"),
        ("order", {"order": {"items": 2, "amount": 5, "currency": "JOD"}}, "2 items; 5 JOD"),
        ("payment", {"payment": {"requested": True, "amount": 5.5, "currency": "JOD"}}, "5.5 JOD; requested"),
        ("event", {"event": {"startsAt": "2027", "location": {"name": "B"}}}, "starts: 2027; place: B"),
        ("group_invite", {"invite": {"group": "1@g.us", "code": "abc"}}, "invitation to: 1@g.us; code: abc"),
        ("call", {"call": {"video": True, "seconds": 5}}, "video call; 5 s"),
        ("album", {"album": {"images": 2, "videos": 1}}, "2 images; 1 video"),
        ("image", {"viewOnce": True, "forwarded": True}, "forwarded; view once"),
        ("text", {"ad": {"title": "Sale"}, "replyTo": {"whatsappId": "3A"}}, "from an ad: Sale; reply to: 3A"),
    ],
)
def test_details_complete_the_text(kind: str, content: Content, shown: str) -> None:
    """Choices, numbers, amounts, places, times and marks."""
    assert row(replace(TEXT, type=kind, content=content)).details == shown


def test_details_name_the_message_that_is_meant() -> None:
    """Of a reaction, an edit, a deletion or a vote."""
    assert row(replace(TEXT, type="revoke", text=None, target="3EB0")).details == "about message 3EB0"
    assert row(TEXT).details is None


@pytest.mark.parametrize("name", _DETAILS)
@pytest.mark.parametrize("value", [None, 7, "x", [None, 7], {"options": 7, "votes": "x", "vcard": 7, "location": []}])
def test_details_bear_any_content(name: str, value: object) -> None:
    """The content is untrusted."""
    assert len(row(replace(TEXT, content={name: value, "viewOnce": True})).details or "") < 600


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ({"poll": {"options": ["A"], "votes": []}}, "(vote withdrawn)"),
        (
            {"encrypted": True, "unreadable": "message-unknown"},
            "(a vote in a poll that is not stored here, so it can't be decrypted)",
        ),
        ({"encrypted": True, "unreadable": "undecryptable"}, "(a vote in a poll; it can't be decrypted)"),
    ],
)
def test_a_vote_without_options_shows_the_reason(content: Content, note: str) -> None:
    """Withdrawn, its poll is not stored, or it can't be decrypted."""
    assert row(replace(TEXT, type="poll_vote", text=None, content=content)).note == note


def test_a_group_is_shown_by_subject_or_id() -> None:
    """Messages outside groups show none."""
    group = replace(TEXT, chat="120363000000000001@g.us")
    assert row(TEXT).group is None
    assert row(group).group == "120363000000000001@g.us"
    assert row(replace(group, group_subject="Suppliers")).group == "Suppliers"


@pytest.mark.parametrize(
    ("jid", "shown"),
    [
        ("962790000001@s.whatsapp.net", "+962790000001"),
        ("962790000001:3@s.whatsapp.net", "+962790000001"),
        ("88213761023@lid", "88213761023"),
        ("0@broadcast", "0@broadcast"),
    ],
)
def test_people_go_by_their_numbers(jid: str, shown: str) -> None:
    """With a plus, as in the outbox; a hidden id is no number and gets none."""
    assert person(jid) == shown
