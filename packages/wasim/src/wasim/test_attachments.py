"""Media of phones: encrypted and decrypted in chunks, and only authentic content is returned."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from wasim import attachments
from wasim.attachments import Unopenable
from wasim.media import MediaFolder


@pytest.fixture
def folder(tmp_path: Path) -> MediaFolder:
    return MediaFolder(tmp_path)


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


@pytest.mark.parametrize("kind", attachments.KINDS)
@pytest.mark.parametrize("size", [0, 1, 16, 65_535, 65_536, 200_000])
def test_what_was_sealed_is_opened(folder: MediaFolder, kind: str, size: int) -> None:
    """This holds for any size and any chunks."""
    content = b"".join(attachments.filling(size))
    sealed = attachments.seal(folder, kind, pieces(content, 1000))
    path = folder.path(sealed.name)
    assert b"".join(attachments.unseal(path, kind, sealed.key)) == content
    assert attachments.measure(path, kind, sealed.key) == (size, hashlib.sha256(content).hexdigest())
    assert (sealed.length, sealed.sha256) == (size, hashlib.sha256(content).digest())
    assert sealed.encrypted_sha256 == hashlib.sha256(path.read_bytes()).digest()


def test_only_the_genuine_is_opened(folder: MediaFolder) -> None:
    """A wrong key, a wrong kind, a changed file and a missing file are refused."""
    sealed = attachments.seal(folder, "image", [b"x" * 1000])
    path = folder.path(sealed.name)
    for kind, key in (("image", bytes(32)), ("video", sealed.key)):
        with pytest.raises(Unopenable, match="another key"):
            attachments.measure(path, kind, key)
    path.write_bytes(b"\x00" + path.read_bytes()[1:])
    with pytest.raises(Unopenable):
        attachments.measure(path, "image", sealed.key)
    path.unlink()
    with pytest.raises(Unopenable, match="not on this media host"):
        attachments.measure(path, "image", sealed.key)


def test_a_source_that_fails_leaves_nothing(folder: MediaFolder, tmp_path: Path) -> None:
    """An incomplete file is not stored."""

    def failing() -> Iterator[bytes]:
        yield b"x"
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        attachments.seal(folder, "image", failing())
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"y" * 150_000)
    assert [len(piece) for piece in attachments.file_chunks(path)] == [65_536, 65_536, 18_928]
