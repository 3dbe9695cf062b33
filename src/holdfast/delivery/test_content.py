"""Which content is valid, and which sentence refuses the rest."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from holdfast.base.errors import BadInput
from holdfast.delivery.content import (
    LONGEST_CAPTION,
    LONGEST_TEXT,
    MAX_MENTIONS,
    Content,
    MediaBody,
    MessageBody,
    Referred,
    ReferringBody,
    StoredMedia,
    check_reachable,
    mentioned,
    reply_to,
    shown_text,
    text_of,
)
from holdfast.delivery.kinds import (
    KINDS,
    Audio,
    Contact,
    Delete,
    Document,
    Edit,
    Image,
    Location,
    Poll,
    Reaction,
    Sticker,
    Text,
    Video,
)
from holdfast.delivery.message import MessageState

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
MEDIA = StoredMedia(id="med_1", company="1", mimetype="image/jpeg", filename=None, size_bytes=9, sha256="")
OWN = Referred(
    whatsapp_id="3EB0AA",
    chat="962790000001@s.whatsapp.net",
    from_me=True,
    sender="962799999999@s.whatsapp.net",
    kind="text",
    text="hello",
    state=MessageState.SENT,
    sent_at="2026-01-01T11:50:00.000Z",
)
THEIRS = replace(OWN, from_me=False, sender="962790000001@s.whatsapp.net", state=None)
VCARD = "BEGIN:VCARD\nVERSION:3.0\nFN:Amal\nEND:VCARD\n"


def stored(body: MessageBody) -> Content:
    match body:
        case MediaBody():
            return body.stored_with(MEDIA)
        case ReferringBody():
            return body.stored_with(OWN)
    return body.stored()


def check_target(body: MessageBody, target: Referred) -> None:
    check_reachable(target, field="id")
    if isinstance(body, ReferringBody):
        body.check_target(target, field="id", now=NOW)


BAD: list[tuple[MessageBody, str, str]] = [
    (Text(text=" \n"), "text", "text is empty: give at least one character that is not a space"),
    (
        Text(text="x" * (LONGEST_TEXT + 1)),
        "text",
        "text has 65537 characters: WhatsApp accepts up to 65536, send it in parts",
    ),
    (Image(), "image", "image has none of url, base64 and media: give one"),
    (Image(url="u", media="m"), "image", "image has url and media: give exactly one of url, base64 and media"),
    (
        Image(url="u", caption="x" * (LONGEST_CAPTION + 1)),
        "image.caption",
        "image.caption has 1025 characters: give at most 1024",
    ),
    (
        Document(url="u", filename="../etc/passwd"),
        "document.filename",
        'document.filename "../etc/passwd" is not a valid file name: leave out slashes and line ends',
    ),
    (
        Document(url="u", filename="x" * 257),
        "document.filename",
        "document.filename has 257 characters: give at most 256",
    ),
    (
        Location(latitude=90.5, longitude=0),
        "location.latitude",
        "location.latitude is 90.5: give degrees from -90 to 90",
    ),
    (
        Location(latitude=0, longitude=-181),
        "location.longitude",
        "location.longitude is -181: give degrees from -180 to 180",
    ),
    (
        Location(latitude=float("nan"), longitude=0),
        "location.latitude",
        "location.latitude is nan: give degrees from -90 to 90",
    ),
    (
        Location(latitude=0, longitude=0, name="x" * 257),
        "location.name",
        "location.name has 257 characters: give at most 256",
    ),
    (
        Location(latitude=0, longitude=0, address="x" * 1025),
        "location.address",
        "location.address has 1025 characters: give at most 1024",
    ),
    (Contact(name=" "), "contact.name", "contact.name is empty: give the name to show"),
    (Contact(name="Amal"), "contact", "contact has none of phoneNumber and vcard: give one"),
    (
        Contact(name="Amal", phone_number="962790000001", vcard=VCARD),
        "contact",
        "contact has phoneNumber and vcard: give exactly one of phoneNumber and vcard",
    ),
    (
        Contact(name="Amal", phone_number="12"),
        "contact.phoneNumber",
        (
            'contact.phoneNumber "12" is not a phone number: give 7 to 15 digits with the country code, '
            "such as 962790000001"
        ),
    ),
    (
        Contact(name="Amal", vcard="Amal"),
        "contact.vcard",
        (
            'contact.vcard "Amal" is not a valid vCard: it must begin with BEGIN:VCARD and end '
            "with END:VCARD; or give phoneNumber instead"
        ),
    ),
    (Poll(text=" ", options=["A", "B"]), "poll.text", "poll.text is empty: give at least one character"),
    (
        Poll(text="x" * 256, options=["A", "B"]),
        "poll.text",
        "poll.text has 256 characters: give at most 255",
    ),
    (Poll(text="Lunch?", options=["A"]), "poll.options", "poll.options has 1 options: give 2 to 12"),
    (Poll(text="Lunch?", options=["A", ""]), "poll.options.1", "poll.options.1 is empty: give at least one character"),
    (
        Poll(text="Lunch?", options=["A", "x" * 101]),
        "poll.options.1",
        "poll.options.1 has 101 characters: give at most 100",
    ),
    (
        Poll(text="Lunch?", options=["A", "B", "A "]),
        "poll.options.2",
        'poll.options.2 "A " is given twice: phones could not tell the two apart',
    ),
    (
        Poll(text="Lunch?", options=["A", "B"], selectable=3),
        "poll.selectable",
        "poll.selectable is 3, but there are 2 options: give at most that number, or leave it out",
    ),
    (
        Reaction(message_id="m", emoji="ok"),
        "reaction.emoji",
        'reaction.emoji "ok" is not one emoji: give exactly one, or "" to remove the reaction',
    ),
    (Edit(message_id="m", text=""), "edit.text", "edit.text is empty: give at least one character that is not a"),
]


@pytest.mark.parametrize(("part", "field", "sentence"), BAD)
def test_invalid_content_is_refused(part: MessageBody, field: str, sentence: str) -> None:
    """The error names the field, the value and the cure."""
    with pytest.raises(BadInput) as refused:
        part.check()
    assert (refused.value.field, str(refused.value)[: len(sentence)]) == (field, sentence)


GOOD: list[tuple[MessageBody, dict[str, object]]] = [
    (Text(text="hello"), {"text": {"text": "hello"}}),
    (Image(media="med_1"), {"image": {"media": "med_1", "mimetype": "image/jpeg"}}),
    (
        Image(url="https://x.example/a.jpg", caption="a"),
        {"image": {"media": "med_1", "mimetype": "image/jpeg", "caption": "a"}},
    ),
    (
        Document(base64="AA==", filename="a.pdf"),
        {"document": {"media": "med_1", "mimetype": "image/jpeg", "filename": "a.pdf"}},
    ),
    (
        Audio(media="med_1", voice=True),
        {"audio": {"media": "med_1", "mimetype": "image/jpeg", "voice": True}},
    ),
    (
        Video(media="med_1", gif=True),
        {"video": {"media": "med_1", "mimetype": "image/jpeg", "gif": True}},
    ),
    (Sticker(media="med_1"), {"sticker": {"media": "med_1", "mimetype": "image/jpeg"}}),
    (
        Location(latitude=31.95, longitude=35.93, name="Amman"),
        {"location": {"latitude": 31.95, "longitude": 35.93, "name": "Amman"}},
    ),
    (Contact(name="Amal", vcard=VCARD), {"contact": {"name": "Amal", "vcard": VCARD}}),
    (
        Contact(name="Amal; Haddad", phone_number="+962 79 000 0001"),
        {
            "contact": {
                "name": "Amal; Haddad",
                "vcard": "BEGIN:VCARD\nVERSION:3.0\nFN:Amal\\; Haddad\n"
                "TEL;type=CELL;waid=962790000001:+962790000001\nEND:VCARD",
            }
        },
    ),
    (Poll(text="Lunch?", options=["A", "B"]), {"poll": {"text": "Lunch?", "options": ["A", "B"]}}),
    (
        Poll(text="Lunch?", options=["A", "B"], selectable=1),
        {"poll": {"text": "Lunch?", "options": ["A", "B"], "selectable": 1}},
    ),
    (
        Reaction(message_id="m", emoji="👍🏽"),
        {"reaction": {"emoji": "👍🏽", "whatsappId": "3EB0AA", "fromMe": True, "sender": OWN.sender}},
    ),
    (Edit(message_id="m", text="bye"), {"edit": {"whatsappId": "3EB0AA", "text": "bye"}}),
    (Delete(message_id="m"), {"delete": {"whatsappId": "3EB0AA"}}),
]


def test_every_kind_has_an_example() -> None:
    """A new kind comes with valid content."""
    missing = set(KINDS.values()) - {type(part) for part, _ in GOOD}
    assert not missing, "add one to GOOD"


@pytest.mark.parametrize(("part", "content"), GOOD)
def test_a_part_becomes_content_with_one_kind(part: MessageBody, content: dict[str, object]) -> None:
    """It has the form that the engine expects; fields that were not given are absent."""
    part.check()
    assert {part.kind: stored(part)} == content


@pytest.mark.parametrize(
    "emoji",
    [
        "👍",
        "👍🏽",
        "❤️",
        "❤",
        "🇯🇴",
        "👨‍👩‍👧",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "1️⃣",
        "©️",
        "🫶🏿",
        "🤷‍♂️",
        "",
    ],
)
def test_one_emoji_of_any_make_is_a_reaction(emoji: str) -> None:
    """Emoji of several characters are accepted as well; an empty text removes the reaction."""
    Reaction(message_id="m", emoji=emoji).check()


@pytest.mark.parametrize("emoji", ["👍👍", "a", "1", " ", "👍 ", "مر", "🇯", "\u200d", "👍‍"])
def test_anything_else_is_no_reaction(emoji: str) -> None:
    """Phones would not display it as a reaction."""
    with pytest.raises(BadInput):
        Reaction(message_id="m", emoji=emoji).check()


def test_people_are_mentioned_by_number_or_jid_and_once() -> None:
    """Groups can't be mentioned, nor more people than a group has."""
    assert mentioned(["+962 79 000 0001", "962790000001@s.whatsapp.net", "123@lid"]) == [
        "962790000001@s.whatsapp.net",
        "123@lid",
    ]
    with pytest.raises(BadInput, match=r'^mentions.1 "1-2@g.us" is a group: give people only$'):
        mentioned(["123@lid", "1-2@g.us"])
    with pytest.raises(BadInput, match=r"^mentions has 1025 people: give at most 1024$"):
        mentioned(["123@lid"] * (MAX_MENTIONS + 1))


def test_an_answer_contains_the_quoted_message() -> None:
    """The stored content names the sender and the text of the quoted message, as far as they are known."""
    assert reply_to(THEIRS) == {
        "replyTo": {"whatsappId": "3EB0AA", "fromMe": False, "sender": THEIRS.sender, "text": "hello"}
    }
    assert reply_to(replace(OWN, sender=None, text="")) == {"replyTo": {"whatsappId": "3EB0AA", "fromMe": True}}


REACTION, EDIT, DELETE = (
    Reaction(message_id="m", emoji="👍"),
    Edit(message_id="m", text="x"),
    Delete(message_id="m"),
)
LATE = replace(OWN, sent_at="2025-12-29T11:00:00.000Z")


@pytest.mark.parametrize(
    ("part", "target", "sentence"),
    [
        (REACTION, replace(OWN, state=MessageState.FAILED), "id names a message that is failed: it reached nobody"),
        (
            Text(text="x"),
            replace(OWN, state=MessageState.CANCELLED),
            "id names a message that is cancelled: it reached nobody",
        ),
        (EDIT, THEIRS, "id names a message that somebody else sent: only own messages can be edited"),
        (DELETE, THEIRS, "id names a message that somebody else sent: only own messages can be deleted for everyone"),
        (EDIT, replace(OWN, kind="image"), "id names a message of type image: only texts can be edited"),
        (
            EDIT,
            replace(OWN, sent_at="2026-01-01T11:44:00.000Z"),
            "id names a message sent at 2026-01-01T11:44:00.000Z: phones let one be edited within 15 minutes",
        ),
        (
            DELETE,
            LATE,
            (
                "id names a message sent at 2025-12-29T11:00:00.000Z: "
                "phones let one be deleted for everyone within 60 hours"
            ),
        ),
    ],
)
def test_changes_that_phones_would_ignore_are_refused(part: MessageBody, target: Referred, sentence: str) -> None:
    """It is refused instead of sent without effect."""
    with pytest.raises(BadInput) as refused:
        check_target(part, target)
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize(
    ("part", "target"),
    [
        (REACTION, THEIRS),
        (REACTION, LATE),
        (Text(text="x"), LATE),
        (EDIT, OWN),
        (EDIT, replace(OWN, state=MessageState.QUEUED, sent_at=None)),
        (DELETE, replace(OWN, kind="image", sent_at=(NOW - timedelta(hours=59)).isoformat())),
        (DELETE, replace(OWN, state=None)),
    ],
)
def test_changes_that_phones_apply_are_accepted(part: MessageBody, target: Referred) -> None:
    """This includes own messages that were sent from the phone, or not sent yet."""
    check_target(part, target)


@pytest.mark.parametrize(
    ("content", "text", "shown"),
    [
        ({"text": "hello"}, "hello", "hello"),
        ({"text": "yes", "replyTo": {"whatsappId": "3EB0AA", "text": "no?"}}, "yes", "yes"),
        ({Image.kind: Image(url="u", caption="a cat").stored_with(MEDIA)}, "a cat", "a cat"),
        ({Sticker.kind: Sticker(url="u").stored_with(MEDIA)}, None, None),
        ({Document.kind: Document(url="u", filename="a.pdf").stored_with(MEDIA)}, None, "a.pdf"),
        ({Edit.kind: Edit(message_id="m", text="better").stored_with(OWN)}, "better", "better"),
        ({Location.kind: Location(latitude=31.9, longitude=35.9).stored()}, None, "31.9, 35.9"),
        ({Location.kind: Location(latitude=31.9, longitude=35.9, name="Amman").stored()}, None, "Amman"),
        ({Contact.kind: Contact(name="Amal", vcard=VCARD).stored()}, None, "Amal"),
        ({"contacts": [{"name": "Amal", "vcard": VCARD}]}, None, "Amal"),
        ({Reaction.kind: Reaction(message_id="m", emoji="👍").stored_with(OWN)}, None, "👍"),
        ({Delete.kind: Delete(message_id="m").stored_with(OWN)}, None, None),
        ({"text": 7, "video": {"caption": ""}}, None, None),
        ({Video.kind: Video(url="u", caption="a dog").stored_with(MEDIA)}, "a dog", "a dog"),
        ({Audio.kind: Audio(url="u").stored_with(MEDIA)}, None, None),
    ],
)
def test_a_row_of_a_list_shows_the_text_of_a_message(content: Content, text: str | None, shown: str | None) -> None:
    """A row shows the text or caption, or else the name of a file, place or contact; never the text of a quoted
    message."""
    assert (text_of(content), shown_text(content)) == (text, shown)
