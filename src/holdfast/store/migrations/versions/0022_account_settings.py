"""Settings of accounts, as WhatsApp shares them between devices: labels, stars, timers of chats."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.add_column("chats", sa.Column("disappearing_s", sa.Integer))
    op.create_table(
        "labels",
        sa.Column("company_id", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("color", sa.Integer),
    )
    op.create_table(
        "labelled",
        sa.Column("company_id", sa.Text, primary_key=True),
        sa.Column("label_id", sa.Text, primary_key=True),
        sa.Column("chat", sa.Text, primary_key=True),
        sa.Column("whatsapp_id", sa.Text, primary_key=True),
    )
    op.create_index("labelled_by_chat", "labelled", ["company_id", "chat"])
    op.create_table(
        "starred",
        sa.Column("company_id", sa.Text, primary_key=True),
        sa.Column("chat", sa.Text, primary_key=True),
        sa.Column("whatsapp_id", sa.Text, primary_key=True),
        sa.Column("starred_at", sa.Text, nullable=False),
    )
