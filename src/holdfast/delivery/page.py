"""Parts of lists. A part ends early where rows are large: strangers choose how long messages are.

Five hundred messages of the maximum length are 200 MB of JSON, which would be held in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TypeVar

T = TypeVar("T")

MAX_PAGE_CHARS = 500_000


class Page(list[T]):
    """Rows, and whether there are more after them."""

    def __init__(self, rows: Iterable[T] = (), *, has_more: bool = False) -> None:
        super().__init__(rows)
        self.has_more = has_more


def rows_in_page(sizes: Sequence[int], limit: int) -> int:
    """How many of the rows of these numbers of characters a page has: at most `limit`, and at least one if there is
    any."""
    return sum(before < MAX_PAGE_CHARS for before, _ in zip(accumulate(sizes, initial=0), sizes[:limit], strict=False))
