"""The messages in memory are bounded, and overdue ones are found."""

from __future__ import annotations

from holdfast.delivery.in_flight import UNANSWERED_S, UNWRITTEN_S, InFlight
from holdfast.delivery.stores import Outgoing


def message(name: str) -> Outgoing:
    return Outgoing(seq=1, id=f"msg_{name}", whatsapp_id=name, chat=name, content={}, attempts=1, accepted_at="")


def flying(*names: str, limit: int = 3) -> InFlight:
    made = InFlight(limit=limit)
    for moment, name in enumerate(names):
        made.add(message(name), float(moment))
    return made


def test_reservations_use_capacity_until_they_are_used_or_released() -> None:
    """A reserved message must not be taken from the outbox in the meantime."""
    made = flying("a")
    made.reserve("b")
    made.reserve("c")
    assert (made.room, len(made), set(made.whatsapp_ids), made.is_empty) == (0, 1, {"a", "b", "c"}, False)
    made.add(message("b"), 5)
    made.release("c")
    assert (made.room, len(made), set(made.whatsapp_ids)) == (1, 2, {"a", "b"})


def test_a_removed_message_is_returned_once() -> None:
    """A second report about it finds nothing."""
    made = flying("a")
    assert made.get("a") == made.remove("a") == message("a")
    assert (made.get("a"), made.remove("a"), made.is_empty) == (None, None, True)


def test_a_lost_link_leaves_nothing_but_reservations() -> None:
    """Messages that are being stored are added once they are stored."""
    made = flying("a", "b")
    made.reserve("c")
    made.clear()
    assert (made.messages, set(made.whatsapp_ids)) == ([], {"c"})


def test_an_answer_can_be_overdue_only_once_the_frame_left() -> None:
    """Slow messages (media, typing) count from `written`; a second report changes nothing."""
    made = flying("a")
    made.add(message("slow"), 1, is_slow=True)
    assert (made.overdue(UNANSWERED_S - 1), made.overdue_at) == ([], UNANSWERED_S)
    assert made.overdue(UNANSWERED_S) == [("a", UNANSWERED_S)]
    made.remove("a")
    assert (made.unacked_since, made.overdue(UNWRITTEN_S), made.overdue_at) == (None, [], 1 + UNWRITTEN_S)
    assert made.overdue(1 + UNWRITTEN_S) == [("slow", UNWRITTEN_S)]


def test_messages_are_unwritten_until_their_frame_left() -> None:
    """Also those that are not slow."""
    made = flying("a", "b")
    made.add(message("slow"), 1, is_slow=True)
    made.written("b", 2)
    made.written("gone", 2)
    assert made.unwritten == [message("a"), message("slow")]


def test_a_frame_that_left_late_has_its_time_for_an_answer() -> None:
    """The time that the engine took before does not count; the next moment to look is never in the past."""
    made = InFlight(limit=1)
    made.add(message("slow"), 0, is_slow=True)
    for moment in (UNWRITTEN_S - 1, UNWRITTEN_S):
        made.written("slow", moment)
    made.written("unknown", 1)
    assert (made.unacked_since, made.overdue(UNWRITTEN_S)) == (UNWRITTEN_S - 1, [])
    assert made.overdue_at == UNWRITTEN_S - 1 + UNANSWERED_S


def test_frames_that_left_just_before_a_moment_are_found() -> None:
    """They may have ended the link; messages that were never written can't have."""
    made = flying("old", "new")
    made.add(message("slow"), 1, is_slow=True)
    assert made.answerable_after(1) == [message("new")]
