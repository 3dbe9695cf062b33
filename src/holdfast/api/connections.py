"""Limits the number of open connections. At the limit, those that nobody needs are closed first.

A caller who opens connections and sends nothing, or no request with an API key, must not keep others out.
"""

from __future__ import annotations

from typing import Protocol

KEYED = "holdfast.keyed"
"""Set in the ASGI scope of a request with a valid API key, or from somebody who is signed in."""


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

    def opened(self, connection: Closable) -> bool:
        """A connection was made. False: the limit is reached, and it has to be closed.

        At the limit an idle connection is closed in its favour, preferably one without a key.
        """
        if self._limit and len(self._open) >= self._limit and not self._close_idle():
            return False
        self._open.add(connection)
        self._idle[connection] = None
        return True

    def busy(self, connection: Closable) -> None:
        """The head of a request has arrived."""
        self._idle.pop(connection, None)
        self._idle_keyed.pop(connection, None)

    def idle(self, connection: Closable, *, is_keyed: bool) -> None:
        """A response has been sent completely."""
        if connection in self._open:
            (self._idle_keyed if is_keyed else self._idle)[connection] = None

    def closed(self, connection: Closable) -> None:
        self.busy(connection)
        self._open.discard(connection)

    def _close_idle(self) -> bool:
        for idle in (self._idle, self._idle_keyed):
            if idle:
                connection = next(iter(idle))
                self.closed(connection)
                connection.close()
                return True
        return False
