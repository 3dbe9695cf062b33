"""The page about messages says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from holdfast.delivery.content import MediaKind
from holdfast.delivery.kinds import DELETE_WITHIN, EDIT_WITHIN, KINDS
from holdfast.delivery.media import MB, MEDIA_TYPES, max_bytes
from holdfast.delivery.media_links import VALID
from holdfast.runtime.outbound_media import FETCH_S, REDIRECTS
from holdfast.settings import load

PAGE = (Path(__file__).parents[2] / "docs" / "messages.md").read_text(encoding="utf-8")


def test_types_and_sizes_of_media_are_those_that_are_checked() -> None:
    """A row for each kind."""
    for kind in (MediaKind.IMAGE, MediaKind.VIDEO, MediaKind.AUDIO, MediaKind.DOCUMENT, MediaKind.STICKER):
        types = ", ".join(MEDIA_TYPES.get(kind, ("any",)))
        assert f"| {kind} | {types} | {max_bytes(kind, limit_bytes=1 << 40) // MB} MB |" in PAGE


def test_every_kind_has_its_row_and_every_number_is_the_codes() -> None:
    """Numbers are stated once, and repeated here."""
    outbound, _ = PAGE.split("## Sending media")
    rows = [line.split("|")[1] for line in outbound.splitlines() if line.startswith("| `")]
    documented = [kind for row in rows for kind in re.findall("`(.*?)`", row)]
    missing = set(KINDS) - set(documented)
    assert not missing, "add a row to the first table of docs/messages.md"
    assert documented == list(KINDS), "the first table of docs/messages.md has the order of KINDS"
    settings = load({}, file=Path("nowhere.toml"))
    for words in (
        f"within {EDIT_WITHIN.seconds // 60} minutes",
        f"within {DELETE_WITHIN.total_seconds() / 3600:g} hours",
        f"within {FETCH_S} s",
        f"`HOLDFAST_MEDIA_MAX_MB` ({settings.media_max_mb})",
        f"`HOLDFAST_MEDIA_KEEP_DAYS` ({settings.media_keep_days})",
    ):
        assert words in PAGE
    assert (VALID.days, REDIRECTS) == (7, 3), "the page says seven days and three redirects"
