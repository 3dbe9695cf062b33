"""Limits the number of open connections. At the limit, those that nobody needs are closed first.

A caller who opens connections and sends nothing, or no request with an API key, must not keep others out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Closable(Protocol):
    def close(self) -> None: ...


class Connections:
    """The open connections of one server."""

    def __init__(self, limit: int) -> None:
        """`limit`: maximum number of open connections; 0: no limit."""
        self._limit = limit
        self._open: set[Closable] = set()
        self._idle: dict[Closable, None] = {}
        """Connections without a valid API key so far; the one that has been idle longest is first."""
        self._idle_keyed: dict[Closable, None] = {}
        self._receiving: dict[Closable, Callable[[], bool]] = {}
        """Connections whose request has a body that has not arrived completely, and whether it has a key."""

    def opened(self, connection: Closable) -> bool:
        """A connection was made. False: the limit is reached, and it has to be closed.

        At the limit another connection is closed in its favour: an idle one, preferably without a key, or one whose
        request has no key and has not arrived completely.
        """
        if self._limit and len(self._open) >= self._limit and not self._close_idle():
            return False
        self._open.add(connection)
        self._idle[connection] = None
        return True

    def receiving(self, connection: Closable, *, is_keyed: Callable[[], bool]) -> None:
        """The head of a request has arrived. Without a valid API key, it may be closed while its body arrives: a body
        that never ends costs its sender nothing."""
        self.busy(connection)
        self._receiving[connection] = is_keyed

    def busy(self, connection: Closable) -> None:
        """A request has arrived."""
        self._idle.pop(connection, None)
        self._idle_keyed.pop(connection, None)
        self._receiving.pop(connection, None)

    def idle(self, connection: Closable, *, is_keyed: bool) -> None:
        """A response has been sent completely."""
        if connection in self._open:
            (self._idle_keyed if is_keyed else self._idle)[connection] = None

    def closed(self, connection: Closable) -> None:
        self.busy(connection)
        self._open.discard(connection)

    def _close_idle(self) -> bool:
        keyless = (connection for connection, is_keyed in self._receiving.items() if not is_keyed())
        for closable in (self._idle, keyless, self._idle_keyed):
            if (connection := next(iter(closable), None)) is not None:
                self.closed(connection)
                connection.close()
                return True
        return False
