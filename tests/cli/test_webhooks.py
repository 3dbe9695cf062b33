"""`holdfast webhooks …`: failing receivers, and what people can do about them."""

from __future__ import annotations

import re

from holdfast.delivery.webhooks import OF_ALL, Attempt, new_endpoint
from holdfast.store.events import record
from tests.cli.command import Command
from tests.gateway_harness import COMPANY, GatewayHarness

GONE = Attempt(status=410, error="the receiver answered 410")


async def break_one(harness: GatewayHarness) -> str:
    """Create a delivery that its receiver refused forever; returns its id."""
    rows = harness.webhooks.rows
    await harness.now(rows.put(OF_ALL, lambda _: new_endpoint(OF_ALL, url="https://crm.example", secret="s")))
    await harness.now(
        harness.database.write(
            lambda connection: record(
                connection, COMPANY, "message.sent", {"n": 1}, chat="a", at="2026-01-01T00:00:00.000Z"
            )
        )
    )
    due = await harness.now(rows.find_due([COMPANY], now=harness.clock.now(), limit=9, known=(), busy=()))
    await harness.now(rows.settle(due.heads[0], GONE, now=harness.clock.now(), jitter=0))
    [event] = await harness.now(harness.events.after(0, companies=None, limit=9))
    return event.id


async def test_an_endpoint_that_is_off_is_shown_and_resumed(holdfast: Command, harness: GatewayHarness) -> None:
    """Exit code 1 while an endpoint fails; then it is resumed."""
    await break_one(harness)
    listed = await holdfast("webhooks", "list")
    assert listed.code == 1
    assert listed.out.splitlines()[1].split()[:4] == ["default", "off", "1", "0"]
    assert "the receiver answered 410" in listed.out
    assert "oldest (UTC)" in listed.out
    assert re.search(r"  2026-01-01 \d\d:\d\d:\d\d  ", listed.out)
    resumed = await holdfast("webhooks", "resume", "default")
    assert (resumed.code, resumed.out) == (0, "Endpoint default is active; pending deliveries: 1.\n")
    programs = await holdfast("webhooks", "list", "--json")
    assert (programs.code, programs.json["items"][0]["state"]) == (0, "active")
    assert (await holdfast("webhooks", "resume", "nobody")).refused(1).startswith('endpoint "nobody" is unknown')


async def test_failed_deliveries_are_shown_and_replayed(holdfast: Command, harness: GatewayHarness) -> None:
    """One by its id, or all, or everything since a time."""
    id_ = await break_one(harness)
    failed = await holdfast("webhooks", "failed")
    assert failed.code == 1
    assert failed.out.splitlines()[1].split()[:4] == [id_, COMPANY, "message.sent", "pending"]
    assert (await holdfast("webhooks", "replay", id_)).out == "Deliveries queued again: 1\n"
    assert (await holdfast("webhooks", "failed")).code == 0
    since = await holdfast("webhooks", "replay", "--since", "2026-01-01T00:00:00Z", "--json")
    assert since.json == {"replayed": 1}
    assert (await holdfast("webhooks", "replay", "--since", "2026-01-02T00:00:00Z")).out.startswith(
        "Deliveries queued again: 0"
    )


async def test_an_id_and_a_time_can_not_be_combined(holdfast: Command) -> None:
    """No request is sent to the gateway."""
    refused = (await holdfast("webhooks", "replay", "evt_1", "--since", "2026-01-01T00:00:00Z")).refused(2)
    assert refused == "an ID names one delivery: omit either the ID, or --company and --since"


async def test_without_a_webhook_the_output_says_how_to_set_one(holdfast: Command) -> None:
    """An empty list is a success."""
    listed = await holdfast("webhooks", "list")
    assert (listed.code, listed.out) == (0, "")
    assert listed.err == "There are no webhooks: set HOLDFAST_WEBHOOK_URL, or the webhookUrl of a session.\n"
    assert (await holdfast("webhooks", "failed")).err == "No delivery has failed.\n"
