"""The waits between connections, by literal values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.session.backoff import Backoff, immediate_delay_s, ping_interval_s, spread_s


@pytest.mark.parametrize(
    ("attempts", "delay_s"),
    [(0, 1.0), (1, 1.5), (2, 2.25), (3, 3.375), (5, 7.59375), (10, 57.6650390625), (11, 60.0), (1000, 60.0)],
)
def test_formula(attempts: int, delay_s: float) -> None:
    """Without jitter the wait is min(1 s * 1.5 ** attempts, 60 s)."""
    assert Backoff().delay_s(attempts, jitter=0) == delay_s


def test_jitter_adds_up_to_a_fifth() -> None:
    """Jitter lengthens a wait by up to a fifth."""
    assert Backoff().delay_s(0, jitter=0.5) == pytest.approx(1.1)


def test_jitter_stays_under_the_cap() -> None:
    """Jitter on a wait near the cap stops at the cap."""
    assert Backoff().delay_s(10, jitter=0.99) == 60


@given(
    attempts=st.integers(0, 10_000),
    jitter=st.floats(0, 1, exclude_max=True),
    base_ms=st.integers(1, 100_000),
    factor=st.floats(1, 10),
)
def test_no_setting_passes_the_cap(attempts: int, jitter: float, base_ms: int, factor: float) -> None:
    """Whatever the settings, a wait is above zero and never above the cap."""
    backoff = Backoff(base_ms=base_ms, factor=factor, cap_ms=60_000)
    assert 0 < backoff.delay_s(attempts, jitter=jitter) <= 60


def test_settings_rule() -> None:
    """Base, factor and cap are the settings', not constants."""
    backoff = Backoff(base_ms=200, factor=2, cap_ms=1000)
    assert [backoff.delay_s(n, jitter=0) for n in range(4)] == [0.2, 0.4, 0.8, 1.0]


def test_at_once_is_within_a_quarter_second() -> None:
    """The first attempt after an open link comes within 0.25 s, with jitter."""
    assert [immediate_delay_s(jitter=j) for j in (0, 0.4, 0.8)] == pytest.approx([0, 0.1, 0.2])


def test_slow_waits_are_spread_upwards() -> None:
    """Jitter never shortens a long wait, and lengthens it by up to a fifth."""
    assert [spread_s(300, jitter=j) for j in (0, 0.5)] == [300, 330]


def test_pings_are_never_later_than_the_interval() -> None:
    """Jitter makes the interval up to a tenth shorter, never longer."""
    assert [ping_interval_s(30, jitter=j) for j in (0, 0.5)] == [30, 28.5]
