"""Kinds of messages that a company does not want to keep."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("ignored", sa.Text))
