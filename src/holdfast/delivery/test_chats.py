"""Order within a chat, chats side by side, whatever is lost or put back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.delivery.chats import Chats, Entry


def entry(seq: int, chat: str = "a") -> Entry:
    return Entry(seq=seq, id=f"msg_{seq}", whatsapp_id=f"W{seq}", chat=chat)


def chats(*entries: Entry, most: int = 20) -> Chats:
    made = Chats(most_under_way=most)
    for each in entries:
        made.add(each)
    return made


def taken(made: Chats, now: float = 0.0) -> list[int]:
    return [each.seq for each in made.take(now)]


def test_one_message_of_a_chat_is_under_way_at_a_time() -> None:
    """The second message of a chat leaves only when the first is settled."""
    made = chats(entry(1), entry(2))
    assert taken(made) == [1]
    assert taken(made) == []
    made.settle("W1")
    assert taken(made) == [2]


def test_a_slow_chat_does_not_block_another() -> None:
    """Chats go side by side."""
    assert taken(chats(entry(1, "a"), entry(2, "a"), entry(3, "b"))) == [1, 3]


def test_no_more_than_the_limit_is_under_way() -> None:
    """`most_under_way` bounds what an engine is given at once."""
    made = chats(entry(1, "a"), entry(2, "b"), entry(3, "c"), most=2)
    assert taken(made) == [1, 2]
    made.settle("W2")
    assert taken(made) == [3]


def test_a_lost_link_puts_what_was_under_way_first_again() -> None:
    """After a loss the same messages go first, in the old order, before chats that had waited."""
    made = chats(entry(1, "a"), entry(2, "b"), entry(3, "c"), entry(4, "a"), most=2)
    assert taken(made) == [1, 2]
    made.lose_link()
    assert made.unacked_since is None
    assert taken(made) == [1, 2]


def test_a_message_put_back_holds_its_chat_until_the_time() -> None:
    """A retry later keeps the order: nothing of the chat overtakes it."""
    made = chats(entry(1), entry(2))
    assert taken(made) == [1]
    made.put_back("W1", until=5)
    assert taken(made, 4.9) == []
    assert made.wakes_at == 5
    assert taken(made, 5) == [1]


def test_settling_a_waiting_message_does_not_set_its_chat_free() -> None:
    """Cancelling the second of a chat lets neither a third overtake the first nor a resting chat wake early."""
    made = chats(entry(1), entry(2), entry(3))
    assert taken(made) == [1]
    made.settle("W2")
    assert taken(made) == []
    made.put_back("W1", until=9)
    made.settle("W3")
    assert taken(made, 1) == []
    assert taken(made, 9) == [1]


def test_the_oldest_unacked_message_is_told() -> None:
    """`unacked_since` is the evidence by which a dead link is found."""
    made = chats(entry(1, "a"), entry(2, "b"), most=1)
    assert made.unacked_since is None
    taken(made, 3)
    assert made.unacked_since == 3
    made.settle("W1")
    taken(made, 8)
    assert made.unacked_since == 8


def test_what_is_under_way_for_too_long_is_told() -> None:
    """A message that WhatsApp passes over while it acks others is found by its age."""
    made = chats(entry(1, "a"), entry(2, "b"))
    taken(made, 3)
    made.add(entry(3, "c"))
    taken(made, 5)
    made.settle("W2")
    assert made.handed_by(2) == []
    assert made.handed_by(4) == ["W1"]


def test_news_of_an_unknown_message_changes_nothing() -> None:
    """A late ack or receipt may come for what is long settled."""
    made = chats(entry(1))
    made.settle("W9")
    made.put_back("W9", until=1)
    made.put_back("W1", until=1)
    assert taken(made) == [1]


def test_what_is_loaded_and_what_is_under_way_can_be_asked() -> None:
    """A message is loaded until it is settled, and under way from its taking to its outcome or the link's end."""
    made = chats(entry(1), entry(2))
    assert ("W1" in made, made.is_under_way("W1")) == (True, False)
    taken(made)
    assert (made.is_under_way("W1"), made.is_under_way("W2")) == (True, False)
    made.lose_link()
    assert ("W1" in made, made.is_under_way("W1")) == (True, False)
    taken(made)
    made.settle("W1")
    assert ("W1" in made, made.is_under_way("W1")) == (False, False)


def test_a_chat_that_rests_and_is_then_settled_is_forgotten() -> None:
    """A receipt came for the message that was put back: the time for which it rested finds nothing."""
    made = chats(entry(1))
    taken(made)
    made.put_back("W1", until=5)
    made.settle("W1")
    assert (taken(made, 5), len(made), made.wakes_at) == ([], 0, None)


@given(st.data())
def test_each_message_is_settled_in_the_order_of_its_chat(data: st.DataObject) -> None:
    """Whatever is taken, lost, put back, added: first sends of a chat happen in order, and everything ends settled."""
    made = Chats(most_under_way=data.draw(st.integers(1, 4)))
    settled: dict[str, list[int]] = {}
    under_way: dict[str, Entry] = {}
    now, seq = 0.0, 0
    for _ in range(data.draw(st.integers(0, 60))):
        match data.draw(st.sampled_from(["add", "take", "settle", "lose", "put back", "wait"])):
            case "add":
                seq += 1
                made.add(entry(seq, data.draw(st.sampled_from("abc"))))
            case "take":
                for each in made.take(now):
                    assert each.chat not in {other.chat for other in under_way.values()}
                    under_way[each.whatsapp_id] = each
            case "settle" if under_way:
                done = under_way.pop(data.draw(st.sampled_from(sorted(under_way))))
                made.settle(done.whatsapp_id)
                settled.setdefault(done.chat, []).append(done.seq)
            case "put back" if under_way:
                back = under_way.pop(data.draw(st.sampled_from(sorted(under_way))))
                made.put_back(back.whatsapp_id, until=now + 2)
            case "lose":
                made.lose_link()
                under_way.clear()
            case _:
                now += 1
    made.lose_link()
    while len(made):
        now += 2
        for each in list(made.take(now)):
            made.settle(each.whatsapp_id)
            settled.setdefault(each.chat, []).append(each.seq)
    assert all(order == sorted(order) for order in settled.values())
    assert sum(map(len, settled.values())) == seq


# Messages that leave as soon as they are stored.


def test_an_idle_chat_can_be_kept_for_a_message_that_is_being_stored() -> None:
    """Nothing else of the chat leaves meanwhile, and what comes after it waits for it."""
    made = Chats(most_under_way=20)
    assert made.reserve("a")
    assert not made.reserve("a")
    made.add(entry(2))
    assert taken(made) == []
    made.begin(entry(1), 5.0)
    assert made.unacked_since == 5.0
    assert taken(made) == []
    made.settle("W1")
    assert taken(made) == [2]


def test_a_turn_that_came_to_nothing_goes_to_the_next() -> None:
    """A message that was not stored holds nobody up."""
    made = Chats(most_under_way=20)
    assert made.reserve("a")
    made.add(entry(2))
    made.give_back("a")
    assert taken(made) == [2]
    made.settle("W2")
    assert made.reserve("a")
    made.give_back("a")
    assert len(made) == 0


def test_kept_turns_count_among_those_under_way() -> None:
    """An engine is never given more than it may hold."""
    made = chats(entry(1, "b"), entry(2, "c"), most=2)
    assert made.reserve("a")
    assert taken(made) == [1]
    assert not made.reserve("d")


# What is urgent.


def bulk(seq: int, chat: str = "a") -> Entry:
    return Entry(seq=seq, id=f"msg_{seq}", whatsapp_id=f"W{seq}", chat=chat, is_bulk=True)


def test_urgent_chats_go_before_bulk_and_never_before_their_own_past() -> None:
    """A chat with something urgent in it goes with the urgent ones, from its first message on."""
    made = chats(bulk(1, "a"), bulk(2, "b"), entry(3, "c"), entry(4, "b"), most=2)
    assert taken(made) == [3, 2]
    made.settle("W2")
    assert taken(made) == [4]
    made.settle("W4")
    assert taken(made) == [1]


def test_what_is_not_admitted_keeps_its_place() -> None:
    """And others go past it."""
    made = chats(entry(1, "a"), entry(2, "b"))
    assert [each.seq for each in made.take(0, admit=lambda each: each.chat != "a")] == [2]
    assert taken(made) == [1]


def test_a_message_that_was_loaded_late_takes_its_place_in_the_chat() -> None:
    """By its number, whatever was loaded before."""
    made = chats(entry(3), entry(5), entry(4))
    order = []
    for seq in (3, 4, 5):
        order += taken(made)
        made.settle(f"W{seq}")
    assert order == [3, 4, 5]


# What takes the engine long.


def test_a_message_that_the_engine_still_makes_is_not_waited_for() -> None:
    """Until its frame was written WhatsApp can't answer; from then on it should."""
    made = chats(entry(1, "a"), entry(2, "b"))
    assert taken(made, now=1.0) == [1, 2]
    made.wait_for_engine("W1")
    assert (made.unacked_since, made.handed_since) == (1.0, 1.0)
    made.settle("W2")
    assert (made.unacked_since, made.handed_since) == (None, 1.0)
    made.written("W1", 9.0)
    made.written("W1", 10.0)
    assert made.unacked_since == 9.0
    assert (made.unanswered_by(9.0), made.handed_by(1.0)) == (["W1"], ["W1"])


def test_resting_chats_can_be_roused() -> None:
    """What was put back until tomorrow goes on now."""
    made = chats(entry(1))
    assert taken(made) == [1]
    made.put_back("W1", until=1000.0)
    assert taken(made) == []
    made.rouse()
    assert (made.wakes_at, taken(made)) == (None, [1])


def test_nothing_rests_behind_a_message_that_rested_and_is_settled() -> None:
    """A late receipt or a cancellation frees what waits behind it; an earlier rest wakes nobody from a later one."""
    made = chats(entry(1), entry(2))
    assert taken(made) == [1]
    made.put_back("W1", until=10.0)
    made.settle("W1")
    assert taken(made) == [2]
    made.put_back("W2", until=30.0)
    assert taken(made, now=10.0) == []
    assert taken(made, now=30.0) == [2]


def test_a_message_behind_one_that_rests_may_be_cancelled() -> None:
    """The chat rests on."""
    made = chats(entry(1), entry(2), entry(3))
    assert taken(made) == [1]
    made.put_back("W1", until=10.0)
    made.settle("W2")
    assert taken(made) == []
    assert taken(made, now=10.0) == [1]


def test_a_message_that_was_loaded_while_its_turn_was_kept_is_one() -> None:
    """What begins waits no more."""
    made = chats()
    assert made.reserve("a")
    made.add(entry(1))
    made.begin(entry(1), 0.0)
    made.settle("W1")
    assert (len(made), taken(made), made.is_busy("a")) == (0, [], False)


def test_what_could_leave_is_first_in_a_chat_that_is_free() -> None:
    """Not behind another, not while its chat rests, not what is under way or unknown."""
    made = chats(entry(1), entry(2))
    assert [made.could_leave(name) for name in ("W1", "W2", "W9")] == [True, False, False]
    assert taken(made) == [1]
    assert (made.could_leave("W1"), made.is_busy("a"), made.is_busy("b")) == (False, True, False)
    made.put_back("W1", until=10.0)
    assert not made.could_leave("W1")
