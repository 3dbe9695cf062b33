"""The indexes of the chat overview and of timelines, created after `store.chat_filling` filled the new columns."""

from __future__ import annotations

import sqlalchemy as sa

from holdfast.store.online_index import create_index

revision = "0019"
down_revision = "0018"

_TARGET, _UNREAD = sa.text("target IS NOT NULL"), sa.text("unread <> 0")


def upgrade() -> None:
    create_index("chats_by_last", "chats", ["company_id", "last_at", "chat"])
    create_index("chats_unread", "chats", ["company_id", "last_at", "chat"], where=_UNREAD)
    create_index("inbox_by_time", "inbox", ["company_id", "chat", "sent_at", "seq"])
    for table in ("outbox", "inbox"):
        create_index(f"{table}_targets", table, ["company_id", "chat", "target"], where=_TARGET)
