"""Operations: what changes something at WhatsApp, accepted durably and carried out once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_OPEN = sa.text("state IN ('queued','running')")


def upgrade() -> None:
    op.create_table(
        "operations",
        sa.Column("seq", _SEQ, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("company_id", sa.Text, sa.ForeignKey("sessions.company_id"), nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("kind", "target", "arguments", "state")),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("accepted_at", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text) for name in ("tried_at", "settled_at", "expires_at", "next_at")),
        *(sa.Column(name, sa.Text) for name in ("observed", "result", "error_code", "error")),
        sa.Column("whatsapp_code", sa.Integer),
        *(sa.Column(name, sa.Text) for name in ("retry_at", "retry_code", "retry_message")),
        *(sa.Column(name, sa.Text) for name in ("idempotency_key", "request_hash")),
        sa.CheckConstraint(
            "state IN ('queued','running','succeeded','failed','expired','cancelled','unknown')",
            name="operations_state",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("operations_idempotency_key", "operations", ["company_id", "idempotency_key"], unique=True)
    op.create_index("operations_by_company", "operations", ["company_id", "seq"])
    op.create_index("operations_open", "operations", ["company_id", "seq"], sqlite_where=_OPEN, postgresql_where=_OPEN)
