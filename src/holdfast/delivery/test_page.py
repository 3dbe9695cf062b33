from __future__ import annotations

import pytest

from holdfast.delivery.page import MAX_PAGE_CHARS, rows_in_page

HALF = MAX_PAGE_CHARS // 2


@pytest.mark.parametrize(
    ("sizes", "limit", "rows"),
    [
        ([], 5, 0),
        ([1, 2, 3], 5, 3),
        ([1, 2, 3], 2, 2),
        ([10 * HALF, 1], 5, 1),
        ([HALF, HALF, 1], 5, 2),
        ([HALF - 1, HALF, 7, 1], 5, 3),
        ([HALF, HALF - 1, HALF, HALF], 2, 2),
    ],
)
def test_a_page_ends_with_the_row_that_makes_it_large(sizes: list[int], limit: int, rows: int) -> None:
    assert rows_in_page(sizes, limit) == rows
