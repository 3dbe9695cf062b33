"""History from before a device was linked: whether to store it, and which messages came with it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("history", sa.Text))
    op.add_column("inbox", sa.Column("origin", sa.Text))
