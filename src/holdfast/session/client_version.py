"""The client version: reads it from WhatsApp's own script, and decides which of two to use.

WhatsApp refuses revisions that are a few weeks old with 405. The script is treated as hostile input: a revision must
be within bounds, and never older than one that is known to work.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

OLDEST = 1_000_000_000
MOST_AHEAD = 50_000_000
"""WhatsApp advances by about 100,000 a week: a revision further ahead than this is not valid."""
ENGINE_REVISION = 1_043_857_760
"""The revision of the pinned Baileys."""
_PINNED = re.compile(r"2\.3000\.(\d{10})")
_IN_SCRIPT = re.compile(r"\\?\"client_revision\\?\"\s*:\s*(\d{10})(?!\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientVersion:
    revision: int
    origin: str
    """`setting`, `whatsapp`, `stored`."""
    read_at: str
    """UTC."""

    @property
    def text(self) -> str:
        return f"2.3000.{self.revision}"

    @property
    def numbers(self) -> Sequence[int]:
        return (2, 3000, self.revision)


def pinned_revision(text: str) -> int | None:
    """The revision N of `2.3000.N`; None for anything else."""
    found = _PINNED.fullmatch(text)
    return None if found is None else int(found[1])


def revision_in(script: str) -> int | None:
    """The revision that WhatsApp's `sw.js` names; None where it names no valid one."""
    found = _IN_SCRIPT.search(script)
    if found is None or not OLDEST <= int(found[1]) <= ENGINE_REVISION + MOST_AHEAD:
        return None
    return int(found[1])


def is_newer(revision: int, known: ClientVersion | None) -> bool:
    """Never go back to an older revision: a cache on the way may serve an old script."""
    return revision > (ENGINE_REVISION - 1 if known is None else known.revision)
