"""Settings as they are explained to people."""

from __future__ import annotations

import pytest

from holdfast.cli.tuning import OTHER, TUNING, explained, group_of, groups
from holdfast.settings import Settings

_TURNED = ("_s", "_ms", "_h", "_mb", "_days", "_minute", "_factor", "_burst", "_keep", "_day", "_presence")


def test_every_setting_stands_under_a_heading() -> None:
    """Once; none is left over."""
    shown = [each.name for group in groups().values() for each in group]
    assert sorted(shown) == sorted(Settings.model_fields)
    assert OTHER not in groups(), f"name their heading in tuning.py: {[each.name for each in groups()[OTHER]]}"


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if name.endswith(_TURNED)])
def test_what_can_be_turned_says_what_that_does_and_costs(name: str) -> None:
    """Every interval, delay, limit and rate (M33): in tuning.py."""
    assert name in TUNING
    assert explained(name).is_tuned


def test_what_is_explained_can_be_set() -> None:
    """A setting that was renamed would leave its explanation behind."""
    assert set(TUNING) <= set(Settings.model_fields)
    assert group_of("node_bin") == "The engine"
    assert group_of("node") == "What is kept, and where"
    assert (explained("port").default, explained("keepalive_presence").default) == ("3000", "on")
