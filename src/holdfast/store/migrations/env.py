"""Alembic's entry point: runs the steps on the connection that `Database` hands over."""

from __future__ import annotations

from alembic import context

from holdfast.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, transaction_per_migration=True
)
context.run_migrations()
