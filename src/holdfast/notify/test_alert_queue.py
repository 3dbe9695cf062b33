"""Failed writes of the alert queue are repeated, except for alerts that are settled."""

import asyncio
from collections.abc import Sequence

from holdfast.health.stores import AlertsNotStored, PendingAlert
from holdfast.notify.alert_queue import AlertQueue
from holdfast.notify.alert_text import pending_alert
from holdfast.notify.conftest import alert
from tests.doubles.fake_alert_rows import FakeAlertRows

FIRST, SECOND = pending_alert(alert(), address="f00d"), pending_alert(alert(), address="beef")


class SlowRows(FakeAlertRows):
    """Stores rows only when the test allows it, and never those of the book `refused`."""

    def __init__(self) -> None:
        super().__init__()
        self.resume = asyncio.Event()

    async def keep(self, book: str, added: Sequence[PendingAlert]) -> None:
        await self.resume.wait()
        if book == "refused":
            raise AlertsNotStored("the disk is full")
        await super().keep(book, added)


async def test_an_alert_settled_before_it_was_stored_is_not_stored() -> None:
    """An alert that arrived while its row was still missing would otherwise be delivered again after a restart."""
    rows = FakeAlertRows()
    queue = AlertQueue(rows)
    rows.fails = True
    await queue.keep("one", [FIRST, SECOND])
    rows.fails = False
    await queue.settle(FIRST)
    await queue.keep("one", [])
    assert await rows.pending() == [SECOND]


async def test_alerts_added_during_a_write_are_not_lost() -> None:
    """Also when the store fails: the write is repeated with the next one."""
    rows = SlowRows()
    queue = AlertQueue(rows)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(queue.keep("one", [FIRST]))
        tasks.create_task(queue.keep("refused", [SECOND]))
        await asyncio.sleep(0)
        rows.resume.set()
    assert await rows.pending() == [FIRST]
    await queue.keep("two", [])
    assert await rows.pending() == [FIRST, SECOND]
