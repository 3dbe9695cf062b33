"""No code block of the documents that people paste from is left untried."""

from __future__ import annotations

import re

import pytest

from tests.pasted import ROOT, all_blocks

PAGES = ("README.md", "docs/chats.md", "docs/examples.md", "docs/passkeys.md", "docs/receiving.md", "docs/webhooks.md")
RUNNABLE = {"sh", "python", "js"}
ELSEWHERE = {
    ("README.md", "sh", "Try it without a phone"): "installs from the network; the demo has its own tests",
    ("README.md", "sh", "Tests"): "is what runs this test",
}
_TRIED = re.compile(r'blocks\(\s*"(?P<page>[^"]+)",\s*"(?P<language>\w+)",\s*heading="(?P<heading>[^"]+)"')


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_run_by_a_test(page: str) -> None:
    """A new one needs a test that takes it from the page by `blocks(…)`, with all of its section, and runs it."""
    sources = [path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    tried = {(each["page"], each["language"], each["heading"]) for text in sources for each in _TRIED.finditer(text)}
    found = {(page, language, heading) for heading, language, _ in all_blocks(page) if language in RUNNABLE}
    assert found - set(ELSEWHERE) - tried == set()
    assert found, "the page has no block any more"
    assert {each for each in ELSEWHERE if each[0] == page} <= found
