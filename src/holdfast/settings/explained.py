"""Settings as `holdfast settings`, docs/settings.md and error sentences describe them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from holdfast.settings.groups import AllowedValues, Default, Section

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One setting, for people."""

    name: str
    group: str
    meaning: str
    allowed: str
    default: str | None
    """None: unset."""
    tuning: str | None
    """The effect and the cost of changing it."""


def explained(settings: type[BaseModel]) -> Mapping[str, Sequence[Explained]]:
    """All settings by heading, in the order of their declaration."""
    return {
        group.__doc__ or "": [
            _explained(name, field, group.__doc__ or "") for name, field in group.model_fields.items()
        ]
        for group in settings.__bases__
        if issubclass(group, Section)
    }


def allowed(field: FieldInfo) -> str:
    """The allowed values of a setting, in words: `a whole number from 0 to 65535`."""
    if field.annotation is bool:
        return "on or off"
    minimum = next((bound.ge for bound in field.metadata if hasattr(bound, "ge")), None)
    maximum = next((bound.le for bound in field.metadata if hasattr(bound, "le")), None)
    if minimum is not None:
        return f"a {'whole ' if field.annotation is int else ''}number from {minimum} to {maximum}"
    given = _note(field, AllowedValues)
    return given.text if given else "text"


def meaning(field: FieldInfo) -> str:
    return _paragraphs(field)[0]


def _explained(name: str, field: FieldInfo, group: str) -> Explained:
    _, *tuning = _paragraphs(field)
    return Explained(
        name=name,
        group=group,
        meaning=meaning(field),
        allowed=allowed(field),
        default=_default(field),
        tuning=tuning[0] if tuning else None,
    )


def _paragraphs(field: FieldInfo) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in (field.description or "").split("\n\n")]


def _default(field: FieldInfo) -> str | None:
    if computed := _note(field, Default):
        return computed.text
    if isinstance(field.default, bool):
        return "on" if field.default else "off"
    return None if field.default is None else str(field.default)


def _note(field: FieldInfo, kind: type[T]) -> T | None:
    return next((note for note in field.metadata if isinstance(note, kind)), None)
