"""Resolves host names, each in a thread of its own.

The event loop has only a few threads for this, uvloop two. A name whose server never answers occupies one for up to
half a minute, and tenants may give any number of such names: nothing else would be resolved meanwhile, neither the
receivers of other webhooks nor the proxies of sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]
Lookup = Callable[..., Sequence[AddressInfo]]
"""`socket.getaddrinfo`."""
_Answer = asyncio.Future[Sequence[AddressInfo]]


async def look_up(
    host: str, port: int | None, *, family: int = socket.AF_UNSPEC, flags: int = 0, lookup: Lookup
) -> Sequence[AddressInfo]:
    """The addresses of a host, as `socket.getaddrinfo` returns them. Raises `OSError` and `UnicodeError`.

    The caller limits how many names are resolved at once. Cancelling does not end the thread.
    """
    answer: _Answer = asyncio.get_running_loop().create_future()
    # A daemon thread: at the end of the process nobody waits for a name.
    ask = partial(lookup, host, port, family=family, type=socket.SOCK_STREAM, flags=flags)
    Thread(target=_run, args=(ask, answer), name="name lookup", daemon=True).start()
    return await answer


def _run(ask: Callable[[], Sequence[AddressInfo]], answer: _Answer) -> None:
    """The body of the thread."""
    found: Sequence[AddressInfo] | Exception
    try:
        found = ask()
    except Exception as error:  # noqa: BLE001 – raised where the answer is awaited
        found = error
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        answer.get_loop().call_soon_threadsafe(_settle, answer, found)


def _settle(answer: _Answer, found: Sequence[AddressInfo] | Exception) -> None:
    if answer.done():
        return
    if isinstance(found, Exception):
        answer.set_exception(found)
    else:
        answer.set_result(found)


@dataclass(frozen=True, slots=True)
class Resolver(AbstractResolver):
    """aiohttp's resolver."""

    lookup: Lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await look_up(host, port, family=family, flags=socket.AI_ADDRCONFIG, lookup=self.lookup)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=its_family,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for its_family, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        pass
