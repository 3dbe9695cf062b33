"""Which webhook endpoints raise an alert."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from holdfast.delivery.webhooks import OF_ALL, Endpoint, EndpointHealth, EndpointState, endpoint_id
from holdfast.health.advice import WHAT_TO_DO, Remedy
from holdfast.health.conditions import Severity
from holdfast.health.webhooks import conditions_of_webhooks

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def endpoint(company: str, state: EndpointState) -> Endpoint:
    since = None if state is EndpointState.ACTIVE else NOW - timedelta(minutes=20)
    return Endpoint(
        id=endpoint_id(company),
        company=company,
        url="https://crm.example/very-secret",
        secret="very-secret",
        events=None,
        health=EndpointHealth(state=state, failures=7, failing_since=since),
        last_error="very-secret",
    )


def test_an_endpoint_that_fails_deserves_an_alert() -> None:
    """A failing endpoint raises one, for its company or for Holdfast as a whole, without showing a secret."""
    endpoints = [
        endpoint(OF_ALL, EndpointState.SUSPENDED),
        endpoint("a", EndpointState.OFF),
        endpoint("b", EndpointState.ACTIVE),
    ]
    suspended, off = conditions_of_webhooks(endpoints, now=NOW)
    assert (suspended.cause, suspended.company, off.cause, off.company) == (
        "webhook-suspended",
        None,
        "webhook-off",
        "a",
    )
    assert suspended.sentence.startswith("The receiver has accepted no delivery for 20 min, after 7 attempts in a row")
    for condition in (suspended, off):
        assert (condition.severity, condition.action) == (Severity.CRITICAL, Remedy.CHECK_WEBHOOK)
        assert condition.lasting_s == 1200
        assert "secret" not in condition.sentence + condition.title
    assert Remedy.CHECK_WEBHOOK in WHAT_TO_DO
