"""The overview of chats: last message, unread messages, and what the phone says about a chat."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.add_column("outbox", sa.Column("target", sa.Text))
    for name, type_ in (
        ("last_at", sa.Text),
        ("last_seq", sa.BigInteger),
        ("pinned_at", sa.Text),
        ("muted_until", sa.Text),
    ):
        op.add_column("chats", sa.Column(name, type_))
    for name in ("last_is_sent", "is_archived"):
        op.add_column("chats", sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("chats", sa.Column("unread", sa.Integer, nullable=False, server_default=sa.text("0")))
    op.add_column("chats", sa.Column("read_seq", sa.BigInteger, nullable=False, server_default=sa.text("0")))
