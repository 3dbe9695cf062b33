"""Words that operators and developers read: phrases that readers misunderstood do not come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pasted import ROOT

RETIRED = {
    "gets every accepted message there": "delivers every accepted message",
    "it is on the disk, with its WhatsApp id chosen": "the message is on disk with its WhatsApp id fixed",
    "A state is true": "A state is what WhatsApp confirmed",
    "States tell the truth": "A state is what WhatsApp confirmed",
    "trouble first": "those with problems first",
    "Links come back by themselves": "Links reconnect by themselves",
    "moved in from a Baileys bot": "existing Baileys sessions imported",
    "webhooks that are tried for days": "webhooks that are retried for days",
    "with an empty home folder, everything installed": "downloads included",
    "write much to strangers": "message many strangers",
    "leads to everything else": "Everything else is in docs/",
    "is yours to bear": "You carry the consequences",
    "Why no notifications on the phone any more": "Why does my phone no longer show notifications?",
    "Last taken": "Last delivered",
    "takes nothing": "is failing",
    "Tried again": "Will be retried",
    "What a receiver does not take": "Deliveries that a receiver does not accept",
    "WhatsApp heard": "Last heard from WhatsApp",
    "the oldest of 1 waiting": "1 message has been waiting",
    "a logout was asked for": "it was logged out from here",
    "It stays for good": "It can't be changed later.",
    "leads through signing": "follow the steps",
    "waits for its turn": "waits in the queue",
    "to be repeated": "will be retried",
    "what is shown was stored before": "This page shows its last stored state",
    "nobody yet": "another node",
    "Held: reach-out-lock": "a sentence that says what WhatsApp restricts, and until when",
}
"""Each with its replacement."""


def _read_by_people() -> list[Path]:
    sources = [path for path in (ROOT / "src/holdfast").rglob("*.py") if not path.name.startswith("test_")]
    pages = [*(ROOT / "docs").glob("*.md"), *(ROOT / "src/holdfast").rglob("*.html")]
    return [ROOT / "README.md", *pages, *sources]


@pytest.mark.parametrize("phrase", RETIRED)
def test_no_text_uses_a_retired_phrase(phrase: str) -> None:
    """In documents, pages, messages and alerts; line ends count as blanks."""
    found = [path for path in _read_by_people() if phrase in " ".join(path.read_text("utf-8").split())]
    assert found == [], f"write {RETIRED[phrase]!r}"
