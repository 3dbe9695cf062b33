"""What the site needs of the pages: MkDocs calls `on_page_markdown` for each.

Pages link to files of the source, which are no part of the site. There the file's path is shown instead of the link;
one that is not there is said, and fails the strict build as any dead link does.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
log = logging.getLogger("mkdocs.hooks.source_links")

_SOURCE_LINK = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """`[the note](../src/note.md)` becomes "the note (`src/note.md`)"."""

    def shown(link: re.Match[str]) -> str:
        text, path = link.groups()
        if not (ROOT / path).exists():
            log.warning("%s links to %s, which is not there", page.file.src_path, path)
        return f"{text} (`{path}`)"

    return _SOURCE_LINK.sub(shown, markdown)
