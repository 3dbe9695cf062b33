"""Indexes for what people and the health monitor ask of a large store."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_SETTLED = "state NOT IN ('queued','sending')"
_INDEXES: list[tuple[str, str, list[str], str | None]] = [
    ("outbox_by_chat", "outbox", ["company_id", "chat", "seq"], None),
    ("outbox_by_time", "outbox", ["company_id", "accepted_at", "state"], None),
    ("outbox_settled", "outbox", ["company_id", "state", "seq"], _SETTLED),
    ("inbox_by_chat", "inbox", ["company_id", "chat", "seq"], None),
    ("webhook_deliveries_all_failed", "webhook_deliveries", ["event_seq"], "state = 'failed'"),
    (
        "webhook_deliveries_retried",
        "webhook_deliveries",
        ["company_id", "event_seq"],
        "state = 'pending' AND attempts > 0",
    ),
    ("webhook_deliveries_all_retried", "webhook_deliveries", ["event_seq"], "state = 'pending' AND attempts > 0"),
    ("webhook_deliveries_old", "webhook_deliveries", ["at"], "state = 'pending'"),
]


def upgrade() -> None:
    for name, table, columns, where in _INDEXES:
        partial = None if where is None else sa.text(where)
        op.create_index(name, table, columns, sqlite_where=partial, postgresql_where=partial)
    # A message is looked up by its chat and WhatsApp id when others refer to it: the sender is not known then.
    op.drop_index("inbox_message", "inbox")
    op.create_index("inbox_message", "inbox", ["company_id", "chat", "whatsapp_id", "sender"], unique=True)
