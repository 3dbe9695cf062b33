"""Adds messages to the full-text index, in batches after the writes that store them.

Indexing a message costs as much as storing it, so no acceptance waits for it. A search catches up first, and therefore
finds every message that was committed before it.
"""

from __future__ import annotations

import functools
import logging

from holdfast.base.clock import Clock
from holdfast.store import search_index
from holdfast.store.database import Database

log = logging.getLogger(__name__)

PAUSE_S = 1.0
RETRY_S = 30.0
MOST_AT_ONCE = 100
"""Messages in one transaction, during which SQLite stores nothing else: some milliseconds."""


class SearchIndexer:
    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._clock = clock
        self._database = database
        # On a server others can write meanwhile, but not through the same connection.
        self._write = database.brief_writer().write if database.is_shared else database.write

    async def run(self) -> None:
        """Index until cancelled."""
        while True:
            await self._clock.sleep(PAUSE_S if await self.try_to_catch_up() else RETRY_S)

    async def try_to_catch_up(self) -> bool:
        """As `catch_up`. A failure, such as a full disk, is logged: a search then finds what was indexed before."""
        try:
            await self.catch_up()
        except Exception:
            log.exception("Messages could not be indexed for search; it is tried again")
            return False
        return True

    async def catch_up(self) -> None:
        """Index every message that is committed now. Writes nothing if all are indexed: a full disk would not show."""
        for table in search_index.INDEXED:
            index_part = functools.partial(search_index.index_part, table=table, most=MOST_AT_ONCE)
            if await self._database.read(functools.partial(search_index.is_behind, table=table)):
                while await self._write(index_part) == MOST_AT_ONCE:
                    pass
