"""An index of open messages that has everything that backlogs are counted from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_OPEN = sa.text("state IN ('queued','sending')")
_COLUMNS = ["company_id", "seq", "state", "priority", "accepted_at", "held_code"]


def upgrade() -> None:
    op.drop_index("outbox_open", "outbox")
    op.create_index("outbox_open", "outbox", _COLUMNS, sqlite_where=_OPEN, postgresql_where=_OPEN)
