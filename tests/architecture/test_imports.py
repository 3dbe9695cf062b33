"""The table of packages in docs/architecture.md says what each imports: held to the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "holdfast"


def packages_in_code() -> dict[str, set[str]]:
    """Each package or module of the top level, with the others that its modules import."""
    graph: dict[str, set[str]] = {}
    for file in SOURCE.rglob("*.py"):
        if file.name.startswith(("test_", "__main__", "conftest")) or file == SOURCE / "__init__.py":
            continue
        package = file.relative_to(SOURCE).with_suffix("").parts[0]
        graph.setdefault(package, set()).update(imported(file) - {package})
    return graph


def imported(file: Path) -> set[str]:
    """The packages of Holdfast that one file imports, inside functions and for types too."""
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.ImportFrom(module="holdfast", names=aliases):
                names += [f"holdfast.{alias.name}" for alias in aliases]
            case ast.ImportFrom(module=str(module)):
                names.append(module)
            case ast.Import(names=aliases):
                names += [alias.name for alias in aliases]
    return {name.split(".")[1] for name in names if name.startswith("holdfast.")}


def packages_in_docs() -> dict[str, str]:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("## Packages")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| .+ \| (.+) \|$", table, flags=re.MULTILINE))


def test_the_table_of_packages_says_what_each_imports() -> None:
    """docs/architecture.md has one row for each package, and its last column is exactly what the code imports."""
    in_code = {package: ", ".join(sorted(names)) or "–" for package, names in packages_in_code().items()}
    assert packages_in_docs() == in_code


def test_nothing_that_is_shipped_imports_tests() -> None:
    """Only tests import test doubles: the wheel works without the folder `tests`."""
    shipped = [file for file in SOURCE.rglob("*.py") if not file.name.startswith(("test_", "conftest"))]
    assert not [file for file in shipped if re.search(r"^\s*(from|import) tests\b", file.read_text(), re.MULTILINE)]
