"""Receipts of the members of groups, and to how many members a message was sent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    op.add_column("outbox", sa.Column("members", sa.Integer))
    op.create_table(
        "member_receipts",
        sa.Column("company_id", sa.Text, primary_key=True),
        sa.Column("message_id", sa.Text, primary_key=True),
        sa.Column("member", sa.Text, primary_key=True),
        sa.Column("delivered_at", sa.Text),
        sa.Column("read_at", sa.Text),
        sa.Column("played_at", sa.Text),
    )
