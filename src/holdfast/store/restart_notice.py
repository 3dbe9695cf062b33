"""Notifies the other processes of a cluster that the next process of a node is starting, before its code is loaded.

Loading takes a second, and ten on a busy machine: longer than the sessions of the node wait for it. This module must
import nothing that takes long itself, and it must never fail or delay a start: without the notice, others take the
sessions over.
"""

from __future__ import annotations

import contextlib
import threading

_KEPT_S = 20
"""By then the starting process renews its leases itself."""
_CONNECT_S = 2
_KEEP = """
UPDATE leases SET expires_at = greatest(expires_at, clock_timestamp() + make_interval(secs => %s))
WHERE holder = '' AND node = %s AND expires_at > clock_timestamp()
"""


def announce_restart(database_url: str, *, node: str) -> threading.Thread:
    """Extend the leases that the previous process left for this node; returns the thread that does it."""
    with contextlib.suppress(ImportError):
        import psycopg  # noqa: F401 – not in the thread: two that import the same modules may block each other
    thread = threading.Thread(target=_announce, args=(database_url, node), name="holdfast-restart-notice", daemon=True)
    thread.start()
    return thread


def _announce(database_url: str, node: str) -> None:
    with contextlib.suppress(Exception):  # no driver, no database, no table yet: opening the database says which
        import psycopg

        with psycopg.connect(database_url, autocommit=True, connect_timeout=_CONNECT_S) as connection:
            connection.execute(_KEEP.encode(), (_KEPT_S, node))
