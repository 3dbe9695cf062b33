"""Automatic backups: at the configured interval, across restarts, with an alert when they fail."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.backup.backup_dir import names
from holdfast.backup.schedule import FIRST_AFTER_S, RETRY_S, Schedule
from holdfast.store.shared_secrets import note
from tests.backup_service import backup_service_of
from tests.gateway_harness import GatewayHarness

DAY_S = 86_400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@contextlib.asynccontextmanager
async def scheduled(
    harness: GatewayHarness, folder: Path, *, every_h: float = 24, keep: int = 2
) -> AsyncIterator[Schedule]:
    """A gateway with its schedule, until the block ends."""
    async with harness.running() as gateway, asyncio.TaskGroup() as tasks:
        backup_service = backup_service_of(gateway, harness.database, folder, clock=harness.clock)
        schedule = Schedule(backup_service, every_h=every_h, keep=keep)
        running = tasks.create_task(schedule.run())
        try:
            yield schedule
        finally:
            running.cancel()


async def test_one_backup_a_day_and_the_oldest_are_removed(harness: GatewayHarness, folder: Path) -> None:
    """The first is made soon after the first start; the configured number is kept."""
    async with scheduled(harness, folder):
        await harness.until(lambda: len(names(folder)) == 1, within_s=FIRST_AFTER_S + 1)
        await harness.wait(DAY_S + 1)
        await harness.until(lambda: len(names(folder)) == 2)
        newest = names(folder)[0]
        await harness.wait(DAY_S + 1)
        await harness.until(lambda: newest != names(folder)[0])
        assert [path == newest for path in names(folder)] == [False, True]


async def test_restarts_cause_no_additional_backups(harness: GatewayHarness, folder: Path) -> None:
    """The time of the last one is stored in the database; after a day without Holdfast one is due."""
    async with scheduled(harness, folder):
        await harness.until(lambda: len(names(folder)) == 1)
    for _ in range(3):
        async with scheduled(harness, folder):
            await harness.wait(2 * FIRST_AFTER_S)
    assert len(names(folder)) == 1
    harness.clock.advance_to(harness.clock.monotonic() + DAY_S)
    async with scheduled(harness, folder):
        await harness.until(lambda: len(names(folder)) == 2, within_s=FIRST_AFTER_S + 1)


async def test_one_of_two_processes_on_a_database_makes_the_backup(harness: GatewayHarness, folder: Path) -> None:
    """The one that claims it first."""
    async with scheduled(harness, folder), asyncio.TaskGroup() as tasks:
        backup_service = backup_service_of(harness.gateway, harness.database, folder / "other", clock=harness.clock)
        other = tasks.create_task(Schedule(backup_service, every_h=24, keep=2).run())
        await harness.wait(2 * FIRST_AFTER_S)
        assert len(names(folder)) + len(names(folder / "other")) == 1
        other.cancel()


async def test_a_clock_that_was_set_back_delays_no_backup(harness: GatewayHarness, folder: Path) -> None:
    """The last backup then seems to have been made in the future; the next one must not wait for that time."""
    await note_begun(harness, "2099-01-01T00:00:00.000Z")
    async with scheduled(harness, folder):
        await harness.until(lambda: len(names(folder)) == 1, within_s=FIRST_AFTER_S + 1)
        await harness.wait(DAY_S / 2)
        assert len(names(folder)) == 1


async def note_begun(harness: GatewayHarness, text: str) -> None:
    """When the last backup began, as the database has it."""
    await harness.database.write(lambda connection: note(connection, "backup-begun", text))


def block(folder: Path) -> None:
    folder.write_text("a file in the way")


def unblock(folder: Path) -> None:
    folder.unlink()


async def test_a_failure_is_known_until_one_succeeds(harness: GatewayHarness, folder: Path) -> None:
    """It is tried again in a quarter of an hour, not in a day."""
    block(folder)
    async with scheduled(harness, folder) as schedule:
        await harness.until(lambda: schedule.failing_s is not None, within_s=FIRST_AFTER_S + 1)
        await harness.wait(RETRY_S + 1)
        assert schedule.failing_s is not None
        assert schedule.failing_s > RETRY_S
        unblock(folder)
        await harness.until(lambda: schedule.failing_s is None, within_s=RETRY_S + 1)
        assert len(names(folder)) == 1


async def test_an_unexpected_error_does_not_end_the_schedule(
    harness: GatewayHarness, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect is logged with its traceback, and the backup is retried."""
    await note_begun(harness, "no date")
    async with scheduled(harness, folder) as schedule:
        await harness.until(lambda: schedule.failing_s is not None, within_s=FIRST_AFTER_S + 1)
        assert "it is retried in 15 min" in caplog.text
        assert "Traceback" in caplog.text
        await note_begun(harness, "2020-01-01T00:00:00.000Z")
        await harness.until(lambda: schedule.failing_s is None, within_s=RETRY_S + 1)
        assert len(names(folder)) == 1


async def test_no_backup_is_made_if_the_interval_is_zero(harness: GatewayHarness, folder: Path) -> None:
    """HOLDFAST_BACKUP_EVERY_H=0."""
    async with scheduled(harness, folder, every_h=0):
        await harness.wait(2 * DAY_S)
    assert names(folder) == []
