"""Decides what happens to a webhook delivery and its endpoint after each attempt, and which deliveries may be sent now.

Events of one chat are sent in order, one at a time; chats are independent of each other. A failed delivery is retried
for about three days. An endpoint that fails repeatedly is suspended: it only gets an occasional probe, so that it does
not delay other endpoints. This module must never use disk, network or clock: the webhook sender does that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from holdfast.base.clock_step import ClockStep
from holdfast.delivery.events import Event

_MINUTE, _HOUR = 60, 3600
RETRY_DELAYS_S = (
    5, 30, 2 * _MINUTE, 10 * _MINUTE, 30 * _MINUTE,
    2 * _HOUR, 5 * _HOUR, 10 * _HOUR, 14 * _HOUR, 20 * _HOUR, 24 * _HOUR,
)  # fmt: skip
"""Seconds between the attempts of a delivery. Random jitter makes each pause up to a tenth longer."""
_JITTER = 0.1
_LONGEST_RETRY_AFTER_S = 24 * _HOUR
"""The longest `Retry-After` that is honoured, in seconds; longer ones are shortened to this."""
_SUSPENDED_AFTER_FAILURES = 5
_SUSPENDED_AFTER_S = 5 * _MINUTE
"""An endpoint is suspended after `_SUSPENDED_AFTER_FAILURES` failures in a row that span at least this many seconds."""
_FIRST_PROBE_S, _LAST_PROBE_S = _MINUTE, _HOUR
GIVE_UP_AFTER_DAYS = 4
"""A delivery that has waited this many days for an endpoint that is suspended or off fails for good."""
OF_ALL = ""
"""Used instead of a company id for the default endpoint: that of all companies without their own. It is no company
id, so only a key for all companies covers it."""


class DeliveryState(StrEnum):
    PENDING = "pending"
    """Not delivered yet: it is due, waits for a retry, or waits for earlier deliveries of its chat."""
    DELIVERED = "delivered"
    """The receiver answered with a 2xx status."""
    FAILED = "failed"
    """All attempts failed. A person can replay the delivery."""


class EndpointState(StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"
    """The endpoint failed repeatedly: it only gets probes, at growing intervals."""
    OFF = "off"
    """The endpoint answered 410: nothing is sent to it until a person resumes it."""


# One attempt.


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The result of one attempt."""

    status: int | None
    """The HTTP status. None if there was no response."""
    error: str | None = None
    """An explanation for people. It never quotes the receiver's response."""
    retry_after_s: float | None = None

    @property
    def is_accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        return self.status == 410


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver accepted the delivery."""


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """The delivery is retried. Later deliveries of its chat wait for it."""

    after_s: float


@dataclass(frozen=True, slots=True)
class GivenUp:
    """All attempts are used up. The next delivery of the chat is sent."""


AttemptOutcome = Delivered | RetryAfter | GivenUp


def judge(attempt: Attempt, *, attempts: int, is_probe: bool, jitter: float) -> AttemptOutcome:
    """The outcome of a delivery after attempt number `attempts`. Probes and a 410 do not use up its attempts."""
    if attempt.is_accepted:
        return Delivered()
    if is_probe or attempt.is_gone:
        return RetryAfter(0)  # the state of the endpoint decides when
    if attempts > len(RETRY_DELAYS_S):
        return GivenUp()
    delay_s = RETRY_DELAYS_S[attempts - 1] * (1 + _JITTER * jitter)
    if attempt.status in {429, 503} and attempt.retry_after_s is not None:
        delay_s = max(delay_s, min(attempt.retry_after_s, _LONGEST_RETRY_AFTER_S))
    return RetryAfter(delay_s)


# An endpoint.


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointHealth:
    """The recent health of an endpoint."""

    state: EndpointState = EndpointState.ACTIVE
    failures: int = 0
    """The number of consecutive failures."""
    failing_since: datetime | None = None
    probes: int = 0
    """The number of failures since the endpoint was suspended."""
    probe_at: datetime | None = None


def health_after(health: EndpointHealth, attempt: Attempt, *, now: datetime, jitter: float) -> EndpointHealth:
    """The health of an endpoint after one more attempt."""
    if health.state is EndpointState.OFF:
        return health
    if attempt.is_accepted:
        return EndpointHealth()
    since = min(health.failing_since or now, now)  # later than now: the wall clock was set back
    failed = replace(health, failures=health.failures + 1, failing_since=since)
    if attempt.is_gone:
        return replace(failed, state=EndpointState.OFF, probe_at=None)
    if health.state is EndpointState.ACTIVE:
        lasts = now - since >= timedelta(seconds=_SUSPENDED_AFTER_S)
        return _suspend(failed, now, jitter) if failed.failures >= _SUSPENDED_AFTER_FAILURES and lasts else failed
    was_probe = health.probe_at is None or health.probe_at <= now
    return _suspend(failed, now, jitter) if was_probe else failed


def _suspend(health: EndpointHealth, now: datetime, jitter: float) -> EndpointHealth:
    delay_s = min(_FIRST_PROBE_S * 2 ** min(health.probes, 10), _LAST_PROBE_S) * (1 + _JITTER * jitter)
    return replace(
        health, state=EndpointState.SUSPENDED, probes=health.probes + 1, probe_at=now + timedelta(seconds=delay_s)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The URL to which webhooks are sent, with its settings and health."""

    id: str
    company: str
    """The company of the endpoint, or `OF_ALL` for the default endpoint."""
    url: str | None
    """None: no URL is set. New events create no deliveries; pending ones are kept until a URL is set again."""
    secret: str | None = field(repr=False)
    events: tuple[str, ...] | None
    """The event types to send. None for the default types (`holdfast.delivery.events.DEFAULT_TYPES`)."""
    health: EndpointHealth
    last_success_at: str | None = None
    last_failure_at: str | None = None
    last_error: str | None = None
    last_status: int | None = None


def new_endpoint(company: str, *, url: str | None, secret: str | None) -> Endpoint:
    return Endpoint(
        id=endpoint_id(company), company=company, url=url, secret=secret, events=None, health=EndpointHealth()
    )


def endpoint_of(company: str, endpoints: Collection[Endpoint]) -> Endpoint | None:
    """A company's own endpoint, or else the default endpoint."""
    usable = {endpoint.company: endpoint for endpoint in endpoints if endpoint.url is not None}
    return usable.get(company) or usable.get(OF_ALL)


# Which deliveries may be sent.


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The first pending delivery of a chat."""

    seq: int
    company: str
    chat: str
    attempts: int
    """The number of attempts so far."""
    endpoint: str
    """The id of the endpoint."""
    is_probe: bool = False

    @property
    def lane(self) -> tuple[str, str]:
        return self.company, self.chat


class Lanes:
    """The deliveries that were loaded from the database, waiting or in flight."""

    def __init__(self, *, limit: int = 32, limit_per_endpoint: int = 8) -> None:
        """`limit`: how many may be in flight at once; `limit_per_endpoint`: how many of them to one endpoint, at
        most."""
        self._limit = limit
        self._limit_per_endpoint = limit_per_endpoint
        self._waiting: dict[int, Head] = {}
        self._under_way: dict[int, Head] = {}

    def add(self, heads: Sequence[Head]) -> None:
        """Add loaded deliveries. Those that are waiting or in flight already are ignored."""
        for head in heads:
            if head.seq not in self._under_way:
                self._waiting.setdefault(head.seq, head)

    def take(self, companies: Collection[str]) -> Iterator[Head]:
        """Yield the deliveries of these companies that may be sent now, in the order in which they were added.

        Each yielded delivery is in flight from then on. A probe that can't be sent at once is dropped; a later query
        loads it again.
        """
        busy = {head.lane for head in self._under_way.values()}
        load = Counter(head.endpoint for head in self._under_way.values())
        for head in list(self._waiting.values()):
            if len(self._under_way) >= self._limit:
                return
            is_free = head.lane not in busy and load[head.endpoint] < (1 if head.is_probe else self._max_of_an_endpoint)
            if is_free and head.company in companies:
                self._under_way[head.seq] = self._waiting.pop(head.seq)
                busy.add(head.lane)
                load[head.endpoint] += 1
                yield head
            elif head.is_probe or head.company not in companies:
                del self._waiting[head.seq]

    def end(self, head: Head) -> None:
        del self._under_way[head.seq]

    def forget_waiting(self) -> None:
        """Drop the waiting deliveries, because the rows may have changed since they were loaded."""
        self._waiting.clear()

    @property
    def known(self) -> Collection[int]:
        return self._waiting.keys() | self._under_way.keys()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def has_room(self) -> bool:
        return len(self._under_way) < self._limit

    @property
    def busy_endpoints(self) -> Collection[str]:
        """The endpoints to which no further delivery may be sent now."""
        load = Counter(head.endpoint for head in self._under_way.values())
        return {endpoint for endpoint, count in load.items() if count >= self._max_of_an_endpoint}

    @property
    def used_endpoints(self) -> Collection[str]:
        return {head.endpoint for head in self._under_way.values()}

    @property
    def _max_of_an_endpoint(self) -> int:
        """No endpoint may have more in flight than there is room for. Otherwise a few receivers that take long to
        answer, which never get suspended for it, would use all of the limit."""
        return min(self._limit_per_endpoint, self._limit - len(self._under_way))


# Storage.


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """The result of one query for due deliveries."""

    endpoints: Sequence[Endpoint]
    heads: Sequence[Head]
    next_at: datetime | None
    """When the next delivery becomes due, unless something changes before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What an attempt changed in the database."""

    outcome: AttemptOutcome
    endpoint: Endpoint | None
    """The endpoint after the attempt. None if it was removed."""
    before: EndpointState


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A delivery whose attempts all failed, or whose last attempt failed and that is to be retried."""

    seq: int
    id: str
    company: str
    type: str
    state: DeliveryState
    attempts: int
    first_at: str | None
    last_at: str | None
    next_at: str | None
    last_status: int | None
    last_error: str | None


def next_attempt_at(failed: Failed, endpoint: Endpoint | None) -> str | None:
    """When a delivery is retried. None if that is unknown, because its endpoint is suspended, off or removed."""
    if failed.state is not DeliveryState.PENDING or endpoint is None:
        return None
    return failed.next_at if endpoint.health.state is EndpointState.ACTIVE else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many deliveries a company has."""

    pending: int = 0
    failed: int = 0
    oldest_at: str | None = None
    """The time of the oldest pending delivery."""


def counts_of(endpoint: Endpoint, endpoints: Collection[Endpoint], counts: Mapping[str, Counts]) -> Counts:
    """The deliveries of an endpoint, given all endpoints and the counts by company."""
    if endpoint.company != OF_ALL:
        return counts.get(endpoint.company, Counts())
    own = {each.company for each in endpoints}
    others = [each for company, each in counts.items() if company not in own]
    return Counts(
        pending=sum(each.pending for each in others),
        failed=sum(each.failed for each in others),
        oldest_at=min((each.oldest_at for each in others if each.oldest_at is not None), default=None),
    )


Companies = Collection[str] | None
"""Company ids. None for all companies."""


class Webhooks(Protocol):
    """Durable endpoints and deliveries. A method that changes something returns after the change is on disk."""

    async def find_due(
        self, companies: Collection[str], *, now: datetime, limit: int, known: Collection[int], busy: Collection[str]
    ) -> Due:
        """Up to `limit` due heads, round-robin over the companies, without the `known` seqs and the `busy` endpoints.

        An endpoint that is suspended gets one probe when that is due.
        """

    async def event(self, seq: int) -> Event | None: ...

    async def settle(
        self, head: Head, attempt: Attempt, *, now: datetime, jitter: float, to: Endpoint | None = None
    ) -> Settled:
        """Store the result of an attempt in the delivery, in its chat and in the endpoint.

        `to` is the endpoint as it was when the attempt began. If its URL has changed since, a failure makes the
        delivery due at once.
        """

    async def follow_clock(self, companies: Collection[str], step: ClockStep) -> None:
        """Adapt to a change of the wall clock: retries and probes become due, and ages stay as they were."""

    async def retry_from_future(self, companies: Collection[str], *, now: datetime) -> None:
        """Make deliveries due whose last attempt is in the future: the clock was set back while Holdfast was down."""

    async def give_up_old(self, *, before: str, at: str) -> int:
        """Fail deliveries that were created before `before` and wait for endpoints that are suspended, off or removed.

        `at` is the time that is stored for the failure. Returns how many.
        """

    async def endpoints(self) -> list[Endpoint]: ...

    async def endpoint(self, company: str) -> Endpoint | None:
        """The company's own endpoint; None if it has none."""

    async def put(self, company: str, change: Callable[[Endpoint | None], Endpoint | None]) -> Endpoint | None:
        """Replace a company's own endpoint by the result of `change(old endpoint)`; None removes it.

        If the URL or the secret changes, deliveries that wait for a retry become due at once. Raises `NotFound` for a
        company without a session.
        """

    async def resume(self, endpoint_id: str) -> Endpoint | None:
        """Activate the endpoint again and retry its pending deliveries at once. None if there is no such endpoint."""

    async def counts(self, companies: Companies = None) -> dict[str, Counts]:
        """The counts by company, of those among `companies` that have deliveries."""

    async def failed(self, companies: Companies, *, after: int, limit: int) -> list[Failed]: ...

    async def company_of(self, event_id: str) -> str | None:
        """The company of an event; None if there is no such event."""

    async def replay(self, event_id: str) -> bool:
        """Deliver an event once more, whatever its state. Returns False when no endpoint wants it."""

    async def replay_all(self, companies: Companies, *, since: str | None) -> int:
        """Deliver again what failed or waits for a retry; with `since`, every event from then on, delivered or not.

        Returns how many deliveries were started again.
        """


def endpoint_id(company: str) -> str:
    return "default" if company == OF_ALL else f"session-{company}"
