from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.session.engine import HostEnd, host_end
from holdfast.session.placement import (
    Death,
    Placement,
    PlacementPolicy,
    died,
    distrust,
    forget,
    is_isolation,
    place,
    proven,
)

TWO = PlacementPolicy(hosts=2)
ONE = PlacementPolicy(hosts=1)


def placed(*companies: str, policy: PlacementPolicy = ONE) -> Placement:
    placement = Placement()
    for company in companies:
        placement, _ = place(placement, company, policy=policy)
    return placement


def death(
    at: float, host: int, sessions: str, *, opening: str = "", fresh: str = "", from_outside: bool = False
) -> Death:
    return Death(
        at=at,
        host=host,
        sessions=frozenset(sessions),
        opening=frozenset(opening),
        fresh=frozenset(fresh),
        from_outside=from_outside,
    )


def test_sessions_are_spread_over_hosts_and_stay_where_they_are() -> None:
    """Each new session goes to the ordinary host with the fewest sessions; a known one stays."""
    placement = placed("a", "b", "c", policy=TWO)
    assert placement.hosts == {"a": 0, "b": 1, "c": 0}
    assert place(placement, "a", policy=TWO) == (placement, 0)


def test_a_session_that_ended_makes_room() -> None:
    """The next session takes its place; the end of a session that was never placed changes nothing."""
    placement = forget(placed("a", "b", "c", policy=TWO), "a", policy=TWO)
    placement = forget(placement, "unknown", policy=TWO)
    assert place(placement, "d", policy=TWO)[1] == 0


def crowded() -> Placement:
    """Six sessions on the first host, one on the second."""
    placement = placed(*"aAbBcCdDeEfF", policy=TWO)
    for company in "ABCDE":
        placement = forget(placement, company, policy=TWO)
    return placement


def test_sessions_of_a_crowded_host_move_when_they_connect_again() -> None:
    """Until the difference is small, so that none moves to and fro; one on an isolation host stays there."""
    placement, hosts = crowded(), []
    for company in "abcdef":
        placement, host = place(placement, company, policy=TWO)
        hosts.append(host)
    assert hosts == [1, 0, 0, 0, 0, 0]
    large = PlacementPolicy(hosts=2, crowded_by_at_least=1)
    assert place(placed(*"aAbBcCdDeE", policy=TWO), "a", policy=large)[1] == 0
    alone, _ = place(distrust(crowded(), "a"), "a", policy=TWO)
    assert place(alone, "a", policy=TWO) == (alone, 2)


def test_a_session_that_may_have_ended_a_host_stays_on_it() -> None:
    """Its next death tells more that way."""
    placement, _ = died(crowded(), death(100, 0, "abcdef"), policy=TWO)
    assert place(placement, "a", policy=TWO) == (placement, 0)
    assert place(placement, "F", policy=TWO) == (placement, 1)


def test_one_death_isolates_no_session_with_an_open_link() -> None:
    """One death of a host moves nobody: every session stays on its host."""
    placement, quarantined = died(placed("a", "b"), death(100, 0, "ab"), policy=ONE)
    assert placement.hosts == {"a": 0, "b": 0}
    assert not quarantined


def test_sessions_that_were_opening_a_link_when_the_host_died_are_isolated() -> None:
    """Sessions with open links are not exposed a second time to the most likely cause."""
    placement, _ = died(placed("a", "b", "c"), death(100, 0, "abc", opening="c"), policy=ONE)
    assert placement.hosts == {"a": 0, "b": 0, "c": 1}


def test_two_deaths_within_the_window_split_the_suspects_in_halves() -> None:
    """Only sessions that ran there at both deaths are suspects."""
    placement, _ = died(placed("a", "b", "c", "d"), death(100, 0, "abcd"), policy=ONE)
    placement, _ = died(placement, death(130, 0, "abc"), policy=ONE)
    assert placement.hosts == {"a": 1, "b": 1, "c": 2, "d": 0}


def test_two_deaths_with_a_minute_between_them_are_two_first_deaths() -> None:
    """Deaths an hour apart are no reason to move sessions."""
    placement, _ = died(placed("a", "b"), death(100, 0, "ab"), policy=ONE)
    placement, _ = died(placement, death(160, 0, "ab"), policy=ONE)
    assert placement.hosts == {"a": 0, "b": 0}


@pytest.mark.parametrize(
    ("detail", "end"),
    [
        ("killed by SIGKILL", HostEnd.KILLED),
        ("killed by SIGTERM", HostEnd.KILLED),
        ("killed by SIGINT", HostEnd.KILLED),
        ("killed by SIGHUP", HostEnd.KILLED),
        ("killed by SIGSEGV", HostEnd.CRASHED),
        ("killed by SIGABRT", HostEnd.CRASHED),
        ("exited with code 75", HostEnd.HEARTBEAT_LOST),
        ("exited with code 0", HostEnd.CRASHED),
        ("exited with code 134", HostEnd.CRASHED),
        ("hung: no heartbeat for 10.2 s", HostEnd.CRASHED),
        ("", HostEnd.CRASHED),
    ],
)
def test_the_detail_of_a_death_shows_who_ended_the_host(detail: str, end: HostEnd) -> None:
    """A signal that is sent from outside is distinguished from one that a defect causes."""
    assert host_end(detail) is end


def test_a_host_killed_from_outside_blames_only_links_that_had_just_opened() -> None:
    """Sessions are not blamed for an operator's `kill -9`, however often it happens."""
    placement, _ = died(placed("a", "b"), death(100, 0, "ab", from_outside=True), policy=ONE)
    placement, _ = died(placement, death(110, 0, "ab", from_outside=True), policy=ONE)
    assert placement.hosts == {"a": 0, "b": 0}
    placement, _ = died(placement, death(120, 0, "ab", fresh="a", from_outside=True), policy=ONE)
    placement, _ = died(placement, death(130, 0, "ab", fresh="a", from_outside=True), policy=ONE)
    assert placement.hosts == {"a": 1, "b": 0}


def test_of_an_isolated_group_the_one_that_was_opening_goes_apart_first() -> None:
    """Links open one after another there, so the one that was opening is the most likely cause. Then come halves."""
    placement, _ = died(placed("a", "b", "c", "d"), death(100, 0, "abcd", opening="abcd"), policy=ONE)
    assert set(placement.hosts.values()) == {1}
    placement, _ = died(placement, death(112, 1, "abcd", opening="c"), policy=ONE)
    assert placement.hosts == {"c": 2, "a": 3, "b": 3, "d": 3}
    placement, _ = died(placement, death(120, 3, "abd", opening="d"), policy=ONE)
    assert placement.hosts == {"c": 2, "a": 4, "b": 4, "d": 5}


def test_the_second_death_alone_quarantines_the_session() -> None:
    """A session whose link never opened is named, and has no host any more."""
    placement, first = died(placed("a", "b"), death(100, 0, "ab", opening="b"), policy=ONE)
    placement, second = died(placement, death(112, 1, "b", opening="b"), policy=ONE)
    assert (first, second) == (frozenset(), frozenset())
    placement, third = died(placement, death(124, 1, "b", opening="b"), policy=ONE)
    assert third == {"b"}
    assert placement.hosts == {"a": 0}


def test_a_session_whose_link_opens_has_more_tries() -> None:
    """A single message may kill the host; the outbox gives that message up before the session is quarantined."""
    placement, _ = died(placed("a", "b"), death(100, 0, "ab", opening="b"), policy=ONE)
    for number in range(1, ONE.deaths_alone):
        placement, quarantined = died(placement, death(100 + 10 * number, 1, "b"), policy=ONE)
        assert not quarantined
    _, quarantined = died(placement, death(200, 1, "b"), policy=ONE)
    assert quarantined == {"b"}


def test_a_lone_session_whose_host_was_killed_from_outside_is_not_blamed() -> None:
    """Its link had been open for a long time."""
    placement = distrust(placed("a"), "a")
    placement, host = place(placement, "a", policy=ONE)
    after, quarantined = died(placement, death(100, host, "a", from_outside=True), policy=ONE)
    assert (after, quarantined) == (placement, frozenset())


def test_a_session_that_was_quarantined_runs_alone_when_somebody_starts_it_again() -> None:
    """One more death is then enough; without one it is trusted again and shares an ordinary host."""
    placement, host = place(distrust(placed("a", "b"), "b"), "b", policy=ONE)
    assert is_isolation(host, ONE)
    _, quarantined = died(placement, death(100, host, "b"), policy=ONE)
    assert quarantined == {"b"}
    trusted = proven(placement, host, policy=ONE)
    assert trusted.distrusted == frozenset()
    assert place(trusted, "b", policy=ONE)[1] == 0


def test_a_group_that_lived_long_enough_is_cleared() -> None:
    """Its sessions return to ordinary hosts; an ordinary host needs no clearing."""
    placement, _ = died(placed("a", "b"), death(100, 0, "ab", opening="b"), policy=ONE)
    placement, _ = died(placement, death(110, 1, "b"), policy=ONE)
    cleared = proven(placement, 1, policy=ONE)
    assert (cleared.hosts, dict(cleared.alone)) == ({"a": 0}, {})
    assert proven(cleared, 0, policy=ONE) == cleared
    assert forget(placement, "b", policy=ONE) == placement, "suspicion must outlive the session's actor"


@given(st.integers(1, 4), st.integers(1, 40), st.data())
def test_the_session_that_kills_its_host_is_found_and_no_other_is_quarantined(
    hosts: int, sessions: int, data: st.DataObject
) -> None:
    """The culprit is found, whichever it is and whatever else was opening, after a number of deaths that grows with the
    logarithm of the number of sessions."""
    policy = PlacementPolicy(hosts=hosts)
    companies = [f"c{number:02}" for number in range(sessions)]
    placement, culprit = placed(*companies, policy=policy), data.draw(st.sampled_from(companies))
    deaths, quarantined = 0, frozenset[str]()
    while not quarantined:
        placement, host = place(placement, culprit, policy=policy)
        members = placement.members(host)
        opening = data.draw(st.frozensets(st.sampled_from(sorted(members)), max_size=len(members)))
        last = Death(at=10.0 * deaths, host=host, sessions=members, opening=opening)
        placement, quarantined = died(placement, last, policy=policy)
        deaths += 1
        assert deaths <= 3 + 2 * sessions.bit_length() + policy.deaths_alone
    assert quarantined == {culprit}
    rest = [place(placement, company, policy=policy)[1] for company in companies if company != culprit]
    assert all(host is not None for host in rest)
