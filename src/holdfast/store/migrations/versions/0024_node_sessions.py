"""How many sessions each node of a cluster owns, by which nodes share them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    op.add_column("nodes", sa.Column("sessions", sa.Integer, nullable=False, server_default=sa.text("0")))
