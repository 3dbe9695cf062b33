"""Merging queued commits into one."""

from __future__ import annotations

import pytest

from holdfast.runtime.engine_storage import merge
from holdfast.session.account_changes import ChatRead
from holdfast.session.engine import (
    CallSignal,
    Commit,
    CreatedMessage,
    Decrypted,
    GroupChange,
    HistoryProgress,
    InboundMessage,
    Undecryptable,
)

PERSON = "962790000001@s.whatsapp.net"
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


EVERYTHING = Commit(
    link=1,
    seq=1,
    credentials="c",
    paired=True,
    keys={"session": {"a": "1"}},
    decrypted=[FIRST],
    undecryptable=[Undecryptable(whatsapp_id="3A", chat=PERSON, sender=PERSON)],
    made=[CreatedMessage(whatsapp_id="3B", made="QQ==")],
    groups={"1@g.us": "Flowers"},
    usernames={"77@lid": "rami"},
    changes=[ChatRead(chat=PERSON, whatsapp_ids=["3A"])],
    history=[InboundMessage(whatsapp_id="3C", chat=PERSON, sender=PERSON, type="text")],
    history_progress=HistoryProgress(percent=7),
    calls=[CallSignal(call_id="C1", kind="offer", caller=PERSON, creator=PERSON)],
    group_changes=[GroupChange(notice_id="1", group="1@g.us", kind="subject")],
)
_CONTENT = sorted(set(Commit.__struct_fields__) - {"link", "seq"})


@pytest.mark.parametrize("name", _CONTENT)
def test_nothing_that_a_commit_reports_is_lost(name: str) -> None:
    """Whatever a commit may have is in the merged one; progress is no row, and is passed on before."""
    assert getattr(EVERYTHING, name) != getattr(Commit(link=1, seq=1), name), "the commit above must have everything"
    merged = merge([EVERYTHING, Commit(link=1, seq=2)], with_keys=True)
    assert merged is not None
    assert getattr(merged, name) == (None if name == "history_progress" else getattr(EVERYTHING, name))


@pytest.mark.parametrize("name", sorted(set(_CONTENT) - {"paired", "history_progress"}))
def test_one_thing_is_enough_for_a_commit(name: str) -> None:
    """It is stored also when it is the only thing that a commit has."""
    merged = merge([Commit(link=1, seq=1, **{name: getattr(EVERYTHING, name)})], with_keys=True)
    assert merged is not None
    assert getattr(merged, name) == getattr(EVERYTHING, name)


def test_nothing_is_nothing() -> None:
    """Neither barriers nor the keys of a device that logs out change a row."""
    assert merge([], with_keys=True) is None
    assert merge([Commit(link=1, seq=1), Commit(link=1, seq=2)], with_keys=True) is None
    assert merge([Commit(link=1, seq=1, credentials="c", keys={"a": {"b": "c"}})], with_keys=False) is None
