"""Whether what arrives is marked as read automatically."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("auto_read", sa.Text))
