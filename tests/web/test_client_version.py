"""Reading WhatsApp's script from correct and from hostile servers."""

from __future__ import annotations

import gzip
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from holdfast.session.client_version import revision_in
from holdfast.web.client_version import CannotRead, read_script

REVISION = 1_045_000_001
SCRIPT = b"x" * 3_000_000 + b'{"client_revision":%d}' % REVISION
MB = 1_000_000


class Site:
    """Serves `/sw.js`, and counts other requests."""

    def __init__(self) -> None:
        self.answer = web.Response(body=SCRIPT)
        self.others = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/sw.js":
            return self.answer
        self.others += 1
        return web.Response(body=SCRIPT)


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
async def url(site: Site) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", site.serve)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


async def test_the_revision_is_found_at_the_end_of_a_long_script(site: Site, url: str) -> None:
    """Whatever the number of chunks, compressed or not."""
    assert revision_in(await read_script(url)) == REVISION
    site.answer = web.Response(body=gzip.compress(SCRIPT), headers={"Content-Encoding": "gzip"})
    assert revision_in(await read_script(url)) == REVISION


async def test_a_site_that_cannot_be_reached_is_explained() -> None:
    """The operator reads the cause in the log, and no name of a class."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for url, why in (
        ("https://no-such-host.invalid", "the name is unknown"),
        (f"http://127.0.0.1:{port}", "Connection refused"),
    ):
        with pytest.raises(CannotRead, match=f"^can't connect to {url}/sw.js \\({why}\\)$"):
            await read_script(url)


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=302, headers={"Location": "/elsewhere"}),
        web.Response(status=302, headers={"Location": "http://169.254.169.254/latest/meta-data"}),
        web.Response(status=500, body=SCRIPT),
        web.Response(body=b"x" * 5 * MB),
        web.Response(body=gzip.compress(b"x" * 50 * MB), headers={"Content-Encoding": "gzip"}),
        web.Response(body=b"no gzip", headers={"Content-Encoding": "gzip"}),
        web.Response(body=gzip.compress(SCRIPT)[:-20], headers={"Content-Encoding": "gzip"}),
    ],
    ids=["redirect", "redirect inside", "error", "huge", "bomb", "no gzip", "cut short"],
)
async def test_a_hostile_response_is_refused(site: Site, url: str, answer: web.Response) -> None:
    """Redirects are not followed; a body that decompresses to more than 4 MB is refused."""
    site.answer = answer
    with pytest.raises(CannotRead):
        await read_script(url)
    assert site.others == 0
