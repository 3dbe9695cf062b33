"""The contract of operation rows, on SQLite and PostgreSQL."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from holdfast.base.clock_step import ClockStep
from holdfast.base.errors import Conflict, NotFound
from holdfast.session.operation_states import Operation, OperationDraft, OperationState
from holdfast.store.operations import OperationRows
from tests.contract.rows import COMPANY, OTHER, Store


@pytest.fixture
def operations(store: Store) -> OperationRows:
    return OperationRows(store.database, clock=store.clock)


def made(number: int = 1, *, company: str = COMPANY, key: str | None = None, request_hash: str = "h") -> OperationDraft:
    return OperationDraft(
        id=f"op_{number}",
        company=company,
        kind="block",
        target="962790000001@s.whatsapp.net",
        arguments={"jid": "962790000001@s.whatsapp.net", "blocked": True},
        request_hash=request_hash,
        idempotency_key=key,
    )


async def accept(operations: OperationRows, draft: OperationDraft, *, max_open: int = 10) -> Operation:
    accepted = await operations.accept(draft, max_open=max_open)
    assert accepted is not None
    return accepted.operation


async def test_a_key_is_accepted_once(store: Store, operations: OperationRows) -> None:
    """The same request finds the first operation, another request is refused; other companies have keys of their
    own."""
    first = await operations.accept(made(1, key="k"), max_open=10)
    again = await operations.accept(made(2, key="k"), max_open=10)
    assert first is not None
    assert again is not None
    assert (again.operation, first.is_new, again.is_new) == (first.operation, True, False)
    with pytest.raises(Conflict):
        await operations.accept(made(3, key="k", request_hash="other"), max_open=10)
    assert (await accept(operations, made(4, company=OTHER, key="k"))).company == OTHER
    with pytest.raises(NotFound):
        await operations.accept(made(5, company="nobody"), max_open=10)
    assert len(store.rows("SELECT seq FROM operations")) == 2


async def test_a_change_is_stored_only_if_the_state_is_still_the_expected_one(operations: OperationRows) -> None:
    """An operation that was cancelled in the meantime stays cancelled."""
    operation = await accept(operations, made())
    running = replace(operation, state=OperationState.RUNNING, attempts=1, observed=[{"id": "a"}])
    cancelled = await operations.cancel(operation.id)
    assert await operations.save(running, before=OperationState.QUEUED) is None
    assert await operations.find(operation.id) == cancelled
    assert await operations.cancel(operation.id) == cancelled


async def test_everything_of_an_operation_is_stored(store: Store, operations: OperationRows) -> None:
    """Observation, result, error and times are returned unchanged; each change of state is an event."""
    operation = await accept(operations, made())
    running = replace(operation, state=OperationState.RUNNING, attempts=1, tried_at="2026-01-01T00:00:00.000Z")
    running = replace(running, observed=[{"id": "a"}], retry_at="t", retry_code="c", retry_message="m", next_at="n")
    assert await operations.save(running, before=OperationState.QUEUED) == running
    failed = replace(running, state=OperationState.FAILED, error_code="refused", error="why", whatsapp_code=403)
    failed = replace(failed, settled_at="2026-01-01T00:00:01.000Z", result={"members": []})
    assert await operations.save(failed, before=OperationState.RUNNING) == failed
    assert await operations.find(operation.id) == failed
    with pytest.raises(Conflict):
        await operations.cancel(operation.id)
    events = await store.events.after(0, companies=[COMPANY], limit=10)
    bodies = [(each.type, each.chat, json.loads(each.body)["state"]) for each in events]
    chat = "962790000001@s.whatsapp.net"
    assert bodies == [("operation.updated", chat, state) for state in ("queued", "running", "failed")]


async def test_open_operations_are_counted_and_listed_in_order(operations: OperationRows) -> None:
    """Beyond the limit nothing is accepted; lists have pages and can be filtered by state."""
    for number in range(3):
        await accept(operations, made(number), max_open=3)
    assert await operations.accept(made(9), max_open=3) is None
    await operations.cancel("op_1")
    page = await operations.operations(COMPANY, state=None, after=0, limit=2)
    assert [each.id for each in page] == ["op_0", "op_1"]
    rest = await operations.operations(COMPANY, state=None, after=page[-1].seq, limit=2)
    assert [each.id for each in rest] == ["op_2"]
    queued = await operations.operations(COMPANY, state=OperationState.QUEUED, after=0, limit=9)
    cancelled = await operations.operations(COMPANY, state=OperationState.CANCELLED, after=0, limit=9)
    assert ([each.id for each in queued], [each.id for each in cancelled]) == (["op_0", "op_2"], ["op_1"])


async def test_the_first_open_operation_of_each_target_is_found(operations: OperationRows) -> None:
    """Due ones first; those of paused kinds not at all."""
    waiting, second, due = [await accept(operations, replace(made(n), target=f"{n % 2}")) for n in range(3)]
    assert (waiting.target, second.target, due.target) == ("0", "1", "0")
    await operations.save(replace(waiting, next_at="2026-01-01T00:00:09.000Z"), before=waiting.state)
    for limit, now, found in ((9, "05", ["op_1", "op_0"]), (1, "05", ["op_1"]), (9, "09", ["op_0", "op_1"])):
        opened = await operations.open(COMPANY, now=f"2026-01-01T00:00:{now}.000Z", paused=(), limit=limit)
        assert [each.id for each in opened.heads] == found
    assert not (await operations.open(COMPANY, now="2026", paused=["other", waiting.kind], limit=9)).heads


async def test_only_what_was_certainly_not_done_expires(operations: OperationRows) -> None:
    """A running operation is settled by its outcome. The rows say when the next one expires."""
    at = [f"2026-01-01T00:00:0{n}.000Z" for n in range(4)]
    running, *_ = [await accept(operations, replace(made(n), expires_at=at[n])) for n in (1, 2, 3)]
    await operations.save(replace(running, state=OperationState.RUNNING), before=running.state)
    opened = await operations.open(COMPANY, now=at[2], paused=(), limit=9)
    assert ([each.id for each in opened.expired], opened.next_expiry) == (["op_2"], at[3])


async def test_open_operations_follow_the_wall_clock(store: Store, operations: OperationRows) -> None:
    """They expire after the time they were given, and retries are due at once; what is settled keeps its times."""
    expires_at, moved = "2026-01-05T00:00:00.250Z", "2026-01-03T23:59:59.750Z"
    waits, settled, fresh = [replace(made(n), expires_at=expires_at) for n in (1, 2, 3)]
    first = await accept(operations, waits)
    await operations.save(replace(first, next_at=expires_at), before=first.state)
    await operations.cancel((await accept(operations, settled)).id)
    store.clock.advance_to(store.clock.monotonic() + 10)
    after = store.clock.now()
    await accept(operations, fresh)
    await operations.follow_clock(COMPANY, ClockStep(by_s=-86400.5, suspended_s=0.0, after=after, at=after))
    rows = store.rows("SELECT expires_at, next_at FROM operations ORDER BY seq")
    assert rows == [(moved, None), (expires_at, None), (expires_at, None)]
