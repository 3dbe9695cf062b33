"""The first tables: sessions, credentials, Signal keys, outbox, inbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_OPEN = sa.text("state IN ('queued','sending')")


def _text(name: str, *, nullable: bool = False, unique: bool = False, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable, unique=unique or None, primary_key=primary_key)


def upgrade() -> None:
    _sessions()
    _turns()
    _alerts()
    _credentials()
    _outbox()
    _inbox()
    _leases()


def _sessions() -> None:
    op.create_table(
        "sessions",
        _text("company_id", primary_key=True),
        _text("state"),
        _text("since"),
        _text("reason", nullable=True),
        sa.Column("code", sa.Integer),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        _text("resumes_at", nullable=True),
        _text("phone_number", nullable=True),
        _text("jid", nullable=True),
        _text("connected_at", nullable=True),
        _text("last_activity", nullable=True),
        _text("created_at"),
    )


def _turns() -> None:
    op.create_table(
        "turns",
        sa.Column("seq", _SEQ, primary_key=True),
        *(_text(name) for name in ("company_id", "at", "before", "after", "event")),
        _text("reason", nullable=True),
        sa.Column("code", sa.Integer),
        sa.Column("attempts", sa.Integer, nullable=False),
        _text("next_attempt_at", nullable=True),
        sa.Column("lasted_s", sa.Float, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("turns_by_company", "turns", ["company_id", "seq"])
    op.create_index("turns_at", "turns", ["at"])


def _alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("seq", _SEQ, primary_key=True),
        *(_text(name) for name in ("id", "address", "subject", "title", "body", "severity", "made_at")),
        sqlite_autoincrement=True,
    )
    op.create_index("alerts_address", "alerts", ["id", "address"], unique=True)
    op.create_table("notes", _text("name", primary_key=True), _text("value"))


def _credentials() -> None:
    op.create_table(
        "credentials",
        _text("company_id", primary_key=True),
        _text("creds"),
        sa.Column("paired", sa.Boolean, nullable=False),
        _text("updated_at"),
    )
    op.create_table(
        "signal_keys",
        _text("company_id", primary_key=True),
        _text("type", primary_key=True),
        _text("id", primary_key=True),
        _text("value"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "quarantine",
        sa.Column("seq", _SEQ, primary_key=True),
        _text("company_id"),
        _text("at"),
        _text("reason"),
        _text("creds"),
        _text("keys"),
        sqlite_autoincrement=True,
    )


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("seq", _SEQ, primary_key=True),
        _text("id", unique=True),
        sa.Column("company_id", sa.Text, sa.ForeignKey("sessions.company_id"), nullable=False),
        _text("whatsapp_id"),
        _text("chat"),
        _text("recipient"),
        _text("content"),
        _text("state"),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        _text("accepted_at"),
        *(_text(name, nullable=True) for name in ("sent_at", "delivered_at", "read_at", "played_at", "expires_at")),
        *(_text(name, nullable=True) for name in ("error_code", "error", "idempotency_key", "request_hash")),
        sa.CheckConstraint(
            "state IN ('queued','sending','sent','delivered','read','played','failed','expired','cancelled')",
            name="outbox_state",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("outbox_whatsapp_id", "outbox", ["company_id", "whatsapp_id"], unique=True)
    op.create_index("outbox_idempotency_key", "outbox", ["company_id", "idempotency_key"], unique=True)
    op.create_index("outbox_open", "outbox", ["company_id", "seq"], sqlite_where=_OPEN, postgresql_where=_OPEN)
    op.create_index("outbox_by_company", "outbox", ["company_id", "seq"])


def _inbox() -> None:
    op.create_table(
        "inbox",
        sa.Column("seq", _SEQ, primary_key=True),
        _text("id", unique=True),
        *(_text(name) for name in ("company_id", "chat", "sender", "whatsapp_id", "type")),
        _text("text", nullable=True),
        sa.Column("from_me", sa.Boolean, nullable=False),
        _text("push_name", nullable=True),
        _text("sent_at"),
        _text("stored_at"),
        sqlite_autoincrement=True,
    )
    op.create_index("inbox_message", "inbox", ["company_id", "chat", "sender", "whatsapp_id"], unique=True)
    op.create_index("inbox_by_company", "inbox", ["company_id", "seq"])
    op.create_table(
        "decrypted",
        _text("company_id", primary_key=True),
        _text("ciphertext_sha256", primary_key=True),
        sa.Column("plaintext", sa.LargeBinary, nullable=False),
        _text("stored_at"),
        sqlite_with_rowid=False,
    )
    op.create_index("decrypted_stored_at", "decrypted", ["stored_at"])


def _leases() -> None:
    op.create_table(
        "leases",
        _text("company_id", primary_key=True),
        _text("node"),
        _text("holder"),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    )
