"""Whether a company's calls are rejected, with which text, and whether it is shown as online."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    for name in ("auto_reject_calls", "rejected_call_text", "shown_available"):
        op.add_column("sessions", sa.Column(name, sa.Text))
