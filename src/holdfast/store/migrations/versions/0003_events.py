"""Events, and webhooks that bring them to receivers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_PARTIAL = {
    "pending": (["company_id", "chat", "event_seq"], "state = 'pending'"),
    "heads": (["company_id", "next_at"], "next_at IS NOT NULL"),
    "failed": (["company_id", "event_seq"], "state = 'failed'"),
}


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("seq", _SEQ, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("id", "company_id", "type", "chat", "at", "body")),
        sqlite_autoincrement=True,
    )
    op.create_index("events_by_company", "events", ["company_id", "seq"])
    op.create_index("events_id", "events", ["id"])
    op.create_index("events_at", "events", ["at"])
    _endpoints()
    _deliveries()


def _endpoints() -> None:
    times = ("failing_since", "probe_at", "last_success_at", "last_failure_at", "last_error")
    op.create_table(
        "webhook_endpoints",
        sa.Column("company_id", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        *(sa.Column(name, sa.Text) for name in ("url", "secret", "events")),
        sa.Column("state", sa.Text, nullable=False, server_default="active"),
        sa.Column("failures", sa.Integer, nullable=False, server_default=sa.text("0")),
        *(sa.Column(name, sa.Text) for name in times),
        sa.Column("last_status", sa.Integer),
        sa.Column("probes", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.CheckConstraint("state IN ('active','aside','off')", name="webhook_endpoints_state"),
    )


def _deliveries() -> None:
    op.create_table(
        "webhook_deliveries",
        sa.Column("event_seq", sa.BigInteger, sa.ForeignKey("events.seq"), primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("company_id", "chat", "state", "at")),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        *(sa.Column(name, sa.Text) for name in ("next_at", "first_at", "last_at", "last_error")),
        sa.Column("last_status", sa.Integer),
        sa.CheckConstraint("state IN ('pending','delivered','failed')", name="webhook_deliveries_state"),
    )
    for name, (columns, which) in _PARTIAL.items():
        where = sa.text(which)
        op.create_index(
            f"webhook_deliveries_{name}", "webhook_deliveries", columns, sqlite_where=where, postgresql_where=where
        )
