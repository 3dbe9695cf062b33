"""Limits how many slow transfers run at the same time, so that those of one company keep no other waiting."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from weakref import WeakValueDictionary


class CompanySlots:
    def __init__(self, *, max_at_once: int, max_of_a_company: int) -> None:
        self._all = asyncio.Semaphore(max_at_once)
        self._max_of_a_company = max_of_a_company
        self._of_companies: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @contextlib.asynccontextmanager
    async def slot(self, company: str) -> AsyncIterator[None]:
        """Wait for a slot of this company, and hold it during the block."""
        of_company = self._of_companies.setdefault(company, asyncio.Semaphore(self._max_of_a_company))
        async with of_company, self._all:
            yield
