"""`holdfast settings`: all settings with their values, origins and meanings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast import terminal
from holdfast.cli.exit_codes import UsageError
from holdfast.cli.requests import AsJson, read_settings

if TYPE_CHECKING:
    from holdfast.settings.explained import Explained


def _variables(begun: str) -> list[str]:
    from holdfast.settings import Settings, variable

    return [name for name in map(variable, Settings.model_fields) if name.startswith(begun.upper())]


SettingName = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="one setting in full, such as HOLDFAST_KEEPALIVE_INTERVAL_S or port",
        autocompletion=_variables,
    ),
]


def show_settings(name: SettingName = None, as_json: AsJson = False) -> None:
    """Show all settings: value, origin, meaning. With a name: that setting, and the effect and cost of changing it."""
    from holdfast.settings import Settings, origins
    from holdfast.settings.explained import explained

    settings = read_settings()
    came_from = origins()
    values = settings.model_dump(mode="json")

    by_group = {
        heading: [_row(each, values[each.name], came_from) for each in group]
        for heading, group in explained(Settings).items()
    }
    if name is not None:
        known = _known(name)
        found = next(row for rows in by_group.values() for row in rows if row["setting"] == known)
        terminal.show_json(found) if as_json else terminal.show_table(("", ""), found.items())
        return
    if as_json:
        terminal.show_json([each for rows in by_group.values() for each in rows])
        return
    columns = ("setting", "value", "origin", "meaning")
    for heading, rows in by_group.items():
        terminal.print_stdout(f"\n{heading}")
        terminal.show_table(columns, ([each[column] for column in columns] for each in rows))


def _row(each: Explained, value: object, sources: Mapping[str, str]) -> dict[str, Any]:
    from holdfast.settings import variable

    return {
        "setting": variable(each.name),
        "value": value,
        "origin": sources.get(each.name, "default"),
        "default": each.default,
        "allowed": each.allowed,
        "group": each.group,
        "meaning": each.meaning,
        "tuning": each.tuning,
    }


def _known(name: str) -> str:
    """The full name of a setting: `HOLDFAST_PORT`, `holdfast_port` and `port` name the same one."""
    from holdfast.settings import PREFIX, Settings, unknown_setting, variable

    found = name.lower().removeprefix(PREFIX.lower())
    if found in Settings.model_fields:
        return variable(found)
    raise UsageError(f"{variable(found)} {unknown_setting(found)}")
