"""Media of phones: encrypted and decrypted in chunks, and only authentic content is returned."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from wasim import attachments
from wasim.attachments import UnreadableMedia
from wasim.media import MediaFolder


@pytest.fixture
def folder(tmp_path: Path) -> MediaFolder:
    return MediaFolder(tmp_path)


def chunks(content: bytes, size: int) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


@pytest.mark.parametrize("kind", attachments.KINDS)
@pytest.mark.parametrize("size", [0, 1, 16, 65_535, 65_536, 200_000])
def test_encrypted_media_decrypts_to_its_content(folder: MediaFolder, kind: str, size: int) -> None:
    """This holds for any size and any chunks."""
    content = b"".join(attachments.filler(size))
    encrypted = attachments.encrypt(folder, kind, chunks(content, 1000))
    path = folder.path(encrypted.name)
    assert b"".join(attachments.decrypt(path, kind, encrypted.key)) == content
    assert attachments.measure(path, kind, encrypted.key) == (size, hashlib.sha256(content).hexdigest())
    assert (encrypted.length, encrypted.sha256) == (size, hashlib.sha256(content).digest())
    assert encrypted.encrypted_sha256 == hashlib.sha256(path.read_bytes()).digest()


def test_only_authentic_media_is_decrypted(folder: MediaFolder) -> None:
    """A wrong key, a wrong kind, a changed file and a missing file are refused."""
    encrypted = attachments.encrypt(folder, "image", [b"x" * 1000])
    path = folder.path(encrypted.name)
    for kind, key in (("image", bytes(32)), ("video", encrypted.key)):
        with pytest.raises(UnreadableMedia, match="another key"):
            attachments.measure(path, kind, key)
    path.write_bytes(b"\x00" + path.read_bytes()[1:])
    with pytest.raises(UnreadableMedia):
        attachments.measure(path, "image", encrypted.key)
    path.unlink()
    with pytest.raises(UnreadableMedia, match="not on this media host"):
        attachments.measure(path, "image", encrypted.key)


def test_no_file_is_left_when_the_source_fails(folder: MediaFolder, tmp_path: Path) -> None:
    """The unfinished file is removed."""

    def failing() -> Iterator[bytes]:
        yield b"x"
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        attachments.encrypt(folder, "image", failing())
    assert list(tmp_path.iterdir()) == []


def test_files_are_read_in_chunks(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"y" * 150_000)
    assert [len(chunk) for chunk in attachments.file_chunks(path)] == [65_536, 65_536, 18_928]
