"""Secrets in files: only their owner may read them, and they are written completely or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.base.errors import Misconfigured
from holdfast.base.private import read_or_create_private, read_private
from tests.doubles.disk import FileOfAnotherUser, record_syncs, survives_power_cut


def test_a_secret_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    """Mode 0600; a second call returns the same secret; an incomplete file of an earlier attempt is replaced."""
    path = tmp_path / "word"
    (tmp_path / ".word.new").write_text("hal")
    assert [read_or_create_private(path, make, what="the word") for make in (lambda: "one", lambda: "two")] == [
        "one",
        "one",
    ]
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["word"]


def test_a_secret_survives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API key that callers were given must be the same after it: the content reaches the disk, then the name."""
    path = tmp_path / "word"
    syncs = record_syncs(monkeypatch, tmp_path)
    read_or_create_private(path, lambda: "one", what="the word")
    assert survives_power_cut(path, syncs)


def test_a_secret_of_another_user_says_who_may_read_it() -> None:
    """As when somebody runs a command without `sudo -u holdfast`."""
    with pytest.raises(Misconfigured) as refused:
        read_private(FileOfAnotherUser("/data/word"), what="the word")
    assert str(refused.value).endswith(
        'the word in "/data/word" can\'t be read by this user: run this as the user of Holdfast'
    )


def test_a_secret_that_cannot_be_read_or_stored_is_named(tmp_path: Path) -> None:
    """The error names the file and the cause, never the content."""
    (tmp_path / "word").write_bytes(b"\xff\xfe")
    with pytest.raises(Misconfigured, match=r'the word in ".*word" can\'t be read: it is not text'):
        read_or_create_private(tmp_path / "word", lambda: "new", what="the word")
    with pytest.raises(Misconfigured, match=r'the word can\'t be stored in ".*word": No such file'):
        read_or_create_private(tmp_path / "missing" / "word", lambda: "new", what="the word")
