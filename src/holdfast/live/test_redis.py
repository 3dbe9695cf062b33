"""Live state on an in-memory Redis and a fake clock: what is written, read and reported, and when."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from holdfast.live.encoding import LIFETIME_S, key
from holdfast.live.entries import ACTIVITY_S, RENEW_S
from holdfast.live.redis import OUTAGE_NOTE, RedisLive
from holdfast.session.state import State
from holdfast.session.stores import Availability, LiveStatus, Record
from tests.doubles.fake_clock import FakeClock
from tests.doubles.fake_redis_server import FakeServer

KEY = key("962302")
RECORD = Record(company="962302", state=State.CONNECTED, since="t0", created_at="t0", last_activity="t0")
ACTIVE = replace(RECORD, last_activity="t1")
LOST = replace(RECORD, state=State.RECONNECTING, since="t1")


async def settle() -> None:
    """Run every task until it waits for the clock."""
    for _ in range(50):
        await asyncio.sleep(0)


class RedisLiveHarness:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.server = FakeServer(clock=self.clock)
        self.statuses: list[LiveStatus] = []
        self.live = RedisLive(self.server, node="here", clock=self.clock, changed=self.statuses.append)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.live.run())
            await settle()
            yield
            task.cancel()

    async def pass_time(self, seconds: float) -> None:
        """Advance the clock from one deadline to the next, and run the tasks at each."""
        end = self.clock.monotonic() + seconds
        while (due := self.clock.next_due) is not None and due <= end:
            self.clock.advance_to(due)
            await settle()
        self.clock.advance_to(end)
        await settle()

    def shown(self, company: str = "962302") -> object:
        return json.loads(self.server.values[key(company)])["state"]


@pytest.fixture
def harness() -> RedisLiveHarness:
    return RedisLiveHarness()


async def test_a_change_is_written_at_once_with_a_lifetime(harness: RedisLiveHarness) -> None:
    """Every change of the connection is in Redis without any time passing, for an hour."""
    async with harness.running():
        harness.live.put(RECORD)
        await settle()
        assert harness.shown() == "connected"
        assert harness.server.lifetimes_s[KEY] == LIFETIME_S == 3600
        harness.live.put(LOST)
        await settle()
        assert harness.shown() == "reconnecting"


async def test_changes_in_one_iteration_are_one_write(harness: RedisLiveHarness) -> None:
    """Only the latest record is written."""
    async with harness.running():
        for number in range(100):
            harness.live.put(replace(RECORD, attempts=number))
        await settle()
        assert harness.server.written == [KEY]
        assert json.loads(harness.server.values[KEY])["reconnectAttempts"] == 99


async def test_activity_alone_is_written_every_few_seconds(harness: RedisLiveHarness) -> None:
    """Frames that arrive every tenth of a second cause one write in five seconds, and the last one is written."""
    async with harness.running():
        harness.live.put(RECORD)
        await settle()
        for number in range(100):
            harness.live.put(replace(RECORD, last_activity=f"t{number}"))
            await harness.pass_time(0.1)
        assert len(harness.server.written) <= 1 + 10 / ACTIVITY_S
        await harness.pass_time(ACTIVITY_S)
        assert json.loads(harness.server.values[KEY])["lastActivity"] == "t99"


async def test_a_quiet_session_is_renewed_while_it_lives(harness: RedisLiveHarness) -> None:
    """In three hours without any change the record never expires, with three writes an hour."""
    async with harness.running():
        harness.live.put(RECORD)
        await harness.pass_time(3 * 3600)
        assert 0 <= 1 + 3 * 3600 / RENEW_S - len(harness.server.written) <= 1


async def test_an_emptied_redis_is_filled_again(harness: RedisLiveHarness) -> None:
    """After FLUSHALL or an eviction, lost records are back within two seconds; Redis does not count as unavailable."""
    async with harness.running():
        harness.live.put(RECORD)
        harness.live.put(replace(RECORD, company="962303"))
        await settle()
        harness.server.values.clear()
        await harness.pass_time(2)
        assert {harness.shown(), harness.shown("962303")} == {"connected"}
        assert [status.availability for status in harness.statuses] == [Availability.UP]


async def test_a_redis_that_loses_records_is_logged_once(
    harness: RedisLiveHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """Consecutive losses are logged once, and again only after a check without a loss."""
    caplog.set_level(logging.WARNING)
    async with harness.running():
        harness.live.put(RECORD)
        await settle()
        for is_emptied in (True, True, True, False, True):
            if is_emptied:
                harness.server.values.clear()
            await harness.pass_time(2)
    line = "Connection to Redis at fake:6379 is up, but it lost 1 of 1 records: they are written again"
    assert caplog.messages == [line, line]


async def test_thousands_of_sessions_are_written_and_counted(harness: RedisLiveHarness) -> None:
    """Batches are complete: each of 1234 sessions is written, and found if it is missing."""
    async with harness.running():
        for number in range(1234):
            harness.live.put(replace(RECORD, company=str(number)))
        await settle()
        assert len(harness.server.values) == 1234
        del harness.server.values[key("777")]
        await harness.pass_time(2)
        assert len(harness.server.values) == 1234


async def test_a_redis_that_dies_quietly_is_found_out(harness: RedisLiveHarness) -> None:
    """Without any change of a session, a lost Redis is detected within seconds."""
    async with harness.running():
        harness.server.trouble = "it closes the connection"
        await harness.pass_time(2.2)
        assert harness.live.status.availability is Availability.DOWN


async def test_an_outage_and_its_end_are_logged_once_each(
    harness: RedisLiveHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """An hour without Redis is one warning and one info, and two calls of `changed`."""
    caplog.set_level(logging.INFO, "holdfast.live.redis")
    async with harness.running():
        harness.server.trouble = "it is full"
        for number in range(360):
            harness.live.put(replace(RECORD, attempts=number))
            await harness.pass_time(10)
        assert "it is full" in harness.live.status.sentence
        harness.server.trouble = None
        await harness.pass_time(2.1)
    assert [status.availability for status in harness.statuses] == [Availability.UP, Availability.DOWN, Availability.UP]
    assert [(line.levelname, line.getMessage()) for line in caplog.records] == [
        ("INFO", "Connection to Redis at fake:6379 is up"),
        ("WARNING", f"Connection to Redis at fake:6379 is gone: it is full; {OUTAGE_NOTE}"),
        ("INFO", "Connection to Redis at fake:6379 is back after 3599.8 s"),
    ]


async def test_the_status_has_the_start_and_the_current_problem(harness: RedisLiveHarness) -> None:
    """`since` is when Redis was lost, not the time of the last attempt; the sentence is about the current problem."""
    assert harness.live.status.availability is Availability.DOWN
    async with harness.running():
        harness.server.trouble = "it does not answer"
        await harness.pass_time(60)
        first = harness.live.status
        harness.server.trouble = "it requires a password"
        await harness.pass_time(60)
        assert first.since == harness.live.status.since == harness.statuses[1].since
        assert (first.sentence, harness.live.status.sentence) == (
            "Redis at fake:6379: it does not answer",
            "Redis at fake:6379: it requires a password",
        )


async def test_a_single_failure_is_repaired_without_a_log_line(harness: RedisLiveHarness) -> None:
    """One failure is no outage: the next attempt comes at once, and records that Redis may have lost are written."""
    async with harness.running():
        harness.live.put(RECORD)
        await settle()
        harness.server.trouble = "it closes the connection"
        harness.live.put(LOST)
        await settle()
        harness.server.trouble = None
        harness.server.values.clear()
        await harness.pass_time(0.1)
        assert harness.shown() == "reconnecting"
        assert len(harness.statuses) == 1


async def test_everything_is_back_within_seconds_of_its_return(harness: RedisLiveHarness) -> None:
    """A Redis that returns empty after hours has every session within two seconds, before its return is logged."""
    async with harness.running():
        harness.live.put(RECORD)
        harness.live.put(replace(RECORD, company="962303"))
        await settle()
        harness.server.trouble = "it can't be reached"
        await harness.pass_time(3 * 3600)
        harness.live.put(LOST)
        harness.live.remove("962303")
        harness.server.values = {key("962303"): "{}"}
        harness.server.trouble = None
        await harness.pass_time(2)
        assert harness.statuses[-1].availability is Availability.UP
        assert harness.server.values.keys() == {KEY}
        assert harness.shown() == "reconnecting"


async def test_tries_grow_rarer_but_never_rarer_than_two_seconds(harness: RedisLiveHarness) -> None:
    """The delay between attempts grows to two seconds, so that a returned Redis is found quickly."""
    async with harness.running():
        harness.server.trouble = "it can't be reached"
        await harness.pass_time(60)
        gaps = [
            round(later - earlier, 2)
            for earlier, later in zip(harness.server.tries, harness.server.tries[1:], strict=False)
        ]
        assert gaps[-10:] == [2.0] * 10
        assert gaps[2:7] == [0.1, 0.25, 0.5, 1.0, 2.0]


async def test_a_redis_that_answers_but_accepts_no_writes_is_down(harness: RedisLiveHarness) -> None:
    """Read-only or full: it counts as back only after a successful write, so the log does not alternate."""
    async with harness.running():
        harness.server.trouble, harness.server.reads_work = "it is a read-only replica", True
        harness.live.put(RECORD)
        await harness.pass_time(60)
        assert [status.availability for status in harness.statuses] == [Availability.UP, Availability.DOWN]
        harness.server.trouble = None
        await harness.pass_time(2)
        assert harness.statuses[-1].availability is Availability.UP


async def test_an_answer_that_is_late_is_not_waited_for(harness: RedisLiveHarness) -> None:
    """If Redis takes ten seconds to answer, callers get the record in memory after a fifth of a second."""
    async with harness.running():
        harness.live.put(RECORD)
        await settle()
        harness.server.answers_after_s = 10
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(harness.live.get("962302"))
            await settle()
            assert not asking.done()
            await harness.pass_time(0.25)
            assert asking.done()
            assert (asking.result() or {})["state"] == "connected"


async def test_while_redis_is_unavailable_memory_answers_at_once(harness: RedisLiveHarness) -> None:
    """Immediately: own records as they were put last, records of other processes not at all."""
    async with harness.running():
        harness.live.put(RECORD)
        await settle()
        harness.server.trouble = "it can't be reached"
        await harness.pass_time(5)
        asked = len(harness.server.tries)
        harness.live.put(LOST)
        assert (await harness.live.get("962302") or {})["state"] == "reconnecting"
        assert await harness.live.get("962399") is None
        assert len(harness.server.tries) == asked


async def test_requests_in_progress_when_redis_fails_are_answered_from_memory(harness: RedisLiveHarness) -> None:
    """A request that is in progress when Redis fails does not fail."""
    async with harness.running():
        harness.live.put(RECORD)
        await settle()
        harness.server.trouble = "it closes the connection"
        assert (await harness.live.get("962302") or {})["state"] == "connected"


async def test_a_record_of_another_process_replaces_memory(harness: RedisLiveHarness) -> None:
    """A record that another node wrote is returned; our own record in Redis never replaces a later one in memory."""
    async with harness.running():
        harness.live.put(RECORD)
        await settle()
        harness.live.put(ACTIVE)
        assert (await harness.live.get("962302") or {})["lastActivity"] == "t1"
        harness.server.values[KEY] = '{"state": "paused", "node": "there"}'
        assert await harness.live.get("962302") == {"state": "paused", "node": "there"}


async def test_recent_changes_are_visible_whatever_redis_has(harness: RedisLiveHarness) -> None:
    """A change is visible at once: a session that was taken over from another process, and one that was removed."""
    harness.server.values[KEY] = '{"state": "paused", "node": "there"}'
    async with harness.running():
        harness.live.put(RECORD)
        assert (await harness.live.get("962302") or {})["state"] == "connected"
        await settle()
        harness.live.remove("962302")
        assert await harness.live.get("962302") is None


async def test_a_question_does_not_wait_for_all_that_is_to_be_written(harness: RedisLiveHarness) -> None:
    """While a thousand records are written at 50 ms a batch, another process's record is read in between."""
    harness.server.values[KEY] = '{"state": "paused", "node": "there"}'
    async with harness.running():
        harness.server.answers_after_s = 0.05
        for number in range(1000):
            harness.live.put(replace(RECORD, company=str(number)))
        await settle()
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(harness.live.get("962302"))
            await settle()
            await harness.pass_time(0.15)
            harness.server.answers_after_s = 0
            assert asking.done()
            assert (asking.result() or {})["state"] == "paused"


async def test_a_read_ends_as_soon_as_redis_is_lost(harness: RedisLiveHarness) -> None:
    """A caller that asked during a write gets an answer when that write fails, not later."""
    async with harness.running():
        harness.live.put(RECORD)
        await settle()
        harness.server.trouble, harness.server.answers_after_s = "it is full", 0.1
        harness.live.put(replace(RECORD, company="962303"))
        await settle()
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(harness.live.get("962302"))
            await settle()
            await harness.pass_time(0.1)
            harness.server.answers_after_s = 0
            assert asking.done()


async def test_something_strange_at_the_key_is_overwritten(harness: RedisLiveHarness) -> None:
    """A value that is not a record is not returned, and is replaced."""
    async with harness.running():
        harness.live.put(RECORD)
        await settle()
        harness.server.values[KEY] = "hello"
        assert (await harness.live.get("962302") or {})["state"] == "connected"
        await settle()
        assert harness.shown() == "connected"


async def test_a_released_session_is_left_to_the_other_process(harness: RedisLiveHarness) -> None:
    """Its record is neither renewed nor written back."""
    async with harness.running():
        harness.live.put(RECORD)
        await settle()
        harness.live.release("962302")
        harness.server.values[KEY] = '{"state": "connected", "node": "there"}'
        await harness.pass_time(3600)
        assert harness.server.written == [KEY]
        assert (await harness.live.get("962302") or {})["node"] == "there"


async def test_a_session_released_while_it_waits_to_be_written_is_not_written(harness: RedisLiveHarness) -> None:
    """The last of 150 is released while the first hundred are being written."""
    async with harness.running():
        harness.server.answers_after_s = 0.05
        for number in range(150):
            harness.live.put(replace(RECORD, company=str(number)))
        await settle()
        harness.live.release("149")
        await harness.pass_time(0.5)
        harness.server.answers_after_s = 0
        assert len(harness.server.written) == 149
        assert key("149") not in harness.server.values


async def test_pending_records_are_written_before_the_stop(harness: RedisLiveHarness) -> None:
    """A stop writes pending records and closes the connection; later requests are answered from memory."""
    async with harness.running():
        harness.live.put(RECORD)
        await settle()
        harness.live.put(ACTIVE)
        harness.live.put(LOST)
    assert harness.shown() == "reconnecting"
    assert harness.server.is_closed
    assert (await harness.live.get("962302") or {})["state"] == "reconnecting"


async def test_stopping_without_redis_does_not_wait(harness: RedisLiveHarness) -> None:
    """A Redis that is unavailable or hangs does not delay the stop."""
    async with harness.running():
        harness.server.trouble = "it can't be reached"
        harness.live.put(RECORD)
        await settle()
        tries = len(harness.server.tries)
    assert len(harness.server.tries) == tries
    assert harness.server.is_closed
