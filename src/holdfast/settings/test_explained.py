"""Settings as they are described to people."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import PlainSerializer

from holdfast.settings import Settings, load, variable
from holdfast.settings.explained import Explained, allowed, explained

_TUNED = ("_s", "_ms", "_h", "_mb", "_days", "_minute", "_factor", "_burst", "_keep", "_day", "_presence")
NO_FILE = Path("no-such-file.toml")
SETTINGS: dict[str, Explained] = {each.name: each for group in explained(Settings).values() for each in group}


def test_every_setting_is_under_one_heading() -> None:
    """A declared setting is also described, by the same lines."""
    shown = [each.name for group in explained(Settings).values() for each in group]
    assert sorted(shown) == sorted(Settings.model_fields)
    assert all(explained(Settings)), "each group of settings has a heading: the docstring of its class"


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if name.endswith(_TUNED)])
def test_every_tunable_setting_has_effect_and_cost(name: str) -> None:
    """This holds for every interval, delay, limit and rate (M33)."""
    assert SETTINGS[name].tuning, f"add a second paragraph below {name} in settings/groups.py"


def test_every_default_can_be_written_down() -> None:
    """What the documents show as default is a value that the setting accepts."""
    written = {
        variable(name): str(each.default)
        for name, each in SETTINGS.items()
        if each.default and Settings.model_fields[name].default_factory is None
    }
    assert {variable(name) for name in load(written, file=NO_FILE).model_fields_set} == set(written)


def test_a_setting_with_restricted_values_describes_them() -> None:
    """`give text` would tell nobody what was wrong with the text."""
    vague = {
        name
        for name, field in Settings.model_fields.items()
        if allowed(field) == "text" and any(not isinstance(note, PlainSerializer) for note in field.metadata)
    }
    assert vague == set()


def test_defaults_are_shown_as_people_would_write_them() -> None:
    """This includes defaults that depend on the machine."""
    names = ("port", "keepalive_presence", "node", "cache_dir", "url")
    defaults = [SETTINGS[name].default for name in names]
    assert defaults == ["3000", "on", "this machine's name", "~/.cache/holdfast", None]
