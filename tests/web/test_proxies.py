"""Holdfast's own requests through proxies: over each protocol, with credentials, and with what can go wrong."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from holdfast.base.clock import SystemClock
from holdfast.web.client_version import CannotRead, read_script
from holdfast.web.proxies import ProxyError, probe
from tests.doubles.proxy import TestProxy, running_proxy
from wasim.authority import Authority, open_authority

NAME = "whatsapp.test"
"""A host name that only the proxy can resolve."""
USER, PASSWORD = "büro", "p@ss:wört€"
SCRIPT = "x" * 100_000


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """The port of a site that serves the script."""

    async def serve(_: web.Request) -> web.Response:
        return web.Response(text=SCRIPT)

    app = web.Application()
    app.router.add_get("/sw.js", serve)
    async with TestServer(app) as server:
        assert server.port is not None
        yield server.port


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return open_authority(tmp_path_factory.mktemp("authority"), now=SystemClock().now().timestamp())


@pytest.fixture
def tls(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """TLS for a proxy on localhost with a certificate that this machine trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return authority.server_context("localhost", now=SystemClock().now().timestamp())


def address(proxy: TestProxy, scheme: str, password: str = PASSWORD) -> str:
    return f"{scheme}://{quote(USER)}:{quote(password, safe='')}@localhost:{proxy.port}"


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
async def test_the_script_is_read_through_the_proxy_alone(scheme: str, port: int, tls: ssl.SSLContext) -> None:
    """The proxy resolves the name and transfers every byte; user name and password may have any characters."""
    secure = tls if scheme == "https" else None
    async with running_proxy(user=USER, password=PASSWORD, names={NAME: "127.0.0.1"}, tls=secure) as proxy:
        await probe(address(proxy, scheme), NAME, port, within_s=5)
        assert await read_script(f"http://{NAME}:{port}", proxy_url=address(proxy, scheme)) == SCRIPT
    assert [tunnel.host for tunnel in proxy.tunnels] == [NAME, NAME]
    assert proxy.bytes_to(port)[1] > len(SCRIPT)


async def fails(proxy: TestProxy, scheme: str, port: int, password: str = PASSWORD) -> list[str]:
    """The errors in `holdfast check` and in the log."""
    url = address(proxy, scheme, password)
    with pytest.raises(ProxyError) as probed:
        await probe(url, NAME, port, within_s=5)
    with pytest.raises(CannotRead) as read:
        await read_script(f"http://{NAME}:{port}", proxy_url=url)
    sentences = [str(probed.value), str(read.value)]
    assert all(f"proxy localhost:{proxy.port}" in each for each in sentences), sentences
    assert not any(PASSWORD in each or quote(PASSWORD, safe="") in each for each in sentences)
    return sentences


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
async def test_proxy_failures_are_reported(scheme: str, port: int, tls: ssl.SSLContext) -> None:
    """A wrong password, an unreachable target, a proxy that is down: reported as failures of the proxy, without the
    password. No request bypasses it.
    """
    secure = tls if scheme == "https" else None
    async with running_proxy(user=USER, password=PASSWORD, names={NAME: "127.0.0.1"}, tls=secure) as proxy:
        assert all("does not accept" in each for each in await fails(proxy, scheme, port, password="wrong"))
        proxy.refuses = True
        assert all("would not or could not connect" in each for each in await fails(proxy, scheme, port))
    assert all("could not be reached" in each for each in await fails(proxy, scheme, port))
    assert proxy.tunnels == []


async def test_a_proxy_whose_tls_fails_is_named(port: int, authority: Authority) -> None:
    """It speaks plain HTTP, or shows a certificate that this machine does not trust."""
    async with running_proxy() as plain:
        plain.answer = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        assert all("no TLS connection to the proxy" in each for each in await fails(plain, "https", port))
    untrusted = authority.server_context("localhost", now=SystemClock().now().timestamp())
    async with running_proxy(tls=untrusted) as unknown:
        assert all("must be trusted by this machine" in each for each in await fails(unknown, "https", port))
