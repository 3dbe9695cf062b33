"""Fetch the scripts and styles of others that the dashboard and its tests carry: `vendor_assets.py [--accept]`.

`vendor.json` beside the files names package, version, licence and SHA-256 of each. A file that differs is refused,
unless `--accept` says to write its hash down: after a change of version, and a look at what changed.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from holdfast.engine.node import find_node

ROOT = Path(__file__).parents[1]
FOLDERS = (ROOT / "src/holdfast/dashboard/static/vendor", ROOT / "tests/browser/vendor")


def main() -> int:
    accept = "--accept" in sys.argv[1:]
    for folder in FOLDERS:
        listed = json.loads((folder / "vendor.json").read_text())
        for entry in listed:
            if problem := _take(folder, entry, accept=accept):
                print(problem, file=sys.stderr)
                return 1
        if accept:
            lines = ",\n".join(f"  {json.dumps(entry)}" for entry in listed)
            (folder / "vendor.json").write_text(f"[\n{lines}\n]\n")
    return 0


def _take(folder: Path, entry: dict[str, str], *, accept: bool) -> str | None:
    """Write one file; or say why not."""
    content = _fetch(entry["package"], entry["version"], entry["from"])
    found = hashlib.sha256(content).hexdigest()
    if accept:
        entry["sha256"] = found
    if found != entry["sha256"]:
        return f"{entry['file']} has the SHA-256 {found}, not {entry['sha256']}: look at it, then use --accept"
    (folder / entry["file"]).write_bytes(content)
    print(f"{entry['file']}: {entry['package']} {entry['version']}")
    return None


def _fetch(package: str, version: str, path: str) -> bytes:
    """One file of a package, without running anything of it."""
    with tempfile.TemporaryDirectory() as folder:
        node = find_node()
        npm = [str(node.executable), str(node.npm_cli), "pack", f"{package}@{version}", "--silent", "--ignore-scripts"]
        packed = subprocess.run(npm, cwd=folder, check=True, capture_output=True, text=True)
        with tarfile.open(Path(folder) / packed.stdout.split()[-1]) as archive:
            member = archive.extractfile(f"package/{path}")
            assert member is not None
            return member.read()


if __name__ == "__main__":
    sys.exit(main())
