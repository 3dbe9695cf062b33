"""Signing in with a key; its cookie ends with the key, after some time, and at sign-out; guessing is limited."""

from __future__ import annotations

import pytest

from holdfast.api.keys import ApiKeys, parse
from holdfast.base.ids import SystemRandomSource
from holdfast.dashboard.logins import IDLE_S, LONGEST_S, RENEW_S, Login, Logins, TooManyAttempts, WrongKey
from tests.doubles.fake_clock import FakeClock

KEY, OTHER = "a-key-for-all-companies", "a-key-for-one-company"
HERE = "192.0.2.1"


class SignOutSet:
    """Sign-outs in memory."""

    def __init__(self) -> None:
        self.ended: dict[str, str] = {}

    async def add(self, login_id: str, *, now: str, forget_at: str) -> None:
        self.ended[login_id] = forget_at

    async def has(self, login_id: str) -> bool:
        return login_id in self.ended


def make(
    clock: FakeClock, keys: ApiKeys | None = None, *, secret: bytes = b"secret", sign_outs: SignOutSet | None = None
) -> Logins:
    return Logins(
        keys or parse(f"{KEY}, {OTHER}=962302"),
        secret=secret,
        sign_outs=sign_outs or SignOutSet(),
        clock=clock,
        randomness=SystemRandomSource(),
    )


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def read(logins: Logins, cookie: str) -> Login:
    login = await logins.read(cookie)
    assert login is not None
    return login


async def test_a_cookie_has_the_rights_of_its_key_and_never_the_key(clock: FakeClock) -> None:
    """A session that was started with a key for one company is limited to that company."""
    logins = make(clock)
    cookie = logins.sign_in(f" {OTHER}\n", address=HERE)
    assert (await read(logins, cookie)).grant.companies == frozenset({"962302"})
    assert OTHER not in cookie
    assert (await read(logins, logins.sign_in(KEY, address=HERE))).grant.companies is None


@pytest.mark.parametrize("cookie", [None, "", "a.b", "a.b.c.d", "a.b.1.", "ä.ö.ü.é", "...", "a.b.0.d.e"])
async def test_an_invalid_cookie_is_refused(clock: FakeClock, cookie: str | None) -> None:
    """Whatever its form."""
    assert await make(clock).read(cookie) is None


async def test_no_part_of_a_cookie_can_be_changed(clock: FakeClock) -> None:
    """Neither the id, nor the key's hash, the times or the signature; another secret makes other signatures."""
    logins = make(clock)
    parts = logins.sign_in(KEY, address=HERE).split(".")
    for n, part in enumerate(parts):
        changed = [*parts[:n], part[:-1] + ("0" if part[-1] != "0" else "1"), *parts[n + 1 :]]
        assert await logins.read(".".join(changed)) is None
    assert await make(clock, secret=b"other").read(".".join(parts)) is None
    assert await make(clock).read(".".join(parts)) is not None  # as after a restart


async def test_removing_a_key_ends_its_sessions(clock: FakeClock) -> None:
    """At the next start without it; sessions of other keys stay valid."""
    cookie, other = make(clock).sign_in(KEY, address=HERE), make(clock).sign_in(OTHER, address=HERE)
    after = make(clock, parse(f"{OTHER}=962302"))
    assert await after.read(cookie) is None
    assert await after.read(other) is not None


async def test_an_unused_session_ends_and_a_used_one_continues(clock: FakeClock) -> None:
    """Twelve hours after the last page; pages renew the cookie, under the same id."""
    logins = make(clock)
    cookie = logins.sign_in(KEY, address=HERE)
    assert logins.renewed(await read(logins, cookie)) is None
    clock.advance_to(clock.monotonic() + RENEW_S + 1)
    fresh = logins.renewed(await read(logins, cookie))
    assert fresh is not None
    clock.advance_to(clock.monotonic() + IDLE_S - 1)
    assert await logins.read(cookie) is None
    assert (await read(logins, fresh)).id == fresh.split(".")[0] == cookie.split(".")[0]
    clock.advance_to(clock.monotonic() + 3)
    assert await logins.read(fresh) is None


async def test_a_sign_out_also_ends_renewed_cookies(clock: FakeClock) -> None:
    """The session ends, not only the browser's copy of its cookie; other sessions of the same key stay valid."""
    logins = make(clock)
    cookie, other = (logins.sign_in(KEY, address=HERE) for _ in range(2))
    clock.advance_to(clock.monotonic() + RENEW_S + 1)
    fresh = logins.renewed(await read(logins, cookie))
    await logins.sign_out(await read(logins, cookie))
    assert await logins.read(cookie) is None
    assert await logins.read(fresh) is None
    assert await logins.read(other) is not None


async def test_forms_carry_the_token_of_their_session(clock: FakeClock) -> None:
    """Another session's token, or none, is refused."""
    logins = make(clock)
    mine, other = [await read(logins, logins.sign_in(KEY, address=HERE)) for _ in range(2)]
    assert logins.is_form_token(mine, logins.form_token(mine))
    assert not logins.is_form_token(mine, logins.form_token(other))
    assert not logins.is_form_token(mine, "")
    assert not logins.is_form_token(mine, "ä")


async def test_any_session_ends_after_a_week(clock: FakeClock) -> None:
    """However often it is used: a renewed cookie ends no later than the first one."""
    logins = make(clock)
    cookie = logins.sign_in(KEY, address=HERE)
    assert logins.seconds_left(cookie) == IDLE_S
    for _ in range(LONGEST_S // (IDLE_S // 2) - 1):
        clock.advance_to(clock.monotonic() + IDLE_S // 2)
        cookie = logins.renewed(await read(logins, cookie)) or cookie
    login = await read(logins, cookie)
    assert logins.seconds_left(cookie) == IDLE_S // 2
    clock.advance_to(clock.monotonic() + IDLE_S // 2)
    assert await logins.read(cookie) is None
    assert not await logins.is_signed_in(login)


async def test_a_sign_out_survives_a_restart_and_is_valid_on_every_node(clock: FakeClock) -> None:
    """It is stored until the cookie would have expired."""
    sign_outs = SignOutSet()
    logins = make(clock, sign_outs=sign_outs)
    cookie = logins.sign_in(KEY, address=HERE)
    login = await read(logins, cookie)
    other = make(clock, sign_outs=sign_outs)
    assert await other.read(cookie) is not None
    await logins.sign_out(login)
    assert await other.read(cookie) is None
    assert not await other.is_signed_in(login)


async def test_an_address_may_try_ten_wrong_keys_a_minute(clock: FakeClock) -> None:
    """Further wrong keys are refused without being counted. A correct key still signs in, because many users may share
    an address.
    """
    logins = make(clock)
    for _ in range(10):
        with pytest.raises(WrongKey):
            logins.sign_in("not-a-key", address=HERE)
    with pytest.raises(TooManyAttempts, match="wait 61 s"):
        logins.sign_in("not-a-key", address=HERE)
    assert logins.sign_in(KEY, address=HERE)
    with pytest.raises(WrongKey):
        logins.sign_in("not-a-key", address="192.0.2.2")
    clock.advance_to(clock.monotonic() + 61)
    with pytest.raises(WrongKey):
        logins.sign_in("not-a-key", address=HERE)


async def test_wrong_keys_are_logged_with_the_address(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """One line each, in the format for fail2ban in docs/security.md; never the key; a flood is bounded."""
    logins = make(clock)
    for _ in range(50):
        with pytest.raises((WrongKey, TooManyAttempts)):
            logins.sign_in("a-wrong-key", address=HERE)
    assert set(caplog.messages) == {f"API key refused from {HERE}: unknown key at the dashboard's sign-in"}
    assert len(caplog.messages) == 10
    assert "a-wrong-key" not in caplog.text


async def test_open_streams_end_with_their_key(clock: FakeClock) -> None:
    """They outlive the request in which the key was checked."""
    logins = make(clock)
    login = await read(logins, logins.sign_in(OTHER, address=HERE))
    assert await logins.is_signed_in(login)
    assert not await make(clock, parse(KEY)).is_signed_in(login)
