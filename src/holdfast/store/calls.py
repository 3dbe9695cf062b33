"""Calls as rows of the inbox, of type `call`: one row for each call, which shows how it ended.

WhatsApp delivers a signal again until it is acknowledged; the second copy changes nothing.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select, update

from holdfast.base.clock import Clock, iso
from holdfast.delivery.calls import CALL, RINGING, Call
from holdfast.delivery.events import CALL_ENDED, CALL_RECEIVED, received_body
from holdfast.session.contacts import Identity
from holdfast.session.engine import CallSignal
from holdfast.store.aliases import canonical
from holdfast.store.database import Database
from holdfast.store.events import record
from holdfast.store.identities import learn
from holdfast.store.inbox import ADD_RECEIVED, RECEIVED, no_media_url, received, store_received
from holdfast.store.tables import inbox


def store_call(connection: Connection, company: str, signal: CallSignal, *, row_id: str, at: str) -> None:
    """Store a call, or how it ended. The end of a call that never rang here is ignored."""
    if signal.kind == "offer":
        _store_offer(connection, company, signal, row_id=row_id, at=at)
    else:
        chat = canonical(connection, company, signal.caller)
        end_call(connection, company, signal.call_id, chat=chat, outcome=signal.kind, at=at)


def _store_offer(connection: Connection, company: str, signal: CallSignal, *, row_id: str, at: str) -> None:
    call: dict[str, object] = {"state": RINGING, "video": signal.video, "creator": signal.creator}
    if signal.group is not None:
        call["group"] = signal.group
    identity = Identity(jid=signal.caller, lid=signal.caller_lid, push_name=signal.push_name)
    chat = learn(connection, company, identity, now=at)
    row = {
        "id": row_id,
        "company_id": company,
        "chat": chat,
        "sender": chat,
        "sender_lid": signal.caller_lid,
        "whatsapp_id": signal.call_id,
        "type": CALL,
        "from_me": False,
        "push_name": signal.push_name,
        "content": json.dumps({"call": call}),
        "sent_at": iso(datetime.fromtimestamp(signal.at_s, UTC)) if signal.at_s else at,
        "stored_at": at,
    }
    store_received(connection, ADD_RECEIVED, row, at=at, media_url=no_media_url, event=CALL_RECEIVED)


def end_call(connection: Connection, company: str, call_id: str, *, chat: str, outcome: str, at: str) -> bool:
    """A call no longer rings; returns False for one that is unknown or has ended before."""
    row = _call_row(connection, company, call_id, chat)
    content = {} if row is None else json.loads(row["content"] or "{}")
    call = content.get("call")
    if row is None or not isinstance(call, dict) or call.get("state") != RINGING:
        return False
    values = {"content": json.dumps({**content, "call": {**call, "state": outcome, "endedAt": at}})}
    connection.execute(update(inbox).where(inbox.c.seq == row["seq"]).values(values))
    (after,) = received(connection, company, [{**row, **values}])
    record(connection, company, CALL_ENDED, received_body(after), chat=chat, at=at)
    return True


def _call_row(connection: Connection, company: str, call_id: str, chat: str) -> dict[str, Any] | None:
    mine = (inbox.c.company_id == company, inbox.c.chat == chat, inbox.c.whatsapp_id == call_id, inbox.c.type == CALL)
    row = connection.execute(select(*RECEIVED).where(*mine)).mappings().first()
    return None if row is None else {str(name): value for name, value in row.items()}


class CallRows:
    """Implements `holdfast.delivery.calls.Calls`."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def find(self, company: str, call_id: str) -> Call | None:
        """By the id of its inbox row."""
        statement = select(*inbox.c["whatsapp_id", "chat", "content"]).where(
            inbox.c.id == call_id, inbox.c.company_id == company, inbox.c.type == CALL
        )

        def work(connection: Connection) -> Call | None:
            row = connection.execute(statement).first()
            if row is None:
                return None
            call = json.loads(row.content or "{}").get("call", {})
            if "creator" not in call:  # a message about a call, which the sender's app wrote
                return None
            return Call(whatsapp_id=row.whatsapp_id, chat=row.chat, creator=call["creator"], state=call["state"])

        return await self._database.read(work)

    async def end(self, company: str, call: Call, *, outcome: str) -> None:
        at = iso(self._clock.now())

        def work(connection: Connection) -> None:
            end_call(connection, company, call.whatsapp_id, chat=call.chat, outcome=outcome, at=at)

        await self._database.write(work, company=company)
