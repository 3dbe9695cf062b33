"""Pages that are made from the source say what the source says."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_generated_pages_are_fresh() -> None:
    """docs/states.md and docs/reasons.md are what `just docs` would write now."""
    made = runpy.run_path(str(ROOT / "scripts" / "make_docs.py"))
    assert list(made["PAGES"]) == ["states.md", "reasons.md"]
    assert made["stale"]() == [], "run `just docs` and commit what it wrote"
