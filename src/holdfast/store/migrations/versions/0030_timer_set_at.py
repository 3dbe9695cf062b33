"""When the timer of disappearing messages in a chat was set: an older setting that arrives later is ignored."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    op.add_column("chats", sa.Column("disappearing_set_at", sa.Text))
