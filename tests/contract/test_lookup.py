"""The contract of the lookup port, on SQLite and PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import URL, Connection, insert, select

from holdfast.delivery.message import MessageState
from holdfast.delivery.stores import DeliveryTally
from holdfast.store import search_index
from holdfast.store.database import Database
from holdfast.store.lookup import LookupRows
from holdfast.store.search_indexer import SearchIndexer
from holdfast.store.tables import groups, inbox, outbox, sessions
from tests.doubles.fake_clock import FakeClock

COMPANY, OTHER = "962302", "962303"
GROUP = "120363000000000001@g.us"


def at(minute: int) -> str:
    return f"2026-11-22T10:{minute:02}:00.000Z"


@pytest.fixture
async def rows(place: Path | URL) -> AsyncIterator[LookupRows]:
    database = Database(place)

    def work(connection: Connection) -> None:
        for company in (COMPANY, OTHER):
            connection.execute(
                insert(sessions).values(company_id=company, state="connected", since=at(0), created_at=at(0))
            )
        for n, state in enumerate(("read", "sent", "failed", "queued", "cancelled", "read")):
            connection.execute(insert(outbox).values(_sent(n, state)))
            connection.execute(insert(inbox).values(_received(n)))
        media = json.dumps({"mimetype": "application/pdf", "filename": "invoice.pdf"})
        document = {"type": "document", "text": "فاتورة", "chat": GROUP, "push_name": "Rania", "media": media}
        connection.execute(insert(inbox).values(_received(6) | document))
        for table in search_index.INDEXED:
            rows = connection.execute(select(table)).mappings().all()
            search_index.add_all(connection, table, rows)
        subject = {"company_id": COMPANY, "jid": GROUP, "subject": "Suppliers", "learned_at": at(0)}
        connection.execute(insert(groups).values(subject))

    await database.write(work)
    yield LookupRows(database, SearchIndexer(database, clock=FakeClock()))
    database.close()


def _sent(n: int, state: str) -> dict[str, object]:
    content = {"text": f"text {n}"} if n else {"caption": "a picture"}
    return {
        "id": f"msg_{n}", "company_id": OTHER if n == 5 else COMPANY, "whatsapp_id": f"3EB0{n}", "state": state,
        "chat": f"96279000000{n}@s.whatsapp.net", "recipient": f"96279000000{n}", "content": json.dumps(content),
        "accepted_at": at(n), "kind": "text" if n else "image",
    }  # fmt: skip


def _received(n: int) -> dict[str, object]:
    return {
        "id": f"in_{n}", "company_id": COMPANY, "chat": f"96279000000{n}@s.whatsapp.net", "whatsapp_id": f"3A0{n}",
        "sender": f"96279000000{n}@s.whatsapp.net", "type": "text", "text": f"text {n}", "from_me": False,
        "sent_at": at(n), "stored_at": at(n),
    }  # fmt: skip


async def found(
    rows: LookupRows, words: str = "", *, state: MessageState | None = None, before: int | None = None, limit: int = 9
) -> list[str]:
    sent_messages = await rows.sent_messages(COMPANY, words=words, state=state, before=before, limit=limit)
    return [sent_message.id for sent_message in sent_messages]


async def test_the_newest_comes_first_in_parts(rows: LookupRows) -> None:
    """Each page continues below the last number of the one before; messages of other companies are left out."""
    assert await found(rows) == ["msg_4", "msg_3", "msg_2", "msg_1", "msg_0"]
    part = await rows.sent_messages(COMPANY, words="", state=None, before=None, limit=2)
    assert await found(rows, before=part[-1].seq, limit=2) == ["msg_2", "msg_1"]


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ("msg_3", ["msg_3"]),
        ("3EB02", ["msg_2"]),
        ("0000001", ["msg_1"]),
        ("+962 79-000 0001", ["msg_1"]),
        ("sg_3", []),
        ("tex 3", ["msg_3"]),
        ("xt 3", []),
        ("A PICTURE", ["msg_0"]),
        ("picture, a", ["msg_0"]),
        ("0000", ["msg_4", "msg_3", "msg_2", "msg_1", "msg_0"]),
        ("caption", []),
        ("%", []),
        ("msg%3", ["msg_3"]),
        ("'", []),
    ],
)
async def test_messages_are_found_by_id_number_or_text(rows: LookupRows, words: str, ids: list[str]) -> None:
    """By the beginning of an id, digits of a number as people write it, and the beginnings of words of its text or
    caption; not by names of fields. Punctuation is ignored.
    """
    assert await found(rows, words) == ids


async def test_a_state_narrows_what_is_found(rows: LookupRows) -> None:
    """Together with words."""
    assert await found(rows, state=MessageState.FAILED) == ["msg_2"]
    assert await found(rows, "msg_1", state=MessageState.FAILED) == []


async def test_a_message_is_shown_by_its_text_or_caption(rows: LookupRows) -> None:
    """To its own company alone."""
    captioned, plain = await rows.sent_message(COMPANY, "msg_0"), await rows.sent_message(COMPANY, "msg_1")
    assert captioned is not None
    assert plain is not None
    assert (captioned.kind, captioned.text, plain.text) == ("image", "a picture", "text 1")
    assert await rows.sent_message(OTHER, "msg_1") is None


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ("", ["in_6", "in_5"]),
        ("3A03", ["in_3"]),
        ("0000002", ["in_2"]),
        ("TEXT 4", ["in_4"]),
        ("فاتورة", ["in_6"]),
        ("rania", ["in_6"]),
        ("mimetype", []),
        ("%", []),
    ],
)
async def test_inbound_messages_are_found_by_id_number_text_and_name(
    rows: LookupRows, words: str, ids: list[str]
) -> None:
    """The newest first; a caption counts as text. Messages of other companies are left out."""
    assert [each.id for each in await rows.inbound(COMPANY, words=words, before=None, limit=2)] == ids
    assert await rows.inbound(OTHER, words=words, before=None, limit=2) == []


async def test_an_inbound_message_has_everything_that_a_page_shows(rows: LookupRows) -> None:
    """Its file, the sender's name and the group's subject."""
    (found,) = await rows.inbound(COMPANY, words="in_6", before=None, limit=2)
    assert found.media == {"mimetype": "application/pdf", "filename": "invoice.pdf"}
    assert (found.sender_name, found.group_subject, found.text) == ("Rania", "Suppliers", "فاتورة")


async def test_tallies_count_each_company_within_a_time(rows: LookupRows) -> None:
    """Settled ones at once, open ones when old enough; cancelled ones are left out; who has none is not there."""
    assert await rows.tallies(since=at(0), until=at(9)) == {
        COMPANY: DeliveryTally(accepted=4, taken=2, arrived=1),
        OTHER: DeliveryTally(accepted=1, taken=1, arrived=1),
    }
    assert await rows.tallies(since=at(1), until=at(2)) == {
        COMPANY: DeliveryTally(accepted=2, taken=1, arrived=0),
        OTHER: DeliveryTally(accepted=1, taken=1, arrived=1),
    }
    assert await rows.tallies(since=at(9), until=at(10)) == {}
