"""What has to be known about a company and a chat before a message is accepted for it, read in one statement.

Between statements, the writer's thread gives the interpreter to others; on PostgreSQL each is a round trip.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import BindParameter, Connection, bindparam, select

from holdfast.delivery.rate_limits import ContactStatus
from holdfast.delivery.recipient import NOT_PERSONS
from holdfast.store.aliases import mapping_key
from holdfast.store.connection import Prepared
from holdfast.store.tables import IS_HEAD, chat_aliases, chats, outbox, sessions, signal_keys


class KnownChat(NamedTuple):
    """Of a company and the name of a chat; what no row says is None."""

    chat: str
    company: str | None
    repeated: int | None
    """The message that was accepted with the same Idempotency-Key."""
    canonical: str | None
    """The canonical id of the chat, if the name that was looked up is another one."""
    mapping: str | None
    """The engine's mapping of this name to another one."""
    head_lane: int | None
    """Lane of the first open message of the chat."""
    known: str | None
    """The chat, if its contact is known."""
    timer_s: int | None
    """After how many seconds messages of the chat disappear."""

    @property
    def contact(self) -> ContactStatus:
        is_known = self.known is not None or self.chat.endswith(NOT_PERSONS)
        return ContactStatus.KNOWN if is_known else ContactStatus.NEW


WAS_MET = chats.c.first_sent_at.is_not(None) | chats.c.first_received_at.is_not(None)
"""WhatsApp accepted a message to this chat, or the company received one in it: the contact is known."""
_COMPANY: BindParameter[str] = bindparam("company")
_NAME: BindParameter[str] = bindparam("name")
_SELECT = Prepared(
    lambda _: select(
        *(
            found.scalar_subquery()
            for found in (
                select(sessions.c.company_id).where(sessions.c.company_id == _COMPANY),
                select(outbox.c.seq).where(
                    outbox.c.company_id == _COMPANY, outbox.c.idempotency_key == bindparam("idempotency_key")
                ),
                select(chat_aliases.c.chat).where(chat_aliases.c.company_id == _COMPANY, chat_aliases.c.alias == _NAME),
                select(signal_keys.c.value).where(
                    signal_keys.c.company_id == _COMPANY,
                    signal_keys.c.type == bindparam("mapping_kind"),
                    signal_keys.c.id == bindparam("mapping_key"),
                ),
                select(outbox.c.lane).where(outbox.c.company_id == _COMPANY, outbox.c.chat == _NAME, IS_HEAD),
                select(chats.c.chat).where(chats.c.company_id == _COMPANY, chats.c.chat == _NAME, WAS_MET),
                select(chats.c.disappearing_s).where(chats.c.company_id == _COMPANY, chats.c.chat == _NAME),
            )
        )
    )
)


def known_chat(connection: Connection, company: str, chat: str, *, idempotency_key: str | None = None) -> KnownChat:
    """Call after `lock_company`: only then do the head and the names of the chat stay as they are."""
    kind, key = mapping_key(chat)
    where = {"company": company, "name": chat, "mapping_kind": kind, "mapping_key": key}
    return KnownChat(chat, *_SELECT.rows(connection, {**where, "idempotency_key": idempotency_key})[0])
