"""The client for user-supplied URLs, against a site on the loopback."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import brotli
import pytest
from aiohttp import web as web_server

from holdfast.base.errors import BadInput
from holdfast.web.addresses import parse_allowed
from holdfast.web.client import AddressNotAllowed, NotReached, PrivateAddress, TooLarge, WebClient
from holdfast.web.urls import checked_url, place
from tests.web.site import Site

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MANY = 10_000_000


async def read(client: WebClient, url: str, *, limit: int = MANY, within_s: float = 5, redirects: int = 0) -> bytes:
    async with client.get(url, within_s=within_s, redirects=redirects) as download:
        return b"".join([chunk async for chunk in download.chunks(max_bytes=limit)])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"])
async def test_a_private_address_is_refused_however_it_is_written(guarded: WebClient, site: Site, host: str) -> None:
    """A literal, and a name that resolves to one: nothing arrives."""
    site.gives("/", b"secret")
    with pytest.raises(AddressNotAllowed):
        await read(guarded, site.url(host=host))
    with pytest.raises(AddressNotAllowed):
        await guarded.post(site.url(host=host), body=b"{}", headers={}, within_s=5)
    assert site.asked == []


@pytest.mark.parametrize(
    "host",
    [
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "1.2.3.4.5",
        "0",
    ],
)
async def test_an_ambiguous_host_is_refused_at_once(site: Site, host: str) -> None:
    """For media, and for webhooks when they are set, not when the first event is sent; also where it is allowed."""
    async with WebClient(parse_allowed("127.0.0.1")) as client:
        with pytest.raises(BadInput, match="neither a name nor an IP address of four decimal numbers"):
            await read(client, site.url(host=host))
        with pytest.raises(BadInput) as refused:
            await client.check_reachable(site.url(host=host), field="webhookUrl")
        assert refused.value.field == "webhookUrl"
    assert site.asked == []


@pytest.mark.parametrize("url", ["http://[::1]x@", "http://[::1%25eth0]0001@", "http://[]", "http://[", "http://a]@"])
async def test_misplaced_brackets_are_refused(web: WebClient, site: Site, url: str) -> None:
    """As an address that somebody gives, and as the target of a redirect."""
    with pytest.raises(BadInput, match="is not a URL"):
        checked_url(url)
    site.redirects("/", url)
    with pytest.raises(NotReached, match="redirects without a valid target"):
        await read(web, site.url(), redirects=1)


@pytest.mark.parametrize("host", ["crm.internal", "a_b.example", "4example.com", "münchen.example", "1.2.3.4", "[::1]"])
def test_unusual_host_names_are_accepted(host: str) -> None:
    """Names may begin with digits, have underscores and any script."""
    assert checked_url(f"https://{host}:8443/x").port == 8443


async def test_the_refusal_of_a_private_address_says_what_to_do(guarded: WebClient, site: Site) -> None:
    """The error shows no secret part of the address."""
    with pytest.raises(AddressNotAllowed) as refused:
        await read(guarded, f"http://user:hunter2@127.0.0.1:{site.port}/path-secret?token=query-secret")
    assert str(refused.value) == (
        f"http://127.0.0.1:{site.port} is at a private address, which Holdfast does not connect to: "
        "give a public one, or allow it with HOLDFAST_ALLOWED_ADDRESSES"
    )


async def test_an_allowed_name_may_resolve_to_a_private_address(site: Site) -> None:
    """The address itself may not be used."""
    site.gives("/", b"hello")
    async with WebClient(parse_allowed("localhost")) as client:
        assert await read(client, site.url(host="localhost")) == b"hello"
        with pytest.raises(AddressNotAllowed):
            await read(client, site.url())


async def test_each_hop_of_a_redirect_is_checked(site: Site) -> None:
    """A public site can't redirect to a private address."""
    inside = site.gives("/inside", b"secret")
    site.redirects("/", inside)
    async with WebClient(parse_allowed("localhost")) as client:
        with pytest.raises(AddressNotAllowed):
            await read(client, site.url(host="localhost"), redirects=3)
    assert [path for _, path, _, _ in site.asked] == ["/"]


async def test_redirects_are_followed_only_as_often_as_allowed(web: WebClient, site: Site) -> None:
    """None by default."""
    site.gives("/c", b"hello")
    for path, target in (("/a", "/b"), ("/b", "/c")):
        site.redirects(path, target)
    assert await read(web, site.url("/a"), redirects=2) == b"hello"
    site.redirects("/a", "/b")
    with pytest.raises(AddressNotAllowed, match="is the result of more than 0 redirects"):
        await read(web, site.url("/a"))


@pytest.mark.parametrize("target", ["file:///etc/passwd", "gopher://x/", ""])
async def test_a_redirect_to_nowhere_is_refused(web: WebClient, site: Site, target: str) -> None:
    """Only http and https are spoken."""
    site.redirects("/", target)
    with pytest.raises(NotReached):
        await read(web, site.url(), redirects=1)


SIGNED = [
    "/invoice.pdf?response-content-type=application%2Fpdf&e=1",
    "/inv%27oice.pdf?e=1",
    "/f?expires=2026-12-01T00%3A00%3A00Z&user=a%40b.example",
    "/a%2Fb%2fc/%7Euser/%41?x=%7e&y=%2B+%20",
    "/a/../b/./c//d?x=1",
    "/f?a&b=&=c&&d=1",
    "/f;v=1,2!$&'()*+?q=:@/?!$'()*,;",
    '/f?policy={"a":[1]}&x=|^`<>\\',
    "/100%?x=%zz",
]


@pytest.mark.parametrize("target", SIGNED)
async def test_a_url_is_requested_byte_for_byte(web: WebClient, site: Site, target: str) -> None:
    """Signed URLs cover the request target as given; this also holds for redirects and POST requests."""
    async with web.get(site.url(target), within_s=5):
        pass
    site.redirects("/redirect", target)
    async with web.get(site.url("/redirect"), within_s=5, redirects=1):
        pass
    site.redirects("/redirect", site.url(target, host="localhost"))
    async with web.get(site.url("/redirect"), within_s=5, redirects=1):
        pass
    await web.post(site.url(target), body=b"{}", headers={}, within_s=5)
    assert site.targets == [target, "/redirect", target, "/redirect", target, target]


async def test_characters_that_are_invalid_in_urls_are_encoded(web: WebClient, site: Site) -> None:
    """Spaces and other scripts; surrounding spaces and the fragment are not sent."""
    await web.post(f" {site.url('/a b/ü%20.pdf?ق=٣#top')}\n", body=b"{}", headers={}, within_s=5)
    assert site.targets == ["/a%20b/%C3%BC%20.pdf?%D9%82=%D9%A3"]
    assert str(checked_url("http://bücher.example:81/%2F?x=%40")) == "http://xn--bcher-kva.example:81/%2F?x=%40"


PLAIN = b"name;total\n" * 2000
ENCODED = {
    "gzip": gzip.compress(PLAIN, mtime=0),
    "x-gzip": gzip.compress(PLAIN[:7], mtime=0) + gzip.compress(PLAIN[7:], mtime=0) + bytes(512),
    "GZIP": gzip.compress(PLAIN, mtime=0),
    "deflate": zlib.compress(PLAIN),
    "deflate ": zlib.compress(PLAIN, wbits=-zlib.MAX_WBITS),
    "br": brotli.compress(PLAIN),
    "zstd": zstd.compress(PLAIN[:7]) + zstd.compress(PLAIN[7:]),
    "gzip, br": brotli.compress(gzip.compress(PLAIN, mtime=0)),
    "identity": PLAIN,
    "": PLAIN,
    "aws-chunked": PLAIN,
    "utf-8": PLAIN,
}


def encoded(site: Site, coding: str, body: bytes, mimetype: str = "text/csv") -> str:
    url = site.gives("/", body, mimetype)
    page = site.pages["/"]
    assert isinstance(page, web_server.Response)
    page.headers["Content-Encoding"] = coding
    return url


@pytest.mark.parametrize("coding", ENCODED)
async def test_content_encodings_are_decoded(web: WebClient, site: Site, coding: str) -> None:
    """Although they were not requested; also several members, several layers, and deflate without its header."""
    assert await read(web, encoded(site, coding, ENCODED[coding])) == PLAIN
    assert site.asked[0][2]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("mimetype", ["application/gzip", "application/x-gzip"])
async def test_a_compressed_file_stays_compressed(web: WebClient, site: Site, mimetype: str) -> None:
    """Servers that know the suffix .gz declare it twice: as type and as encoding."""
    assert await read(web, encoded(site, "gzip", ENCODED["gzip"], mimetype)) == ENCODED["gzip"]


BOMB = bytes(10_000_000)


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(BOMB, mtime=0)),
        ("deflate", zlib.compress(BOMB)),
        ("br", brotli.compress(BOMB)),
        ("zstd", zstd.compress(BOMB)),
        ("gzip, gzip", gzip.compress(gzip.compress(BOMB, mtime=0), mtime=0)),
        ("br, gzip", gzip.compress(brotli.compress(BOMB) + bytes(2_000_000), mtime=0)),
    ],
)
async def test_decompressed_size_is_limited(web: WebClient, site: Site, coding: str, body: bytes) -> None:
    """The limit counts the output of each layer, and nothing beyond it is kept in memory."""
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="is larger than 1 MB"):
            await read(web, encoded(site, coding, body), limit=1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("coding", "body", "sentence"),
    [
        ("gzip", PLAIN, "is not valid gzip data"),
        ("br", b"\xff" * 40, "is not valid br data"),
        ("zstd", PLAIN, "is not valid zstd data"),
        ("deflate", b"\xff" * 40, "is not valid deflate data"),
        ("gzip", ENCODED["gzip"][:-9], "ends in the middle of its compressed data"),
        ("br", ENCODED["br"][:-1], "ends in the middle of its compressed data"),
        ("zstd", ENCODED["zstd"][:-1], "ends in the middle of its compressed data"),
        ("deflate", b"", "ends in the middle of its compressed data"),
        ("compress", PLAIN, 'has the Content-Encoding "compress", which Holdfast can\'t decode'),
        ("gzip, gzip, gzip, gzip", PLAIN, "is encoded 4 times over"),
    ],
)
async def test_an_undecodable_body_is_refused(
    web: WebClient, site: Site, coding: str, body: bytes, sentence: str
) -> None:
    """No caller gets compressed bytes, or a part of a file."""
    with pytest.raises(NotReached, match=f"^what http://127.0.0.1:{site.port} gives {re.escape(sentence)}"):
        await read(web, encoded(site, coding, body))


EMPTY = {"gzip": gzip.compress(b"", mtime=0), "zstd": zstd.compress(b"")}
SMALL_PARTS = "consists of too many small parts"


@pytest.mark.parametrize("coding", EMPTY)
@pytest.mark.parametrize("outer", [False, True])
async def test_parts_without_content_are_limited(web: WebClient, site: Site, coding: str, *, outer: bool) -> None:
    """Each takes time and yields nothing, so no limit of size is ever reached."""
    parts = EMPTY[coding] * 20_000
    body, coding = (gzip.compress(parts, mtime=0), f"{coding}, gzip") if outer else (parts, coding)
    with pytest.raises(NotReached, match=SMALL_PARTS):
        await read(web, encoded(site, coding, body))


@pytest.mark.parametrize("coding", EMPTY)
async def test_a_body_may_have_many_parts_of_normal_size(web: WebClient, site: Site, coding: str) -> None:
    """Programs that compress in parallel write them."""
    piece = bytes(5000)
    part = gzip.compress(piece, mtime=0) if coding == "gzip" else zstd.compress(piece)
    assert len(await read(web, encoded(site, coding, part * 1900))) == 1900 * 5000


async def test_decoding_leaves_the_event_loop_to_others(web: WebClient, site: Site) -> None:
    """60 kB that are 40 MB of blocks without content: the event loop runs on while they are decoded."""
    empty_blocks = b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + b"\x02\x08\x20\x80\0" * 8_000_000
    url = encoded(site, "gzip, gzip", gzip.compress(empty_blocks, mtime=0))
    rounds = 0

    async def count_rounds() -> None:
        nonlocal rounds
        while True:
            await asyncio.sleep(0)
            rounds += 1

    async with web.get(url, within_s=30) as download:
        counting = asyncio.create_task(count_rounds())
        with pytest.raises(NotReached, match="ends in the middle of its compressed data"):
            async for _ in download.chunks(max_bytes=100_000_000):
                pass
        counting.cancel()
    assert rounds > len(empty_blocks) // 65_536


async def test_credentials_are_not_sent_to_the_target_of_a_redirect(web: WebClient, site: Site) -> None:
    """They are meant for the first URL."""
    site.gives("/b", b"hello")
    site.redirects("/a", f"http://localhost:{site.port}/b")
    await read(web, f"http://user:hunter2@127.0.0.1:{site.port}/a", redirects=1)
    assert ["Authorization" in headers for _, _, headers, _ in site.asked] == [True, False]


async def test_a_body_that_is_too_large_is_refused(web: WebClient, site: Site) -> None:
    """When its length is announced, and when it is not announced and the body never ends."""
    site.gives("/", b"x" * 1_000_001)
    with pytest.raises(TooLarge, match="is larger than 1 MB"):
        await read(web, site.url(), limit=1_000_000)
    with pytest.raises(TooLarge):
        await read(web, site.url("/endless"), limit=1_000_000)


@pytest.mark.parametrize("path", ["/hangs", "/dawdles"])
async def test_a_slow_server_is_disconnected(web: WebClient, site: Site, path: str) -> None:
    """Before its response, and during it."""
    with pytest.raises(NotReached, match="did not answer in time"):
        await read(web, site.url(path), within_s=0.3)


async def test_a_truncated_body_is_an_error(web: WebClient, site: Site) -> None:
    """A part of a file is not returned as the whole file."""
    with pytest.raises(NotReached, match="ended the connection early"):
        await read(web, site.url("/breaks"))


async def test_a_server_that_does_not_speak_http_is_an_error(web: WebClient) -> None:
    """The error contains nothing of the response."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-secret\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        where = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(NotReached) as refused:
            await read(web, where)
    assert str(refused.value) == f"{where} answered with something that is not valid HTTP"


async def test_a_refused_connection_and_an_unknown_name_are_distinguished(web: WebClient, unused_tcp_port: int) -> None:
    """The error names the host and port."""
    refused = rf"^can't connect to http://127.0.0.1:{unused_tcp_port} \(Connection refused\)$"
    with pytest.raises(NotReached, match=refused):
        await read(web, f"http://127.0.0.1:{unused_tcp_port}/secret")
    with pytest.raises(NotReached, match=r"^can't connect to http://nobody.invalid \(the name is unknown\)"):
        await read(web, "http://nobody.invalid/secret")
    for host in ("a..b", f"{'a' * 64}.invalid"):
        with pytest.raises(NotReached, match=rf"^can't connect to http://{host} \(no host can have this name\)$"):
            await read(web, f"http://{host}/secret")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/x",
        "ftp://example.com",
        "http://",
        "http:///x",
        "https://:443/x",
        "http://[::1",
        "/x",
        "http://h:x",
        "http://h/\r\nX: 1",
    ],
)
async def test_an_invalid_url_is_refused(web: WebClient, url: str) -> None:
    """It is refused before any request is sent."""
    with pytest.raises(BadInput):
        await read(web, url)


async def test_a_post_sends_body_and_headers_and_accepts_any_status(web: WebClient, site: Site) -> None:
    """Also a redirect, which is not followed. Only the beginning of a long response is kept."""
    site.redirects("/hook", site.url("/elsewhere"))
    answer = await web.post(site.url("/hook"), body=b"{}", headers={"webhook-id": "1"}, within_s=5)
    assert (answer.status, answer.headers["location"]) == (302, site.url("/elsewhere"))
    method, path, headers, body = site.asked[0]
    assert (method, path, headers["webhook-id"], body) == ("POST", "/hook", "1", b"{}")
    site.gives("/hook", b"y" * 100_000)
    answer = await web.post(site.url("/hook"), body=b"{}", headers={}, within_s=5, max_bytes=100)
    assert (answer.status, answer.body) == (200, b"y" * 100)
    assert len(site.asked) == 2


async def test_an_unreachable_private_address_is_detected_before_a_request(site: Site) -> None:
    """Literal or by name; public hosts, hosts allowed with their port, and names that can't be resolved at the moment
    pass.
    """
    async with WebClient(parse_allowed(f"127.0.0.1:{site.port}, crm.internal:81")) as client:
        for url in (site.url("/hook"), "http://1.1.1.1/x", "http://crm.internal:81/x", "http://nobody.invalid/"):
            await client.check_reachable(url, field="webhookUrl")
        for place_, path in (
            ("http://127.0.0.1:1", "/x?token=secret"),
            ("http://localhost:1", "/x"),
            ("http://10.0.0.5", "/"),
            ("http://[::1]:8080", "/"),
            ("https://169.254.169.254", ""),
            ("http://192.0.0.192", "/"),
        ):
            with pytest.raises(BadInput) as refused:
                await client.check_reachable(place_ + path, field="webhookUrl")
            assert str(refused.value) == (
                f"webhookUrl: {place_} is at a private address, which Holdfast does not connect to: "
                "give a public one, or allow it with HOLDFAST_ALLOWED_ADDRESSES"
            )
            assert refused.value.field == "webhookUrl"


class SlowNames:
    """Names that end in `.slow.invalid` are answered only after the test."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.asked = 0

    def __call__(self, host: str, *others: Any, **options: Any) -> Any:
        if host.endswith(".slow.invalid"):
            self.asked += 1
            self.over.wait(20)
        return socket.getaddrinfo(host, *others, **options)


@pytest.fixture
def slow_names() -> Iterator[SlowNames]:
    names = SlowNames()
    yield names
    names.over.set()


async def test_names_that_nobody_answers_keep_no_other_waiting(site: Site, slow_names: SlowNames) -> None:
    """Sixty requests wait for names of a server that does not answer: another request, and the check of another URL,
    are quick.
    """
    async with (
        WebClient(parse_allowed(f"localhost:{site.port}"), lookup=slow_names) as client,
        asyncio.TaskGroup() as tasks,
    ):
        site.gives("/", b"hello")
        waiting = [tasks.create_task(_refused(client, f"http://n{n}.slow.invalid/")) for n in range(60)]
        await asyncio.sleep(0.1)
        async with asyncio.timeout(2):
            assert await read(client, site.url(host="localhost")) == b"hello"
            with pytest.raises(BadInput):
                await client.check_reachable("http://localhost:1/", field="webhookUrl")
            with pytest.raises(PrivateAddress):
                await client.addresses("http://localhost:1/")
        assert slow_names.asked == 60
        slow_names.over.set()
        await asyncio.gather(*waiting)


async def _refused(client: WebClient, url: str) -> None:
    with pytest.raises(NotReached):
        await read(client, url, within_s=10)


async def test_only_some_urls_are_checked_at_once(slow_names: SlowNames) -> None:
    """Each may leave a thread behind; one whose name is not known in time is accepted."""
    async with WebClient(lookup=slow_names, resolve_s=0.3) as client:
        urls = [f"http://n{n}.slow.invalid/" for n in range(100)]
        await asyncio.gather(*(client.check_reachable(url, field="webhookUrl") for url in urls))
        assert 8 <= slow_names.asked < 50


async def test_many_open_requests_keep_no_other_waiting(web: WebClient, site: Site) -> None:
    """While 120 requests wait for a receiver that does not answer, another one is answered at once."""
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(_refused(web, site.url("/hangs"))) for _ in range(120)]
        await asyncio.sleep(0.5)
        answer = await web.post(site.url("/hook"), body=b"{}", headers={}, within_s=2)
        assert answer.status == 404
        for each in waiting:
            each.cancel()


async def test_an_allowed_port_allows_no_other(site: Site) -> None:
    """An allowed receiver on this machine gives no access to other ports, and the operator's own addresses give none to
    tenants.
    """
    site.gives("/", b"hello")
    async with WebClient(parse_allowed(f"127.0.0.1:{site.port}")) as client:
        assert await read(client, site.url()) == b"hello"
    async with WebClient(parse_allowed("127.0.0.1:1")) as client:
        with pytest.raises(AddressNotAllowed):
            await read(client, site.url())
        answer = await client.post(site.url("/hook"), body=b"{}", headers={}, within_s=5, is_trusted=True)
        assert answer.status == 404
        with pytest.raises(AddressNotAllowed):
            await client.post(site.url("/hook"), body=b"{}", headers={}, within_s=5)


async def test_proxies_in_the_environment_are_ignored(
    web: WebClient, site: Site, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind such a proxy the check for private addresses would see only the proxy."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused_tcp_port}")
    site.gives("/", b"hello")
    assert await read(web, site.url()) == b"hello"


def test_the_shown_part_of_a_url_contains_no_secret() -> None:
    """It has neither user, path nor query."""
    assert place("https://user:hunter2@crm.example:8443/secret?token=1#x") == "https://crm.example:8443"
