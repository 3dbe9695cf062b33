"""Ends a page early whose rows are large: strangers choose how long messages are, and a page is held in memory.

Five hundred messages of the maximum length are 200 MB of JSON.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

PART_ROWS = 16
"""Rows that are read at once: nobody knows the size of the next ones."""
MAX_PAGE_CHARS = 500_000


class Numbered(Protocol):
    @property
    def seq(self) -> int: ...


N = TypeVar("N", bound=Numbered)
Read = Callable[[int, int], Awaitable[Sequence[N]]]
"""Reads the rows after a `seq`, up to a number of rows."""


class PageSize:
    """Counts the rows of a page while it is read in parts."""

    def __init__(self, limit: int) -> None:
        self._rows_left = limit
        self._chars_left = MAX_PAGE_CHARS

    def next_part(self) -> int:
        """The number of rows to read next; 0: the page is full."""
        return min(PART_ROWS, self._rows_left) if self._chars_left > 0 else 0

    def add(self, sizes: Sequence[int]) -> None:
        self._rows_left -= len(sizes)
        self._chars_left -= sum(sizes)


async def read_page(read: Read[N], *, after: int, limit: int, size: Callable[[N], int]) -> tuple[list[N], str | None]:
    """Rows after `after`, and where the next page starts; None after the last row.

    At most `limit` rows. Large ones are fewer, but never none: `size` is the number of characters of one.
    """
    found: list[N] = []
    page = PageSize(limit)
    while part := page.next_part():
        rows = await read(found[-1].seq if found else after, part + 1)
        found += rows[:part]
        if len(rows) <= part:
            return found, None
        page.add([size(each) for each in rows[:part]])
    return found, str(found[-1].seq)
