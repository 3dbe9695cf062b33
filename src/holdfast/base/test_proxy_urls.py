"""Addresses of proxies."""

from __future__ import annotations

import pytest

from holdfast.base.proxy_urls import BadProxyUrl, proxy_url, redacted


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://proxy:3128", "http://proxy:3128"),
        ("http://proxy:3128/", "http://proxy:3128"),
        ("https://user:pa%40ss@10.0.0.1:443", "https://user:pa%40ss@10.0.0.1:443"),
        ("socks5://[::1]:1080", "socks5://[::1]:1080"),
        ("socks5h://u:p@proxy:1080", "socks5://u:p@proxy:1080"),
    ],
)
def test_usual_addresses_are_accepted(given: str, used: str) -> None:
    """HTTP, HTTPS and SOCKS 5, with and without credentials."""
    assert proxy_url(given) == used


@pytest.mark.parametrize(
    "given",
    [
        "",
        "proxy:3128",
        "http://proxy",
        "http://:3128",
        "http://proxy:99999",
        "http://proxy:port",
        "ftp://proxy:21",
        "socks4://proxy:1080",
        "http://proxy:3128/path",
        "http://proxy:3128?x=1",
        "http://pro xy:3128",
        "http://proxy:3128\r\nHost: other",
        "http://[::1:3128",
        "http://u:secret@proxy",
        "http://u:secret%zz@proxy:1",
        "http://u:secret%ff@proxy:1",
        "http://u:secret" + "0" * 255 + "@proxy:1",
        "http://proxy:3128" + "0" * 2000,
    ],
)
def test_others_are_refused_with_an_example_and_without_the_password(given: str) -> None:
    """The sentence says what is wrong and what is allowed."""
    with pytest.raises(BadProxyUrl, match="give an address such as http://proxy:3128") as caught:
        proxy_url(given)
    assert "secret" not in str(caught.value)


def test_a_password_is_never_shown() -> None:
    """The user name, the host and the port remain."""
    assert redacted("socks5://user:secret@proxy:1080") == "socks5://user:***@proxy:1080"
    assert redacted("http://user:@proxy:1") == "http://user:***@proxy:1"
    assert redacted("http://user@proxy:1") == "http://user@proxy:1"
    assert redacted("http://proxy:1") == "http://proxy:1"
