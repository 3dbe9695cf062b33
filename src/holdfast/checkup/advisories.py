"""Published security advisories about Baileys, and the versions that each affects.

The table is as old as this release of Holdfast; a newer release may list more.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

Version = tuple[int, int, int, float]
"""Major, minor, patch, and the number of a release candidate; a release comes after all of its candidates."""

_WRITTEN = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:-rc\.?(\d+))?(?:[-+].*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Advisory:
    name: str
    what: str
    affected: tuple[tuple[str, str], ...]
    """Ranges of versions: the first affected one, and the one that fixes it, which is not affected."""
    source: str

    def concerns(self, version: str) -> bool:
        """A version that can't be parsed counts as affected."""
        found = parsed(version)
        if found is None:
            return True
        return any(_known(first) <= found < _known(mended) for first, mended in self.affected)


ADVISORIES = (
    Advisory(
        name="GHSA-qvv5-jq5g-4cgg (CVE-2026-48063, critical)",
        what="a crafted protocol message can forge received messages and history and damage the app state",
        affected=(("0.0.0", "6.7.22"), ("7.0.0-rc.1", "7.0.0-rc12")),
        source="https://github.com/WhiskeySockets/Baileys/security/advisories/GHSA-qvv5-jq5g-4cgg",
    ),
)


def advisories_about(version: str) -> list[Advisory]:
    return [advisory for advisory in ADVISORIES if advisory.concerns(version)]


def parsed(version: str) -> Version | None:
    """The version as a tuple that sorts: rc.9 comes before rc10, and both before the release. None: not a version."""
    written = _WRITTEN.fullmatch(version)
    if written is None:
        return None
    candidate = math.inf if written[4] is None else int(written[4])
    return int(written[1]), int(written[2]), int(written[3]), candidate


def _known(version: str) -> Version:
    found = parsed(version)
    assert found is not None, version
    return found
