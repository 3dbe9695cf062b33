"""The arithmetic of measurements and goals."""

from holdfast.health.goals import percent_of, percentile


def test_percentiles_are_values_that_occurred() -> None:
    """The nearest rank is used, never an interpolated value."""
    values = [1.0, 2.0, 3.0, 4.0]
    assert [percentile(values, percent) for percent in (0, 25, 50, 95, 100)] == [1, 1, 2, 4, 4]
    assert percentile([], 95) is None


def test_a_share_of_nothing_is_none() -> None:
    """0 of 0 is neither 0 % nor 100 %."""
    assert (percent_of(1, 4), percent_of(0, 0)) == (25, None)
