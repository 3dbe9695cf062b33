"""Secrets of inbound messages, which encrypted answers such as poll votes are decrypted with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("inbox", sa.Column("message_secret", sa.Text))
