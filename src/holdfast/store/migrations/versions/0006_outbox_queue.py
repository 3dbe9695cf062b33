"""The outbox as a queue: the first open message of each chat has its turn by an index; refusals that may pass."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_OPEN = "state IN ('queued','sending')"
_INDEXES = (
    ("outbox_head", ["company_id", "chat"], True, "next_at IS NOT NULL"),
    ("outbox_due", ["company_id", "lane", "next_at", "seq"], False, "next_at IS NOT NULL"),
    ("outbox_interactive", ["company_id", "chat"], False, f"priority = 0 AND {_OPEN}"),
    ("outbox_expiry", ["company_id", "expires_at"], False, f"expires_at IS NOT NULL AND {_OPEN}"),
)
_KNOWN = (
    "(chat LIKE '%@g.us' OR EXISTS (SELECT 1 FROM chats WHERE chats.company_id = outbox.company_id "
    "AND chats.chat = outbox.chat AND (first_sent_at IS NOT NULL OR first_received_at IS NOT NULL)))"
)
_HEADS = (
    "UPDATE outbox SET next_at = accepted_at, "
    "lane = CASE WHEN EXISTS (SELECT 1 FROM outbox AS other WHERE other.company_id = outbox.company_id "
    f"AND other.chat = outbox.chat AND other.priority = 0 AND other.{_OPEN}) THEN 0 ELSE 3 END "
    f"+ CASE WHEN {_KNOWN} THEN 0 WHEN attempts > 0 THEN 1 ELSE 2 END "
    f"WHERE seq IN (SELECT MIN(seq) FROM outbox WHERE {_OPEN} GROUP BY company_id, chat)"
)
_REFUSED = f"UPDATE outbox SET refusals = attempts WHERE {_OPEN} AND held_code IS NOT NULL AND attempts <= 1"


def upgrade() -> None:
    for name in ("next_at", "retry_at", "retry_code", "retry_message"):
        op.add_column("outbox", sa.Column(name, sa.Text))
    op.add_column("outbox", sa.Column("lane", sa.Integer))
    for name in ("refusals", "retry_count", "crash_score"):
        op.add_column("outbox", sa.Column(name, sa.Integer, nullable=False, server_default=sa.text("0")))
    op.add_column("limits", sa.Column("quota_until", sa.Text))
    op.execute(sa.text(_HEADS))
    op.execute(sa.text(_REFUSED))
    for name, columns, unique, where in _INDEXES:
        which = sa.text(where)
        op.create_index(name, "outbox", columns, unique=unique, sqlite_where=which, postgresql_where=which)
