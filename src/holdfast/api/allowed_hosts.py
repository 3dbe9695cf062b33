"""Refuses requests whose Host header names another site, against DNS rebinding.

In a DNS rebinding attack, a malicious site has its own name resolve to this machine and reads Holdfast's responses; the
browser still sends the site's name as Host. This is not possible with an IP address, a loopback name, or a name
without a dot, so these are always allowed: health checks and the containers of one network use them.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from holdfast.api.problems import answer

_ALWAYS_SERVED = frozenset({"/healthz", "/readyz"})
"""Their responses are not secret, and probes may use any host name."""
_LONGEST_SHOWN = 80
_REMEMBERED = 64
"""Number of headers whose result is kept: most requests name the same host."""


class AllowedHosts:
    """ASGI middleware. `names` are also allowed; `*.example.com` is every name below example.com, `*` every name."""

    def __init__(self, app: ASGIApp, *, names: Collection[str]) -> None:
        self._app = app
        self._names = frozenset(name.lower().rstrip(".") for name in names)
        self._allows = functools.lru_cache(maxsize=_REMEMBERED)(self.allows)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in _ALWAYS_SERVED:
            host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
            if not self._allows(host):
                await _refusal(host_name(host))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def allows(self, host: str) -> bool:
        """Whether requests with this Host header are served."""
        name = host_name(host)
        if "." not in name or name in self._names or "*" in self._names or name.endswith(".localhost"):
            return True
        _, _, above = name.partition(".")
        while above:
            if f"*.{above}" in self._names:
                return True
            _, _, above = above.partition(".")
        return _is_address(name)


def host_name(host: str) -> str:
    """The name in a Host header, without its port: `example.com:3000` → `example.com`."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] or host
    return name.lower().rstrip(".")


def names_of(urls: Collection[str | None], listed: str) -> list[str]:
    """The hosts of these URLs, and the names that the setting lists."""
    return [*(urlsplit(url).hostname or "" for url in urls if url), *listed.replace(",", " ").split()]


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _refusal(name: str) -> ASGIApp:
    detail = (
        f'this Holdfast does not serve the host name "{name[:_LONGEST_SHOWN]}": set HOLDFAST_PUBLIC_URL to its '
        "public address, or add the name to HOLDFAST_ALLOWED_HOSTS"
    )
    return answer(HTTPStatus.MISDIRECTED_REQUEST, detail, code="unknown-host", field="Host")
