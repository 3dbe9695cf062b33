"""Adds messages to the full-text index, in batches after the writes that store them.

Indexing a message costs as much as storing it, so no acceptance waits for it. A search catches up first, and therefore
finds every message that was committed before it.
"""

from __future__ import annotations

import functools
import logging

from sqlalchemy import Table

from holdfast.base.clock import Clock
from holdfast.store import search_index
from holdfast.store.database import Database
from holdfast.store.search_index import Numbering

log = logging.getLogger(__name__)

PAUSE_S = 1.0
RETRY_S = 30.0
MAX_AT_ONCE = 100
"""Messages in one transaction, during which SQLite stores nothing else: some milliseconds."""
_LOOK_BACK = 1_000
"""Messages before the last indexed one that are looked at after a start, as other nodes may have been storing some."""


class SearchIndexer:
    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._clock = clock
        self._database = database
        self._complete_to: dict[Table, int] = {}
        """On a shared database: every message up to this `seq` is indexed."""
        self._numbering: dict[Table, Numbering] = {}
        """On a shared database: what is awaited to be complete."""
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
            log.exception("Messages could not be indexed for search; this will be retried in %g s", RETRY_S)
            return False
        return True

    async def catch_up(self) -> None:
        """Index every message that is committed now. Writes nothing if all are indexed: a full disk would not show."""
        for table in search_index.INDEXED:
            complete = await self._stable_number(table) if self._database.is_shared else None
            known = self._complete_to.get(table)
            is_behind = functools.partial(search_index.is_behind, table=table, complete_to=known)
            index_part = functools.partial(search_index.index_part, table=table, limit=MAX_AT_ONCE, complete_to=known)
            if await self._database.read(is_behind):
                while await self._write(index_part) == MAX_AT_ONCE:
                    pass
            if complete is not None:
                self._complete_to[table] = complete

    async def _stable_number(self, table: Table) -> int | None:
        """Return a number up to which no message can be stored any more, if there is a new one.

        A message may be committed after messages of other companies that have higher numbers. The numbers up to the
        newest one are complete once the transactions that were under way when it was seen have ended.
        """
        if table not in self._complete_to:
            last = await self._database.read(functools.partial(search_index.last_indexed, table=table))
            self._complete_to[table] = max(last - _LOOK_BACK, 0)
        now = await self._database.read(functools.partial(search_index.numbering, table=table))
        before = self._numbering.get(table)
        if before is not None and before.writers & now.writers:
            return None
        self._numbering[table] = now
        return None if before is None else before.newest
