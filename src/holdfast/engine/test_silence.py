from __future__ import annotations

from holdfast.engine.silence import Silence


def test_silence_counts_from_the_last_sign_of_life() -> None:
    """Each line from the host ends the silence."""
    silence = Silence(now=100)
    assert silence.lasted_s(now=107) == 7
    silence.end(now=108)
    assert silence.lasted_s(now=110) == 2


def test_time_in_which_our_own_loop_was_blocked_is_not_silence() -> None:
    """Our loop was blocked for 38 of 40 seconds, so the host has been silent for two."""
    silence = Silence(now=100)
    silence.excuse(38)
    assert silence.lasted_s(now=140) == 2


def test_an_early_timer_adds_no_silence_and_an_excuse_is_never_in_the_future() -> None:
    """A timer's inaccuracy makes silence neither negative nor longer."""
    silence = Silence(now=100)
    silence.excuse(-0.001)
    assert silence.lasted_s(now=101) == 1
    silence.excuse(5)
    assert silence.lasted_s(now=102) == 0
