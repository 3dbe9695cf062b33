"""`holdfast settings`: what can be set, what is set, and where that came from."""

from __future__ import annotations

from holdfast import settings as settings_module
from holdfast import terminal
from holdfast.cli.asking import AsJson
from holdfast.settings import Settings


def show_settings(as_json: AsJson = False) -> None:
    """All settings: value, where it came from, what it means."""
    settings = settings_module.load()
    came_from = settings_module.origins()
    values = settings.model_dump(mode="json")
    rows = [
        (settings_module.variable(name), values[name], came_from.get(name, "default"), field.description)
        for name, field in Settings.model_fields.items()
    ]
    if as_json:
        names = ("setting", "value", "origin", "meaning")
        terminal.show_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    terminal.show_table(("setting", "value", "origin", "meaning"), rows)
