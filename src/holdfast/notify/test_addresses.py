"""Parsing of the alert addresses in the setting, and the secrecy of their URLs."""

import pytest

from holdfast.base.errors import Misconfigured
from holdfast.notify.addresses import AlertAddress, read_addresses

TOKEN = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"


def usable(url: str) -> str | None:
    return None


def broken(url: str) -> str | None:
    return "a part of it is wrong" if "broken" in url else None


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("", []),
        (" , ", []),
        ("json://a", ["json://a"]),
        ("json://a,tgram://b/c", ["json://a", "tgram://b/c"]),
        ("json://a tgram://b/c", ["json://a", "tgram://b/c"]),
        ("json://a, tgram://b/c,\n JSON://d ,", ["json://a", "tgram://b/c", "JSON://d"]),
        ("mailto://u:p@h/?to=x@h,y@h json://a", ["mailto://u:p@h/?to=x@h,y@h", "json://a"]),
        ("json://a json://b json://a", ["json://a", "json://b"]),
    ],
)
def test_commas_and_spaces_separate(text: str, urls: list[str]) -> None:
    """Spaces and commas both separate; a comma within a URL belongs to it; duplicates are removed."""
    assert [address.url for address in read_addresses(text, refusal=usable)] == urls


def test_a_broken_address_is_named_by_setting_and_position() -> None:
    """The error names the position and the problem, and shows no part of the URL."""
    with pytest.raises(Misconfigured) as raised:
        read_addresses(f"json://a tgram://broken{TOKEN}/1 json://b", refusal=broken)
    assert str(raised.value) == (
        "HOLDFAST_ALERT_URLS: address 2 (tgram) of 3 can't be used: a part of it is wrong. "
        "Addresses are Apprise URLs, separated by spaces or commas"
    )
    assert raised.value.field == "HOLDFAST_ALERT_URLS"


@pytest.mark.parametrize("text", [TOKEN, "//x", f"{TOKEN}://x", "1json://x"])
def test_an_invalid_url_is_not_shown(text: str) -> None:
    """A token pasted without its scheme stays hidden."""
    with pytest.raises(Misconfigured, match=r"address 1 \(no URL\) of 1 .* no scheme like mailto://") as raised:
        read_addresses(text, refusal=usable)
    assert text[:8] not in str(raised.value)


def test_an_address_shows_only_its_scheme() -> None:
    """Not as text, in its representation, or by its fingerprint."""
    address = AlertAddress(position=2, url=f"tgram://{TOKEN}/1")
    assert str(address) == "address 2 (tgram)"
    assert TOKEN not in repr(address) + address.fingerprint
    assert address.fingerprint == AlertAddress(position=5, url=address.url).fingerprint
    assert address.fingerprint != AlertAddress(position=2, url=f"tgram://{TOKEN}/2").fingerprint
