"""One refused message says nothing; consecutive refusals in several chats pause the session."""

from __future__ import annotations

from holdfast.delivery.breaker import Breaker


def opened() -> Breaker:
    made = Breaker(jitter=lambda: 0.0)
    assert [made.refused(chat, 0) for chat in "abc"] == [False, False, True]
    return made


def test_one_chat_opens_nothing_however_often_it_is_refused() -> None:
    """Refusals in one chat may be that chat's own; an accepted message in between resets the count."""
    made = Breaker(jitter=lambda: 0.0)
    assert not any(made.refused("a", n) for n in range(9))
    made.refused("b", 9)
    assert not made.accepted()
    assert not any(made.refused(chat, 10) for chat in "ab")
    assert made.room(10, room=20, is_idle=False) == 20


def test_an_open_breaker_lets_one_message_probe_after_a_pause() -> None:
    """The probe is sent neither earlier nor while another message is in flight."""
    made = opened()
    assert (made.room(1, room=20, is_idle=True), made.probes_at(1)) == (0, 2)
    assert (made.room(2, room=20, is_idle=True), made.room(2, room=20, is_idle=False)) == (1, 0)
    assert (made.room(2, room=0, is_idle=True), made.probes_at(2)) == (0, None)


def test_a_refused_probe_doubles_the_pause_to_a_minute_at_most() -> None:
    """A refusal of a message sent before the pause began changes nothing."""
    made, now = opened(), 0.0
    assert not made.refused("d", 1)
    pauses = []
    for _ in range(8):
        probes_at = made.probes_at(now)
        assert probes_at is not None
        pauses.append(probes_at - now)
        now = probes_at
        made.refused("a", now)
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]


def test_an_accepted_message_closes_it() -> None:
    """It reports once that it closed; the next pause is short again."""
    made = opened()
    made.refused("a", 2)
    assert (made.accepted(), made.accepted(), made.is_open) == (True, False, False)
    assert [made.refused(chat, 100) for chat in "abc"] == [False, False, True]
    assert made.probes_at(100) == 102


def test_jitter_sets_probes_of_many_sessions_apart() -> None:
    """Jitter adds up to a tenth of the pause."""
    made = Breaker(jitter=lambda: 1.0)
    for chat in "abc":
        made.refused(chat, 0)
    assert made.probes_at(0) == 2.2
