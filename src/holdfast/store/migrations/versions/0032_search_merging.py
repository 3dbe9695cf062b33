"""The full-text index of SQLite is merged in small steps instead of by itself, in large ones."""

from __future__ import annotations

from alembic import op

from holdfast.store import search_index

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    search_index.disable_automerge(op.get_bind())
