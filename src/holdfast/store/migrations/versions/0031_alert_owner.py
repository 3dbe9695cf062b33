"""Which node delivers an alert, so that no other one delivers it, too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    op.add_column("alerts", sa.Column("owner", sa.Text))
