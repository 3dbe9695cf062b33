"""Settings of chats, labels and stars by HTTP: each change is an operation."""

from __future__ import annotations

import pytest

from holdfast.session.account_changes import AnyAccountChange, LabelChanged, Labelled
from holdfast.session.engine import Commit, InboundMessage, RunOperation
from tests.api.api_client import ApiClient
from tests.gateway_harness import COMPANY, GatewayHarness

SESSION = f"/v1/sessions/{COMPANY}"
CHAT = f"{SESSION}/chats/962790000001"
ANNA = "962790000001@s.whatsapp.net"


@pytest.fixture
async def linked(client: ApiClient, harness: GatewayHarness) -> ApiClient:
    await harness.pair()
    for name in ("update-chat", "edit-label", "label-chat", "star-message"):
        harness.engine.operations[name] = lambda _: {}
    return client


def asked(harness: GatewayHarness) -> list[tuple[str, object]]:
    commands = [each for each in harness.engine.commands if isinstance(each, RunOperation)]
    return [(each.name, each.arguments) for each in commands]


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ({"archived": True, "pinned": False}, {"archived": True, "pinned": False}),
        ({"muted": True}, {"mutedUntilS": -1}),
        ({"muted": False}, {"mutedUntilS": 0}),
        ({"mutedUntil": "2026-01-01T00:00:00Z"}, {"mutedUntilS": 1_767_225_600}),
        ({"unread": True}, {"unread": True}),
        ({"disappearingS": 86400}, {"disappearingS": 86400}),
        ({"cleared": True}, {"cleared": True}),
    ],
)
async def test_a_change_of_a_chat_is_an_operation(
    linked: ApiClient, harness: GatewayHarness, body: dict[str, object], arguments: dict[str, object]
) -> None:
    """It contains only the changed settings, and is settled by WhatsApp's answer."""
    answer = await linked("PATCH", f"{CHAT}?wait=10", body)
    assert (answer.status, answer.json["state"], answer.json["target"]) == (200, "succeeded", ANNA)
    assert asked(harness) == [("update-chat", {"chat": ANNA, **arguments})]


@pytest.mark.parametrize(
    ("method", "name", "body", "arguments"),
    [
        ("POST", "archive", None, {"archived": True}),
        ("POST", "unarchive", None, {"archived": False}),
        ("POST", "mute", None, {"mutedUntilS": -1}),
        ("POST", "unmute", None, {"mutedUntilS": 0}),
        ("POST", "pin", None, {"pinned": True}),
        ("POST", "unpin", None, {"pinned": False}),
        ("PUT", "disappearing", {"seconds": 604_800}, {"disappearingS": 604_800}),
    ],
)
async def test_each_change_of_a_chat_has_a_route_of_its_own(
    linked: ApiClient,
    harness: GatewayHarness,
    method: str,
    name: str,
    body: dict[str, object] | None,
    arguments: dict[str, object],
) -> None:
    """It does what the `PATCH` does."""
    answer = await linked(method, f"{CHAT}/{name}?wait=10", body)
    assert (answer.status, answer.json["state"]) == (200, "succeeded")
    assert asked(harness) == [("update-chat", {"chat": ANNA, **arguments})]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "at least one"),
        ({"disappearingS": 5}, "disappearingS"),
        ({"muted": False, "mutedUntil": "2026-01-01T00:00:00Z"}, "combined"),
    ],
)
async def test_an_invalid_change_is_refused(linked: ApiClient, body: dict[str, object], words: str) -> None:
    """The error names the field and the reason."""
    answer = await linked("PATCH", CHAT, body)
    assert answer.status == 422
    assert words in str(answer.json)


async def test_a_repeated_change_gets_the_first_answer(linked: ApiClient, harness: GatewayHarness) -> None:
    """By its Idempotency-Key, although a message has arrived since."""
    key = {"Idempotency-Key": "k"}
    first = (await linked("PATCH", CHAT, {"archived": True}, headers=key)).json
    message = InboundMessage(whatsapp_id="3A1", chat=ANNA, sender=ANNA, type="text", text="hi", sent_at_s=1)
    harness.engine.receive(max(harness.engine.links), message)
    await harness.quiet()
    again = await linked("PATCH", CHAT, {"archived": True}, headers=key)
    assert again.json["id"] == first["id"]


async def test_deleting_starring_and_labels_are_operations(linked: ApiClient, harness: GatewayHarness) -> None:
    """Each route starts one; the stored messages of a deleted chat are kept."""
    for method, path in (
        ("DELETE", CHAT),
        ("PUT", f"{CHAT}/messages/3A1/star?fromMe=true"),
        ("DELETE", f"{CHAT}/messages/3A1/star"),
        ("PUT", f"{CHAT}/labels/3"),
        ("DELETE", f"{CHAT}/labels/3"),
    ):
        answer = await linked(method, f"{path}{'&' if '?' in path else '?'}wait=10")
        assert (answer.status, answer.json["state"]) == (200, "succeeded"), path
    star = {"chat": ANNA, "message": "3A1"}
    assert asked(harness) == [
        ("update-chat", {"chat": ANNA, "deleted": True}),
        ("star-message", {**star, "fromMe": True, "starred": True}),
        ("star-message", {**star, "fromMe": False, "starred": False}),
        ("label-chat", {"chat": ANNA, "label": "3", "labelled": True}),
        ("label-chat", {"chat": ANNA, "label": "3", "labelled": False}),
    ]


async def test_labels_are_listed_created_changed_and_deleted(linked: ApiClient, harness: GatewayHarness) -> None:
    """A new label gets the next number; a label that is not there can't be deleted."""
    changes: list[AnyAccountChange] = [
        LabelChanged(label="7", name="VIP", color=3),
        Labelled(label="7", chat=ANNA, on=True),
    ]
    await harness.now(harness.store.commit(COMPANY, Commit(link=1, seq=1, changes=changes)))
    page = (await linked("GET", f"{SESSION}/labels")).json
    assert page == {"items": [{"id": "7", "name": "VIP", "color": 3}], "next": None}
    assert (await linked("GET", f"{SESSION}/labels/7/chats")).json["items"] == [{"chat": ANNA}]
    await linked("POST", f"{SESSION}/labels?wait=10", {"name": "New", "color": 4})
    await linked("PUT", f"{SESSION}/labels/7?wait=10", {"name": "Good"})
    await linked("DELETE", f"{SESSION}/labels/7?wait=10")
    assert asked(harness) == [
        ("edit-label", {"label": "8", "name": "New", "color": 4}),
        ("edit-label", {"label": "7", "name": "Good"}),
        ("edit-label", {"label": "7", "name": "VIP", "deleted": True}),
    ]
    (await linked("DELETE", f"{SESSION}/labels/9")).problem(404, "not-found", field="label")
