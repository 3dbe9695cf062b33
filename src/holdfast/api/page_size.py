"""Ends a page early whose rows are large: strangers choose how long messages are, and a page is held in memory.

Five hundred messages of the maximum length are 200 MB of JSON.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

FIRST_ROWS = 10
"""Rows that are read before the size of the others can be estimated."""
MAX_PAGE_CHARS = 1_000_000


class Numbered(Protocol):
    @property
    def seq(self) -> int: ...


N = TypeVar("N", bound=Numbered)
Read = Callable[[int, int], Awaitable[Sequence[N]]]
"""Reads the rows after a `seq`, up to a number of rows."""


class PageSize:
    """Counts the rows of a page while it is read in parts."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._rows = 0
        self._chars = 0

    def next_part(self) -> int:
        """The number of rows to read next; 0: the page is full."""
        if not self._rows:
            return min(FIRST_ROWS, self._left)
        fits = (MAX_PAGE_CHARS - self._chars) * self._rows // max(self._chars, 1)
        return max(min(self._left, fits), 0)

    def add(self, sizes: Sequence[int]) -> None:
        self._left -= len(sizes)
        self._rows += len(sizes)
        self._chars += sum(sizes)


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
