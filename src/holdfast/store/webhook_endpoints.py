"""Webhook endpoints as rows, and which events and deliveries each of them concerns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    and_,
    literal,
    or_,
    select,
    update,
)

from holdfast.base.clock import iso
from holdfast.delivery.events import DEFAULT_TYPES
from holdfast.delivery.webhooks import (
    OF_ALL,
    Endpoint,
    EndpointHealth,
    EndpointState,
)
from holdfast.store.tables import events
from holdfast.store.tables import webhook_endpoints as endpoints

_STORED_AS = {EndpointState.SUSPENDED: "aside"}
"""States whose stored name differs. The stored name stays, because nodes of the version before read it, too."""
_AS_THEY_ARE = ("id", "url", "secret", "last_success_at", "last_failure_at", "last_error", "last_status")


def was_changed(used: Endpoint, current: Endpoint | None) -> bool:
    """Whether the endpoint was changed during the delivery: a failure of the old one says nothing about the new one."""
    return current is None or (used.url, used.secret) != (current.url, current.secret)


def is_worth_a_retry(before: Endpoint | None, after: Endpoint | None) -> bool:
    """Whether a change of an endpoint may have removed the cause of failed deliveries."""

    def route(endpoint: Endpoint | None) -> object:
        return None if endpoint is None else (endpoint.url, endpoint.secret, endpoint.health.state)

    return route(before) != route(after)


def is_wanted(endpoints: Sequence[Endpoint], *, by_filter: bool) -> ColumnElement[bool]:
    """Select events that have an endpoint; with `by_filter`, only those of types that it asks for."""
    company, type_ = events.c.company_id, events.c.type
    usable = [each for each in endpoints if each.url is not None]
    own = [each.company for each in usable if each.company != OF_ALL]
    parts = []
    for endpoint in usable:
        whose = company.not_in(own) if endpoint.company == OF_ALL else company == endpoint.company
        asked = type_.in_(DEFAULT_TYPES if endpoint.events is None else endpoint.events)
        parts.append(and_(whose, asked) if by_filter else whose)
    return or_(literal(value=False), *parts)


def read_all(connection: Connection) -> list[Endpoint]:
    rows = connection.execute(select(endpoints).order_by(endpoints.c.company_id)).mappings()
    return [_of_row(row) for row in rows]


def read_one(connection: Connection, company: str) -> Endpoint | None:
    row = connection.execute(select(endpoints).where(endpoints.c.company_id == company)).mappings().first()
    return None if row is None else _of_row(row)


def _of_row(row: RowMapping) -> Endpoint:
    return Endpoint(
        company=row["company_id"],
        events=None if row["events"] is None else tuple(row["events"].split()),
        health=EndpointHealth(
            state=_state(row["state"]),
            failures=row["failures"],
            failing_since=time_of(row["failing_since"]),
            probes=row["probes"],
            probe_at=time_of(row["probe_at"]),
        ),
        **{name: row[name] for name in _AS_THEY_ARE},
    )


def _state(stored: str) -> EndpointState:
    return next(state for state in EndpointState if stored_state(state) == stored)


def stored_state(state: EndpointState) -> str:
    return _STORED_AS.get(state, state.value)


def values_of(endpoint: Endpoint) -> dict[str, Any]:
    health = endpoint.health
    return {
        "company_id": endpoint.company,
        "events": None if endpoint.events is None else " ".join(endpoint.events),
        "state": stored_state(health.state),
        "failures": health.failures,
        "failing_since": iso(health.failing_since),
        "probes": health.probes,
        "probe_at": iso(health.probe_at),
        **{name: getattr(endpoint, name) for name in _AS_THEY_ARE},
    }


def save(connection: Connection, endpoint: Endpoint) -> None:
    mine = endpoints.c.company_id == endpoint.company
    connection.execute(update(endpoints).where(mine).values(values_of(endpoint)))


def time_of(text_: str | None) -> datetime | None:
    return datetime.fromisoformat(text_) if text_ else None
