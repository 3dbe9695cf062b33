"""The sentences of events in a session's history."""

from __future__ import annotations

from typing import get_args

from holdfast.session.event_words import _SENTENCES, HOLDFAST_STOPPED, event_sentence
from holdfast.session.events import Event


def test_every_event_has_a_sentence_of_its_own() -> None:
    """And there is none for an event that no longer exists; one that another version stored has none."""
    assert set(_SENTENCES) == {each.__name__ for each in get_args(Event)} | {HOLDFAST_STOPPED}
    assert len(set(_SENTENCES.values())) == len(_SENTENCES)
    assert event_sentence("LinkClosed") == "the connection ended"
    assert event_sentence("LinkLost") is None
