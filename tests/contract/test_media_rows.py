"""Media and references between messages as rows, on SQLite and PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import URL, Connection

from holdfast.backup.clearing import clear_in_parts
from holdfast.base.clock import SystemClock, iso
from holdfast.delivery.content import Referred, StoredMedia
from holdfast.delivery.media_stores import InboundMedia
from holdfast.delivery.message import MessageState
from holdfast.store.connection import insert
from holdfast.store.database import Database
from holdfast.store.media import MediaRows
from holdfast.store.references import ReferenceRows
from holdfast.store.tables import inbox, media_chunks, outbox, sessions
from tests.doubles.fake_clock import FakeClock

COMPANY, OTHER = "962302", "962303"
CHAT = "962790000001@s.whatsapp.net"
PIECES = [b"\x00\xff" * 300, b"second", b"\x00"]
DAY_S = 24 * 3600


@dataclass(slots=True)
class Rows:
    database: Database
    clock: FakeClock
    media: MediaRows
    references: ReferenceRows

    async def store(self, media_id: str, company: str = COMPANY) -> StoredMedia:
        empty = StoredMedia(id=media_id, company=company, mimetype="", filename=None, size_bytes=0, sha256="")
        await self.media.begin(empty)
        for n, piece in enumerate(PIECES):
            await self.media.add(media_id, n, piece)
        whole = replace(empty, mimetype="image/png", filename="a.png", size_bytes=607, sha256="ab")
        await self.media.finish(whole)
        return whole

    async def pieces(self, media_id: str) -> list[bytes]:
        found: list[bytes] = []
        while (piece := await self.media.piece(media_id, len(found))) is not None:
            found.append(piece)
        return found

    async def put(self, table: object, **values: object) -> None:
        def work(connection: Connection) -> None:
            connection.execute(insert(connection, table).values(**values))  # type: ignore[arg-type]  # a table

        await self.database.write(work)

    async def sent(self, number: int, content: dict[str, object], *, state: str = "sent", **values: object) -> None:
        kind = next(iter(content))
        await self.put(
            outbox,
            **{
                "id": f"msg_{number}",
                "company_id": COMPANY,
                "whatsapp_id": f"3EB0{number}",
                "chat": CHAT,
                "recipient": "962790000001",
                "content": json.dumps(content),
                "kind": kind,
                "state": state,
                "accepted_at": iso(self.clock.now()),
                **values,
            },
        )

    async def came(self, number: int, **values: object) -> None:
        now = iso(self.clock.now())
        await self.put(
            inbox,
            **{
                "id": f"msg_in{number}",
                "company_id": COMPANY,
                "chat": CHAT,
                "sender": CHAT,
                "whatsapp_id": f"3A{number}",
                "type": "text",
                "text": "hi",
                "from_me": False,
                "sent_at": now,
                "stored_at": now,
                **values,
            },
        )

    async def sweep(self) -> int:
        now = self.clock.now()
        return await self.media.sweep(
            unused_since=iso(now - timedelta(days=1)), settled_since=iso(now - timedelta(days=7))
        )

    def pass_days(self, days: float) -> None:
        self.clock.advance_to(self.clock.monotonic() + days * DAY_S)


@pytest.fixture
async def rows(place: Path | URL) -> AsyncIterator[Rows]:
    database, clock = Database(place), FakeClock()
    made = Rows(database, clock, MediaRows(database, clock=clock), ReferenceRows(database))
    for company, jid in ((COMPANY, "962799999999:3@s.whatsapp.net"), (OTHER, None)):
        now = iso(clock.now())
        await made.put(sessions, company_id=company, state="connected", since=now, created_at=now, jid=jid)
    yield made
    database.close()


async def test_a_stored_file_is_read_unchanged(rows: Rows, tmp_path: Path) -> None:
    """In chunks, and as a file."""
    whole = await rows.store("med_1")
    assert await rows.media.find("med_1") == whole
    assert await rows.pieces("med_1") == PIECES
    assert await rows.media.copy("med_1", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"".join(PIECES)


async def test_an_incomplete_file_is_not_found(rows: Rows, tmp_path: Path) -> None:
    """A file that is being stored, or whose upload was interrupted, can't be found."""
    half = StoredMedia(id="med_1", company=COMPANY, mimetype="", filename=None, size_bytes=0, sha256="")
    await rows.media.begin(half)
    await rows.media.add("med_1", 0, b"x")
    assert (await rows.media.find("med_1"), await rows.media.take(COMPANY, "med_1")) == (None, None)
    assert not await rows.media.copy("med_1", tmp_path / "file")
    await rows.media.discard("med_1")
    assert await rows.pieces("med_1") == []


async def test_nothing_is_added_to_a_file_that_was_removed(rows: Rows) -> None:
    """Its company was removed during the upload: nobody would ever remove the rest of the file."""
    half = StoredMedia(id="med_1", company=COMPANY, mimetype="", filename=None, size_bytes=0, sha256="")
    await rows.media.begin(half)
    await rows.media.add("med_1", 0, b"x")
    await clear_in_parts(rows.database, COMPANY, clock=SystemClock())
    await rows.media.add("med_1", 1, b"y")
    await rows.media.finish(half)
    assert await rows.media.find("med_1") is None
    assert (await rows.media.piece("med_1", 0), await rows.media.piece("med_1", 1)) == (None, None)


async def test_a_file_belongs_to_one_company(rows: Rows) -> None:
    """Another company can't send it."""
    whole = await rows.store("med_1")
    assert await rows.media.take(OTHER, "med_1") is None
    assert await rows.media.take(COMPANY, "med_1") == whole


async def test_an_unused_file_is_removed_after_a_day(rows: Rows) -> None:
    """It is removed with all its pieces, and so are incomplete files. Reserving a file for a message counts as use."""
    await rows.store("med_unused")
    await rows.store("med_taken")
    await rows.media.begin(
        StoredMedia(id="med_half", company=OTHER, mimetype="", filename=None, size_bytes=0, sha256="")
    )
    rows.pass_days(0.9)
    assert await rows.sweep() == 0
    await rows.media.take(COMPANY, "med_taken")
    rows.pass_days(0.2)
    assert await rows.sweep() == 2
    assert await rows.pieces("med_unused") == []
    assert await rows.pieces("med_taken") == PIECES
    rows.pass_days(1)
    assert await rows.sweep() == 1

    def count(connection: Connection) -> int:
        return len(connection.execute(media_chunks.select()).all())

    assert await rows.database.read(count) == 0


async def test_a_file_reserved_during_a_sweep_is_kept(rows: Rows) -> None:
    """A message that uses it finds it when it is sent."""

    class Taking(MediaRows):
        async def _needed(self, company: str, settled_since: str) -> set[str]:
            await self.take(company, "med_1")
            return await super()._needed(company, settled_since)

    await rows.store("med_1")
    rows.pass_days(2)
    rows.media = Taking(rows.database, clock=rows.clock)
    assert await rows.sweep() == 0
    assert await rows.pieces("med_1") == PIECES


async def test_media_of_messages_are_kept_until_a_week_after_they_were_sent(rows: Rows) -> None:
    """Those that are still to be sent, forever."""
    for name in ("open", "late", "sent", "came"):
        await rows.store(f"med_{name}")
    await rows.sent(1, {"image": {"media": "med_open"}}, state="queued")
    await rows.sent(2, {"video": {"media": "med_late"}})
    await rows.sent(3, {"document": {"media": "med_sent"}})
    await rows.came(4, media_id="med_came")
    rows.pass_days(6)
    sent_at = iso(rows.clock.now())

    def send(connection: Connection) -> None:
        connection.execute(outbox.update().where(outbox.c.id == "msg_2").values(sent_at=sent_at))

    await rows.database.write(send)
    assert await rows.sweep() == 0
    rows.pass_days(2)
    assert await rows.sweep() == 2
    assert [name for name in ("open", "late", "sent", "came") if await rows.media.find(f"med_{name}")] == [
        "open",
        "late",
    ]
    rows.pass_days(6)
    assert await rows.sweep() == 1
    assert await rows.media.find("med_open") is not None


async def test_an_inbound_file_is_found_by_its_message(rows: Rows) -> None:
    """With the details that the engine needs, and where the file is once it is stored. A removed file is not stored."""
    await rows.came(1, media=json.dumps({"mimetype": "image/png"}), media_keys="keys")
    await rows.came(2)
    known = InboundMedia(
        inbox_id="msg_in1", company=COMPANY, description={"mimetype": "image/png"}, keys="keys", media_id=None,
        message={"id": "3A1", "chat": CHAT, "fromMe": False, "sender": CHAT, "senderLid": None},
    )  # fmt: skip
    assert await rows.media.inbound("msg_in1") == known
    await rows.store("med_1")
    await rows.media.keep("msg_in1", "med_1")
    assert await rows.media.inbound("msg_in1") == replace(known, media_id="med_1")
    await rows.media.discard("med_1")
    assert await rows.media.inbound("msg_in1") == known
    text_only = await rows.media.inbound("msg_in2")
    assert text_only is not None
    assert (text_only.description, text_only.keys) == (None, None)
    assert await rows.media.inbound("msg_in3") is None


# References.


async def test_an_own_message_is_found_by_either_id(rows: Rows) -> None:
    """With the text that a reply quotes, and this account as its sender, without the device."""
    await rows.sent(1, {"image": {"media": "m", "caption": "look"}}, sent_at="2026-01-01T00:00:00.000Z")
    expected = Referred(
        whatsapp_id="3EB01",
        chat=CHAT,
        from_me=True,
        sender="962799999999@s.whatsapp.net",
        kind="image",
        text="look",
        state=MessageState.SENT,
        sent_at="2026-01-01T00:00:00.000Z",
    )
    assert await rows.references.find(COMPANY, "msg_1", chat=None) == expected
    assert await rows.references.find(COMPANY, "3EB01", chat=CHAT) == expected


async def test_an_inbound_message_is_found_by_either_id(rows: Rows) -> None:
    """Of two with the same id in a group, the later one is returned."""
    await rows.came(1)
    found = await rows.references.find(COMPANY, "msg_in1", chat=None)
    assert found == await rows.references.find(COMPANY, "3A1", chat=CHAT)
    assert found is not None
    assert (found.from_me, found.sender, found.text, found.state) == (False, CHAT, "hi", None)
    for number, sender in ((2, "1@lid"), (3, "2:5@lid")):
        await rows.came(number, chat="1-2@g.us", sender=sender, whatsapp_id="SAME")
    later = await rows.references.find(COMPANY, "SAME", chat="1-2@g.us")
    assert later is not None
    assert later.sender == "2@lid"


@pytest.mark.parametrize(
    ("company", "message_id", "chat"),
    [
        (OTHER, "msg_1", None),
        (OTHER, "3EB01", CHAT),
        (COMPANY, "3EB01", None),
        (COMPANY, "3EB01", "1@lid"),
        (COMPANY, "msg_2", CHAT),
        (OTHER, "msg_in1", None),
        (COMPANY, "3A1", None),
    ],
)
async def test_references_are_found_only_in_their_company_and_chat(
    rows: Rows, company: str, message_id: str, chat: str | None
) -> None:
    """Neither in another company nor in another chat; WhatsApp's id is ambiguous without the chat."""
    await rows.sent(1, {"text": "hello"})
    await rows.came(1)
    assert await rows.references.find(company, message_id, chat=chat) is None


async def test_a_repeated_request_is_known_by_its_key(rows: Rows) -> None:
    """Within its company."""
    await rows.sent(1, {"text": "hello"}, idempotency_key="k", request_hash="h")
    assert await rows.references.replayed(COMPANY, "k") == ("msg_1", "h")
    assert await rows.references.replayed(OTHER, "k") is None
    assert await rows.references.replayed(COMPANY, "l") is None


async def test_a_revocation_of_addresses_is_kept_for_each_company(rows: Rows) -> None:
    """Found by a message of the company; none for one that is unknown."""
    await rows.came(1)
    assert await rows.media.links_revoked_at("msg_in1") is None
    await rows.media.revoke_links("nobody", at="2026-01-01T00:00:01.000Z")
    await rows.media.revoke_links(COMPANY, at="2026-01-01T00:00:02.000Z")
    assert await rows.media.links_revoked_at("msg_in1") == "2026-01-01T00:00:02.000Z"
    assert await rows.media.links_revoked_at("msg_in9") is None
