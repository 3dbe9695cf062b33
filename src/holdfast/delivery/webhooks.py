"""Webhooks: what becomes of a delivery and of an endpoint after each try, and which deliveries may leave now.

Events of a chat leave one after the other, chats side by side. A delivery that fails is tried again over three days; an
endpoint that fails again and again is put aside: only now and then a probe goes there, so that it costs the others
nothing. It must never touch disk, socket or clock: the webhook sender asks and reports here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from holdfast.base.clock_step import ClockStep
from holdfast.delivery.events import Event

_MINUTE, _HOUR = 60, 3600
PAUSES_S = (
    5, 30, 2 * _MINUTE, 10 * _MINUTE, 30 * _MINUTE,
    2 * _HOUR, 5 * _HOUR, 10 * _HOUR, 14 * _HOUR, 20 * _HOUR, 24 * _HOUR,
)  # fmt: skip
"""Between the tries of a delivery; each is up to a tenth longer, by chance. Seconds."""
_JITTER = 0.1
_LONGEST_WISH_S = 24 * _HOUR
"""For longer than this no `Retry-After` is heeded."""
_ASIDE_FAILURES = 5
_ASIDE_AFTER_S = 5 * _MINUTE
"""An endpoint is put aside after so many failures in a row, over so long at least."""
_FIRST_PROBE_S, _LAST_PROBE_S = _MINUTE, _HOUR
GIVE_UP_AFTER_DAYS = 4
"""What has waited so long for an endpoint that is aside or off is given up."""
OF_ALL = ""
"""In place of a company: the endpoint of all that have none of their own."""


class DeliveryState(StrEnum):
    PENDING = "pending"
    """It is to be delivered, now, later, or when those before it in its chat are."""
    DELIVERED = "delivered"
    """The receiver answered 2xx."""
    FAILED = "failed"
    """Given up; a person may have it replayed."""


class EndpointState(StrEnum):
    ACTIVE = "active"
    ASIDE = "aside"
    """It fails again and again: only probes go there, at growing distances."""
    OFF = "off"
    """It answered 410: nothing goes there until a person says so."""


# One try.


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What came of one try."""

    status: int | None
    """None: there was no answer."""
    error: str | None = None
    """For people; without the receiver's own words."""
    retry_after_s: float | None = None

    @property
    def is_taken(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        return self.status == 410


@dataclass(frozen=True, slots=True)
class Delivered:
    """It was delivered."""


@dataclass(frozen=True, slots=True)
class Again:
    """To be tried again; its chat waits with it."""

    after_s: float


@dataclass(frozen=True, slots=True)
class GivenUp:
    """All tries are used up; its chat goes on."""


AttemptOutcome = Delivered | Again | GivenUp


def judge(tried: Tried, *, attempts: int, is_probe: bool, jitter: float) -> AttemptOutcome:
    """What becomes of a delivery at its try number `attempts`. No probe uses up its tries, nor does a 410."""
    if tried.is_taken:
        return Delivered()
    if is_probe or tried.is_gone:
        return Again(0)  # the endpoint's own state says when
    if attempts > len(PAUSES_S):
        return GivenUp()
    pause_s = PAUSES_S[attempts - 1] * (1 + _JITTER * jitter)
    if tried.status in {429, 503} and tried.retry_after_s is not None:
        pause_s = max(pause_s, min(tried.retry_after_s, _LONGEST_WISH_S))
    return Again(pause_s)


# An endpoint.


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How an endpoint has done lately."""

    state: EndpointState = EndpointState.ACTIVE
    failures: int = 0
    """In a row."""
    failing_since: datetime | None = None
    probes: int = 0
    """Failures while it is aside."""
    probe_at: datetime | None = None


def learn(health: Health, tried: Tried, *, now: datetime, jitter: float) -> Health:
    """After one more try."""
    if health.state is EndpointState.OFF:
        return health
    if tried.is_taken:
        return Health()
    since = min(health.failing_since or now, now)  # later than now: the wall clock was set back
    failed = replace(health, failures=health.failures + 1, failing_since=since)
    if tried.is_gone:
        return replace(failed, state=EndpointState.OFF, probe_at=None)
    if health.state is EndpointState.ACTIVE:
        lasts = now - since >= timedelta(seconds=_ASIDE_AFTER_S)
        return _aside(failed, now, jitter) if failed.failures >= _ASIDE_FAILURES and lasts else failed
    was_probe = health.probe_at is None or health.probe_at <= now
    return _aside(failed, now, jitter) if was_probe else failed


def _aside(health: Health, now: datetime, jitter: float) -> Health:
    pause_s = min(_FIRST_PROBE_S * 2 ** min(health.probes, 10), _LAST_PROBE_S) * (1 + _JITTER * jitter)
    return replace(
        health, state=EndpointState.ASIDE, probes=health.probes + 1, probe_at=now + timedelta(seconds=pause_s)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where webhooks of a company go."""

    id: str
    company: str
    """`OF_ALL` for the endpoint of all that have none of their own."""
    url: str | None
    """None: nothing goes there any more, save what is kept until it is known again where to."""
    secret: str | None = field(repr=False)
    events: tuple[str, ...] | None
    """Types; None: all that are worth it."""
    health: Health
    last_success_at: str | None = None
    last_failure_at: str | None = None
    last_error: str | None = None
    last_status: int | None = None


def endpoint_of(company: str, endpoints: Collection[Endpoint]) -> Endpoint | None:
    """A company's own endpoint, or else that of all."""
    usable = {endpoint.company: endpoint for endpoint in endpoints if endpoint.url is not None}
    return usable.get(company) or usable.get(OF_ALL)


# Which may leave.


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The first delivery of a chat that is still to be made."""

    seq: int
    company: str
    chat: str
    attempts: int
    """So far."""
    endpoint: str
    """Id."""
    is_probe: bool = False

    @property
    def lane(self) -> tuple[str, str]:
        return self.company, self.chat


class Lanes:
    """The deliveries that were loaded, and those of them that are under way."""

    def __init__(self, *, most: int = 32, most_for_one: int = 8) -> None:
        """`most` under way at once, `most_for_one` of them for one endpoint."""
        self._most = most
        self._most_for_one = most_for_one
        self._waiting: dict[int, Head] = {}
        self._under_way: dict[int, Head] = {}

    def add(self, heads: Sequence[Head]) -> None:
        """Those that are known already are passed over."""
        for head in heads:
            if head.seq not in self._under_way:
                self._waiting.setdefault(head.seq, head)

    def take(self, companies: Collection[str]) -> Iterator[Head]:
        """Those of these companies that may leave now, in the order in which they were added.

        Each is under way from here on. A probe that may not leave at once is forgotten.
        """
        busy = {head.lane for head in self._under_way.values()}
        load = Counter(head.endpoint for head in self._under_way.values())
        for head in list(self._waiting.values()):
            if len(self._under_way) >= self._most:
                return
            is_free = head.lane not in busy and load[head.endpoint] < (1 if head.is_probe else self._most_for_one)
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
        """What was loaded may no longer be so."""
        self._waiting.clear()

    @property
    def known(self) -> Collection[int]:
        return self._waiting.keys() | self._under_way.keys()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def has_room(self) -> bool:
        return len(self._under_way) < self._most

    @property
    def busy_endpoints(self) -> Collection[str]:
        """Those that can take no more just now."""
        load = Counter(head.endpoint for head in self._under_way.values())
        return {endpoint for endpoint, count in load.items() if count >= self._most_for_one}

    @property
    def used_endpoints(self) -> Collection[str]:
        return {head.endpoint for head in self._under_way.values()}


# Who keeps them.


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What one look at the rows found."""

    endpoints: Sequence[Endpoint]
    heads: Sequence[Head]
    next_at: datetime | None
    """When there may be more, if nothing happens before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What a try changed."""

    outcome: AttemptOutcome
    endpoint: Endpoint | None
    """As it is now; None when it is no more."""
    before: EndpointState


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A delivery that was given up, or that failed and is to be tried again."""

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
    """When a delivery is retried; None where nobody can say, because its endpoint is aside, off or removed."""
    if failed.state is not DeliveryState.PENDING or endpoint is None:
        return None
    return failed.next_at if endpoint.health.state is EndpointState.ACTIVE else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Deliveries of a company."""

    pending: int = 0
    failed: int = 0
    oldest_at: str | None = None
    """Of the pending ones."""


Companies = Collection[str] | None
"""None: all."""


class Webhooks(Protocol):
    """Durable endpoints and deliveries. Every method that changes something returns when it is on the disk."""

    async def look(
        self, companies: Collection[str], *, now: datetime, most: int, known: Collection[int], busy: Collection[str]
    ) -> Due:
        """Up to `most` heads that are due, taking turns among the companies; none of `known` seq or `busy` endpoints.

        Of an endpoint that is aside one probe, when its time has come.
        """

    async def event(self, seq: int) -> Event | None: ...

    async def settle(
        self, head: Head, tried: Tried, *, now: datetime, jitter: float, to: Endpoint | None = None
    ) -> Settled:
        """Store the result of an attempt in the delivery, in its chat and in the endpoint.

        `to` is the endpoint as it was when the attempt began: when its address was changed meanwhile, a failure makes
        the delivery due at once.
        """

    async def follow_clock(self, companies: Collection[str], step: ClockStep) -> None:
        """The wall clock was set: what waits for a retry is due, so are probes, and nothing has grown older by it."""

    async def retry_from_future(self, companies: Collection[str], *, now: datetime) -> None:
        """Make due what was tried later than now: the wall clock was set back since, while nobody watched it."""

    async def give_up_old(self, *, before: str, at: str) -> int:
        """Give up, `at` this time, what was made before and waits for endpoints that are aside, off or no more.

        Returns how many.
        """

    async def endpoints(self) -> list[Endpoint]: ...

    async def endpoint(self, company: str) -> Endpoint | None:
        """A company's own."""

    async def put(self, company: str, change: Callable[[Endpoint | None], Endpoint | None]) -> Endpoint | None:
        """Set a company's own endpoint to what `change` makes of the one before; None removes it.

        With another address or secret, what waits for a later retry is due at once.
        """

    async def resume(self, endpoint_id: str) -> Endpoint | None:
        """Switch it on again, and try at once what waits; None when there is no such endpoint."""

    async def counts(self) -> dict[str, Counts]:
        """By company, for those that have any."""

    async def failed(self, companies: Companies, *, after: int, most: int) -> list[Failed]: ...

    async def company_of(self, event_id: str) -> str | None:
        """Whose event it is."""

    async def replay(self, event_id: str) -> bool:
        """Deliver it once more, whatever became of it; False when no endpoint wants it."""

    async def replay_all(self, companies: Companies, *, since: str | None) -> int:
        """All that failed and those that wait for a retry, or everything since then, also what was delivered.

        Returns how many.
        """


def endpoint_id(company: str) -> str:
    return "default" if company == OF_ALL else f"session-{company}"
