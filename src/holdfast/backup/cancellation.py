"""Cancels long work in threads: the work checks a token regularly.

Python can't end a thread from outside: without this, a stop of Holdfast would wait for a backup of gigabytes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from io import BufferedIOBase, BufferedReader
from typing import TypeVar

T = TypeVar("T")

_PAUSE_EVERY = 50
_PAUSE_S = 0.002


class Cancelled(Exception):
    """The caller no longer waits for this work."""


class CancelToken:
    """Leaving the block `with CancelToken() as cancel_token:` cancels the work, which checks the token regularly."""

    def __init__(self) -> None:
        self._over = threading.Event()

    def __enter__(self) -> CancelToken:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def check(self) -> None:
        """Raises `Cancelled`."""
        if self._over.is_set():
            raise Cancelled

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the same items; raises `Cancelled` when the work is cancelled."""
        for item in items:
            self.check()
            yield item

    def each_gently(self, items: Iterable[T]) -> Iterator[T]:
        """Like `each`, with pauses: while one thread holds the interpreter lock, others wait for milliseconds."""
        for n, item in enumerate(self.each(items), start=1):
            if n % _PAUSE_EVERY == 0:
                self._over.wait(_PAUSE_S)
            yield item


class CancellableFile(BufferedIOBase):
    """A file whose reads raise `Cancelled` when the work is cancelled."""

    def __init__(self, file: BufferedReader, cancel_token: CancelToken) -> None:
        self._file = file
        self._cancel_token = cancel_token

    def read(self, size: int | None = -1, /) -> bytes:
        self._cancel_token.check()
        return self._file.read(size)
