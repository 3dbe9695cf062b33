"""What the store did not take is given to it again, and nothing that is settled."""

import asyncio
from collections.abc import Sequence

from holdfast.health.ports import NotKept, PendingAlert
from holdfast.notify.conftest import alert
from holdfast.notify.ledger import Ledger
from holdfast.notify.letters import letter
from tests.doubles.fake_alert_rows import FakeAlertRows

FIRST, SECOND = letter(alert(), address="f00d"), letter(alert(), address="beef")


class SlowRows(FakeAlertRows):
    """Takes rows only when told to go on, and never those that come with the book `refused`."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def keep(self, book: str, added: Sequence[PendingAlert]) -> None:
        await self.go_on.wait()
        if book == "refused":
            raise NotKept("the disk is full")
        await super().keep(book, added)


async def test_what_was_settled_before_it_was_kept_is_not_kept() -> None:
    """An alert that arrived while its row was still missing would otherwise be delivered again after a restart."""
    rows = FakeAlertRows()
    ledger = Ledger(rows)
    rows.fails = True
    await ledger.keep("one", [FIRST, SECOND])
    rows.fails = False
    await ledger.settle(FIRST)
    await ledger.keep("one", [])
    assert await rows.pending() == [SECOND]


async def test_what_comes_while_others_are_being_kept_is_not_forgotten() -> None:
    """Also when the store fails for it: the next time it is given again."""
    rows = SlowRows()
    ledger = Ledger(rows)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ledger.keep("one", [FIRST]))
        tasks.create_task(ledger.keep("refused", [SECOND]))
        await asyncio.sleep(0)
        rows.go_on.set()
    assert await rows.pending() == [FIRST]
    await ledger.keep("two", [])
    assert await rows.pending() == [FIRST, SECOND]
