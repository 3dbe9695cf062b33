"""Entries of PostgreSQL's search index go to their places at once, not to a list that some write has to empty."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for name in ("outbox_search_words", "inbox_search_words"):
        op.execute(f"ALTER INDEX {name} SET (fastupdate = off)")
        op.execute(f"ALTER INDEX {name} RESET (gin_pending_list_limit)")
        op.execute(f"SELECT gin_clean_pending_list('{name}')")
