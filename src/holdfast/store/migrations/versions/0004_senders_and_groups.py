"""The hidden id of a message's sender, and the subjects of groups."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("inbox", sa.Column("sender_lid", sa.Text))
    op.create_table(
        "groups",
        sa.Column("company_id", sa.Text, primary_key=True),
        sa.Column("jid", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("learned_at", sa.Text, nullable=False),
    )
