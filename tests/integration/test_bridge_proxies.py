"""Links of real Baileys through real proxies."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from holdfast.base.clock import SystemClock
from holdfast.engine.host import EngineHost
from holdfast.session.engine import (
    PROXY_LOGIN,
    PROXY_REFUSED,
    PROXY_TIMEOUT,
    PROXY_TLS,
    PROXY_UNREACHABLE,
    LinkClosed,
    OpenLink,
    QrShown,
)
from tests.doubles.engine_recorder import Recorder
from tests.doubles.proxy import running_proxy
from tests.integration.conftest import StartHost
from tests.processes import Wasim
from wasim.authority import open_authority

pytestmark = pytest.mark.slow

NAME = "whatsapp.test"
"""Only the proxy can resolve this name: a connection that bypasses the proxy fails."""
_PPROXY = "import sys; sys.modules['uvloop'] = None; from pproxy.server import main; main(sys.argv[1:])"
"""pproxy's own command line; with uvloop it does not start."""


@pytest.fixture
def tls(wasim: Wasim, tmp_path: Path) -> ssl.SSLContext:
    """A certificate for localhost that the engine host trusts."""
    now = SystemClock().now().timestamp()
    authority = open_authority(Path(wasim.ca).parent, now=now)
    return replace(authority, directory=tmp_path).server_context("localhost", now=now)


def opening(link: int, wasim: Wasim, proxy_url: str, addresses: list[str] | None = None) -> OpenLink:
    return OpenLink(
        link=link,
        company="1",
        credentials=None,
        url=wasim.url.replace("127.0.0.1", NAME),
        connect_timeout_ms=1500,
        proxy_url=proxy_url,
        proxy_addresses=addresses,
    )


@pytest.fixture
async def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def host(start_host: StartHost, recorder: Recorder) -> AsyncIterator[EngineHost]:
    async with start_host(recorder) as running:
        yield running


async def test_a_link_opens_through_the_proxy_that_resolves_the_name(
    host: EngineHost, recorder: Recorder, wasim: Wasim, tls: ssl.SSLContext
) -> None:
    """HTTP, HTTPS and SOCKS 5, with credentials. The proxy looks up the name of WhatsApp's server; the proxy's own name
    is not looked up again when its addresses are given."""
    for link, (scheme, name) in enumerate([("http", "proxy.test"), ("socks5", "proxy.test"), ("https", "localhost")]):
        secure = tls if scheme == "https" else None
        async with running_proxy(user="us er", password="p@ss", names={NAME: "127.0.0.1"}, tls=secure) as proxy:
            url = f"{scheme}://us%20er:p%40ss@{name}:{proxy.port}"
            host.command(opening(link, wasim, url, ["127.0.0.1"]))
            await recorder.wait(QrShown, link)
            assert [tunnel.host for tunnel in proxy.tunnels] == [NAME]


async def test_proxies_of_other_software_work(host: EngineHost, recorder: Recorder, wasim: Wasim) -> None:
    """pproxy as an HTTP and as a SOCKS proxy, with credentials."""
    async with running_pproxy("us:pass") as port:
        for link, scheme in enumerate(["http", "socks5"]):
            order = opening(link, wasim, f"{scheme}://us:pass@127.0.0.1:{port}")
            host.command(msgspec.structs.replace(order, url=wasim.url))
            await recorder.wait(QrShown, link)


@contextlib.asynccontextmanager
async def running_pproxy(login: str) -> AsyncIterator[int]:
    """HTTP and SOCKS 5 on one port. In a process of its own, because importing it raises warnings."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", "-c", _PPROXY, "-l", f"http+socks5://127.0.0.1:{port}/#{login}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            await process.stdout.readuntil(b"Serving on")
        yield port
    finally:
        process.kill()
        await process.communicate()


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_proxy_failures_have_codes_of_their_own(
    host: EngineHost, recorder: Recorder, wasim: Wasim, scheme: str
) -> None:
    """Wrong credentials, an unreachable target, a proxy that is down or silent. Each ends the link with a code of its
    own, and no detail reveals the password.
    """

    async def close_of(link: int, url: str) -> LinkClosed:
        host.command(opening(link, wasim, url))
        return await recorder.wait(LinkClosed, link)

    async with running_proxy(user="user", password="secret", names={NAME: "127.0.0.1"}) as proxy:
        wrong = await close_of(1, proxy.url(scheme, password="wrong-secret"))
        none = await close_of(2, f"{scheme}://127.0.0.1:{proxy.port}")
        proxy.refuses = True
        refused = await close_of(3, proxy.url(scheme))
        proxy.answer = b""
        silent = await close_of(4, proxy.url(scheme))
    down = await close_of(5, proxy.url(scheme))
    closes = (wrong, none, refused, silent, down)
    codes = [PROXY_LOGIN, PROXY_LOGIN, PROXY_REFUSED, PROXY_TIMEOUT, PROXY_UNREACHABLE]
    assert [closed.code for closed in closes] == codes
    assert all(f"proxy 127.0.0.1:{proxy.port}" in closed.detail for closed in closes)
    assert not any("secret" in closed.detail for closed in closes)


async def test_hostile_proxies_end_only_their_own_link(host: EngineHost, recorder: Recorder, wasim: Wasim) -> None:
    """Endless headers, a byte now and then, redirects, garbage, plain HTTP instead of TLS: each is reported as the
    proxy's fault within the deadline, and a link beside it stays open.
    """
    answers = [
        ("http", b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 20_000, PROXY_UNREACHABLE),
        ("http", b"\r\n", PROXY_TIMEOUT),
        ("http", b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n\r\n", PROXY_REFUSED),
        ("http", b"HTTP/1.1 100 Continue\r\n\r\n", PROXY_REFUSED),
        ("socks5", b"\x05", PROXY_UNREACHABLE),
        ("socks5", b"\x00" * 60_000, PROXY_UNREACHABLE),
        ("https", b"HTTP/1.1 200 OK\r\n\r\n", PROXY_TLS),
    ]
    host.command(OpenLink(link=99, company="2", credentials=None, url=wasim.url))
    for link, (scheme, answer, code) in enumerate(answers):
        async with running_proxy() as proxy:
            proxy.answer = answer
            host.command(opening(link, wasim, proxy.url(scheme)))
            closed = await recorder.wait(LinkClosed, link)
            assert (closed.code, len(closed.detail) < 300) == (code, True), (link, closed)
    await recorder.wait(QrShown, 99)
    assert recorder.of(LinkClosed, 99) == []
