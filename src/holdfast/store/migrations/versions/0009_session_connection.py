"""How each session connects: the name of its device, and its proxy."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    for name in ("device_name", "proxy_url"):
        op.add_column("sessions", sa.Column(name, sa.Text))
