"""Live state on a Redis in memory and a clock that moves only when told: what is written, answered and told when."""

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
from holdfast.live.redis import MEANWHILE, RedisLive
from holdfast.session.state import State
from holdfast.session.stores import Availability, LiveStatus, Record
from tests.doubles.fake_clock import FakeClock
from tests.doubles.fake_redis_server import FakeServer

KEY = key("962302")
RECORD = Record(company="962302", state=State.CONNECTED, since="t0", created_at="t0", last_activity="t0")
ACTIVE = replace(RECORD, last_activity="t1")
LOST = replace(RECORD, state=State.RECONNECTING, since="t1")


async def settle() -> None:
    """Nothing here waits for anything but the clock: after this, all who could go on have done so."""
    for _ in range(50):
        await asyncio.sleep(0)


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.server = FakeServer(clock=self.clock)
        self.told: list[LiveStatus] = []
        self.live = RedisLive(self.server, node="here", clock=self.clock, changed=self.told.append)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.live.run())
            await settle()
            yield
            task.cancel()

    async def pass_time(self, seconds: float) -> None:
        """Stops at each deadline on the way and lets everybody go on."""
        end = self.clock.monotonic() + seconds
        while (due := self.clock.next_due) is not None and due <= end:
            self.clock.advance_to(due)
            await settle()
        self.clock.advance_to(end)
        await settle()

    def shown(self, company: str = "962302") -> object:
        return json.loads(self.server.values[key(company)])["state"]


@pytest.fixture
def world() -> World:
    return World()


async def test_a_change_is_written_at_once_with_a_lifetime(world: World) -> None:
    """Every change of the connection is in Redis without any time passing, for an hour."""
    async with world.running():
        world.live.put(RECORD)
        await settle()
        assert world.shown() == "connected"
        assert world.server.lifetimes_s[KEY] == LIFETIME_S == 3600
        world.live.put(LOST)
        await settle()
        assert world.shown() == "reconnecting"


async def test_changes_in_one_iteration_are_one_write(world: World) -> None:
    """Only the latest record is written."""
    async with world.running():
        for number in range(100):
            world.live.put(replace(RECORD, attempts=number))
        await settle()
        assert world.server.written == [KEY]
        assert json.loads(world.server.values[KEY])["reconnectAttempts"] == 99


async def test_activity_alone_is_written_every_few_seconds(world: World) -> None:
    """Frames that arrive every tenth of a second cause one write in five seconds, and the last one is written."""
    async with world.running():
        world.live.put(RECORD)
        await settle()
        for number in range(100):
            world.live.put(replace(RECORD, last_activity=f"t{number}"))
            await world.pass_time(0.1)
        assert len(world.server.written) <= 1 + 10 / ACTIVITY_S
        await world.pass_time(ACTIVITY_S)
        assert json.loads(world.server.values[KEY])["lastActivity"] == "t99"


async def test_a_quiet_session_is_renewed_while_it_lives(world: World) -> None:
    """In three hours without any change the record never expires, with three writes an hour."""
    async with world.running():
        world.live.put(RECORD)
        await world.pass_time(3 * 3600)
        assert 0 <= 1 + 3 * 3600 / RENEW_S - len(world.server.written) <= 1


async def test_an_emptied_redis_is_filled_again(world: World) -> None:
    """After FLUSHALL or an eviction, lost records are back within two seconds; Redis does not count as unavailable."""
    async with world.running():
        world.live.put(RECORD)
        world.live.put(replace(RECORD, company="962303"))
        await settle()
        world.server.values.clear()
        await world.pass_time(2)
        assert {world.shown(), world.shown("962303")} == {"connected"}
        assert [status.availability for status in world.told] == [Availability.UP]


async def test_a_redis_that_loses_records_is_logged_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Consecutive losses are logged once, and again only after a check without a loss."""
    caplog.set_level(logging.WARNING)
    async with world.running():
        world.live.put(RECORD)
        await settle()
        for is_emptied in (True, True, True, False, True):
            if is_emptied:
                world.server.values.clear()
            await world.pass_time(2)
    told = "Connection to Redis at fake:6379 is up, but it lost 1 of 1 records: they are written again"
    assert caplog.messages == [told, told]


async def test_thousands_of_sessions_are_written_and_counted(world: World) -> None:
    """Batches are complete: each of 1234 sessions is written, and found if it is missing."""
    async with world.running():
        for number in range(1234):
            world.live.put(replace(RECORD, company=str(number)))
        await settle()
        assert len(world.server.values) == 1234
        del world.server.values[key("777")]
        await world.pass_time(2)
        assert len(world.server.values) == 1234


async def test_a_redis_that_dies_quietly_is_found_out(world: World) -> None:
    """Without any change of a session, a lost Redis is detected within seconds."""
    async with world.running():
        world.server.trouble = "it closes the connection"
        await world.pass_time(2.2)
        assert world.live.status.availability is Availability.DOWN


async def test_an_outage_and_its_end_are_logged_once_each(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """An hour without Redis is one warning and one info, and two calls of `changed`."""
    caplog.set_level(logging.INFO, "holdfast.live.redis")
    async with world.running():
        world.server.trouble = "it is full"
        for number in range(360):
            world.live.put(replace(RECORD, attempts=number))
            await world.pass_time(10)
        assert "it is full" in world.live.status.sentence
        world.server.trouble = None
        await world.pass_time(2.1)
    assert [status.availability for status in world.told] == [Availability.UP, Availability.DOWN, Availability.UP]
    assert [(line.levelname, line.getMessage()) for line in caplog.records] == [
        ("INFO", "Connection to Redis at fake:6379 is up"),
        ("WARNING", f"Connection to Redis at fake:6379 is gone: it is full; {MEANWHILE}"),
        ("INFO", "Connection to Redis at fake:6379 is back after 3599.8 s"),
    ]


async def test_the_status_has_the_start_and_the_current_problem(world: World) -> None:
    """`since` is when Redis was lost, not the time of the last attempt; the sentence is about the current problem."""
    assert world.live.status.availability is Availability.DOWN
    async with world.running():
        world.server.trouble = "it does not answer"
        await world.pass_time(60)
        first = world.live.status
        world.server.trouble = "it requires a password"
        await world.pass_time(60)
        assert first.since == world.live.status.since == world.told[1].since
        assert (first.sentence, world.live.status.sentence) == (
            "Redis at fake:6379: it does not answer",
            "Redis at fake:6379: it requires a password",
        )


async def test_a_single_failure_is_repaired_without_a_log_line(world: World) -> None:
    """One failure is no outage: the next attempt comes at once, and records that Redis may have lost are written."""
    async with world.running():
        world.live.put(RECORD)
        await settle()
        world.server.trouble = "it closes the connection"
        world.live.put(LOST)
        await settle()
        world.server.trouble = None
        world.server.values.clear()
        await world.pass_time(0.1)
        assert world.shown() == "reconnecting"
        assert len(world.told) == 1


async def test_everything_is_back_within_seconds_of_its_return(world: World) -> None:
    """A Redis that returns empty after hours has every session within two seconds, before its return is logged."""
    async with world.running():
        world.live.put(RECORD)
        world.live.put(replace(RECORD, company="962303"))
        await settle()
        world.server.trouble = "it can't be reached"
        await world.pass_time(3 * 3600)
        world.live.put(LOST)
        world.live.remove("962303")
        world.server.values = {key("962303"): "{}"}
        world.server.trouble = None
        await world.pass_time(2)
        assert world.told[-1].availability is Availability.UP
        assert world.server.values.keys() == {KEY}
        assert world.shown() == "reconnecting"


async def test_tries_grow_rarer_but_never_rarer_than_two_seconds(world: World) -> None:
    """The delay between attempts grows to two seconds, so that a returned Redis is found quickly."""
    async with world.running():
        world.server.trouble = "it can't be reached"
        await world.pass_time(60)
        gaps = [
            round(later - earlier, 2)
            for earlier, later in zip(world.server.tries, world.server.tries[1:], strict=False)
        ]
        assert gaps[-10:] == [2.0] * 10
        assert gaps[2:7] == [0.1, 0.25, 0.5, 1.0, 2.0]


async def test_a_redis_that_answers_but_accepts_no_writes_is_down(world: World) -> None:
    """Read-only or full: it counts as back only after a successful write, so the log does not alternate."""
    async with world.running():
        world.server.trouble, world.server.reads_work = "it is a read-only replica", True
        world.live.put(RECORD)
        await world.pass_time(60)
        assert [status.availability for status in world.told] == [Availability.UP, Availability.DOWN]
        world.server.trouble = None
        await world.pass_time(2)
        assert world.told[-1].availability is Availability.UP


async def test_an_answer_that_is_late_is_not_waited_for(world: World) -> None:
    """If Redis takes ten seconds to answer, callers get the record in memory after a fifth of a second."""
    async with world.running():
        world.live.put(RECORD)
        await settle()
        world.server.answers_after_s = 10
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(world.live.get("962302"))
            await settle()
            assert not asking.done()
            await world.pass_time(0.25)
            assert asking.done()
            assert (asking.result() or {})["state"] == "connected"


async def test_while_redis_is_unavailable_memory_answers_at_once(world: World) -> None:
    """Immediately: own records as they were put last, records of other processes not at all."""
    async with world.running():
        world.live.put(RECORD)
        await settle()
        world.server.trouble = "it can't be reached"
        await world.pass_time(5)
        asked = len(world.server.tries)
        world.live.put(LOST)
        assert (await world.live.get("962302") or {})["state"] == "reconnecting"
        assert await world.live.get("962399") is None
        assert len(world.server.tries) == asked


async def test_requests_in_progress_when_redis_fails_are_answered_from_memory(world: World) -> None:
    """A request that is in progress when Redis fails does not fail."""
    async with world.running():
        world.live.put(RECORD)
        await settle()
        world.server.trouble = "it closes the connection"
        assert (await world.live.get("962302") or {})["state"] == "connected"


async def test_a_record_of_another_process_replaces_memory(world: World) -> None:
    """A record that another node wrote is returned; our own record in Redis never replaces a later one in memory."""
    async with world.running():
        world.live.put(RECORD)
        await settle()
        world.live.put(ACTIVE)
        assert (await world.live.get("962302") or {})["lastActivity"] == "t1"
        world.server.values[KEY] = '{"state": "paused", "node": "there"}'
        assert await world.live.get("962302") == {"state": "paused", "node": "there"}


async def test_recent_changes_are_visible_whatever_redis_has(world: World) -> None:
    """A change is visible at once: a session that was taken over from another process, and one that was removed."""
    world.server.values[KEY] = '{"state": "paused", "node": "there"}'
    async with world.running():
        world.live.put(RECORD)
        assert (await world.live.get("962302") or {})["state"] == "connected"
        await settle()
        world.live.remove("962302")
        assert await world.live.get("962302") is None


async def test_a_question_does_not_wait_for_all_that_is_to_be_written(world: World) -> None:
    """While a thousand records are written at 50 ms a batch, another process's record is read in between."""
    world.server.values[KEY] = '{"state": "paused", "node": "there"}'
    async with world.running():
        world.server.answers_after_s = 0.05
        for number in range(1000):
            world.live.put(replace(RECORD, company=str(number)))
        await settle()
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(world.live.get("962302"))
            await settle()
            await world.pass_time(0.15)
            world.server.answers_after_s = 0
            assert asking.done()
            assert (asking.result() or {})["state"] == "paused"


async def test_a_read_ends_as_soon_as_redis_is_lost(world: World) -> None:
    """A caller that asked during a write gets an answer when that write fails, not later."""
    async with world.running():
        world.live.put(RECORD)
        await settle()
        world.server.trouble, world.server.answers_after_s = "it is full", 0.1
        world.live.put(replace(RECORD, company="962303"))
        await settle()
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(world.live.get("962302"))
            await settle()
            await world.pass_time(0.1)
            world.server.answers_after_s = 0
            assert asking.done()


async def test_something_strange_at_the_key_is_overwritten(world: World) -> None:
    """A value that is not a record is not returned, and is replaced."""
    async with world.running():
        world.live.put(RECORD)
        await settle()
        world.server.values[KEY] = "hello"
        assert (await world.live.get("962302") or {})["state"] == "connected"
        await settle()
        assert world.shown() == "connected"


async def test_a_released_session_is_left_to_the_other_process(world: World) -> None:
    """Its record is neither renewed nor written back."""
    async with world.running():
        world.live.put(RECORD)
        await settle()
        world.live.release("962302")
        world.server.values[KEY] = '{"state": "connected", "node": "there"}'
        await world.pass_time(3600)
        assert world.server.written == [KEY]
        assert (await world.live.get("962302") or {})["node"] == "there"


async def test_a_session_released_while_it_waits_to_be_written_is_not_written(world: World) -> None:
    """The last of 150 is released while the first hundred are being written."""
    async with world.running():
        world.server.answers_after_s = 0.05
        for number in range(150):
            world.live.put(replace(RECORD, company=str(number)))
        await settle()
        world.live.release("149")
        await world.pass_time(0.5)
        world.server.answers_after_s = 0
        assert len(world.server.written) == 149
        assert key("149") not in world.server.values


async def test_pending_records_are_written_before_the_stop(world: World) -> None:
    """A stop writes pending records and closes the connection; later requests are answered from memory."""
    async with world.running():
        world.live.put(RECORD)
        await settle()
        world.live.put(ACTIVE)
        world.live.put(LOST)
    assert world.shown() == "reconnecting"
    assert world.server.is_closed
    assert (await world.live.get("962302") or {})["state"] == "reconnecting"


async def test_stopping_without_redis_does_not_wait(world: World) -> None:
    """A Redis that is unavailable or hangs does not delay the stop."""
    async with world.running():
        world.server.trouble = "it can't be reached"
        world.live.put(RECORD)
        await settle()
        tries = len(world.server.tries)
    assert len(world.server.tries) == tries
    assert world.server.is_closed
