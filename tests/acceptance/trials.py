"""The content of tried.toml as values."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("tried.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A code with which WhatsApp ends a link, and the fault by which wasim sends it."""

    code: int
    name: str
    reaction: str
    login: dict[str, Any] | None = None
    mid_stream: list[dict[str, Any]] = field(default_factory=list)

    @property
    def company(self) -> str:
        """The trial's own company, whose name has no spaces."""
        return f"{self.name}-{self.code}"


def trials() -> list[Trial]:
    return [Trial(**row) for row in tomllib.loads(FILE.read_text(encoding="utf-8"))["trial"]]
