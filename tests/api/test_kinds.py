"""Messages of every kind by HTTP: the content that reaches the engine, and refusals."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.session.engine import InboundMessage, Send
from tests.api.api_client import KEY_OF_ONE, OTHER, Answer, ApiClient
from tests.gateway_harness import COMPANY, NUMBER

SESSION = f"/v1/sessions/{COMPANY}"
MESSAGES = f"{SESSION}/messages"
CHAT = f"{NUMBER}@s.whatsapp.net"
FRIEND = "962799999999@s.whatsapp.net"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 5000
OGG = b"OggS\x00\x02" + b"\x00" * 50


def coded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def read(file: str) -> bytes:
    return Path(file).read_bytes()


async def send(client: ApiClient, body: dict[str, Any], **options: Any) -> Answer:
    return await client("POST", MESSAGES, body, **options)


async def handed(client: ApiClient, body: dict[str, Any]) -> Send:
    """The content of a message that the engine got."""
    count = len(client.harness.commands(Send))
    answer = await send(client, body)
    assert answer.status == 202, answer.body
    await client.harness.until(lambda: len(client.harness.commands(Send)) > count)
    return client.harness.commands(Send)[-1]


@pytest.mark.parametrize(
    ("body", "content"),
    [
        ({"text": "hello"}, {"text": "hello"}),
        (
            {"text": "hello @962790000002", "mentions": ["962790000002", "5@lid"]},
            {"text": "hello @962790000002", "mentions": ["962790000002@s.whatsapp.net", "5@lid"]},
        ),
        (
            {"location": {"latitude": 31.95, "longitude": 35, "name": "Amman"}},
            {"location": {"latitude": 31.95, "longitude": 35.0, "name": "Amman"}},
        ),
        (
            {"contact": {"name": "Amal", "vcard": "BEGIN:VCARD\nEND:VCARD"}},
            {"contact": {"name": "Amal", "vcard": "BEGIN:VCARD\nEND:VCARD"}},
        ),
        (
            {"poll": {"text": "Lunch?", "options": ["Mansaf", "Falafel"], "selectable": 1}},
            {"poll": {"text": "Lunch?", "options": ["Mansaf", "Falafel"], "selectable": 1}},
        ),
    ],
)
async def test_content_reaches_the_engine_unchanged(
    client: ApiClient, body: dict[str, Any], content: dict[str, Any]
) -> None:
    """The engine accepts it, and the message shows its kind."""
    await client.harness.pair()
    given = await handed(client, {"to": NUMBER, **body})
    assert (given.to, given.content) == (CHAT, content)
    await client.harness.quiet()
    shown = (await client("GET", MESSAGES)).json["items"][0]
    assert (shown["type"], shown["state"]) == (next(iter(body)), "sent")


@pytest.mark.parametrize("to", ["120363012345678901@g.us", "962790000001-1446600000@g.us", "123456789012345@lid"])
async def test_groups_and_hidden_ids_can_be_written_to(client: ApiClient, to: str) -> None:
    """They are shown in the given form."""
    await client.harness.pair()
    assert (await handed(client, {"to": to, "text": "hello"})).to == to
    assert (await client("GET", MESSAGES)).json["items"][0]["to"] == to


async def test_an_image_reaches_the_engine_as_a_file(client: ApiClient) -> None:
    """With its type, caption and every byte."""
    await client.harness.pair()
    given = await handed(client, {"to": NUMBER, "image": {"base64": coded(PNG), "caption": "look"}})
    image: Any = given.content["image"]
    assert (image["mimetype"], image["caption"], set(image)) == ("image/png", "look", {"mimetype", "caption", "file"})
    assert read(image["file"]) == PNG


async def test_a_stored_file_can_be_sent_in_many_messages(client: ApiClient) -> None:
    """It is stored once, unchanged, and sent by its id."""
    await client.harness.pair()
    raw = [PNG[:100], PNG[100:]]
    answer = await client("POST", f"{SESSION}/media?filename=a.png", raw=raw, headers={"Content-Type": "image/png"})
    stored = answer.json
    assert answer.status == 201
    assert (stored["mimetype"], stored["sizeBytes"], stored["filename"]) == ("image/png", len(PNG), "a.png")
    image: Any = (await handed(client, {"to": NUMBER, "image": {"media": stored["id"]}})).content["image"]
    document: Any = (await handed(client, {"to": "962790000002", "document": {"media": stored["id"]}})).content[
        "document"
    ]
    assert image["file"] == document["file"]
    assert (document["mimetype"], document["filename"]) == ("image/png", "a.png")


async def test_a_voice_note_is_marked_as_one(client: ApiClient) -> None:
    """Only Ogg can be a voice note."""
    await client.harness.pair()
    audio: Any = (await handed(client, {"to": NUMBER, "audio": {"base64": coded(OGG), "voice": True}})).content["audio"]
    assert (audio["mimetype"], audio["voice"]) == ("audio/ogg; codecs=opus", True)
    mp3 = {"to": NUMBER, "audio": {"base64": coded(b"ID3" + b"\x00" * 9), "voice": True}}
    sentence = (await send(client, mp3)).problem(422, "bad-input", field="audio")
    assert sentence == "audio is audio/mpeg: a voice note must be Ogg with Opus, or leave out voice"


@pytest.mark.parametrize(
    ("image", "field", "sentence"),
    [
        ({"base64": "no base64!"}, "image.base64", "image.base64 is not base64: give the file's bytes"),
        ({"base64": "AAA"}, "image.base64", "image.base64 is not base64"),
        ({"base64": ""}, "image.base64", "image.base64 is empty: give at least one byte"),
        ({"base64": coded(b"<html>")}, "image.base64", "image.base64 is application/octet-stream: an image must be"),
        ({"base64": coded(OGG)}, "image.base64", "image.base64 is audio/ogg: an image must be JPEG or PNG"),
        ({"media": "med_0"}, "image.media", 'image.media "med_0" is unknown: store one with POST'),
        ({"media": "med_0", "url": "x"}, "image", "image has url and media: give exactly one of url, base64 and media"),
        ({}, "image", "image has none of url, base64 and media: give one"),
        (
            {"media": "m", "voice": True},
            "image.voice",
            "image.voice is not a known field: remove it, or send the file as audio",
        ),
        (
            {"media": "m", "viewOnce": True},
            "image.viewOnce",
            "image.viewOnce is not a known field: remove it; image has url, base64, media, mimetype, filename, caption",
        ),
        ({"url": "ftp://x.example/a"}, "image.url", 'image.url: the address begins with "ftp:"'),
        ({"base64": coded(PNG), "mimetype": "png"}, "image.mimetype", 'image.mimetype "png" is not a media type'),
    ],
)
async def test_an_image_that_cannot_be_sent_is_refused(
    client: ApiClient, image: dict[str, Any], field: str, sentence: str
) -> None:
    """422 with the field at fault; neither the message nor the file is stored."""
    await client("PUT", SESSION)
    assert (
        (await send(client, {"to": NUMBER, "image": image})).problem(422, "bad-input", field=field).startswith(sentence)
    )
    assert (await client("GET", MESSAGES)).json["items"] == []
    assert await client.harness.now(client.harness.media.sweep(unused_since="9", settled_since="0")) == 0


@pytest.mark.parametrize(
    ("kind", "body", "name", "cure"),
    [
        (
            "sticker",
            {"media": "m", "caption": "x"},
            "caption",
            "remove it, or send the file as image, video or document",
        ),
        ("location", {"lat": 1}, "lat", 'did you mean "latitude"?'),
        ("contact", {"number": NUMBER}, "number", 'did you mean "phoneNumber"?'),
        ("poll", {"question": "?"}, "question", 'did you mean "text"?'),
        ("poll", {"text": "?", "option": []}, "option", 'did you mean "options"?'),
        ("reaction", {"smile": "x"}, "smile", "remove it; reaction has messageId, emoji"),
    ],
)
async def test_the_refusal_of_an_unknown_field_names_the_cure(
    client: ApiClient, kind: str, body: dict[str, Any], name: str, cure: str
) -> None:
    """The field that was meant, the kinds of files that have it, or else the fields there are."""
    await client("PUT", SESSION)
    field = f"{kind}.{name}"
    sentence = (await send(client, {"to": NUMBER, kind: body})).problem(422, "bad-input", field=field)
    assert sentence == f"{field} is not a known field: {cure}"


@pytest.mark.parametrize("name", ["tulips.png", "tulips", "bill.pdf"])
async def test_every_file_may_have_a_name(client: ApiClient, name: str) -> None:
    """Phones show the name of a document only; the picture is sent all the same."""
    await client.harness.pair()
    image: Any = (await handed(client, {"to": NUMBER, "image": {"base64": coded(PNG), "filename": name}})).content[
        "image"
    ]
    assert image["mimetype"] == "image/png"
    assert "filename" not in image


async def test_a_body_with_two_kinds_or_none_is_refused(client: ApiClient) -> None:
    """Each kind is sent as its own message; a null field counts as absent."""
    await client("PUT", SESSION)
    place = {"latitude": 0, "longitude": 0}
    refused = await send(client, {"to": NUMBER, "text": "x", "location": place})
    assert refused.problem(422, "bad-input", field="location") == (
        "the message has text and location: send each as its own message"
    )
    refused = await send(client, {"to": NUMBER, "text": None})
    assert refused.problem(422, "bad-input", field="body").startswith(
        "the message has no content: give one of text, im"
    )
    assert (await send(client, {"to": NUMBER, "text": None, "location": place, "mentions": None})).status == 202


async def test_the_same_key_with_the_same_image_gets_the_first_response(client: ApiClient) -> None:
    """Although its bytes are uploaded again; with another picture it is a conflict."""
    await client("PUT", SESSION)
    headers = {"Idempotency-Key": "k"}
    body = {"to": NUMBER, "image": {"base64": coded(PNG)}}
    first, again = [await send(client, body, headers=headers) for _ in range(2)]
    assert (first.status, again.json) == (202, first.json)
    other = {"to": NUMBER, "image": {"base64": coded(PNG + b"x")}}
    (await send(client, other, headers=headers)).problem(409, "conflict", field="Idempotency-Key")


# Messages about messages.


async def came(client: ApiClient, whatsapp_id: str = "3A0001", **changes: Any) -> str:
    """Receive a message; returns its id."""
    fields = {"whatsapp_id": whatsapp_id, "chat": FRIEND, "sender": FRIEND, "type": "text", "text": "hi"} | changes
    client.harness.engine.receive(client.harness.link(), InboundMessage(**fields))
    await client.harness.until(lambda: whatsapp_id in client.harness.engine.receipts_sent)
    return str((await client("GET", f"{SESSION}/inbox")).json["items"][-1]["id"])


async def test_an_inbox_item_shows_choices_polls_and_unknown_fields(client: ApiClient) -> None:
    """Each in a field of its own, in the inbox and in events; the rest of the content is beside them."""
    await client.harness.pair()
    selected, poll = {"id": "b1", "title": "Yes"}, {"options": ["A", "B"], "votes": []}
    raw = {"placeholderMessage": {"type": 0}}
    await came(client, "3A0001", text="Yes", content={"selected": selected, "mentions": [FRIEND]}, push_name="Amal")
    await came(client, "3A0002", type="poll", text="Lunch?", content={"poll": poll}, sender_lid="2002@lid")
    await came(client, "3A0003", type="unknown", text=None, content={"raw": raw})
    items = (await client("GET", f"{SESSION}/inbox")).json["items"]
    assert [(item["selected"], item["poll"], item["raw"], item["content"]) for item in items] == [
        (selected, None, None, {"mentions": [FRIEND]}),
        (None, poll, None, None),
        (None, None, raw, None),
    ]
    assert [(item["senderName"], item["senderLid"], item["groupSubject"]) for item in items] == [
        ("Amal", None, None),
        ("Amal", "2002@lid", None),
        ("Amal", None, None),
    ]
    events = await client.harness.now(client.harness.events.after(0, companies=[COMPANY], limit=99))
    assert items == [json.loads(event.body) for event in events if event.type == "message.received"]


async def test_a_reply_names_the_message_that_it_answers(client: ApiClient) -> None:
    """By Holdfast's id, or by WhatsApp's in that chat; with the quoted text."""
    await client.harness.pair()
    inbox_id = await came(client)
    expected = {"whatsappId": "3A0001", "fromMe": False, "sender": FRIEND, "text": "hi"}
    for message_id in (inbox_id, "3A0001"):
        given = await handed(client, {"to": FRIEND, "text": "well", "replyTo": message_id})
        assert given.content == {"text": "well", "replyTo": expected}


async def test_a_reaction_needs_no_recipient(client: ApiClient) -> None:
    """It goes to the chat of the message; an empty emoji removes the reaction."""
    await client.harness.pair()
    inbox_id = await came(client)
    for emoji in ("👍🏽", ""):
        given = await handed(client, {"reaction": {"messageId": inbox_id, "emoji": emoji}})
        assert given.to == FRIEND
        assert given.content == {
            "reaction": {"emoji": emoji, "whatsappId": "3A0001", "fromMe": False, "sender": FRIEND}
        }


async def test_own_messages_can_be_edited_and_deleted(client: ApiClient) -> None:
    """The edit and the deletion are messages with ids and states of their own."""
    await client.harness.pair()
    first = (await send(client, {"to": NUMBER, "text": "helo"})).json
    await client.harness.wait(1)
    edit = await handed(client, {"edit": {"messageId": first["id"], "text": "hello"}})
    assert (edit.to, edit.content) == (CHAT, {"edit": {"whatsappId": first["whatsappId"], "text": "hello"}})
    delete = await handed(client, {"to": NUMBER, "delete": {"messageId": first["whatsappId"]}})
    assert delete.content == {"delete": {"whatsappId": first["whatsappId"]}}
    assert len({first["whatsappId"], edit.whatsapp_id, delete.whatsapp_id}) == 3


async def test_an_invalid_reference_to_a_message_is_refused(client: ApiClient) -> None:
    """Unknown, of another chat, of somebody else, or of another company: 422 with the field."""
    await client.harness.pair()
    inbox_id = await came(client)
    for body, field, sentence in (
        ({"reaction": {"messageId": "msg_0", "emoji": "👍"}}, "reaction.messageId", 'reaction.messageId "msg_0" is'),
        ({"reaction": {"messageId": "3A0001", "emoji": "👍"}}, "reaction.messageId", 'reaction.messageId "3A0001"'),
        ({"to": NUMBER, "text": "x", "replyTo": inbox_id}, "replyTo", f'replyTo "{inbox_id}" is a message of another'),
        ({"edit": {"messageId": inbox_id, "text": "x"}}, "edit.messageId", "edit.messageId names a message that some"),
        ({"delete": {"messageId": inbox_id}}, "delete.messageId", "delete.messageId names a message that somebody"),
        ({"reaction": {"messageId": "msg_\0", "emoji": "👍"}}, "reaction.messageId", 'reaction.messageId "msg_\0" is'),
        ({"text": "x"}, "to", "to is missing: give the phone number, group or hidden id"),
        (
            {"mentions": [NUMBER], "reaction": {"messageId": inbox_id, "emoji": "👍"}},
            "mentions",
            "mentions can't go with reaction: leave it out",
        ),
    ):  # fmt: skip
        answer = await send(client, body)
        assert answer.problem(422, "bad-input", field=field).startswith(sentence)
    await client("PUT", f"/v1/sessions/{OTHER}")
    theirs = await client(
        "POST", f"/v1/sessions/{OTHER}/messages", {"reaction": {"messageId": inbox_id, "emoji": "👍"}}
    )
    assert "is unknown" in theirs.problem(422, "bad-input", field="reaction.messageId")


async def test_a_key_can_store_media_only_for_its_companies(client: ApiClient) -> None:
    """And one company's media can't be sent by another."""
    await client("PUT", SESSION)
    await client("PUT", f"/v1/sessions/{OTHER}")
    path = f"/v1/sessions/{OTHER}/media"
    (await client("POST", path, raw=[PNG], key=KEY_OF_ONE)).problem(403, "forbidden", field="company")
    theirs = (await client("POST", path, raw=[PNG])).json["id"]
    refused = await send(client, {"to": NUMBER, "image": {"media": theirs}})
    assert "is unknown" in refused.problem(422, "bad-input", field="image.media")


@pytest.mark.parametrize(
    ("headers", "field", "sentence"),
    [
        (
            {"Content-Encoding": "gzip"},
            "Content-Encoding",
            'the body has the Content-Encoding "gzip": send the file as',
        ),
        (
            {"Content-Type": "Multipart/form-data; boundary=x"},
            "Content-Type",
            "the body is a form: send the file itself",
        ),
    ],
)
async def test_compression_and_multipart_forms_are_not_stored_with_a_file(
    client: ApiClient, headers: dict[str, str], field: str, sentence: str
) -> None:
    """Its recipients would get compressed bytes, or the lines of a form."""
    await client("PUT", SESSION)
    refused = await client("POST", f"{SESSION}/media", raw=[PNG], headers=headers)
    assert refused.problem(422, "bad-input", field=field).startswith(sentence)
    assert (await client("POST", f"{SESSION}/media", raw=[PNG], headers={"Content-Encoding": "identity"})).status == 201


async def test_both_lists_can_be_narrowed_to_a_chat(client: ApiClient) -> None:
    """By number or JID, across pages; an invalid chat is refused."""
    await client.harness.pair()
    await came(client)
    await came(client, "3A0002", chat="1-2@g.us")
    sent = [(await send(client, {"to": to, "text": "x"})).json["id"] for to in (NUMBER, "1-2@g.us", NUMBER)]
    for chat, expected in ((NUMBER, [sent[0], sent[2]]), (CHAT, [sent[0], sent[2]]), ("1-2@g.us", [sent[1]])):
        assert [item["id"] for item in (await client("GET", f"{MESSAGES}?chat={chat}")).json["items"]] == expected
    first = (await client("GET", f"{MESSAGES}?chat={NUMBER}&limit=1")).json
    rest = (await client("GET", f"{MESSAGES}?chat={NUMBER}&after={first['next']}")).json
    assert [item["id"] for item in (*first["items"], *rest["items"])] == [sent[0], sent[2]]
    inbox = (await client("GET", f"{SESSION}/inbox?chat=1-2@g.us")).json["items"]
    assert [item["whatsappId"] for item in inbox] == ["3A0002"]
    (await client("GET", f"{MESSAGES}?chat=x")).problem(422, "bad-input", field="chat")
