"""Runs short writes that must not wait for others, on a separate connection and thread.

A lease that is renewed through the writer is lost when one statement there takes long: the deletion of a large company,
or a statement that waits for an operator's lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection, Engine

T = TypeVar("T")


class BriefWriter:
    """Runs one transaction after another. The server ends a statement that takes seconds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="holdfast-brief-writer")

    def write(self, work: Callable[[Connection], T]) -> Awaitable[T]:
        """Run `work` once, in a separate transaction, without retries."""
        return asyncio.wrap_future(self._thread.submit(self._run, work))

    def close(self) -> None:
        self._thread.shutdown()
        self._engine.dispose()

    def _run(self, work: Callable[[Connection], T]) -> T:
        with self._engine.begin() as connection:
            return work(connection)
