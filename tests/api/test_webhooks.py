"""Webhooks by HTTP: settings, state, failed deliveries, replays."""

from __future__ import annotations

from dataclasses import replace

import pytest

from holdfast.delivery.webhooks import OF_ALL, Attempt, Endpoint, EndpointHealth, EndpointState, new_endpoint
from holdfast.store.events import record
from holdfast.store.webhooks import WebhookRows
from tests.api.api_client import KEY_OF_ONE, OTHER, ApiClient
from tests.gateway_harness import COMPANY, GatewayHarness

URL = "https://crm.example/hook"
SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
SESSION = f"/v1/sessions/{COMPANY}"


async def happen(harness: GatewayHarness, *numbers: int, company: str = COMPANY) -> None:
    for number in numbers:
        at = f"2026-01-01T00:00:0{number}.000Z"
        await harness.now(
            harness.database.write(
                lambda connection, number=number, at=at: record(  # type: ignore[misc]  # bound early
                    connection, company, "message.sent", {"n": number}, chat=f"{number}", at=at
                )
            )
        )


async def try_all(harness: GatewayHarness, company: str, attempt: Attempt) -> None:
    """Attempt all due deliveries, as the sender would."""
    rows = harness.webhooks.rows
    due = await harness.now(rows.find_due([company], now=harness.clock.now(), limit=50, known=(), busy=()))
    for head in due.heads:
        await harness.now(rows.settle(head, attempt, now=harness.clock.now(), jitter=0))


async def set_default(harness: GatewayHarness) -> None:
    await harness.now(harness.webhooks.rows.put(OF_ALL, lambda _: new_endpoint(OF_ALL, url=URL, secret=SECRET)))


# A session's own.


async def test_a_session_can_have_its_own_webhook_and_its_secret_is_shown_once(client: ApiClient) -> None:
    """The generated secret is in the response that created it, and in no other."""
    made = (await client("PUT", SESSION, {"webhookUrl": URL})).json
    assert (made["webhookUrl"], made["webhookEvents"]) == (URL, None)
    assert made["webhookSecret"].startswith("whsec_")
    for answer in (
        await client("GET", SESSION),
        await client("PUT", SESSION, {"webhookUrl": URL}),
        await client("PUT", SESSION),
    ):
        assert (answer.json["webhookUrl"], answer.json["webhookSecret"]) == (URL, None)
    [listed] = (await client("GET", "/v1/sessions")).json["items"]
    assert (listed["webhookUrl"], listed["webhookSecret"]) == (URL, None)


async def test_missing_fields_keep_their_values_and_null_removes_them(client: ApiClient) -> None:
    """Event types and secret are kept when the URL changes; without a URL all settings are removed."""
    body = {"webhookUrl": URL, "webhookSecret": SECRET, "webhookEvents": ["message.received"]}
    assert (await client("PUT", SESSION, body)).json["webhookSecret"] == SECRET
    moved = (await client("PUT", SESSION, {"webhookUrl": "https://new.example/"})).json
    assert (moved["webhookUrl"], moved["webhookEvents"]) == ("https://new.example/", ["message.received"])
    assert (await client("PUT", SESSION, {"webhookEvents": None})).json["webhookEvents"] is None
    fresh = (await client("PUT", SESSION, {"webhookSecret": None})).json["webhookSecret"]
    assert fresh.startswith("whsec_")
    assert fresh != SECRET
    assert (await client("PUT", SESSION, {"webhookUrl": None})).json["webhookUrl"] is None
    assert (await client("GET", "/v1/webhooks")).json["items"] == []


@pytest.mark.parametrize(
    ("body", "field", "sentence"),
    [
        ({"webhookUrl": "ftp://crm.example"}, "webhookUrl", 'webhookUrl begins with "ftp:"'),
        (
            {"webhookUrl": "http://127.0.0.1:9770/dev?key=very-secret"},
            "webhookUrl",
            "webhookUrl: http://127.0.0.1:9770 is at a private address, which Holdfast does not connect to: give a pub",
        ),
        ({"webhookUrl": "http://[::ffff:10.0.0.5]/"}, "webhookUrl", "webhookUrl: http://[::ffff:10.0.0.5] is at a pri"),
        ({"webhookUrl": URL, "webhookSecret": "whsec_short"}, "webhookSecret", "webhookSecret is not a webhook secret"),
        (
            {"webhookUrl": URL, "webhookSecret": "very-secret!"},
            "webhookSecret",
            "webhookSecret is not a webhook secret",
        ),
        ({"webhookUrl": URL, "webhookEvents": ["sent"]}, "webhookEvents", 'webhookEvents has "sent"'),
        ({"webhookEvents": []}, "webhookUrl", "webhookUrl is missing"),
    ],
)
async def test_an_invalid_webhook_is_refused(
    client: ApiClient, body: dict[str, object], field: str, sentence: str
) -> None:
    """The error names the field and never a secret; no session is created or started."""
    told = (await client("PUT", SESSION, body)).problem(422, "bad-input", field=field)
    assert told.startswith(sentence)
    assert "short" not in told
    assert "very-secret" not in told
    (await client("GET", SESSION)).problem(404, "not-found", field="company")


# State and deliveries.


async def test_endpoints_are_listed_with_pending_deliveries(client: ApiClient, harness: GatewayHarness) -> None:
    """Each has counts, the last failure, and never a secret; a limited key sees only its own company's endpoint."""
    await client("PUT", SESSION, {"webhookUrl": "https://own.example/", "webhookEvents": ["message.sent"]})
    await set_default(harness)
    await happen(harness, 1, 2)
    await happen(harness, 3, company=OTHER)
    await try_all(harness, OTHER, Attempt(status=500, error="the receiver answered 500"))
    answer = await client("GET", "/v1/webhooks")
    default, own = answer.json["items"]
    assert (default["id"], default["companyId"], default["url"], default["pending"]) == ("default", None, URL, 1)
    assert (default["lastStatus"], default["lastError"]) == (500, "the receiver answered 500")
    assert (own["id"], own["companyId"], own["pending"]) == (f"session-{COMPANY}", COMPANY, 2)
    assert own["oldestPendingAt"] == "2026-01-01T00:00:01.000Z"
    assert b"whsec_" not in answer.body
    [mine] = (await client("GET", "/v1/webhooks", key=KEY_OF_ONE)).json["items"]
    assert mine["id"] == own["id"]


async def test_failed_deliveries_are_listed_in_pages_and_replayed(client: ApiClient, harness: GatewayHarness) -> None:
    """One by its id, or all; a replayed delivery is no longer failed."""
    await set_default(harness)
    await happen(harness, 1, 2, 3)
    await happen(harness, 4, company=OTHER)
    for company in (COMPANY, OTHER):
        await try_all(harness, company, Attempt(status=None, error="https://crm.example did not answer in time"))
    first = (await client("GET", "/v1/webhooks/failed?limit=2")).json
    rest = (await client("GET", f"/v1/webhooks/failed?after={first['next']}")).json
    rows = first["items"] + rest["items"]
    assert (len(first["items"]), len(rest["items"]), rest["next"]) == (2, 2, None)
    assert [row["companyId"] for row in rows] == [COMPANY] * 3 + [OTHER]
    assert (rows[0]["type"], rows[0]["attempts"], rows[0]["url"], rows[0]["state"]) == (
        "message.sent",
        1,
        URL,
        "pending",
    )
    assert rows[0]["nextAttemptAt"] > rows[0]["lastAt"]
    assert (await client("POST", f"/v1/webhooks/{rows[0]['id']}/replay")).json == {"replayed": 1}
    left = (await client("GET", f"/v1/webhooks/failed?company={COMPANY}")).json["items"]
    assert [row["id"] for row in left] == [rows[1]["id"], rows[2]["id"]]


async def test_everything_since_a_time_is_replayed_for_the_companies_of_the_key(
    client: ApiClient, harness: GatewayHarness
) -> None:
    """Delivered or not; of one company if requested."""
    await set_default(harness)
    await happen(harness, 1, 2, 3)
    await happen(harness, 4, company=OTHER)
    for company in (COMPANY, OTHER):
        await try_all(harness, company, Attempt(status=204))
    replay = "/v1/webhooks/replay"
    since = {"since": "2026-01-01T00:00:02Z"}
    assert (await client("POST", replay)).json == {"replayed": 0}
    assert (await client("POST", replay, since, key=KEY_OF_ONE)).json == {"replayed": 2}
    assert (await client("POST", replay, {**since, "company": OTHER})).json == {"replayed": 1}
    assert (await client("POST", replay, since)).json == {"replayed": 3}


async def test_an_endpoint_that_is_off_is_switched_on_again(client: ApiClient, harness: GatewayHarness) -> None:
    """It is active, and pending deliveries are due at once."""
    await client("PUT", SESSION)
    off = replace(
        new_endpoint(COMPANY, url=URL, secret=SECRET), health=EndpointHealth(state=EndpointState.OFF, failures=1)
    )
    await harness.now(harness.webhooks.rows.put(COMPANY, lambda _: off))
    await happen(harness, 1)
    due = await harness.now(
        harness.webhooks.rows.find_due([COMPANY], now=harness.clock.now(), limit=9, known=(), busy=())
    )
    assert due.heads == []
    resumed = (await client("POST", f"/v1/webhooks/endpoints/session-{COMPANY}/resume", key=KEY_OF_ONE)).json
    assert (resumed["state"], resumed["pending"]) == ("active", 1)
    due = await harness.now(
        harness.webhooks.rows.find_due([COMPANY], now=harness.clock.now(), limit=9, known=(), busy=())
    )
    assert len(due.heads) == 1


@pytest.mark.parametrize("state", [EndpointState.OFF, EndpointState.SUSPENDED])
async def test_an_endpoint_that_is_off_or_suspended_has_no_next_attempt(
    client: ApiClient, harness: GatewayHarness, state: EndpointState
) -> None:
    """The list says that the endpoint is off or suspended, rather than name a time that passes without an attempt."""
    await set_default(harness)
    await happen(harness, 1)
    await try_all(harness, COMPANY, Attempt(status=500, error="the receiver answered 500"))
    [item] = (await client("GET", "/v1/webhooks/failed")).json["items"]
    assert (item["endpointState"], item["nextAttemptAt"] is None) == ("active", False)
    paused = replace(new_endpoint(OF_ALL, url=URL, secret=SECRET), health=EndpointHealth(state=state, failures=9))
    await harness.now(harness.webhooks.rows.put(OF_ALL, lambda _: paused))
    [item] = (await client("GET", "/v1/webhooks/failed")).json["items"]
    assert (item["endpointState"], item["nextAttemptAt"], item["state"]) == (state.value, None, "pending")


async def test_a_changed_secret_makes_pending_deliveries_due(client: ApiClient, harness: GatewayHarness) -> None:
    """A receiver that refused a wrong signature for hours gets pending deliveries at once; the same secret changes
    nothing.
    """
    await client("PUT", SESSION, {"webhookUrl": URL, "webhookSecret": SECRET})
    suspended = EndpointHealth(state=EndpointState.SUSPENDED, failures=9)
    [made] = await harness.now(harness.webhooks.rows.endpoints())
    await harness.now(harness.webhooks.rows.put(COMPANY, lambda _: replace(made, health=suspended)))
    await client("PUT", SESSION, {"webhookUrl": URL, "webhookSecret": SECRET})
    assert (await client("GET", "/v1/webhooks")).json["items"][0]["state"] == "suspended"
    await client("PUT", SESSION, {"webhookSecret": None})
    assert (await client("GET", "/v1/webhooks")).json["items"][0]["state"] == "active"


async def test_a_key_can_neither_see_nor_replay_deliveries_of_other_companies(
    client: ApiClient, harness: GatewayHarness
) -> None:
    """For that key they do not exist."""
    await set_default(harness)
    await happen(harness, 1, company=OTHER)
    [event] = await harness.now(harness.events.after(0, companies=None, limit=9))
    for path, field in (
        (f"/v1/webhooks/{event.id}/replay", "id"),
        ("/v1/webhooks/evt_none/replay", "id"),
        ("/v1/webhooks/endpoints/default/resume", "id"),
    ):
        (await client("POST", path, key=KEY_OF_ONE)).problem(404, "not-found", field=field)
    (await client("GET", f"/v1/webhooks/failed?company={OTHER}", key=KEY_OF_ONE)).problem(
        403, "forbidden", field="company"
    )
    assert (await client("POST", f"/v1/webhooks/{event.id}/replay")).status == 202


async def test_a_key_for_one_company_does_not_see_the_operators_webhook_url(
    client: ApiClient, harness: GatewayHarness
) -> None:
    """It sees the failures of its company; the URL of the default endpoint may contain a secret."""
    await set_default(harness)
    await happen(harness, 1)
    await try_all(harness, COMPANY, Attempt(status=500, error="it broke"))
    [seen] = (await client("GET", "/v1/webhooks/failed", key=KEY_OF_ONE)).json["items"]
    assert (seen["companyId"], seen["url"]) == (COMPANY, None)
    [seen] = (await client("GET", "/v1/webhooks/failed")).json["items"]
    assert seen["url"] == URL
    await client("PUT", SESSION, {"webhookUrl": "https://own.example/"})
    [seen] = (await client("GET", "/v1/webhooks/failed", key=KEY_OF_ONE)).json["items"]
    assert seen["url"] == "https://own.example/"


async def test_an_invalid_replay_is_refused(client: ApiClient, harness: GatewayHarness) -> None:
    """An invalid time, or an event of a company without a webhook."""
    await happen(harness, 1)
    [event] = await harness.now(harness.events.after(0, companies=None, limit=9))
    told = (await client("POST", f"/v1/webhooks/{event.id}/replay")).problem(409, "conflict", field="id")
    assert told.startswith(f"company {COMPANY} has no webhook")
    for since in ("yesterday", "2026-13-01", ""):
        told = (await client("POST", "/v1/webhooks/replay", {"since": since})).problem(422, "bad-input", field="since")
        assert "is not a time" in told
    (await client("GET", "/v1/webhooks/failed?after=x")).problem(422, "bad-input", field="after")
    told = (await client("POST", "/v1/webhooks/replay", {"company": "a\0"})).problem(422, "bad-input", field="company")
    assert "is not a company id" in told


async def test_metrics_count_pending_deliveries_of_each_endpoint(client: ApiClient, harness: GatewayHarness) -> None:
    """With their age, and without phone numbers."""
    await set_default(harness)
    await happen(harness, 1, 2)
    text = (await client("GET", "/metrics")).body.decode()
    assert 'holdfast_webhooks_pending{endpoint="default"} 2.0' in text
    assert 'holdfast_webhooks_failed{endpoint="default"} 0.0' in text
    assert 'holdfast_webhooks_active{endpoint="default"} 1.0' in text
    [age] = [line.split()[-1] for line in text.splitlines() if line.startswith("holdfast_webhooks_oldest_pending_age")]
    assert 900 < float(age) < 1100


class Removing(WebhookRows):
    """Another request removes the endpoint just before or after it is resumed."""

    def __init__(self, harness: GatewayHarness, *, after: bool) -> None:
        super().__init__(harness.database)
        self._after = after

    async def resume(self, endpoint_id: str) -> Endpoint | None:
        if self._after:
            await super().resume(endpoint_id)
        await self.put(COMPANY, lambda _: None)
        return None if self._after else await super().resume(endpoint_id)


@pytest.mark.parametrize("after", [False, True])
async def test_an_endpoint_that_is_removed_while_it_is_resumed_is_not_found(
    client: ApiClient, harness: GatewayHarness, after: bool
) -> None:
    """The request that loses the race gets the answer for an unknown endpoint, not a failure of Holdfast."""
    await client("PUT", SESSION, {"webhookUrl": URL})
    harness.webhooks.rows = Removing(harness, after=after)
    answer = await client("POST", f"/v1/webhooks/endpoints/session-{COMPANY}/resume")
    assert answer.problem(404, "not-found", field="id").startswith(f'endpoint "session-{COMPANY}" is unknown')
