"""When the signed URLs of a company's media were last revoked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("media_links_revoked_at", sa.Text))
