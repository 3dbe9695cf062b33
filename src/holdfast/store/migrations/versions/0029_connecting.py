"""How many sessions of a node wait to connect."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    op.add_column("nodes", sa.Column("connecting", sa.Integer, nullable=False, server_default=sa.text("0")))
