"""What tried.toml holds, as values."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("tried.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A code that WhatsApp ends a link with, and how wasim is made to say it."""

    code: int
    name: str
    reaction: str
    login: dict[str, Any] | None = None
    mid_stream: list[dict[str, Any]] = field(default_factory=list)

    @property
    def company(self) -> str:
        """Companies have names without spaces, and each trial one of its own."""
        return f"{self.name}-{self.code}"


def trials() -> list[Trial]:
    return [Trial(**row) for row in tomllib.loads(FILE.read_text(encoding="utf-8"))["trial"]]
