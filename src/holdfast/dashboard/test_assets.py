"""Browsers load exactly the vendored files, and our pages need nothing that the content security policy forbids."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from holdfast.dashboard.assets import Assets

HERE = Path(__file__).parent
VENDORED = (HERE / "static/vendor", HERE.parents[2] / "tests/browser/vendor")
ENTRIES = [(folder, entry) for folder in VENDORED for entry in json.loads((folder / "vendor.json").read_text())]


@pytest.mark.parametrize(("folder", "entry"), ENTRIES, ids=[entry["file"] for _, entry in ENTRIES])
def test_vendored_files_are_those_that_were_reviewed(folder: Path, entry: dict[str, str]) -> None:
    """Each has the recorded SHA-256, version and licence."""
    assert hashlib.sha256((folder / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    assert entry["version"]
    assert entry["licence"]


@pytest.mark.parametrize("folder", VENDORED, ids=["dashboard", "tests"])
def test_there_are_no_files_beside_the_vendored_ones(folder: Path) -> None:
    """A file that is not listed was not reviewed."""
    listed = {entry["file"] for entry in json.loads((folder / "vendor.json").read_text())}
    assert {path.name for path in folder.iterdir()} == {*listed, "vendor.json"}


def test_an_asset_is_found_by_its_whole_address_only() -> None:
    """The address changes with the content, so browsers may cache it forever."""
    assets = Assets()
    address = assets.address("dashboard.css")
    found = assets.find(address)
    assert found is not None
    assert found.content == (HERE / "static/dashboard.css").read_bytes()
    assert assets.find(re.sub(r"/[0-9a-f]{12}/", "/000000000000/", address)) is None
    assert assets.find("/assets/../context.py") is None


@pytest.mark.parametrize("template", sorted((HERE / "templates").iterdir()), ids=lambda path: path.name)
def test_templates_have_no_script_or_style_in_line(template: Path) -> None:
    """The Content-Security-Policy would block them without a visible error."""
    text = template.read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|hx-on|javascript:", text)
