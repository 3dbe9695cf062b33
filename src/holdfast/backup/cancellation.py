"""Long work in threads that ends soon when nobody waits for it any more: a thread can't be ended from outside.

Without this a stop of Holdfast would wait for the rest of a backup of gigabytes.
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
    """Nobody waits for this work: what it has made is of no use to anybody."""


class CancelToken:
    """Somebody waits for work until the block `with CancelToken() as wanted:` is left; the work asks now and then."""

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
        """The same items, for as long as they are wanted."""
        for item in items:
            self.check()
            yield item

    def each_gently(self, items: Iterable[T]) -> Iterator[T]:
        """The same with pauses, because other threads wait for milliseconds while one keeps the interpreter."""
        for n, item in enumerate(self.each(items), start=1):
            if n % _PAUSE_EVERY == 0:
                self._over.wait(_PAUSE_S)
            yield item


class CancellableFile(BufferedIOBase):
    """A file that can be read for as long as that is wanted."""

    def __init__(self, file: BufferedReader, wanted: CancelToken) -> None:
        self._file = file
        self._wanted = wanted

    def read(self, size: int | None = -1, /) -> bytes:
        self._wanted.check()
        return self._file.read(size)
