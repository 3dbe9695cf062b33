"""Records on disk: a batch is written completely or not at all, and the next process can read it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from wasim.store import Store, StoreInUse


def test_records_survive_a_restart(tmp_path: Path) -> None:
    """Records can be put, replaced and deleted, in one batch and over several."""
    with Store(tmp_path / "new") as store:
        store.write({("a", "1"): b"x", ("a", "2"): b"y", ("b", "1"): b"z"})
        store.write({("a", "1"): b"changed", ("a", "2"): None, ("c", "9"): None})
    with Store(tmp_path / "new") as store:
        assert sorted(store.records()) == [("a", "1", b"changed"), ("b", "1", b"z")]


def test_a_failed_batch_changes_nothing(tmp_path: Path) -> None:
    """Records before the invalid value are not stored either."""
    with Store(tmp_path) as store:
        store.write({("a", "1"): b"x"})
        with pytest.raises(sqlite3.Error):
            store.write({("a", "1"): b"changed", ("a", "2"): object()})  # type: ignore[dict-item]
        assert list(store.records()) == [("a", "1", b"x")]
        store.write({("a", "3"): b"fine"})


def test_a_state_directory_is_for_one_process(tmp_path: Path) -> None:
    """The second process is refused while the first is running, and the error names the directory."""
    with Store(tmp_path), pytest.raises(StoreInUse, match=str(tmp_path)):
        Store(tmp_path)
    with Store(tmp_path):
        pass
