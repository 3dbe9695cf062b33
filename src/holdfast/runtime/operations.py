"""Accepts, finds and cancels operations for callers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.base.clock import Clock
from holdfast.base.errors import NotFound
from holdfast.base.ids import RandomSource, may_be_id
from holdfast.delivery.events import Events
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.quotas import QuotaExceeded
from holdfast.session.operation_states import MAX_OPEN, OPEN, Operation, OperationState, draft, request_hash
from holdfast.session.operations import Arguments
from holdfast.session.stores import Operations

_RETRY_AFTER_S = 5.0


class TooManyOperations(QuotaExceeded):
    """The company has as many open operations as it may have."""

    code = "too-many-operations"


class OperationService:
    def __init__(
        self,
        gateway: Gateway,
        store: Operations,
        *,
        events: Events,
        clock: Clock,
        randomness: RandomSource,
        max_open: int = MAX_OPEN,
    ) -> None:
        """`max_open`: operations of one company that may be open at a time."""
        self._gateway = gateway
        self._store = store
        self._events = events
        self._clock = clock
        self._randomness = randomness
        self._max_open = max_open
        self._stalls = gateway.stalls

    async def repeated(
        self,
        company: str,
        arguments: Arguments,
        *,
        idempotency_key: str | None,
        expires_in_s: int | None,
        hashed: Mapping[str, Any] | None = None,
    ) -> Operation | None:
        """The operation that was accepted for a request before, for routes that look something up or change it first.

        `arguments` need only what is hashed. Raises `Conflict` for a key that was used for another operation.
        """
        if idempotency_key is None:
            return None
        hash_ = request_hash(arguments, hashed, expires_in_s=expires_in_s)
        return await self._store.repeated(company, idempotency_key=idempotency_key, request_hash=hash_)

    async def accept(
        self,
        company: str,
        arguments: Arguments,
        *,
        idempotency_key: str | None = None,
        expires_in_s: int | None = None,
        hashed: Mapping[str, Any] | None = None,
    ) -> Operation:
        """Commit an operation; it is carried out as soon as the session is connected. `hashed`: see `request_hash`.

        Raises `NotFound`, `TooManyOperations`, `DatabaseStalled`, and `Conflict` for a key that was used for another
        operation.
        """
        await self._stalls.answered(lambda: self._gateway.require(company))
        made = draft(
            arguments,
            company=company,
            id_=self._randomness.operation_id(),
            idempotency_key=idempotency_key,
            now=self._clock.now(),
            expires_in_s=expires_in_s,
            hashed=hashed,
        )
        accepted = await self._stalls.answered(lambda: self._store.accept(made, max_open=self._max_open))
        if accepted is None:
            raise TooManyOperations(
                f"company {company} has {self._max_open} operations that are not settled: wait until some are, or "
                "cancel some with DELETE /v1/operations/{id}",
                retry_after_s=_RETRY_AFTER_S,
            )
        if accepted.is_new:
            self._gateway.operations_wait(company)
        return accepted.operation

    async def find(self, operation_id: str) -> Operation:
        """Raises `NotFound`."""
        found = await self._store.find(operation_id) if may_be_id(operation_id) else None
        if found is None:
            raise unknown_operation(operation_id)
        return found

    async def operations(
        self, company: str, *, state: OperationState | None, after: int, limit: int
    ) -> list[Operation]:
        """Raises `NotFound` for an unknown company."""
        await self._gateway.require(company)
        return await self._store.operations(company, state=state, after=after, limit=limit)

    async def newest(self, company: str, *, limit: int) -> list[Operation]:
        """Newest first."""
        return await self._store.newest(company, limit=limit)

    async def cancel(self, operation_id: str) -> Operation:
        """Raises `NotFound`, and `Conflict` when it may have been done."""
        cancelled = await self._store.cancel(operation_id)
        self._gateway.operations_wait(cancelled.company)  # the next one of its target may begin
        return cancelled

    async def settled(self, operation: Operation, *, within_s: float) -> Operation:
        """The operation as soon as it is settled, or as it is after so many seconds."""
        until = self._clock.monotonic() + within_s
        with self._events.listening(companies=[operation.company]) as flag:
            while True:
                flag.clear()
                found = await self.find(operation.id)
                now = self._clock.monotonic()
                if found.state not in OPEN or now >= until:
                    return found
                poll_interval_s = self._events.poll_interval_s
                async with self._clock.until(until if poll_interval_s is None else min(until, now + poll_interval_s)):
                    await flag.wait()


def unknown_operation(operation_id: str) -> NotFound:
    """Also raised for an operation that the caller's key does not cover."""
    return NotFound(
        f'operation "{operation_id[:80]}" is unknown: its id is in the response that accepted it', field="id"
    )
