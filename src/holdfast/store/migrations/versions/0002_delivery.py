"""Delivery in full: kinds of content, media, holds, known chats, what an account may do, undecryptable messages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_TEXTS = {
    "outbox": ("made", "held_code", "held_until"),
    "inbox": ("content", "target", "media", "media_keys", "media_id", "completed_at"),
}


def upgrade() -> None:
    for table, names in _TEXTS.items():
        for name in names:
            op.add_column(table, sa.Column(name, sa.Text))
    op.add_column("outbox", sa.Column("kind", sa.Text, nullable=False, server_default="text"))
    op.add_column("outbox", sa.Column("priority", sa.Integer, nullable=False, server_default=sa.text("0")))
    _media()
    _chats()
    op.create_table(
        "limits",
        sa.Column("company_id", sa.Text, primary_key=True),
        sa.Column("reach_out_until", sa.Text),
        sa.Column("tight_until", sa.Text),
        sa.Column("pacing", sa.Text),
    )


def _media() -> None:
    op.create_table(
        "media",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("company_id", sa.Text, nullable=False),
        sa.Column("mimetype", sa.Text, nullable=False),
        sa.Column("filename", sa.Text),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("is_whole", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.create_index("media_created_at", "media", ["created_at"])
    op.create_table(
        "media_chunks",
        sa.Column("media_id", sa.Text, primary_key=True),
        sa.Column("n", sa.Integer, primary_key=True),
        sa.Column("bytes", sa.LargeBinary, nullable=False),
    )


def _chats() -> None:
    op.create_table(
        "chats",
        sa.Column("company_id", sa.Text, primary_key=True),
        sa.Column("chat", sa.Text, primary_key=True),
        sa.Column("first_sent_at", sa.Text),
        sa.Column("first_received_at", sa.Text),
    )
    op.create_index("chats_first_sent", "chats", ["company_id", "first_sent_at"])
    op.execute(
        "INSERT INTO chats (company_id, chat, first_sent_at, first_received_at) "
        "SELECT company_id, chat, MIN(sent_at), MIN(received_at) FROM ("
        "SELECT company_id, chat, sent_at, NULL AS received_at FROM outbox WHERE sent_at IS NOT NULL "
        "UNION ALL SELECT company_id, chat, NULL, stored_at FROM inbox) AS seen GROUP BY company_id, chat"
    )
