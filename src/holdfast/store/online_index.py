"""Creates an index in a migration while older nodes of a cluster continue to write to its table.

PostgreSQL's ordinary CREATE INDEX locks the table against writes until the index is built, which takes minutes on a
large one. A migration that calls this may be repeated after an interruption, and must do nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

from alembic import op
from sqlalchemy import TextClause


def create_index(name: str, table: str, columns: Sequence[str], *, where: TextClause | None = None) -> None:
    """Create an index on a table that may be large; `where` makes it partial."""
    context = op.get_context()
    if context.dialect.name != "postgresql":
        op.create_index(name, table, columns, sqlite_where=where)
        return
    with context.autocommit_block():
        op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)  # one that was interrupted is invalid
        op.create_index(name, table, columns, postgresql_where=where, postgresql_concurrently=True)
