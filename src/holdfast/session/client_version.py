"""The client version: how it is read from WhatsApp's own script, and which of several known ones is used.

WhatsApp refuses revisions that are a few weeks old with 405. What it publishes is untrusted: only a number within
bounds counts, and an old script from a cache never brings an older version back.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

OLDEST = 1_000_000_000
MAX_AHEAD = 50_000_000
"""WhatsApp advances by about 100,000 a week: a revision further ahead than this is not valid."""
ENGINE_REVISION = 1_043_857_760
"""The client revision of the pinned Baileys."""
ENGINE_RELEASED_AT = "2026-08-06T18:06:44.580Z"
"""The release date of that Baileys: its revision is at least this old."""
_PINNED = re.compile(r"2\.3000\.(\d{10})")
_IN_SCRIPT = re.compile(r"\\?\"client_revision\\?\"\s*:\s*(\d{10})(?!\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientVersion:
    revision: int
    origin: str
    """`setting`, `whatsapp`, `stored`."""
    read_at: str
    """When WhatsApp published it as current, as far as this installation knows; UTC."""

    @property
    def text(self) -> str:
        return f"2.3000.{self.revision}"

    @property
    def numbers(self) -> Sequence[int]:
        return (2, 3000, self.revision)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownVersions:
    """What all processes on a database know."""

    worked: ClientVersion | None = None
    """The newest that a login succeeded with."""
    found: ClientVersion | None = None
    """What WhatsApp published when it was read last."""


class Claim(StrEnum):
    """Who reads WhatsApp's script."""

    OWN = "own"
    OTHERS = "others"
    """Another process is reading it now."""
    DONE = "done"
    """Another process has read it recently."""


class VersionStore(Protocol):
    """Shared by all processes on a database."""

    async def load(self) -> KnownVersions: ...

    async def store_working(self, version: ClientVersion) -> None: ...

    async def claim_read(self, *, within_s: float) -> Claim:
        """Ask to read WhatsApp's script, which only one process does within that time."""

    async def end_read(self, found: ClientVersion | None) -> None:
        """Store what was read; None: it failed, and another process may read at once."""


def pinned_revision(text: str) -> int | None:
    """The revision N of `2.3000.N`; None for anything else."""
    found = _PINNED.fullmatch(text)
    return None if found is None else int(found[1])


def revision_in(script: str) -> int | None:
    """The revision that WhatsApp's `sw.js` names; None where it names no valid one."""
    found = _IN_SCRIPT.search(script)
    if found is None or not OLDEST <= int(found[1]) <= ENGINE_REVISION + MAX_AHEAD:
        return None
    return int(found[1])


def revision_of(version: ClientVersion | None) -> int:
    """None is the engine's own version."""
    return ENGINE_REVISION if version is None else version.revision


def origin_of(version: ClientVersion | None) -> str:
    return "engine" if version is None else version.origin


def age_s(version: ClientVersion | None, *, now: datetime) -> float:
    """Seconds since WhatsApp published it, as far as it is known; since its release for the engine's own version."""
    published_at = ENGINE_RELEASED_AT if version is None else version.read_at
    return max(0.0, (now - datetime.fromisoformat(published_at)).total_seconds())


def text_of(version: ClientVersion | None) -> str:
    return f"2.3000.{revision_of(version)}"


def choose(
    found: ClientVersion | None, worked: ClientVersion | None, *, refused: Collection[int]
) -> ClientVersion | None:
    """The version to log in with: the newest that WhatsApp has not refused, or the newest when it refused all.

    `found`: what WhatsApp published last. `worked`: the newest that a login succeeded with. None, as a result:
    the engine's own version. `refused`: revisions that WhatsApp answered with 405. A refusal of what once worked means
    that it is outdated, and so is everything older; a refusal of anything else may mean that the script was wrong.
    """
    known = [version for version in (found, worked) if version is not None]
    ranked = sorted([*known, None], key=revision_of, reverse=True)
    outdated = worked.revision if worked is not None and worked.revision in refused else 0
    open_ = [each for each in ranked if revision_of(each) > outdated and revision_of(each) not in refused]
    return (open_ or ranked)[0]
