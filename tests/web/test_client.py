"""The client for addresses that people gave, against a site on the loopback."""

from __future__ import annotations

import pytest

from holdfast.base.errors import BadInput
from holdfast.web.addresses import parse_allowed
from holdfast.web.client import NotAllowed, NotReached, TooLarge, WebClient, place
from tests.web.site import Site

MANY = 10_000_000


async def read(client: WebClient, url: str, *, most: int = MANY, within_s: float = 5, redirects: int = 0) -> bytes:
    async with client.get(url, within_s=within_s, redirects=redirects) as download:
        return b"".join([chunk async for chunk in download.chunks(most_bytes=most)])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "127.1", "2130706433"])
async def test_a_private_address_is_refused_however_it_is_written(guarded: WebClient, site: Site, host: str) -> None:
    """A literal, a name that resolves to one, and forms that only some programs understand: nothing arrives."""
    site.gives("/", b"secret")
    with pytest.raises(NotAllowed):
        await read(guarded, site.url(host=host))
    with pytest.raises(NotAllowed):
        await guarded.post(site.url(host=host), body=b"{}", headers={}, within_s=5)
    assert site.asked == []


async def test_the_refusal_of_a_private_address_says_what_to_do(guarded: WebClient, site: Site) -> None:
    """And shows of the address no more than anybody may see."""
    with pytest.raises(NotAllowed) as refused:
        await read(guarded, f"http://user:hunter2@127.0.0.1:{site.port}/path-secret?token=query-secret")
    assert str(refused.value) == (
        f"http://127.0.0.1:{site.port} is at a private address, which Holdfast does not connect to: "
        "give a public one, or allow it with HOLDFAST_ALLOWED_ADDRESSES"
    )


async def test_a_name_that_is_allowed_may_resolve_to_a_private_address(site: Site) -> None:
    """Its address as such may not be used."""
    site.gives("/", b"hello")
    async with WebClient(parse_allowed("localhost")) as client:
        assert await read(client, site.url(host="localhost")) == b"hello"
        with pytest.raises(NotAllowed):
            await read(client, site.url())


async def test_each_hop_of_a_redirect_is_guarded(site: Site) -> None:
    """A friendly site is no bridge to a private address."""
    inside = site.gives("/inside", b"secret")
    site.redirects("/", inside)
    async with WebClient(parse_allowed("localhost")) as client:
        with pytest.raises(NotAllowed):
            await read(client, site.url(host="localhost"), redirects=3)
    assert [path for _, path, _, _ in site.asked] == ["/"]


async def test_redirects_are_followed_only_as_often_as_allowed(web: WebClient, site: Site) -> None:
    """None, unless asked for."""
    site.gives("/c", b"hello")
    for path, target in (("/a", "/b"), ("/b", "/c")):
        site.redirects(path, target)
    assert await read(web, site.url("/a"), redirects=2) == b"hello"
    site.redirects("/a", "/b")
    with pytest.raises(NotAllowed, match="is redirected to more than 0 times"):
        await read(web, site.url("/a"))


@pytest.mark.parametrize("target", ["file:///etc/passwd", "gopher://x/", ""])
async def test_a_redirect_to_nowhere_is_refused(web: WebClient, site: Site, target: str) -> None:
    """Only http and https are spoken."""
    site.redirects("/", target)
    with pytest.raises(NotReached):
        await read(web, site.url(), redirects=1)


async def test_credentials_do_not_travel_on_with_a_redirect(web: WebClient, site: Site) -> None:
    """They were meant for the first address."""
    site.gives("/b", b"hello")
    site.redirects("/a", f"http://localhost:{site.port}/b")
    await read(web, f"http://user:hunter2@127.0.0.1:{site.port}/a", redirects=1)
    assert ["Authorization" in headers for _, _, headers, _ in site.asked] == [True, False]


async def test_a_body_that_is_too_large_is_left(web: WebClient, site: Site) -> None:
    """When its length is announced, and when it is not and never ends."""
    site.gives("/", b"x" * 1_000_001)
    with pytest.raises(TooLarge, match="is larger than 1 MB"):
        await read(web, site.url(), most=1_000_000)
    with pytest.raises(TooLarge):
        await read(web, site.url("/endless"), most=1_000_000)


@pytest.mark.parametrize("path", ["/hangs", "/dawdles"])
async def test_who_dawdles_is_left(web: WebClient, site: Site, path: str) -> None:
    """Before an answer, and in the middle of one."""
    with pytest.raises(NotReached, match="did not answer in time"):
        await read(web, site.url(path), within_s=0.3)


async def test_a_body_that_breaks_off_is_no_body(web: WebClient, site: Site) -> None:
    """Half a file is not given out as a whole one."""
    with pytest.raises(NotReached, match="broke off"):
        await read(web, site.url("/breaks"))


async def test_nobody_there_and_no_such_name_are_told_apart(web: WebClient, unused_tcp_port: int) -> None:
    """With the part of the address that helps."""
    with pytest.raises(NotReached, match=rf"^http://127.0.0.1:{unused_tcp_port} can't be connected to \(Connect"):
        await read(web, f"http://127.0.0.1:{unused_tcp_port}/secret")
    with pytest.raises(NotReached, match=r"^http://nobody.invalid can't be connected to \(the name is unknown\)"):
        await read(web, "http://nobody.invalid/secret")


@pytest.mark.parametrize(
    "url", ["", "example.com/x", "ftp://example.com", "http://", "http://[::1", "/x", "http://h:x"]
)
async def test_what_is_no_web_address_is_refused(web: WebClient, url: str) -> None:
    """Before anything is asked."""
    with pytest.raises(BadInput):
        await read(web, url)


async def test_a_post_brings_body_and_headers_and_any_status_is_an_answer(web: WebClient, site: Site) -> None:
    """A redirect too: it is not followed. Of a long answer the beginning is kept."""
    site.redirects("/hook", site.url("/elsewhere"))
    answer = await web.post(site.url("/hook"), body=b"{}", headers={"webhook-id": "1"}, within_s=5)
    assert (answer.status, answer.headers["location"]) == (302, site.url("/elsewhere"))
    method, path, headers, body = site.asked[0]
    assert (method, path, headers["webhook-id"], body) == ("POST", "/hook", "1", b"{}")
    site.gives("/hook", b"y" * 100_000)
    answer = await web.post(site.url("/hook"), body=b"{}", headers={}, within_s=5, most_bytes=100)
    assert (answer.status, answer.body) == (200, b"y" * 100)
    assert len(site.asked) == 2


async def test_no_proxy_is_taken_from_the_environment(
    web: WebClient, site: Site, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a proxy the guard would see the proxy alone."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused_tcp_port}")
    site.gives("/", b"hello")
    assert await read(web, site.url()) == b"hello"


def test_what_may_be_shown_of_an_address_holds_no_secret() -> None:
    """Neither user, path nor query."""
    assert place("https://user:hunter2@crm.example:8443/secret?token=1#x") == "https://crm.example:8443"
