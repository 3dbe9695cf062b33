"""Migrations that a running cluster survives: nodes of this version and of the one before work on one schema."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import holdfast.store.migrations.versions as versions

FIRST = 16
"""Earlier ones were part of the first release."""
FOLDER = Path(versions.__file__).parent
MIGRATIONS = sorted(path for path in FOLDER.glob("0*.py") if int(path.name[:4]) >= FIRST)
ADDING = {"create_table", "add_column", "create_index", "get_bind", "execute", "get_context"}
"""Operations that an older node does not notice. `execute` is judged by its statement."""
FORBIDDEN = ("DROP ", "RENAME", "ALTER COLUMN", "SET NOT NULL")


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.stem)
def test_a_migration_only_adds(path: Path) -> None:
    """Tables, indexes, and columns that are nullable or have a default of the server: an older node that writes rows
    doesn't know them, and reads as before."""
    for call in calls(path):
        assert call.func.attr in ADDING, f"{path.name} line {call.lineno}: {call.func.attr} disturbs older nodes"  # type: ignore[attr-defined]
        words = ast.unparse(call).upper()
        assert not any(each in words for each in FORBIDDEN), f"{path.name} line {call.lineno}: {words}"
        if call.func.attr == "add_column":  # type: ignore[attr-defined]
            assert "NULLABLE=FALSE" not in words or "SERVER_DEFAULT" in words, f"{path.name} line {call.lineno}"


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.stem)
def test_an_index_on_an_existing_table_is_built_without_locking_it(path: Path) -> None:
    """`op.create_index` is for tables of the same migration, which are empty; others have `store.online_index`."""
    tables = {ast.unparse(call.args[0]) for call in calls(path) if call.func.attr == "create_table"}  # type: ignore[attr-defined]
    for call in calls(path):
        if call.func.attr == "create_index":  # type: ignore[attr-defined]
            assert ast.unparse(call.args[1]) in tables, f"{path.name} line {call.lineno}: use online_index.create_index"


def calls(path: Path) -> list[ast.Call]:
    """Those of alembic's `op` in the upgrade."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return [
        node
        for node in nodes
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "op"
    ]
