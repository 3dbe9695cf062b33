"""Scripts and styles, read once. Their URLs contain a hash of the content, so browsers may cache them forever."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

_TYPES = {
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    address: str
    media_type: str
    content: bytes
    zipped: bytes


class Assets:
    def __init__(self) -> None:
        root = files("holdfast.dashboard") / "static"
        made = [_asset(file) for folder in (root, root / "vendor") for file in folder.iterdir() if _is_served(file)]
        self._by_address: Mapping[str, Asset] = {asset.address: asset for asset in made}
        self._by_name = {asset.address.rpartition("/")[2]: asset for asset in made}

    def find(self, address: str) -> Asset | None:
        return self._by_address.get(address)

    def address(self, name: str) -> str:
        """URL path of the file with this name."""
        return self._by_name[name].address


def _is_served(file: Traversable) -> bool:
    return file.name.rpartition(".")[2] in _TYPES


def _asset(file: Traversable) -> Asset:
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:12]
    return Asset(
        address=f"/assets/{digest}/{file.name}",
        media_type=_TYPES[file.name.rpartition(".")[2]],
        content=content,
        zipped=gzip.compress(content, mtime=0),
    )
