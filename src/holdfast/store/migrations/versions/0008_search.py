"""A full-text index of the messages, filled with those that there are."""

from __future__ import annotations

from alembic import op

from holdfast.store import search_index

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    search_index.create(op.get_bind())
