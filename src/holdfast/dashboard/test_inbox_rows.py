"""A row of the inbox says something about every kind of message."""

from __future__ import annotations

from dataclasses import replace

import pytest

from holdfast.dashboard.inbox_rows import InboxRow, inbox_row, person
from holdfast.delivery.content import Content
from holdfast.delivery.stores import Received

TEXT = Received(
    seq=1, id="msg_1", company="962302", chat="962790000001@s.whatsapp.net", sender="962790000001@s.whatsapp.net",
    whatsapp_id="3A01", type="text", text="hello", from_me=False, sent_at="2026-11-22T10:00:00.000Z",
    stored_at="2026-11-22T10:00:01.000Z",
)  # fmt: skip


class Addresses:
    """Keeps `MediaAddresses`."""

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
def test_what_has_no_text_shows_what_it_is_about(kind: str, content: Content, shown: str) -> None:
    """The contact's name, the place, the emoji."""
    made = row(replace(TEXT, type=kind, text=None, content=content))
    assert (made.text, made.note) == (shown, None)


def test_a_file_has_its_name_its_size_and_a_link() -> None:
    """The link is a path: it fits whatever address the dashboard was opened at."""
    media: Content = {"mimetype": "application/pdf", "filename": "invoice.pdf", "sizeBytes": 2_450_000}
    made = row(replace(TEXT, type="document", text=None, media=media))
    assert (made.text, made.note, made.file) == ("", None, "invoice.pdf, 2.5 MB")
    assert made.file_url == "/holdfast/v1/media/msg_1?expires=1&token=t"
    voice: Content = {"mimetype": "audio/ogg; codecs=opus", "seconds": 7, "sizeBytes": 500}
    assert row(replace(TEXT, type="audio", text=None, media=voice)).file == "audio/ogg; codecs=opus, 7 s, 1 KB"


@pytest.mark.parametrize("kind", ["undecryptable", "unknown", "revoke", "call", "text"])
def test_what_says_nothing_is_named(kind: str) -> None:
    """No row is empty."""
    made = row(replace(TEXT, type=kind, text=None))
    assert made.text == ""
    assert made.note
    assert made.note.startswith("(")


def test_a_group_goes_by_its_subject_and_else_by_its_id() -> None:
    """Outside groups there is none."""
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
