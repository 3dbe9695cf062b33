"""Durable rows: tables, the group-commit writer, migrations. What a row promises is held by the database."""
