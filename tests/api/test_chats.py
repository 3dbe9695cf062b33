"""Chats by HTTP, over an in-process gateway: the overview, and the timeline of both directions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from holdfast.session.account_changes import AnyAccountChange, ChatRead, ContactSaved, PersonNamed
from holdfast.session.contacts import Identity
from holdfast.session.engine import Commit, InboundMessage, OperationAnswered, RunOperation
from tests.api.api_client import ApiClient, make_client
from tests.gateway_harness import COMPANY, GatewayHarness

CHATS, CONTACTS = f"/v1/sessions/{COMPANY}/chats", f"/v1/sessions/{COMPANY}/contacts"
RAMI, LAYLA, FLOWERS = "962790000001@s.whatsapp.net", "962790000002@s.whatsapp.net", "120363012345678901@g.us"


@pytest.fixture
async def linked(client: ApiClient, harness: GatewayHarness) -> ApiClient:
    await harness.pair()
    return client


async def receive(harness: GatewayHarness, id_: str, *, chat: str = RAMI, after_s: float = 2, **changes: Any) -> None:
    """Receive a message `after_s` seconds after the previous one."""
    await harness.wait(after_s)
    values: dict[str, Any] = {"type": "text", "text": f"text of {id_}", "sender": chat}
    at = int(harness.clock.now().timestamp())
    message = InboundMessage(whatsapp_id=id_, chat=chat, sent_at_s=at, **(values | changes))
    harness.engine.receive(max(harness.engine.links), message)
    await harness.quiet()


async def send(client: ApiClient, text: str, *, to: str = "962790000001", **body: object) -> Any:
    await client.harness.wait(1)
    answer = await client("POST", f"/v1/sessions/{COMPANY}/messages", {"to": to, **(body or {"text": text})})
    assert answer.status == 202, answer.body
    await client.harness.quiet()
    return answer.json


async def listed(client: ApiClient, query: str = "") -> list[dict[str, Any]]:
    answer = await client("GET", f"{CHATS}{query}")
    assert answer.status == 200, answer.body
    items: list[dict[str, Any]] = answer.json["items"]
    return items


async def timeline(client: ApiClient, chat: str = RAMI, query: str = "") -> Any:
    answer = await client("GET", f"{CHATS}/{chat}/messages{query}")
    assert answer.status == 200, answer.body
    return answer.json


async def test_the_overview_has_each_chat_with_its_last_message(linked: ApiClient, harness: GatewayHarness) -> None:
    """In either direction, with its state; the newest chat first."""
    await receive(harness, "A1")
    await receive(harness, "B1", chat=FLOWERS, sender=LAYLA, push_name="Layla")
    await send(linked, "on its way")
    chats = await listed(linked)
    assert [(each["chat"], each["kind"], each["unread"]) for each in chats] == [
        (RAMI, "person", 1),
        (FLOWERS, "group", 1),
    ]
    last = chats[0]["lastMessage"]
    assert (last["text"], last["direction"], last["state"]) == ("on its way", "outbound", "sent")
    other = chats[1]["lastMessage"]
    assert (other["text"], other["direction"], other["senderName"]) == ("text of B1", "inbound", "Layla")
    assert (await linked("GET", f"{CHATS}/{RAMI}")).json == chats[0]
    assert (await linked("GET", f"{CHATS}/+962 79 000 0001")).json == chats[0]


async def test_messages_that_change_others_are_neither_unread_nor_last(
    linked: ApiClient, harness: GatewayHarness
) -> None:
    """Reactions, edits, deletions, votes."""
    await receive(harness, "A1")
    await receive(harness, "A2", type="reaction", text=None, target="A1", content={"reaction": {"emoji": "👍"}})
    await receive(harness, "A3", type="edit", text="edited", target="A1")
    await receive(harness, "A4", type="poll_vote", text=None)
    (chat,) = await listed(linked)
    assert chat["unread"] == 1
    assert chat["lastMessage"]["whatsappId"] == "A1"
    assert chat["lastMessage"]["text"] == "edited"


async def test_a_reply_from_the_phone_marks_the_chat_as_read(linked: ApiClient, harness: GatewayHarness) -> None:
    """Whoever replies on the phone has the chat open."""
    await receive(harness, "A1")
    await receive(harness, "A2", from_me=True, sender="962700000001@s.whatsapp.net")
    (chat,) = await listed(linked)
    assert (chat["unread"], chat["lastMessage"]["direction"]) == (0, "outbound")


async def test_the_overview_has_pages_and_filters(linked: ApiClient, harness: GatewayHarness) -> None:
    """By unread messages, and by a part of the number; each chat is on one page."""
    for n in range(5):
        await receive(harness, f"A{n}", chat=f"96279000000{n}@s.whatsapp.net")
    await receive(harness, "mine", chat="962790000002@s.whatsapp.net", from_me=True)
    pages, after = [], ""
    while after is not None:
        answer = (await linked("GET", f"{CHATS}?limit=2{after and '&after=' + after}")).json
        pages.append([each["phoneNumber"][-1] for each in answer["items"]])
        after = answer["next"]
    assert pages == [["2", "4"], ["3", "1"], ["0"]]
    assert [each["phoneNumber"][-1] for each in await listed(linked, "?unread=true")] == ["4", "3", "1", "0"]
    assert [each["chat"] for each in await listed(linked, "?q=%2B962790000003")] == ["962790000003@s.whatsapp.net"]
    assert await listed(linked, "?q=nobody") == []
    (await linked("GET", f"{CHATS}?after=17")).problem(422, "bad-input", field="after")
    (await linked("GET", f"{CHATS}?limit=0")).problem(422, "bad-input", field="limit")


async def test_a_timeline_has_both_directions_in_one_order(linked: ApiClient, harness: GatewayHarness) -> None:
    """In one format, newest first; also within a second."""
    await receive(harness, "A1", after_s=0.2)
    sent = await send(linked, "first answer")
    await receive(harness, "A2", after_s=0.1)
    await send(linked, "second answer")
    page = await timeline(linked)
    assert [each["text"] for each in page["items"]] == [
        "second answer", "text of A2", "first answer", "text of A1",
    ]  # fmt: skip
    assert page["next"] is None
    mine, theirs = page["items"][2], page["items"][3]
    assert mine.keys() == theirs.keys()
    assert (mine["id"], mine["direction"], mine["state"], mine["sender"]) == (sent["id"], "outbound", "sent", None)
    assert (theirs["direction"], theirs["state"], theirs["sender"]) == ("inbound", "received", RAMI)
    assert (await timeline(linked, LAYLA))["items"] == []


async def test_a_timeline_is_read_in_both_directions(linked: ApiClient, harness: GatewayHarness) -> None:
    """`next` leads to older messages, `previous` to those that arrive later. Each message is on one page."""
    for n in range(4):
        await receive(harness, f"A{n}")
        await send(linked, f"answer {n}")
    newest = await timeline(linked, query="?limit=3")
    page, texts = newest, [each["text"] for each in newest["items"]]
    while page["next"]:
        page = await timeline(linked, query=f"?limit=3&after={page['next']}")
        texts += [each["text"] for each in page["items"]]
    expected = [text for n in (3, 2, 1, 0) for text in (f"answer {n}", f"text of A{n}")]
    assert texts == expected
    back: list[str] = []
    while page["items"]:
        back = [each["text"] for each in page["items"]] + back
        page = await timeline(linked, query=f"?limit=3&before={page['previous']}")
    assert back == expected
    await receive(harness, "A9")
    later = await timeline(linked, query=f"?before={newest['previous']}")
    assert [each["text"] for each in later["items"]] == ["text of A9"]


async def test_reactions_edits_and_deletions_are_folded_in(linked: ApiClient, harness: GatewayHarness) -> None:
    """This holds for both directions; a person has one reaction, and only the author can edit a message."""
    await receive(harness, "A1")
    sent = await send(linked, "hello")
    await receive(
        harness, "A2", type="reaction", text=None, target=sent["whatsappId"], content={"reaction": {"emoji": "👍"}}
    )
    await receive(
        harness, "A3", type="reaction", text=None, target=sent["whatsappId"], content={"reaction": {"emoji": "❤"}}
    )
    await receive(harness, "A4", type="edit", text="better", target="A1")
    await receive(harness, "A5", type="edit", text="forged", target=sent["whatsappId"])
    await send(linked, "", reaction={"messageId": "A1", "emoji": "🙏"})
    await send(linked, "", edit={"messageId": sent["id"], "text": "hello there"})
    items = (await timeline(linked))["items"]
    assert [(each["text"], bool(each["editedAt"])) for each in items] == [("hello there", True), ("better", True)]
    assert [(each["emoji"], each["fromMe"]) for each in items[0]["reactions"]] == [("❤", False)]
    assert [(each["emoji"], each["fromMe"]) for each in items[1]["reactions"]] == [("🙏", True)]
    await receive(harness, "A6", type="revoke", text=None, target="A1")
    await send(linked, "", delete={"messageId": sent["id"]})
    items = (await timeline(linked))["items"]
    assert [(each["text"], bool(each["deletedAt"])) for each in items] == [(None, True), (None, True)]


async def test_an_unknown_chat_is_404_and_a_bad_cursor_422(linked: ApiClient) -> None:
    """The error names the value."""
    assert "nobody has written" in (await linked("GET", f"{CHATS}/{LAYLA}")).problem(404, "not-found", field="chat")
    for query, field in (("?after=x", "after"), ("?before=1~2", "after"), ("?before=1~~1&after=1~~1", "before")):
        (await linked("GET", f"{CHATS}/{RAMI}/messages{query}")).problem(422, "bad-input", field=field)
    (await linked("GET", f"{CHATS}/nobody/messages")).problem(422, "bad-input", field="chat")
    (await linked("GET", "/v1/sessions/unknown/chats")).problem(404, "not-found", field="company")


# Read and unread.


def receipts(harness: GatewayHarness) -> list[tuple[str, list[str]]]:
    """The chat and the messages of each request for read receipts that reached the engine."""
    found = [each for each in harness.engine.commands if isinstance(each, RunOperation) and each.name == "read-chat"]
    return [(str(each.arguments["chat"]), [row["id"] for row in each.arguments["messages"]]) for each in found]  # type: ignore[attr-defined]  # a list


def acknowledge(harness: GatewayHarness) -> None:
    harness.engine.operations["read-chat"] = lambda command: {"messages": len(command.arguments["messages"])}  # type: ignore[arg-type]  # a list
    harness.engine.operations["update-chat"] = lambda _: {}


def marks(harness: GatewayHarness) -> list[object]:
    """The unread marks that the engine was commanded to set on the phone."""
    found = [each for each in harness.engine.commands if isinstance(each, RunOperation) and each.name == "update-chat"]
    return [each.arguments["unread"] for each in found]


async def test_a_chat_is_marked_as_read(linked: ApiClient, harness: GatewayHarness) -> None:
    """Its count is 0 at once, and the senders of at most the newest hundred unread messages get receipts, oldest first.
    Repeated, it sends none again."""
    acknowledge(harness)
    await receive(harness, "mine", from_me=True)
    await receive(harness, "elsewhere", chat=LAYLA)
    for n in range(120):
        await receive(harness, f"A{n}", after_s=0, sender_lid="77@lid")
    assert {each["chat"]: each["unread"] for each in await listed(linked)} == {RAMI: 120, LAYLA: 1}
    answer = await linked("POST", f"{CHATS}/{RAMI}/read?wait=10")
    assert (answer.status, answer.json["state"], answer.json["result"]) == (200, "succeeded", {"messages": 100})
    assert receipts(harness) == [(RAMI, [f"A{n}" for n in range(20, 120)])]
    command = next(each for each in harness.engine.commands if isinstance(each, RunOperation))
    assert command.arguments["messages"][0] == {"id": "A20", "sender": RAMI, "senderLid": "77@lid"}  # type: ignore[index]  # a list
    assert {each["chat"]: each["unread"] for each in await listed(linked)} == {RAMI: 0, LAYLA: 1}
    again = await linked("POST", f"{CHATS}/{RAMI}/read?wait=10")
    assert again.json["result"] == {"messages": 0}
    await receive(harness, "A120")
    assert (await listed(linked))[0]["unread"] == 1


async def test_a_repeated_request_gets_the_first_answer(linked: ApiClient, harness: GatewayHarness) -> None:
    """By its Idempotency-Key, although nothing is unread any more."""
    acknowledge(harness)
    await receive(harness, "A1")
    key = {"Idempotency-Key": "k"}
    first = (await linked("POST", f"{CHATS}/{RAMI}/read?wait=10", headers=key)).json
    assert (await linked("POST", f"{CHATS}/{RAMI}/read", headers=key)).json == first
    (await linked("POST", f"{CHATS}/{LAYLA}/read", headers=key)).problem(409, "conflict", field="Idempotency-Key")


async def test_read_receipts_without_a_link_are_sent_when_it_is_open(tmp_path: Path) -> None:
    """In order, also after a restart; the count is 0 meanwhile."""
    harness = GatewayHarness(tmp_path)
    async with harness.running() as gateway:
        client = make_client(harness, gateway)
        await harness.pair()
        await receive(harness, "A1")
        await receive(harness, "B1", chat=LAYLA)
        await client("POST", f"/v1/sessions/{COMPANY}/stop")
        answer = await client("POST", f"{CHATS}/{RAMI}/read")
        assert (answer.status, answer.json["state"]) == (202, "queued")
        assert [each["unread"] for each in await listed(client)] == [1, 0]
        assert receipts(harness) == []
    async with harness.running() as gateway:
        client = make_client(harness, gateway)
        acknowledge(harness)
        assert (await client("POST", f"{CHATS}/{LAYLA}/read")).status == 202
        await client("POST", f"/v1/sessions/{COMPANY}/start")
        await harness.until(lambda: len(receipts(harness)) == 2)
        assert receipts(harness) == [(RAMI, ["A1"]), (LAYLA, ["B1"])]
    harness.database.close()


async def test_read_receipts_are_neither_paced_nor_reported_as_events(
    linked: ApiClient, harness: GatewayHarness
) -> None:
    """Reading many chats delays no other operation; only a failure is an event."""
    acknowledge(harness)
    for n in range(30):
        await receive(harness, f"A{n}", chat=f"9627900000{n:02}@s.whatsapp.net", after_s=0)
    before = harness.clock.monotonic()
    for n in range(30):
        await linked("POST", f"{CHATS}/9627900000{n:02}/read")
    await harness.until(lambda: len(receipts(harness)) == 30)
    await harness.quiet()
    assert harness.clock.monotonic() - before < 1
    harness.engine.operations["read-chat"] = lambda _: OperationAnswered(
        link=0, operation="", step="run", error="no-such-group", detail="there is no such group"
    )
    await receive(harness, "B1", chat=FLOWERS, sender=RAMI)
    assert (await linked("POST", f"{CHATS}/{FLOWERS}/read?wait=10")).json["state"] == "failed"
    events = (await linked("GET", "/v1/events?format=json&limit=500")).json["items"]
    found = [each["data"] for each in events if each["type"] == "operation.updated"]
    assert [(each["state"], each["target"]) for each in found] == [("failed", FLOWERS)]


async def test_a_chat_is_marked_as_unread(linked: ApiClient, harness: GatewayHarness) -> None:
    """In the list at once and on the phone, without a count; the next message counts from one, and reading removes the
    mark in both places."""
    acknowledge(harness)
    await receive(harness, "A1")
    await linked("POST", f"{CHATS}/{RAMI}/read")
    answer = await linked("POST", f"{CHATS}/{RAMI}/unread?wait=10")
    assert (answer.status, answer.json["kind"], answer.json["state"]) == (200, "update-chat", "succeeded")
    (chat,) = await listed(linked, "?unread=true")
    assert (chat["chat"], chat["unread"], chat["markedUnread"]) == (RAMI, 0, True)
    await linked("POST", f"{CHATS}/{RAMI}/read?wait=10")
    assert await listed(linked, "?unread=true") == []
    assert marks(harness) == [True, False]
    await linked("POST", f"{CHATS}/{RAMI}/unread")
    await receive(harness, "A2")
    assert [(each["unread"], each["markedUnread"]) for each in await listed(linked)] == [(1, False)]
    await linked("POST", f"{CHATS}/{RAMI}/unread")
    assert (await listed(linked))[0]["unread"] == 1
    (await linked("POST", f"{CHATS}/{LAYLA}/unread")).problem(404, "not-found", field="chat")


async def test_messages_are_read_on_arrival_although_the_database_failed(
    linked: ApiClient, harness: GatewayHarness
) -> None:
    """As soon as it is back, although no other message arrives in that chat."""
    await linked("PUT", f"/v1/sessions/{COMPANY}", {"autoRead": True})
    harness.chats.failing = "disk full"
    await receive(harness, "A1")
    assert [each["unread"] for each in await listed(linked)] == [1]
    harness.chats.failing = None
    await harness.wait(120)
    assert [each["unread"] for each in await listed(linked)] == [0]


async def test_inbound_messages_are_read_automatically_if_the_company_wants_it(
    linked: ApiClient, harness: GatewayHarness
) -> None:
    """Messages of people and groups; those that arrive together are marked by one operation; until the setting is
    switched off.
    """
    acknowledge(harness)
    answer = await linked("PUT", f"/v1/sessions/{COMPANY}", {"autoRead": True})
    assert answer.json["autoRead"] is True
    at = int(harness.clock.now().timestamp())
    for n in range(3):
        message = InboundMessage(whatsapp_id=f"A{n}", chat=RAMI, sender=RAMI, type="text", text="hi", sent_at_s=at)
        harness.engine.receive(max(harness.engine.links), message)
    await harness.quiet()
    await receive(harness, "B1", chat=FLOWERS, sender=LAYLA)
    await receive(harness, "C1", type="reaction", target="A1", content={"reaction": {"emoji": "👍"}})
    await receive(harness, "D1", chat="status@broadcast", sender=LAYLA)
    found = receipts(harness)
    assert [id_ for chat, ids in found if chat == RAMI for id_ in ids] == ["A0", "A1", "A2"]
    assert [ids for chat, ids in found if chat != RAMI] == [["B1"]]
    assert {each["unread"] for each in await listed(linked)} == {0}
    await linked("PUT", f"/v1/sessions/{COMPANY}", {"autoRead": None})
    await receive(harness, "A9")
    assert (await listed(linked))[0]["unread"] == 1


# Names.


async def test_people_and_groups_have_names(linked: ApiClient, harness: GatewayHarness) -> None:
    """A saved name comes before a push name, a push name before a business name; a group has its subject, also after it
    changed."""
    await receive(harness, "A1", push_name="Rami")
    await receive(harness, "B1", chat=FLOWERS, sender=LAYLA, push_name="Layla")
    await harness.now(
        harness.contacts.learn(COMPANY, [Identity(jid=RAMI, business_name="Rami's Bakery", lid="77@lid")])
    )
    assert {each["chat"]: each["name"] for each in await listed(linked)} == {
        RAMI: "Rami",
        FLOWERS: "120363012345678901",
    }
    await harness.now(harness.contacts.learn(COMPANY, [Identity(jid=RAMI, saved_name="Mr Rami")]))
    for subject in ("Flowers", "More flowers"):
        commit = Commit(link=1, seq=1, groups={FLOWERS: subject})
        await harness.now(harness.store.commit(COMPANY, commit))
        assert {each["chat"]: each["name"] for each in await listed(linked)} == {RAMI: "Mr Rami", FLOWERS: subject}
    assert [each["chat"] for each in await listed(linked, "?q=more")] == [FLOWERS]
    assert [each["chat"] for each in await listed(linked, "?q=BAKERY")] == [RAMI]
    contact = (await linked("GET", f"{CONTACTS}/77@lid")).json
    assert (contact["chat"], contact["name"], contact["names"]["push"]) == (RAMI, "Mr Rami", "Rami")
    harness.engine.answers["check-numbers"] = lambda asked: [{"number": "962790000055"}]
    (await linked("GET", f"{CONTACTS}/962790000055")).problem(404, "not-found", field="chat")


async def test_contacts_are_listed_in_pages(linked: ApiClient, harness: GatewayHarness) -> None:
    """By JID; a part of any name or of the number finds them."""
    people = [Identity(jid=f"96279000000{n}@s.whatsapp.net", push_name=f"Person {n}") for n in range(5)]
    await harness.now(harness.contacts.learn(COMPANY, people))
    pages, after = [], ""
    while after is not None:
        answer = (await linked("GET", f"{CONTACTS}?limit=2{after and '&after=' + after}")).json
        pages.append([each["name"][-1] for each in answer["items"]])
        after = answer["next"]
    assert pages == [["0", "1"], ["2", "3"], ["4"]]
    for query in ("person%204", "%2B962790000004"):
        assert [each["phoneNumber"] for each in (await linked("GET", f"{CONTACTS}?q={query}")).json["items"]] == [
            "962790000004"
        ]


async def test_senders_have_the_name_that_is_saved_on_the_phone(linked: ApiClient, harness: GatewayHarness) -> None:
    """In the inbox, in timelines and for reactions; otherwise the name that they set themselves, from the message or
    elsewhere.
    """
    await receive(harness, "A1", chat=FLOWERS, sender=LAYLA, push_name="layla 🌷")
    await receive(harness, "A2", chat=FLOWERS, sender=RAMI)
    reaction: dict[str, Any] = {
        "type": "reaction",
        "text": None,
        "target": "A2",
        "content": {"reaction": {"emoji": "👍"}},
    }
    await receive(harness, "A3", chat=FLOWERS, sender=LAYLA, push_name="layla 🌷", **reaction)
    changes: list[AnyAccountChange] = [
        ContactSaved(chat=LAYLA, saved_name="Layla Haddad"),
        PersonNamed(chat=RAMI, push_name="Rami"),
    ]
    await harness.now(harness.store.commit(COMPANY, Commit(link=1, seq=1, changes=changes)))
    inbox = (await linked("GET", f"/v1/sessions/{COMPANY}/inbox")).json["items"]
    assert [each["senderName"] for each in inbox] == ["Layla Haddad", "Rami", "Layla Haddad"]
    newest, oldest = (await timeline(linked, FLOWERS))["items"]
    assert (newest["senderName"], oldest["senderName"]) == ("Rami", "Layla Haddad")
    assert [each["senderName"] for each in newest["reactions"]] == ["Layla Haddad"]


async def test_a_chat_that_is_read_on_the_phone_is_read_here(linked: ApiClient, harness: GatewayHarness) -> None:
    """Up to the message in the phone's receipt; a receipt for an unknown message changes nothing."""
    for id_ in ("A1", "A2", "A3"):
        await receive(harness, id_)
    for id_, left in (("A2", 1), ("A1", 1), ("other", 1), ("A3", 0)):
        read: list[AnyAccountChange] = [ChatRead(chat=RAMI, whatsapp_ids=[id_])]
        await harness.now(harness.store.commit(COMPANY, Commit(link=1, seq=1, changes=read)))
        assert [each["unread"] for each in await listed(linked)] == [left]
