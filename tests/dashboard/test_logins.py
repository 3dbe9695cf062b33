"""A key signs in; its cookie ends with the key, with time, and with a wish; guessing is slowed down."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from holdfast.api.keys import ApiKeys, parse
from holdfast.base.errors import Misconfigured
from holdfast.base.ids import SystemRandomSource
from holdfast.dashboard.logins import FILE, IDLE_S, RENEW_S, Login, Logins, TooManyTries, WrongKey, kept_secret
from tests.doubles.fake_clock import FakeClock

KEY, OTHER = "a-key-for-all-companies", "a-key-for-one-company"
HERE = "192.0.2.1"


def make(clock: FakeClock, keys: ApiKeys | None = None, *, secret: bytes = b"secret") -> Logins:
    return Logins(keys or parse(f"{KEY}, {OTHER}=962302"), secret=secret, clock=clock, randomness=SystemRandomSource())


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def read(logins: Logins, cookie: str) -> Login:
    login = logins.read(cookie)
    assert login is not None
    return login


def test_a_cookie_carries_what_its_key_allows_and_never_the_key(clock: FakeClock) -> None:
    """Whoever signs in with a key for one company is held to that company."""
    logins = make(clock)
    cookie = logins.sign_in(f" {OTHER}\n", address=HERE)
    assert read(logins, cookie).grant.companies == frozenset({"962302"})
    assert OTHER not in cookie
    assert read(logins, logins.sign_in(KEY, address=HERE)).grant.companies is None


@pytest.mark.parametrize("cookie", [None, "", "a.b", "a.b.c.d", "a.b.1.", "ä.ö.ü.é", "...", "a.b.0.d.e"])
def test_what_is_no_cookie_of_ours_signs_nobody_in(clock: FakeClock, cookie: str | None) -> None:
    """Whatever it looks like."""
    assert make(clock).read(cookie) is None


def test_no_part_of_a_cookie_can_be_changed(clock: FakeClock) -> None:
    """Not the id, not the key's mark, not the time, not the signature; and another secret makes other signatures."""
    logins = make(clock)
    parts = logins.sign_in(KEY, address=HERE).split(".")
    for n, part in enumerate(parts):
        changed = [*parts[:n], part[:-1] + ("0" if part[-1] != "0" else "1"), *parts[n + 1 :]]
        assert logins.read(".".join(changed)) is None
    assert make(clock, secret=b"other").read(".".join(parts)) is None
    assert make(clock).read(".".join(parts)) is not None  # as after a restart


def test_a_key_that_is_taken_away_ends_its_sessions(clock: FakeClock) -> None:
    """At the next start, without it; the others stay."""
    cookie, other = make(clock).sign_in(KEY, address=HERE), make(clock).sign_in(OTHER, address=HERE)
    after = make(clock, parse(f"{OTHER}=962302"))
    assert after.read(cookie) is None
    assert after.read(other) is not None


def test_an_unused_session_ends_and_a_used_one_goes_on(clock: FakeClock) -> None:
    """Twelve hours after the last page; pages renew the cookie, under the same id."""
    logins = make(clock)
    cookie = logins.sign_in(KEY, address=HERE)
    assert logins.renewed(read(logins, cookie)) is None
    clock.advance_to(clock.monotonic() + RENEW_S + 1)
    fresh = logins.renewed(read(logins, cookie))
    assert fresh is not None
    clock.advance_to(clock.monotonic() + IDLE_S - 1)
    assert logins.read(cookie) is None
    assert read(logins, fresh).id == fresh.split(".")[0] == cookie.split(".")[0]
    clock.advance_to(clock.monotonic() + 3)
    assert logins.read(fresh) is None


def test_who_signs_out_is_out_also_with_a_renewed_cookie(clock: FakeClock) -> None:
    """The session ends, not only the browser's copy of its cookie; others of the same key stay."""
    logins = make(clock)
    cookie, other = (logins.sign_in(KEY, address=HERE) for _ in range(2))
    clock.advance_to(clock.monotonic() + RENEW_S + 1)
    fresh = logins.renewed(read(logins, cookie))
    logins.sign_out(read(logins, cookie))
    assert logins.read(cookie) is None
    assert logins.read(fresh) is None
    assert logins.read(other) is not None


def test_forms_carry_the_token_of_their_session(clock: FakeClock) -> None:
    """Another session's token, or none, is refused."""
    logins = make(clock)
    mine, other = (read(logins, logins.sign_in(KEY, address=HERE)) for _ in range(2))
    assert logins.is_form_token(mine, logins.form_token(mine))
    assert not logins.is_form_token(mine, logins.form_token(other))
    assert not logins.is_form_token(mine, "")
    assert not logins.is_form_token(mine, "ä")


def test_ten_wrong_keys_a_minute_are_all_an_address_gets(clock: FakeClock) -> None:
    """Then even the right one is refused until the minute is over; other addresses are not."""
    logins = make(clock)
    for _ in range(10):
        with pytest.raises(WrongKey):
            logins.sign_in("not-a-key", address=HERE)
    with pytest.raises(TooManyTries, match="wait 61 s"):
        logins.sign_in(KEY, address=HERE)
    assert logins.sign_in(KEY, address="192.0.2.2")
    clock.advance_to(clock.monotonic() + 61)
    assert logins.sign_in(KEY, address=HERE)


def test_the_secret_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    """A second start finds the same one."""
    secret = kept_secret(tmp_path, SystemRandomSource())
    assert len(secret) >= 32
    assert kept_secret(tmp_path, SystemRandomSource()) == secret
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_secret_that_can_not_be_kept_is_said(tmp_path: Path) -> None:
    """It names the file."""
    with pytest.raises(Misconfigured, match=f"{FILE}.*No such file"):
        kept_secret(tmp_path / "nowhere", SystemRandomSource())
