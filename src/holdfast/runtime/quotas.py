"""Quotas of tenants: the requests of one limited API key, and the data that one company may store.

A tenant is a caller whose key is limited to companies. A key for all companies is the operator's and has no quotas.
A refused request can be repeated later: 429 with the time to wait. When the disk is nearly full, tenants can't write at
all, so that the remaining space serves the sessions.

The outbox is measured in the database only when the estimate reaches a quota. Between two measurements every accepted
message is added to the estimate and none is subtracted.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from holdfast.base.clock import Clock
from holdfast.base.errors import Fault, HoldfastError
from holdfast.delivery.media import MB
from holdfast.delivery.rate_limits import Bucket, Pace
from holdfast.delivery.usage import Usage

REMEASURE_S = 5.0
"""The shortest time between two measurements of an exhausted quota: a measurement reads the rows that it counts."""
STREAM_RETRY_S = 30
_DISK_CHECK_INTERVAL_S = 1.0
_KEYS = 10_000
"""The number of keys whose request rate is remembered; those of the API and of the dashboard count separately."""


class QuotaExceeded(HoldfastError):
    """A tenant exceeded the operator's limit. A later request may succeed."""

    code = "quota-exceeded"
    fault = Fault.CALLER

    def __init__(self, sentence: str, *, retry_after_s: float) -> None:
        super().__init__(sentence)
        self.retry_after_s = max(1, math.ceil(retry_after_s))


class DiskFull(HoldfastError):
    """The disk is nearly full: what is left is kept for the sessions."""

    code = "disk-nearly-full"
    fault = Fault.OPERATOR


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaLimits:
    """0 means no limit."""

    requests_per_minute: float = 3000
    """Requests of one key a minute."""
    open_requests: int = 500
    """Requests of one key that are open at once, streams among them: an eighth of the connections that a process may
    have by default."""
    streams: int = 20
    """Event streams that one key has open."""
    outbox_messages: int = 50_000
    """Unsent messages of one company."""
    outbox_bytes: int = 256 * MB
    """Bytes of one company's unsent messages."""
    media_bytes: int = 2048 * MB
    """Bytes of one company's stored media, inbound and outbound."""
    free_disk_bytes: int = 1024 * MB


@dataclass(slots=True, kw_only=True)
class _Estimate:
    messages: int
    bytes: int
    measured_at: float


class Quotas:
    """One for each process: in a cluster every process allows its callers this much."""

    def __init__(self, limits: QuotaLimits, usage: Usage, *, clock: Clock, free_disk_bytes: Callable[[], int]) -> None:
        self._limits = limits
        self._usage = usage
        self.clock = clock
        self._free_disk_bytes = free_disk_bytes
        self._rates: dict[str, Bucket] = {}
        self._streams: dict[str, int] = {}
        self._requests: dict[str, int] = {}
        self._outbox: dict[str, _Estimate] = {}
        self._reserved_media: dict[str, int] = {}
        self._free = (-math.inf, 0)

    def check_request(self, key: str, *, writes: bool) -> None:
        """Count a request of a tenant's key. Raises `QuotaExceeded`, and `DiskFull` for one that writes."""
        per_minute = self._limits.requests_per_minute
        if per_minute:
            self._spend(key, Pace(per_minute=per_minute, burst=max(1, int(per_minute))))
        if writes:
            self._check_disk()

    def request(self, key: str) -> AbstractContextManager[None]:
        """A request of a tenant's key is open during the block. Raises `QuotaExceeded`.

        Slow uploads and slow readers would otherwise take all connections that the process may have open.
        """
        limit = self._limits.open_requests
        refusal = (
            f"this API key has {limit} requests open, which is the most that it may have at once: "
            "wait for some of the responses"
        )
        return _counted(self._requests, key, limit, refusal=refusal, retry_after_s=1)

    def stream(self, key: str) -> AbstractContextManager[None]:
        """An event stream of a tenant's key is open during the block. Raises `QuotaExceeded`."""
        limit = self._limits.streams
        refusal = (
            f"this API key has {limit} event streams open, and may have {limit} (HOLDFAST_QUOTA_STREAMS): "
            "close one, or let one stream serve several readers"
        )
        return _counted(self._streams, key, limit, refusal=refusal, retry_after_s=STREAM_RETRY_S)

    @contextlib.asynccontextmanager
    async def message(self, company: str, size_bytes: int) -> AsyncIterator[None]:
        """A tenant's message of this size is stored during the block. Raises `QuotaExceeded`."""
        if not self._limits.outbox_messages and not self._limits.outbox_bytes:
            yield
            return
        found = self._outbox.get(company)
        if found is None:
            found = await self._measure(company)
        if (over := self._exceeded(found, size_bytes)) and self.clock.monotonic() >= found.measured_at + REMEASURE_S:
            found = await self._measure(company)
            over = self._exceeded(found, size_bytes)
        if over:
            raise QuotaExceeded(
                f'company "{company}" has {over}: wait until messages are sent, or cancel some',
                retry_after_s=found.measured_at + REMEASURE_S - self.clock.monotonic(),
            )
        found.messages += 1
        found.bytes += size_bytes
        try:
            yield
        except BaseException:
            found.messages -= 1
            found.bytes -= size_bytes
            raise

    @contextlib.asynccontextmanager
    async def media(self, company: str, max_bytes: int) -> AsyncIterator[None]:
        """A tenant stores a file of at most this size during the block. Raises `QuotaExceeded`."""
        limit = self._limits.media_bytes
        if not limit:
            yield
            return
        self._reserved_media[company] = self._reserved_media.get(company, 0) + max_bytes
        try:
            used = await self._usage.media_bytes(company)
            if used + self._reserved_media[company] > limit:
                raise QuotaExceeded(
                    f'company "{company}" has {used // MB} MB of media stored, and may have {limit // MB} MB '
                    "(HOLDFAST_QUOTA_MEDIA_MB): they are removed some days after their messages were sent",
                    retry_after_s=60,
                )
            yield
        finally:
            self._reserved_media[company] -= max_bytes
            if not self._reserved_media[company]:
                del self._reserved_media[company]

    def _spend(self, key: str, pace: Pace) -> None:
        now = self.clock.monotonic()
        bucket = self._rates.pop(key, None)
        if bucket is None:
            bucket = Bucket(pace)
        self._rates[key] = bucket
        if len(self._rates) > _KEYS:
            del self._rates[next(iter(self._rates))]
        if bucket.available(now) < 1:
            raise QuotaExceeded(
                f"this API key makes more than {pace.per_minute:g} requests a minute "
                "(HOLDFAST_QUOTA_REQUESTS_PER_MINUTE): try again after the time in Retry-After",
                retry_after_s=bucket.ready_at(now) - now,
            )
        bucket.spend(now)

    def _check_disk(self) -> None:
        least, now = self._limits.free_disk_bytes, self.clock.monotonic()
        if not least:
            return
        looked_at, free = self._free
        if now >= looked_at + _DISK_CHECK_INTERVAL_S:
            free = self._free_disk_bytes()
            self._free = (now, free)
        if free < least:
            raise DiskFull(
                f"the disk of Holdfast has {free // MB} MB left, and below {least // MB} MB only a key for all "
                "companies may write (HOLDFAST_DISK_FREE_MB): the operator has to free space"
            )

    async def _measure(self, company: str) -> _Estimate:
        used = await self._usage.outbox(company)
        now = self.clock.monotonic()
        self._outbox[company] = made = _Estimate(messages=used.messages, bytes=used.bytes, measured_at=now)
        return made

    def _exceeded(self, usage: _Estimate, size_bytes: int) -> str | None:
        """The exhausted part of the quota, for people."""
        messages, max_bytes = self._limits.outbox_messages, self._limits.outbox_bytes
        if messages and usage.messages >= messages:
            return f"{usage.messages} messages waiting, and may have {messages} (HOLDFAST_QUOTA_OUTBOX_MESSAGES)"
        if max_bytes and usage.bytes + size_bytes > max_bytes:
            used = f"{usage.bytes / MB:.1f} MB of messages waiting"
            return f"{used}, and may have {max_bytes // MB} MB (HOLDFAST_QUOTA_OUTBOX_MB)"
        return None


@contextlib.contextmanager
def _counted(counts: dict[str, int], key: str, limit: int, *, refusal: str, retry_after_s: float) -> Iterator[None]:
    """Count the block under `key`. Raises `QuotaExceeded` when `limit` (0: any number) are counted already."""
    count = counts.get(key, 0)
    if limit and count >= limit:
        raise QuotaExceeded(refusal, retry_after_s=retry_after_s)
    counts[key] = count + 1
    try:
        yield
    finally:
        counts[key] -= 1
        if not counts[key]:
            del counts[key]
