"""Merging queued commits into one."""

from __future__ import annotations

from holdfast.runtime.engine_storage import merge
from holdfast.session.engine import Commit, Decrypted

FIRST = Decrypted(ciphertext_sha256="a", plaintext="QQ==")
SECOND = Decrypted(ciphertext_sha256="b", plaintext="Qg==")


def test_the_last_value_of_each_key_is_stored() -> None:
    """This includes deletions, and values that were deleted and set again."""
    commits = [
        Commit(link=1, seq=1, keys={"session": {"a": "1", "b": "1"}, "pre-key": {"7": "x"}}),
        Commit(link=1, seq=2, keys={"session": {"a": None, "c": "2"}, "pre-key": {"7": None}}),
        Commit(link=1, seq=3, keys={"session": {"a": "3"}}),
    ]
    merged = merge(commits, with_keys=True)
    assert merged == Commit(link=1, seq=3, keys={"session": {"a": "3", "b": "1", "c": "2"}, "pre-key": {"7": None}})


def test_the_newest_credentials_hold_with_what_they_are() -> None:
    """A commit without credentials changes none."""
    commits = [
        Commit(link=1, seq=1, credentials="old"),
        Commit(link=1, seq=2, credentials="new", paired=True),
        Commit(link=1, seq=3, keys={"a": {"b": "c"}}),
    ]
    merged = merge(commits, with_keys=True)
    assert merged is not None
    assert (merged.credentials, merged.paired) == ("new", True)


def test_everything_decrypted_is_kept_in_order() -> None:
    """No ciphertext replaces another one."""
    merged = merge(
        [Commit(link=1, seq=1, decrypted=[FIRST]), Commit(link=1, seq=2, decrypted=[SECOND])], with_keys=True
    )
    assert merged is not None
    assert merged.decrypted == [FIRST, SECOND]


def test_of_a_device_that_logs_out_only_messages_are_kept() -> None:
    """Its credentials and keys are in quarantine already."""
    commit = Commit(link=1, seq=1, credentials="c", paired=True, keys={"a": {"b": "c"}}, decrypted=[FIRST])
    assert merge([commit], with_keys=False) == Commit(link=1, seq=1, decrypted=[FIRST])


def test_nothing_is_nothing() -> None:
    """Neither barriers nor the keys of a device that logs out change a row."""
    assert merge([], with_keys=True) is None
    assert merge([Commit(link=1, seq=1), Commit(link=1, seq=2)], with_keys=True) is None
    assert merge([Commit(link=1, seq=1, credentials="c", keys={"a": {"b": "c"}})], with_keys=False) is None
