"""Addresses of inbound media."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

from holdfast.delivery.media_links import VALID, MediaLinks

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LINKS = MediaLinks(secret="s", base_url="https://holdfast.example/")


def parts(url: str) -> tuple[str, int, str]:
    split = urlsplit(url)
    query = parse_qs(split.query)
    return split.path.rpartition("/")[2], int(query["expires"][0]), query["token"][0]


def test_an_address_is_good_for_a_week() -> None:
    """It begins with the public URL of this Holdfast."""
    url = LINKS.url("msg_1", now=NOW)
    assert url.startswith("https://holdfast.example/v1/media/msg_1?expires=")
    inbox_id, expires, token = parts(url)
    assert LINKS.is_good(inbox_id, expires=expires, token=token, now=NOW + VALID)
    assert not LINKS.is_good(inbox_id, expires=expires, token=token, now=NOW + VALID + timedelta(seconds=1))


def test_a_revocation_invalidates_earlier_urls() -> None:
    """URLs made later in the same second are valid, and so are all URLs of a company without a revocation."""
    links = MediaLinks(secret="s", base_url="https://holdfast.example")
    revoked_at = NOW + timedelta(milliseconds=500)
    _, before, _ = parts(links.url("msg_1", now=NOW))
    links.revoke(now=revoked_at)
    _, after, token = parts(links.url("msg_1", now=revoked_at))
    assert links.is_revoked(expires=before, revoked_at=revoked_at)
    assert not links.is_revoked(expires=after, revoked_at=revoked_at)
    assert not links.is_revoked(expires=before, revoked_at=None)
    assert links.is_good("msg_1", expires=after, token=token, now=revoked_at)


def test_nothing_of_an_address_can_be_changed() -> None:
    """A changed id, time or token is invalid, and so is a token of another Holdfast."""
    inbox_id, expires, token = parts(LINKS.url("msg_1", now=NOW))
    for changed in (("msg_2", expires, token), (inbox_id, expires + 1, token), (inbox_id, expires, f"{token[:-1]}ü")):
        assert not LINKS.is_good(changed[0], expires=changed[1], token=changed[2], now=NOW)
    other = MediaLinks(secret="t", base_url="https://holdfast.example")
    assert not other.is_good(inbox_id, expires=expires, token=token, now=NOW)
