"""The browser extension asks for nothing that it does not need, and its package is what the sources say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "extras" / "passkey-extension"


def test_it_has_no_permission_but_to_run_on_whatsapp_s_site() -> None:
    """Whoever installs it must be able to see at a glance what it can do."""
    manifest = json.loads((SOURCE / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["manifest_version"] == 3
    assert set(manifest) == {
        "manifest_version",
        "name",
        "version",
        "description",
        "minimum_chrome_version",
        "content_scripts",
    }
    (script,) = manifest["content_scripts"]
    assert script["matches"] == ["https://web.whatsapp.com/*"]
    assert script["all_frames"] is False


def test_it_sends_and_stores_nothing() -> None:
    """It returns the answer only to the dashboard that opened it."""
    text = (SOURCE / "sign.js").read_text(encoding="utf-8")
    assert not re.findall(
        r"\b(fetch|XMLHttpRequest|WebSocket|sendBeacon|localStorage|sessionStorage|indexedDB|chrome\.)", text
    )


def test_the_package_is_the_same_for_the_same_files(tmp_path: Path) -> None:
    """Anybody can build it and compare."""
    one, two = tmp_path / "one.zip", tmp_path / "two.zip"
    for target in (one, two):
        subprocess.run([sys.executable, str(ROOT / "scripts" / "build_extension.py"), str(target)], check=True)
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as packed:
        assert packed.namelist() == ["README.md", "manifest.json", "sign.js"]
