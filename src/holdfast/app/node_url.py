"""Where the other nodes of a cluster reach this process."""

from __future__ import annotations

import contextlib
import socket
from urllib.parse import urlsplit

from holdfast.settings import Settings

_EVERY_ADDRESS = {"", "0.0.0.0", "::"}  # noqa: S104 – only compared with
_POSTGRES_PORT = 5432


def node_url(settings: Settings, port: int) -> str:
    """The URL of the setting, or one that is derived from where this process listens on `port`.

    A process that listens on every address is reached at the one from which it connects to the database: the network of
    the database is one that all nodes share.
    """
    if settings.node_url is not None:
        return settings.node_url.rstrip("/")
    if settings.host not in _EVERY_ADDRESS:
        return settings.own_url(port)
    address = _local_address(settings.database_url or "")
    if address is None:
        return settings.own_url(port)
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _local_address(database_url: str) -> str | None:
    """The address of this machine on the way to the database. Connecting a UDP socket sends nothing."""
    parts = urlsplit(database_url)
    with contextlib.suppress(OSError, UnicodeError, ValueError):
        at = parts.hostname or "127.0.0.1", parts.port or _POSTGRES_PORT
        family, kind, _, _, address = socket.getaddrinfo(*at, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    return None
