"""Contacts, and the other names of chats: hidden ids and second spellings of numbers.

Both tables begin empty. `store.contact_backfill` fills them in small transactions while the gateway runs.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"

_NAMES = ("number", "lid", "username", "push_name", "saved_name", "business_name")
_UNMOVED = sa.text("moved_at IS NULL")


def upgrade() -> None:
    op.create_table(
        "contacts",
        sa.Column("company_id", sa.Text, primary_key=True),
        sa.Column("jid", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text) for name in _NAMES),
        sa.Column("updated_at", sa.Text, nullable=False),
    )
    for name in ("number", "lid", "username"):
        op.create_index(f"contacts_{name}", "contacts", ["company_id", name], unique=True)
    op.create_table(
        "chat_aliases",
        sa.Column("company_id", sa.Text, primary_key=True),
        sa.Column("alias", sa.Text, primary_key=True),
        sa.Column("chat", sa.Text, nullable=False),
        sa.Column("moved_at", sa.Text),
    )
    op.create_index("chat_aliases_chat", "chat_aliases", ["company_id", "chat"])
    op.create_index(
        "chat_aliases_unmoved",
        "chat_aliases",
        ["company_id", "alias"],
        sqlite_where=_UNMOVED,
        postgresql_where=_UNMOVED,
    )
