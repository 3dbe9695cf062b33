"""Commands about chats, people and groups."""

from __future__ import annotations

from holdfast.session.engine import InboundMessage
from tests.cli.command import Command
from tests.gateway_harness import COMPANY, GatewayHarness

RAMI, GROUP = "962790000007@s.whatsapp.net", "120363012345678901@g.us"


async def test_chats_and_contacts_are_listed(holdfast: Command, harness: GatewayHarness) -> None:
    """With names, unread counts, and the last message on one line."""
    await harness.pair()
    message = InboundMessage(
        whatsapp_id="3A01", chat=RAMI, sender=RAMI, type="text", text="two\nlines", push_name="Rami Saleh"
    )
    harness.engine.receive(harness.link(), message)
    await harness.quiet()
    chats, nothing = await holdfast("chats", COMPANY), await holdfast("chats", COMPANY, "--find", "nobody")
    (_, row) = chats.out.splitlines()
    assert all(shown in row for shown in ("Rami Saleh", " 1 ", "two lines", RAMI))
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "There are no chats.\n")
    contacts = await holdfast("contacts", COMPANY, "--json")
    assert [item["name"] for item in contacts.json["items"]] == ["Rami Saleh"]


async def test_groups_are_listed_and_created(holdfast: Command, harness: GatewayHarness) -> None:
    """The exit code says whether the group exists."""
    await harness.pair()
    member = {"jid": RAMI, "role": "admin"}
    harness.engine.answers = {
        "groups": lambda _: [{"id": GROUP, "subject": "Flowers", "size": 2}],
        "group": lambda _: {"id": GROUP, "subject": "Flowers", "size": 1, "members": [member]},
    }
    answer = {"id": GROUP, "subject": "Flowers", "members": [{"jid": RAMI, "code": 200}]}
    harness.engine.operations["create-group"] = lambda command: [] if command.step == "observe" else answer
    groups = await holdfast("groups", COMPANY)
    assert groups.out.splitlines()[1].split() == ["Flowers", "2", GROUP]
    members = await holdfast("group", "members", COMPANY, GROUP)
    assert members.out.splitlines()[1].split() == [RAMI, "admin"]
    made = await holdfast("group", "create", COMPANY, "Flowers", "+962790000007", "--json")
    assert (made.code, made.json["state"]) == (0, "succeeded")


async def test_numbers_and_messages_are_looked_up(holdfast: Command, harness: GatewayHarness) -> None:
    """Exit code 1 for a number that is not on WhatsApp, and for an unknown message."""
    await harness.pair()
    found = [{"number": "962790000007", "chat": RAMI}, {"number": "962790000010"}]
    harness.engine.answers = {"check-numbers": lambda _: found}
    checked = await holdfast("check-numbers", COMPANY, "+962790000007", "962790000010")
    assert checked.code == 1
    assert [line.split()[1] for line in checked.out.splitlines()[1:]] == ["yes", "no"]
    sent = await harness.send("hello")
    shown, unknown = await holdfast("message", sent.id), await holdfast("message", "msg_unknown")
    assert (shown.code, unknown.code) == (0, 1)
    assert sent.id in shown.out
    assert "is unknown" in unknown.err
