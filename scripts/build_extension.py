"""Packs the passkey extension into a zip: the same bytes for the same files, and no tool besides Python."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "extras" / "passkey-extension"
TARGET = ROOT / "dist" / "holdfast-passkey-extension.zip"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def build(target: Path = TARGET) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(SOURCE.iterdir()):
            packed.writestr(zipfile.ZipInfo(file.name, _EPOCH), file.read_bytes(), zipfile.ZIP_DEFLATED)
    return target


if __name__ == "__main__":
    print(build(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET))
