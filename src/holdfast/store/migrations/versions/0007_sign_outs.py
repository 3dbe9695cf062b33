"""Sessions of the dashboard that were signed out, for all processes; stored media of a company by an index."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "sign_outs",
        sa.Column("login_id", sa.Text, primary_key=True),
        sa.Column("forget_at", sa.Text, nullable=False),
    )
    op.create_index("sign_outs_forget_at", "sign_outs", ["forget_at"])
    op.create_index("media_by_company", "media", ["company_id"])
