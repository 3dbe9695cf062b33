"""Profile pictures that are to be written to the media host."""

from __future__ import annotations

import hashlib

from wasim.wire.blobs import PATH_QUERY, PICTURE_FOLDER, name_of


class PictureFiles:
    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        """Pictures to write, by their names there."""

    def add(self, jpeg: bytes) -> str:
        """Add a picture; returns its name on the media host."""
        name = name_of(hashlib.sha256(jpeg).digest())
        self.files[name] = jpeg
        return name


def path_of(name: str) -> str:
    return f"{PICTURE_FOLDER}/{name}{PATH_QUERY}"
