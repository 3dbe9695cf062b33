"""Timelines: two directions merged by time, pages in both directions, and changes folded into their messages."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.base.errors import BadInput
from holdfast.delivery.chats import (
    END,
    Change,
    ChatCursor,
    ChatKind,
    Names,
    SentEntry,
    TimelineCursor,
    chat_kind,
    fold,
    newer_page,
    older_page,
    timeline_at,
)
from holdfast.delivery.message import MessageState
from holdfast.delivery.stores import Message, Received

RAMI, LAYLA, GROUP, OWN = "1@s.whatsapp.net", "2@s.whatsapp.net", "7@g.us", "9@s.whatsapp.net"


def at(seconds: float) -> str:
    when = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def sent(seq: int, seconds: float, *, chat: str = RAMI) -> SentEntry:
    message = Message(
        seq=seq, id=f"msg_{seq}", whatsapp_id=f"3EB0{seq}", company="c", recipient="1", chat=chat,
        state=MessageState.SENT, attempts=1, accepted_at=at(seconds), sent_at=None, delivered_at=None, read_at=None,
        played_at=None, error_code=None, error=None,
    )  # fmt: skip
    return SentEntry(message=message, content={"text": f"sent {seq}"})


def came(seq: int, seconds: float, *, delay_s: float = 0, chat: str = RAMI, **changes: object) -> Received:
    whole = Received(
        seq=seq, id=f"in_{seq}", company="c", chat=chat, sender=RAMI, whatsapp_id=f"3A{seq}", type="text",
        text=f"came {seq}", from_me=False, sent_at=at(int(seconds)), stored_at=at(seconds + delay_s),
    )  # fmt: skip
    return replace(whole, **changes)  # type: ignore[arg-type]  # fields of Received


def test_a_message_that_waited_is_placed_by_the_time_that_it_was_sent() -> None:
    """One that arrived at once, by its arrival: WhatsApp's times have whole seconds."""
    assert timeline_at(came(1, 3.4, delay_s=0.2)) == at(3.6)
    assert timeline_at(came(1, 3.4, delay_s=3600)) == at(3)
    assert timeline_at(sent(1, 3.5)) == at(3.5)


_TIMES = st.lists(st.floats(0, 50), max_size=12).map(sorted)


@given(mine=_TIMES, theirs=_TIMES, limit=st.integers(1, 5))
def test_pages_have_every_message_once_in_either_direction(mine: list[float], theirs: list[float], limit: int) -> None:
    """Each direction in its own order."""
    outbox = [sent(n, seconds) for n, seconds in enumerate(mine, start=1)]
    inbox = sorted((came(n, s) for n, s in enumerate(theirs, start=1)), key=lambda each: (each.sent_at, each.seq))

    def older(place: TimelineCursor) -> tuple[list[SentEntry], list[Received]]:
        below = [each for each in outbox if each.message.seq < place.sent]
        before = [each for each in inbox if (each.sent_at, each.seq) < (place.received_at, place.received)]
        return below[::-1][: limit + 1], before[::-1][: limit + 1]

    def newer(place: TimelineCursor) -> tuple[list[SentEntry], list[Received]]:
        above = [each for each in outbox if each.message.seq >= place.sent]
        after = [each for each in inbox if (each.sent_at, each.seq) >= (place.received_at, place.received)]
        return above[: limit + 1], after[: limit + 1]

    page = older_page(*older(END), before=END, limit=limit)
    newest, found = page, list(page.messages)
    while page.older is not None:
        place = TimelineCursor.parse(str(page.older))
        page = older_page(*older(place), before=place, limit=limit)
        found += page.messages
    assert len(found) == len(outbox) + len(inbox)
    assert [each for each in found if isinstance(each, SentEntry)] == outbox[::-1]
    assert [each for each in found if isinstance(each, Received)] == inbox[::-1]
    assert not any(newer(newest.newer))
    if found:
        back = list(page.messages)
        while (page := newer_page(*newer(page.newer), after=page.newer, limit=limit)).messages:
            back = [*page.messages, *back]
        assert sorted(map(id, back)) == sorted(map(id, found))


def change(type_: str, text: str | None = None, *, sender: str | None = RAMI, seconds: float = 9) -> Change:
    return Change(
        target="x", type=type_, sender=sender, sender_name=None, from_me=sender is None, at=at(seconds), text=text
    )


def test_a_person_has_one_reaction_and_can_remove_it() -> None:
    """The last one counts; an empty one removes it."""
    changes = [
        change("reaction", "👍", seconds=1), change("reaction", "❤", seconds=2),
        change("reaction", "🙏", sender=None), change("reaction", "😮", sender=LAYLA, seconds=3),
        change("reaction", "", sender=LAYLA, seconds=4),
    ]  # fmt: skip
    found = fold(sent(1, 0), changes, own=OWN).reactions
    assert [(each.sender, each.emoji) for each in found] == [(RAMI, "❤"), (OWN, "🙏")]


def test_only_the_author_edits_and_only_an_admin_deletes_what_others_wrote() -> None:
    """WhatsApp checks who is an admin of a group."""
    assert fold(came(1, 0), [change("edit", "new")], own=OWN).edited_text == "new"
    assert fold(came(1, 0), [change("edit", "new", sender=LAYLA)], own=OWN).edited_at is None
    assert fold(came(1, 0), [change("edit", "new", sender=None)], own=OWN).edited_at is None
    assert fold(came(1, 0, from_me=True), [change("edit", "new", sender=None)], own=OWN).edited_text == "new"
    assert fold(sent(1, 0), [change("delete", sender=None)], own=OWN).deleted_at
    assert fold(sent(1, 0), [change("revoke")], own=OWN).deleted_at is None
    assert fold(sent(1, 0, chat=GROUP), [change("revoke")], own=OWN).deleted_at
    assert fold(came(1, 0, chat=GROUP), [change("revoke", sender=LAYLA)], own=OWN).deleted_at


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (Names(saved="Mum", push="Layla", number="1"), "Mum"),
        (Names(push="Layla", business="Layla's Flowers"), "Layla"),
        (Names(business="Layla's Flowers", number="1"), "Layla's Flowers"),
        (Names(subject="Flowers"), "Flowers"),
        (Names(username="layla", number="1"), "layla"),
        (Names(number="1"), "+1"),
        (Names(), "77"),
    ],
)
def test_the_best_known_name_is_shown(names: Names, shown: str) -> None:
    """Saved, push, business, subject, username, number, id."""
    assert names.shown("77@lid") == shown


def test_the_kind_of_a_chat_is_in_its_id() -> None:
    """A person by number or hidden id, a group, a channel, status, a broadcast list."""
    kinds = {
        RAMI: ChatKind.PERSON, "77@lid": ChatKind.PERSON, GROUP: ChatKind.GROUP, "5@newsletter": ChatKind.CHANNEL,
        "status@broadcast": ChatKind.STATUS, "5@broadcast": ChatKind.BROADCAST,
    }  # fmt: skip
    assert {chat: chat_kind(chat) for chat in kinds} == kinds
    assert Names().shown(RAMI) == "+1"


@pytest.mark.parametrize(
    "text", ["", "1", "1~2", "a~~1", "1~yesterday~1", f"{10**18}~~1", "1~2026-01-01T00:00:00.000Z"]
)
def test_an_invalid_cursor_is_refused(text: str) -> None:
    """With the cure."""
    with pytest.raises(BadInput, match="is not a position in this list"):
        TimelineCursor.parse(text)
    with pytest.raises(BadInput, match="is not a position in this list"):
        ChatCursor.parse(text)


def test_a_cursor_survives_its_text() -> None:
    """As it goes through a URL."""
    place = ChatCursor(last_at=at(1), chat=RAMI)
    assert ChatCursor.parse(str(place)) == place
