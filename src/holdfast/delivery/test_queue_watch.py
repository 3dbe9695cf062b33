"""When the sender looks at its queue again: never without need, and never too late."""

from __future__ import annotations

from holdfast.delivery.queue_watch import (
    SUSPECT_LINK_S,
    SUSPECT_PATIENCE_S,
    SUSPECT_WAITS_S,
    QueueQuery,
    QueueWatch,
    earliest,
)


def looked(*, has_more: bool = False, is_limited: bool = False, suspect_waits: bool = False) -> QueueWatch:
    """A watch after one look at 100 s."""
    watch = QueueWatch()
    watch.query_begins()
    watch.query_ended(100, has_more=has_more, is_limited=is_limited, suspect_waits=suspect_waits)
    return watch


def test_at_first_anything_may_be_due() -> None:
    """The outbox of a session that has just started is unknown."""
    watch = QueueWatch()
    assert watch.may_be_due
    assert not watch.is_empty


def test_an_empty_queue_is_not_queried_when_messages_are_settled() -> None:
    """A look is only worth it if another message of the chat may be waiting."""
    assert looked().next_query(has_updates=True, drains=False) is QueueQuery.NONE
    assert looked(has_more=True).next_query(has_updates=False, drains=False) is QueueQuery.NONE
    assert looked().next_query(has_updates=False, drains=True) is QueueQuery.FULL


def test_updates_cause_a_query_only_where_they_make_a_message_due() -> None:
    """While nothing else is due; a suspect waits until nothing is in flight, whatever chat it is in."""
    assert looked(has_more=True).next_query(has_updates=True, drains=False) is QueueQuery.IF_MADE_DUE
    assert looked(has_more=True, suspect_waits=True).next_query(has_updates=True, drains=False) is QueueQuery.FULL
    assert looked(is_limited=True).next_query(has_updates=True, drains=False) is QueueQuery.FULL


def test_a_needless_query_does_not_change_the_knowledge() -> None:
    """Unless something changed during it."""
    watch = looked(has_more=True)
    watch.query_begins()
    watch.query_found_nothing_due()
    assert not watch.may_be_due
    assert not watch.is_empty
    watch.query_begins()
    watch.changed()
    watch.query_found_nothing_due()
    assert watch.may_be_due


def test_messages_accepted_during_a_query_do_not_overtake() -> None:
    """The messages that the look takes are older."""
    watch = looked()
    watch.query_begins()
    assert watch.may_be_due


def test_a_change_during_a_query_causes_another_query() -> None:
    """The look may have read the rows before the change."""
    watch = looked()
    watch.query_begins()
    watch.changed()
    watch.query_ended(100, has_more=False, is_limited=False, suspect_waits=False)
    assert watch.may_be_due


def test_a_query_that_reached_a_limit_is_repeated() -> None:
    """More messages may be due."""
    assert looked(is_limited=True).may_be_due


def test_delayed_messages_are_queried_when_they_are_due() -> None:
    """There is one look, at the earliest moment that was expected."""
    watch = looked(has_more=True)
    for moment in (None, 130, 120):
        watch.expect(moment)
    assert watch.wakes_at(drains=False) == 120
    watch.advance(119)
    assert not watch.may_be_due
    watch.advance(120)
    assert watch.may_be_due
    assert watch.wakes_at(drains=False) is None


def test_a_suspect_is_overdue_after_a_while() -> None:
    """The time counts from the first look that found it waiting; after it was taken nothing is overdue."""
    watch = looked(suspect_waits=True)
    due_at = 100 + SUSPECT_WAITS_S
    assert watch.wakes_at(drains=False) == due_at
    assert watch.wakes_at(drains=True) is None
    watch.query_begins()
    watch.query_ended(110, has_more=True, is_limited=False, suspect_waits=True)
    assert not watch.suspect_is_overdue(due_at - 1)
    assert watch.suspect_is_overdue(due_at)
    watch.query_begins()
    watch.query_ended(due_at, has_more=True, is_limited=False, suspect_waits=False)
    assert not watch.suspect_is_overdue(due_at)


def test_a_suspect_waits_until_the_link_has_been_open_for_a_while() -> None:
    """Also one that is overdue. The sender queries again at that moment."""
    watch = looked(suspect_waits=True)
    watch.link_opened(200)
    assert watch.may_be_due
    allowed_at = 200 + SUSPECT_LINK_S
    assert [watch.allows_suspects(at) for at in (allowed_at - 1, allowed_at)] == [False, True]
    assert [watch.suspect_is_overdue(at) for at in (allowed_at - 1, allowed_at)] == [False, True]
    watch.query_begins()
    watch.query_ended(200, has_more=True, is_limited=False, suspect_waits=True)
    assert (watch.may_be_due, watch.wakes_at(drains=False)) == (False, allowed_at)
    watch.advance(allowed_at)
    assert watch.may_be_due


def test_a_suspect_does_not_wait_for_ever_for_a_link_that_lasts() -> None:
    """On a line whose links all end sooner, it is sent on the first link that opens after ten minutes."""
    watch = looked(suspect_waits=True)
    waited_at = 100 + SUSPECT_PATIENCE_S
    for opened_at, allowed in ((waited_at - 1, False), (waited_at, True)):
        watch.link_opened(opened_at)
        assert watch.allows_suspects(opened_at) is allowed
        assert watch.suspect_is_overdue(opened_at) is allowed
    watch.query_begins()
    watch.query_ended(waited_at, has_more=False, is_limited=False, suspect_waits=False)  # it was sent
    watch.link_opened(waited_at + 1)
    assert not watch.allows_suspects(waited_at + 1)


def test_the_earliest_of_moments() -> None:
    """None stands for never."""
    assert earliest(None, 2, 1) == 1
    assert earliest(None) is None
