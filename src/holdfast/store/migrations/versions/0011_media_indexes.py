"""Indexes of messages with media by time: the sweep of media read each company's whole history."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_SENT = "kind IN ('image','video','audio','document','sticker') AND sent_at IS NOT NULL"
_RECEIVED = "media_id IS NOT NULL"


def upgrade() -> None:
    for name, table, columns, which in (
        ("outbox_sent_media", "outbox", ["company_id", "sent_at"], _SENT),
        ("inbox_media", "inbox", ["company_id", "stored_at"], _RECEIVED),
    ):
        op.create_index(name, table, columns, sqlite_where=sa.text(which), postgresql_where=sa.text(which))
