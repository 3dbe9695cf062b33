"""Durations as people type them."""

from __future__ import annotations

import pytest
import typer

from holdfast.cli.durations import clock, seconds


@pytest.mark.parametrize(
    ("typed", "found"), [("30s", 30), ("5m", 300), ("1h", 3600), ("24h", 86_400), ("7d", 604_800), (" 5 M ", 300)]
)
def test_a_duration_is_a_number_and_its_unit(typed: str, found: int) -> None:
    """Seconds, minutes, hours, days."""
    assert seconds(typed) == found


@pytest.mark.parametrize("typed", ["", "5", "5x", "-5m", "1.5h", "0s", "8d", "9999999s", "٣s²"])
def test_an_invalid_duration_is_refused_with_examples(typed: str) -> None:
    """The unit is never guessed."""
    with pytest.raises(typer.BadParameter, match=r"30s|1s to 7d"):
        seconds(typed)


@pytest.mark.parametrize(("of_s", "shown"), [(0, "0:00"), (83.9, "1:23"), (3600, "1:00:00"), (86_399, "23:59:59")])
def test_time_is_shown_as_on_a_clock(of_s: float, shown: str) -> None:
    """Hours only where there are any."""
    assert clock(of_s) == shown
