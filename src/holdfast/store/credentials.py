"""The state of the engine as rows: credentials, Signal keys, decrypted messages.

A commit of the engine is one transaction: the new ratchet, the plaintext and the inbox row are stored together or not
at all. The engine's reads go through the writer, behind all earlier commits: a link that read an older ratchet than the
link before it would break the session with a contact.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection, Table, bindparam, delete, func, select, update

from holdfast.base.ascii_json import ascii_json
from holdfast.base.clock import Clock, iso
from holdfast.base.ids import RandomSource
from holdfast.session.contacts import Identity
from holdfast.session.engine import AnsweredMessage, Commit, CreatedMessage, Decrypted, InboundMessage, Undecryptable
from holdfast.session.untrusted import bounded_commit, bounded_id, clean
from holdfast.store.account_settings import apply_changes, set_timer
from holdfast.store.aliases import canonical
from holdfast.store.calls import store_call
from holdfast.store.chat_updates import note_received
from holdfast.store.company_locks import lock_company
from holdfast.store.connection import Insert, Prepared, insert
from holdfast.store.database import Database
from holdfast.store.group_changes import learn_group, store_group_change
from holdfast.store.identities import learn, learn_keys, learn_sender
from holdfast.store.inbox import ADD_RECEIVED, RECEIVED, MediaUrl, no_media_url, store_received
from holdfast.store.leases import NO_FENCE, Fence
from holdfast.store.outbox_updates import know_chat
from holdfast.store.tables import credentials, decrypted, inbox, outbox, quarantine, signal_keys

HISTORY = "history"
"""Origin of the inbox row of a message that the phone sent as a part of its history."""
UNDECRYPTABLE = "undecryptable"
"""Type of the inbox row of a message that can't be decrypted yet."""


def _newer(insert: Callable[[Table], Any], table: Table, *, key: Sequence[str], names: Sequence[str]) -> Insert:
    """Build an insert that updates an existing row."""
    row: Insert = insert(table)
    return row.on_conflict_do_update(index_elements=key, set_={name: row.excluded[name] for name in names})


_UPSERT_KEYS = Prepared(
    lambda insert: _newer(insert, signal_keys, key=["company_id", "type", "id"], names=["value"]),
)
_UPSERT_CREDENTIALS = Prepared(
    lambda insert: _newer(insert, credentials, key=["company_id"], names=["creds", "paired", "updated_at"]),
)
_UPSERT_PLAINTEXT = Prepared(lambda insert: insert(decrypted).on_conflict_do_nothing())
_CREDENTIALS = Prepared(
    lambda _: select(credentials.c.creds).where(credentials.c.company_id == bindparam("company")),
)
_KEY = Prepared(
    lambda _: select(signal_keys.c.value).where(
        signal_keys.c.company_id == bindparam("company"),
        signal_keys.c.type == bindparam("of_type"),
        signal_keys.c.id == bindparam("name"),
    )
)
_PLAINTEXTS_AT_ONCE = 500
_FEW_KEYS = 8
"""On SQLite, so many are read faster one by one by a prepared statement than by one that must be built."""
_CONTENT_COLUMNS = ("type", "text", "content", "target", "media", "media_keys", "sender_lid", "message_secret")
"""Columns that are empty while an inbound message can't be decrypted."""


def _complete(insert: Callable[[Table], Any]) -> Insert:
    """Build an insert that completes the row of an undecryptable message, and leaves any other row unchanged."""
    row: Insert = insert(inbox)
    return row.on_conflict_do_update(
        index_elements=["company_id", "chat", "sender", "whatsapp_id"],
        set_={**{name: row.excluded[name] for name in _CONTENT_COLUMNS}, "completed_at": row.excluded.stored_at},
        where=inbox.c.type == UNDECRYPTABLE,
    )


_RECEIVE = Prepared(lambda insert: _complete(insert).returning(*RECEIVED))
_SENT_HERE = Prepared(
    lambda _: select(outbox.c.seq).where(
        outbox.c.company_id == bindparam("company"), outbox.c.whatsapp_id == bindparam("sent")
    )
)
_UPSERT_MADE = update(outbox).where(
    outbox.c.company_id == bindparam("company"), outbox.c.whatsapp_id == bindparam("sent")
)


class EngineRows:
    """Implements `holdfast.session.stores.EngineStore`."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        randomness: RandomSource,
        fence: Fence = NO_FENCE,
        media_url: MediaUrl = no_media_url,
    ) -> None:
        self._database = database
        self._clock = clock
        self._randomness = randomness
        self._fence = fence
        self._media_url = media_url

    async def credentials(self, company: str) -> str | None:
        check = self._fence.check(company)

        def work(connection: Connection) -> str | None:
            check(connection)
            creds: str | None = _CREDENTIALS.scalar(connection, {"company": company})
            return creds

        return await self._database.write(work, company=company)

    async def is_paired(self, company: str) -> bool:
        def work(connection: Connection) -> bool:
            return bool(connection.scalar(select(credentials.c.paired).where(credentials.c.company_id == company)))

        return await self._database.read(work)

    async def commit(self, company: str, commit: Commit) -> Sequence[InboundMessage]:
        now, check = self._now(), self._fence.check(company)
        commit = bounded_commit(commit)

        def work(connection: Connection) -> list[InboundMessage]:
            check(connection)
            if commit.history or commit.changes:
                # Before rows of chats are locked, as acceptances do, and before numbers are drawn: their order is that
                # of commits.
                lock_company(connection, company)
            if commit.credentials is not None:
                _save_credentials(connection, company, commit, now)
            _save_keys(connection, company, commit)
            learn_keys(connection, company, commit.keys, now=now)
            for lid, username in commit.usernames.items():
                learn(connection, company, Identity(jid=lid, username=username), now=now)
            for jid, subject in commit.groups.items():
                learn_group(connection, company, jid, subject, at=now)
            apply_changes(connection, company, commit.changes, now=now)
            for made in commit.made:
                _save_made(connection, company, made)
            for signal in commit.calls:
                store_call(connection, company, signal, row_id=self._randomness.message_id(), at=now)
            for change in commit.group_changes:
                store_group_change(connection, company, change, at=now)
            for item in commit.undecryptable:
                self._save_undecryptable(connection, company, item, now)
            for message in commit.history:
                self._save_history(connection, company, message, now)
            stored = (self._save_decrypted(connection, company, item, now) for item in commit.decrypted)
            return [message for message in stored if message is not None]

        return await self._database.write(work, company=company)

    async def keys(self, company: str, type_: str, ids: Sequence[str]) -> dict[str, str]:
        table = signal_keys.c
        stored = {id_: bounded_id(id_) for id_ in ids}

        def each(connection: Connection) -> dict[str, str]:
            kind = bounded_id(type_)
            names = {id_: {"company": company, "of_type": kind, "name": name} for id_, name in stored.items()}
            values = {id_: _KEY.scalar(connection, name) for id_, name in names.items()}
            return {id_: value for id_, value in values.items() if value is not None}

        def together(connection: Connection) -> dict[str, str]:
            statement = select(table.id, table.value).where(
                table.company_id == company, table.type == bounded_id(type_), table.id.in_(set(stored.values()))
            )
            values = {row.id: row.value for row in connection.execute(statement)}
            return {id_: values[name] for id_, name in stored.items() if name in values}

        is_quick = len(stored) <= _FEW_KEYS and not self._database.is_shared
        return await self._database.write(each if is_quick else together, company=company)

    async def plaintext(self, company: str, ciphertext_sha256: str) -> bytes | None:
        table = decrypted.c

        def work(connection: Connection) -> bytes | None:
            return connection.scalar(
                select(table.plaintext).where(table.company_id == company, table.ciphertext_sha256 == ciphertext_sha256)
            )

        return await self._database.write(work, company=company)

    async def answered_message(self, company: str, whatsapp_id: str, *, chat: str) -> AnsweredMessage | None:
        table = inbox.c
        columns = table["sender", "sender_lid", "from_me", "content", "message_secret"]

        def work(connection: Connection) -> AnsweredMessage | None:
            first = select(func.min(table.seq)).where(
                table.company_id == company,
                table.chat == canonical(connection, company, chat),
                table.whatsapp_id == whatsapp_id,
                table.message_secret.is_not(None),
            )
            row = connection.execute(select(*columns).where(table.seq == first.scalar_subquery())).first()
            if row is None:
                return None
            return AnsweredMessage(
                secret=row.message_secret,
                sender=row.sender,
                sender_lid=row.sender_lid,
                from_me=row.from_me,
                content=None if row.content is None else json.loads(row.content),
            )

        return await self._database.read(work)

    async def forget_plaintexts(self, *, before: str) -> None:
        oldest = select(decrypted.c.stored_at).where(decrypted.c.stored_at < before).order_by(decrypted.c.stored_at)
        batch = oldest.limit(_PLAINTEXTS_AT_ONCE).subquery()

        def work(connection: Connection) -> bool:
            last = connection.scalar(select(func.max(batch.c.stored_at)))
            if last is None:
                return False
            connection.execute(delete(decrypted).where(decrypted.c.stored_at <= last))
            return True

        # Short transactions: no message waits for the removal of a month's plaintexts.
        while await self._database.write(work):
            pass

    async def quarantine(self, company: str, *, reason: str) -> None:
        now, check = self._now(), self._fence.check(company)

        def work(connection: Connection) -> None:
            check(connection)
            creds = connection.scalar(select(credentials.c.creds).where(credentials.c.company_id == company))
            if creds is None:
                return
            mine = signal_keys.c.company_id == company
            keys = [list(row) for row in connection.execute(select(*signal_keys.c["type", "id", "value"]).where(mine))]
            connection.execute(
                insert(connection, quarantine).values(
                    company_id=company, at=now, reason=reason, creds=creds, keys=json.dumps(keys)
                )
            )
            connection.execute(delete(credentials).where(credentials.c.company_id == company))
            connection.execute(delete(signal_keys).where(mine))

        await self._database.write(work, company=company)

    def _now(self) -> str:
        return iso(self._clock.now())

    def _save_decrypted(self, connection: Connection, company: str, item: Decrypted, now: str) -> InboundMessage | None:
        """Store a plaintext and its message; returns the message if it is new to the inbox."""
        row = {
            "company_id": company,
            "ciphertext_sha256": item.ciphertext_sha256,
            "plaintext": base64.b64decode(item.plaintext),
            "stored_at": now,
        }
        _UPSERT_PLAINTEXT.rows(connection, row)
        message = None if item.message is None else self._save_message(connection, company, item.message, now)
        if item.timer is not None:
            set_timer(connection, company, item.timer, now=now)
        return message

    def _save_message(
        self, connection: Connection, company: str, message: InboundMessage, now: str
    ) -> InboundMessage | None:
        """Store an inbound message, or complete its row if it could not be decrypted before.

        Returns it with the canonical ids of chat and sender if it is new.
        """
        values = _content_values(message)
        origin = self._origin(connection, company, message, now)
        row = {**values, **origin, "from_me": message.from_me}
        if not store_received(connection, _RECEIVE, row, at=now, media_url=self._media_url):
            return None
        stored = replace(message, chat=str(origin["chat"]), sender=str(origin["sender"]))
        if not message.from_me:
            know_chat(connection, company, stored.chat, first_received_at=now)
        return stored

    def _save_history(self, connection: Connection, company: str, message: InboundMessage, now: str) -> None:
        """Store a message from before, unless it is known. It raises no event and counts as read.

        Call after `lock_company`.
        """
        sent = {"company": company, "sent": message.whatsapp_id}
        if message.from_me and _SENT_HERE.scalar(connection, sent) is not None:
            return
        origin = self._origin(connection, company, message, now)
        row = {**_content_values(message), **origin, "from_me": message.from_me, "origin": HISTORY}
        stored = connection.execute(ADD_RECEIVED.on(connection), row).mappings().first()
        if stored is None:
            return
        note_received(connection, dict(stored), at=str(origin["sent_at"]), counts=False)
        if not message.from_me:
            know_chat(connection, company, str(origin["chat"]), first_received_at=now)

    def _save_undecryptable(self, connection: Connection, company: str, item: Undecryptable, now: str) -> None:
        row = {"type": UNDECRYPTABLE, "from_me": False, **self._origin(connection, company, item, now)}
        store_received(connection, ADD_RECEIVED, row, at=now, media_url=self._media_url)

    def _origin(
        self, connection: Connection, company: str, message: InboundMessage | Undecryptable, now: str
    ) -> dict[str, object]:
        sender = learn_sender(connection, company, message, now=now)
        chat = sender if message.chat == message.sender else canonical(connection, company, message.chat)
        return {
            "id": self._randomness.message_id(),
            "company_id": company,
            "chat": chat,
            "sender": sender,
            "whatsapp_id": message.whatsapp_id,
            "push_name": message.push_name,
            "sent_at": iso(datetime.fromtimestamp(message.sent_at_s, UTC)),
            "stored_at": now,
        }


def _content_values(message: InboundMessage) -> dict[str, object]:
    """The columns that are empty while a message can't be decrypted."""
    return {
        "type": message.type,
        "text": message.text,
        "content": _json(message.content),
        "target": message.target,
        "media": _json(message.media),
        "media_keys": message.media_keys,
        "sender_lid": message.sender_lid,
        "message_secret": message.message_secret,
    }


def _json(value: object) -> str | None:
    """Encode as ASCII JSON; None for empty values."""
    return ascii_json(value) if value else None


def _save_made(connection: Connection, company: str, made: CreatedMessage) -> None:
    connection.execute(_UPSERT_MADE, {"company": company, "sent": made.whatsapp_id, "made": made.made})


def _save_credentials(connection: Connection, company: str, commit: Commit, now: str) -> None:
    row = {"company_id": company, "creds": commit.credentials, "paired": commit.paired, "updated_at": now}
    _UPSERT_CREDENTIALS.rows(connection, row)


def _save_keys(connection: Connection, company: str, commit: Commit) -> None:
    """Store and remove Signal keys. Their ids may contain untrusted names, so they are bounded."""
    for type_, values in commit.keys.items():
        for id_, value in values.items():
            if value is not None:
                row = {"type": bounded_id(type_), "id": bounded_id(id_), "value": clean(value)}
                _UPSERT_KEYS.rows(connection, {"company_id": company, **row})
    for type_, values in commit.keys.items():
        gone = [bounded_id(id_) for id_, value in values.items() if value is None]
        if gone:
            table = signal_keys.c
            connection.execute(
                delete(signal_keys).where(table.company_id == company, table.type == type_, table.id.in_(gone))
            )
