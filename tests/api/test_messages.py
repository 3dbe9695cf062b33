"""Messages by HTTP: accepted, repeated, listed, cancelled; and the inbox."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast.delivery.content import LONGEST_TEXT
from tests.api.api_client import KEY_OF_ONE, OTHER, Answer, ApiClient
from tests.gateway_harness import COMPANY, NUMBER, GatewayHarness

SESSION = f"/v1/sessions/{COMPANY}"
MESSAGES = f"{SESSION}/messages"
HELLO = {"to": NUMBER, "text": "hello"}


@pytest.fixture
async def paused(client: ApiClient) -> ApiClient:
    """A session without a phone: accepted messages stay queued."""
    await client("PUT", SESSION)
    return client


async def accepted(client: ApiClient, text: str) -> str:
    answer = await client("POST", MESSAGES, {**HELLO, "text": text})
    assert answer.status == 202, answer.body
    return str(answer.json["id"])


async def test_a_message_is_accepted_and_sent(client: ApiClient) -> None:
    """202 with id, WhatsApp id, state and time; then its state is sent, and read after it was read."""
    link = await client.harness.pair()
    answer = await client("POST", MESSAGES, {"to": "+962 79-000 0001", "text": "hello"})
    assert answer.status == 202
    taken = answer.json
    assert set(taken) == {"id", "whatsappId", "state", "acceptedAt"}
    await client.harness.until(lambda: len(client.harness.engine.arrived) == 1)
    await client.harness.wait(1)
    shown = (await client("GET", f"/v1/messages/{taken['id']}")).json
    assert shown == {
        "id": taken["id"],
        "whatsappId": taken["whatsappId"],
        "companyId": COMPANY,
        "to": NUMBER,
        "chat": f"{NUMBER}@s.whatsapp.net",
        "type": "text",
        "priority": "interactive",
        "state": "sent",
        "held": None,
        "retries": None,
        "receipts": None,
        "attempts": 1,
        "expiresAt": None,
        "acceptedAt": taken["acceptedAt"],
        "sentAt": shown["sentAt"],
        "deliveredAt": None,
        "readAt": None,
        "playedAt": None,
        "error": None,
    }
    chat = f"{NUMBER}@s.whatsapp.net"
    client.harness.engine.receipt(link, whatsapp_ids=[taken["whatsappId"]], chat=chat, kind="read")
    await client.harness.wait(1)
    read = (await client("GET", f"/v1/messages/{taken['id']}")).json
    assert read["state"] == "read"
    assert read["readAt"].endswith("Z")


async def test_a_failed_message_has_a_reason(client: ApiClient) -> None:
    """`failed`, with a code for programs and a sentence for people."""
    await client.harness.pair()
    client.harness.engine.not_on_whatsapp.add(f"{NUMBER}@s.whatsapp.net")
    message_id = await accepted(client, "hello")
    await client.harness.wait(1)
    shown = (await client("GET", f"/v1/messages/{message_id}")).json
    assert (shown["state"], shown["error"]) == (
        "failed",
        {"code": "not-on-whatsapp", "message": "this number is not on WhatsApp"},
    )


@pytest.mark.parametrize(
    ("body", "field", "sentence"),
    [
        ({"to": "12ab", "text": "x"}, "to", 'to "12ab" is not a phone number: give 7 to 15 digits'),
        ({"to": "", "text": "x"}, "to", 'to "" is not a phone number'),
        ({"to": "123456", "text": "x"}, "to", 'to "123456" is not a phone number'),
        ({"to": "1" * 16, "text": "x"}, "to", f'to "{"1" * 16}" is not a phone number'),
        ({"to": "0790000001", "text": "x"}, "to", 'to "0790000001" begins with 0'),
        ({"to": "\u200e12", "text": "x"}, "to", 'to "<U+200E>12" is not a phone number'),
        ({"to": "+962 079 000 0001", "text": "x"}, "to", 'to "+962 079 000 0001" has a 0 after the country code 962'),
        ({"to": "status@broadcast", "text": "x"}, "to", 'to "status@broadcast" is not a valid recipient'),
        ({"to": 962790000001, "text": "x"}, "to", "to is 962790000001: give a text"),
        ({"to": NUMBER, "text": ""}, "text", "text is empty"),
        ({"to": NUMBER, "text": " \n\t"}, "text", "text is empty"),
        ({"to": NUMBER, "text": None}, "body", "the message has no content: give one of text, image, video, audio, "),
        ({"to": NUMBER, "text": ["x"]}, "text", "text is ['x']: give a text"),
        ({"to": NUMBER, "text": "x" * (LONGEST_TEXT + 1)}, "text", "text has 65537 characters: WhatsApp accepts up to"),
        ({"to": NUMBER}, "body", "the message has no content"),
        ({**HELLO, "image": {"media": "m"}}, "image", "the message has text and image: send each as its own message"),
        ({"text": "x"}, "to", "to is missing"),
        ({**HELLO, "txt": 1}, "txt", "txt is not a known field: did you mean \"text\"?"),
        ({**HELLO, "\ud800": 1}, "body", "body is '\\ud800': give a text of whole Unicode characters"),
        ({**HELLO, "n" * 9999: 1}, "n" * 79 + "…", "n" * 79 + "… is not a known field"),
        ({"to": NUMBER, "text": "half \ud83d"}, "text", "text is 'half \\ud83d': give a text of whole Unicode"),
        ([HELLO], "body", "body is [{'to': '962790000001', 'text': 'hello'}]: give a JSON object"),
        ("hello", "body", "body is 'hello': give a JSON object"),
        ({**HELLO, "chatId": NUMBER}, "chatId", 'chatId is not a known field: did you mean "to"?'),
        ({**HELLO, "replyto": "x"}, "replyto", 'replyto is not a known field: did you mean "replyTo"?'),
        ({"to": NUMBER, "image": "http://x/a.jpg"}, "image", "image is 'http://x/a.jpg': give an object such as "),
        ({"to": NUMBER, "location": {"latitude": 1}}, "location.longitude", "location.longitude is missing"),
        ({"to": NUMBER, "edit": {"messageId": 1, "text": "x"}}, "edit.messageId", "edit.messageId is 1: give a text"),
        ({**HELLO, "location": {"latitude": "1"}}, "location.latitude", "location.latitude is '1': give a number"),
        ({**HELLO, "mentions": [NUMBER, 1]}, "mentions.1", "mentions.1 is 1: give a text"),
        ({**HELLO, "mentions": [NUMBER] * 1025}, "mentions", "mentions is ['9627"),
        ({**HELLO, "expiresInS": 0}, "expiresInS", "expiresInS is 0: give at least 1"),
        ({**HELLO, "expiresInS": 10**9}, "expiresInS", "expiresInS is 1000000000: give at most 2592000"),
        ({**HELLO, "expiresInS": "5"}, "expiresInS", "expiresInS is '5': give a whole number"),
        ({**HELLO, "priority": "urgent"}, "priority", "priority is 'urgent': give interactive or bulk"),
        ({**HELLO, "typing": "yes"}, "typing", "typing is 'yes': give true or false"),
        ({**HELLO, "replyTo": ""}, "replyTo", "replyTo is '': give at least 1 character"),
        ({**HELLO, "mentions": "all"}, "mentions", "mentions is 'all': give a list"),
    ],
)  # fmt: skip
async def test_a_message_that_cannot_be_sent_is_refused(
    paused: ApiClient, body: Any, field: str, sentence: str
) -> None:
    """422, with the field at fault, its value and what is expected; nothing is stored."""
    assert (await paused("POST", MESSAGES, body)).problem(422, "bad-input", field=field).startswith(sentence)
    assert (await paused("GET", MESSAGES)).json["items"] == []


async def test_any_text_that_json_can_carry_is_sent_unchanged(client: ApiClient) -> None:
    """Emoji, right-to-left marks, line ends, NUL: the sent text is the accepted one."""
    await client.harness.pair()
    for text in ("مرحبا 👋🏽", "a\u202eb\r\nc", "nul \x00 byte", " spaces ", "x" * LONGEST_TEXT):
        await accepted(client, text)
        await client.harness.wait(1)
        assert client.harness.sends()[-1][1] == text


# Idempotency.


async def test_the_same_key_with_the_same_body_gets_the_first_response(paused: ApiClient) -> None:
    """A caller that repeats after a broken connection does not send twice."""
    headers = {"Idempotency-Key": "order 17"}
    first = await paused("POST", MESSAGES, HELLO, headers=headers)
    again = await paused("POST", MESSAGES, {"text": "hello", "to": f"+{NUMBER}"}, headers=headers)
    assert (first.status, again.status) == (202, 202)
    assert again.json == first.json
    assert len((await paused("GET", MESSAGES)).json["items"]) == 1


async def test_concurrent_repetitions_get_the_same_response(paused: ApiClient) -> None:
    """The unique index decides, not the order of lookups."""
    headers = {"Idempotency-Key": "order 17"}
    answers = await asyncio.gather(*(paused("POST", MESSAGES, HELLO, headers=headers) for _ in range(8)))
    assert {(answer.status, answer.json["id"]) for answer in answers} == {(202, answers[0].json["id"])}


async def test_the_same_key_with_another_body_is_a_conflict(paused: ApiClient) -> None:
    """409, naming the header; another company may use the key."""
    headers = {"Idempotency-Key": "order 17"}
    await paused("POST", MESSAGES, HELLO, headers=headers)
    refused = await paused("POST", MESSAGES, {**HELLO, "text": "bye"}, headers=headers)
    assert refused.problem(409, "conflict", field="Idempotency-Key").startswith('Idempotency-Key "order 17" was used')
    await paused("PUT", f"/v1/sessions/{OTHER}")
    assert (await paused("POST", f"/v1/sessions/{OTHER}/messages", HELLO, headers=headers)).status == 202


@pytest.mark.parametrize("key", ["", "k" * 256])
async def test_an_unusable_idempotency_key_is_refused(paused: ApiClient, key: str) -> None:
    """Empty, or longer than 255 characters."""
    answer = await paused("POST", MESSAGES, HELLO, headers={"Idempotency-Key": key})
    answer.problem(422, "bad-input", field="Idempotency-Key")


# Cancelling.


async def test_a_queued_message_can_be_cancelled_once(paused: ApiClient) -> None:
    """It stays cancelled: a second request is a conflict."""
    message_id = await accepted(paused, "hello")
    answer = await paused("DELETE", f"/v1/messages/{message_id}")
    assert (answer.status, answer.json["state"]) == (200, "cancelled")
    sentence = (await paused("DELETE", f"/v1/messages/{message_id}")).problem(409, "conflict")
    assert sentence == "the message is cancelled: only a message that has not been sent can be cancelled"


async def test_a_message_that_may_have_been_sent_cannot_be_cancelled(client: ApiClient) -> None:
    """Only WhatsApp's answer can settle it."""
    await client.harness.pair()
    client.harness.engine.acks = False
    message_id = await accepted(client, "hello")
    await client.harness.until(lambda: len(client.harness.engine.arrived) == 1)
    (await client("DELETE", f"/v1/messages/{message_id}")).problem(409, "conflict")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_unknown_message_is_not_found(client: ApiClient, method: str) -> None:
    """404; a long id is shown truncated."""
    sentence = (await client(method, f"/v1/messages/{'m' * 500}")).problem(404, "not-found", field="id")
    assert sentence == f'message "{"m" * 80}" is unknown: its id is in the response that accepted it'


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_another_companys_message_seems_not_to_exist(paused: ApiClient, method: str) -> None:
    """A key reveals nothing about messages of companies that it does not cover, and can't cancel them."""
    await paused("PUT", f"/v1/sessions/{OTHER}")
    theirs = (await paused("POST", f"/v1/sessions/{OTHER}/messages", HELLO)).json["id"]
    sentence = (await paused(method, f"/v1/messages/{theirs}", key=KEY_OF_ONE)).problem(404, "not-found", field="id")
    unknown = (await paused(method, "/v1/messages/nothing", key=KEY_OF_ONE)).problem(404, "not-found", field="id")
    assert sentence == unknown.replace("nothing", theirs)
    assert (await paused("GET", f"/v1/messages/{theirs}")).json["state"] == "queued"
    mine = await accepted(paused, "mine")
    assert (await paused(method, f"/v1/messages/{mine}", key=KEY_OF_ONE)).status == 200


# Lists.


async def parts(client: ApiClient, path: str, *, limit: int) -> list[Any]:
    """All items of a list, read page by page."""
    found: list[Any] = []
    after = ""
    while True:
        page = (await client("GET", f"{path}?limit={limit}{after}")).json
        assert len(page["items"]) <= limit
        found += page["items"]
        if page["next"] is None:
            return found
        after = f"&after={page['next']}"


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 500])
async def test_a_list_is_read_page_by_page(paused: ApiClient, limit: int) -> None:
    """Each item once, oldest first, and no empty page at the end."""
    sent = [await accepted(paused, f"text {n}") for n in range(4)]
    assert [item["id"] for item in await parts(paused, MESSAGES, limit=limit)] == sent
    last = (await paused("GET", f"{MESSAGES}?limit=4")).json
    assert (len(last["items"]), last["next"]) == (4, None)


async def test_a_list_can_be_filtered_by_state(paused: ApiClient) -> None:
    """Only messages in that state, also across pages."""
    ids = [await accepted(paused, f"text {n}") for n in range(4)]
    for message_id in ids[::2]:
        await paused("DELETE", f"/v1/messages/{message_id}")
    cancelled = (await paused("GET", f"{MESSAGES}?state=cancelled")).json["items"]
    assert [item["id"] for item in cancelled] == ids[::2]
    queued = (await paused("GET", f"{MESSAGES}?state=queued&limit=1")).json
    assert [item["id"] for item in queued["items"]] == [ids[1]]
    rest = (await paused("GET", f"{MESSAGES}?state=queued&after={queued['next']}")).json
    assert [item["id"] for item in rest["items"]] == [ids[3]]


@pytest.mark.parametrize(
    ("query", "field", "sentence"),
    [
        ("after=x", "after", 'after "x" is not a position in this list: give `next` of the previous page'),
        ("after=-1", "after", 'after "-1" is not a position in this list'),
        (f"after={'9' * 19}", "after", "after"),
        ("after=%D9%A1", "after", 'after "١" is not a position'),
        ("limit=0", "limit", "limit is '0': give 1 or more"),
        ("limit=501", "limit", "limit is '501': give 500 or less"),
        ("limit=ten", "limit", "limit is 'ten': give a whole number"),
        ("state=lost", "state", "state is 'lost': give 'queued', 'sending', 'sent', "),
    ],
)
async def test_invalid_query_parameters_are_refused(paused: ApiClient, query: str, field: str, sentence: str) -> None:
    """422 with the parameter at fault."""
    assert (await paused("GET", f"{MESSAGES}?{query}")).problem(422, "bad-input", field=field).startswith(sentence)


async def test_the_inbox_lists_inbound_messages(client: ApiClient, harness: GatewayHarness) -> None:
    """In the order in which it was stored, with the documented fields."""
    link = await harness.pair()
    for n in range(3):
        harness.engine.receive(link, text=f"text {n}", whatsapp_id=f"3A{n:04}")
    await harness.until(lambda: len(harness.engine.receipts_sent) == 3)
    items = await parts(client, f"{SESSION}/inbox", limit=2)
    assert [item["text"] for item in items] == ["text 0", "text 1", "text 2"]
    assert items[0] == {
        "id": items[0]["id"],
        "companyId": COMPANY,
        "chat": "962799999999@s.whatsapp.net",
        "sender": "962799999999@s.whatsapp.net",
        "type": "text",
        "text": "text 0",
        "content": None,
        "target": None,
        "media": None,
        "completedAt": None,
        "fromMe": False,
        **dict.fromkeys(("senderName", "senderLid", "groupSubject", "selected", "poll", "raw")),
        "sentAt": items[0]["sentAt"],
        "storedAt": items[0]["storedAt"],
        "origin": "live",
        "whatsappId": "3A0000",
    }
    assert isinstance(await client("GET", f"{SESSION}/inbox?after=1"), Answer)


@pytest.mark.parametrize(
    ("company", "status", "code", "detail"),
    [
        ("a%00b", 422, "bad-input", "company has the character U+0000"),
        ("a%2Fb", 404, "not-found", 'company "a/b" is unknown'),
        ("%F0%9F%90%9F", 404, "not-found", 'company "🐟" is unknown'),
    ],
)
async def test_a_message_for_an_impossible_company_is_refused_as_by_any_route(
    client: ApiClient, company: str, status: int, code: str, detail: str
) -> None:
    path = f"/v1/sessions/{company}/messages"
    sent = await client("POST", path, {"to": NUMBER, "text": "hello"})
    listed = await client("GET", path)
    assert detail in sent.problem(status, code, field="company")
    assert sent.json["detail"] == listed.json["detail"]
