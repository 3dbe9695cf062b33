"""Derives the conditions that deserve an alert from webhook endpoints: endpoints that are off or get only probes.

Sentences never show an endpoint's URL, which may hold a secret, nor the text of a receiver's response.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from holdfast.delivery.webhooks import OF_ALL, Endpoint, EndpointState
from holdfast.health.advice import Remedy, format_duration
from holdfast.health.conditions import Condition, Severity


def conditions_of_webhooks(endpoints: Iterable[Endpoint], *, now: datetime) -> Iterator[Condition]:
    """The conditions of the endpoints. Those of the endpoint of all companies concern Holdfast as a whole."""
    for endpoint in endpoints:
        since = endpoint.health.failing_since or now
        failing_s = max((now - since).total_seconds(), 0)
        match endpoint.health.state:
            case EndpointState.SUSPENDED:
                yield _condition(
                    endpoint,
                    cause="webhook-suspended",
                    title="a webhook receiver is failing",
                    sentence=f"The receiver has accepted no delivery for {format_duration(failing_s)}, after "
                    f"{endpoint.health.failures} attempts in a row. Holdfast probes it at intervals of up to an hour "
                    "and keeps its deliveries for four days.",
                    lasting_s=failing_s,
                )
            case EndpointState.OFF:
                yield _condition(
                    endpoint,
                    cause="webhook-off",
                    title="a webhook is switched off",
                    sentence="The receiver answered 410: nothing is delivered until a person resumes it. "
                    "Holdfast keeps its deliveries for four days.",
                    lasting_s=failing_s,
                )
            case EndpointState.ACTIVE:
                pass


def _condition(endpoint: Endpoint, *, cause: str, title: str, sentence: str, lasting_s: float) -> Condition:
    return Condition(
        company=None if endpoint.company == OF_ALL else endpoint.company,
        cause=cause,
        severity=Severity.CRITICAL,
        title=title,
        sentence=sentence,
        action=Remedy.CHECK_WEBHOOK,
        lasting_s=lasting_s,
    )
