"""Print counts of the code's structure: `uv run scripts/structure.py [FOLDER]`, with --json for programs.

FOLDER is a checkout; without one it is this repository. Compare two checkouts to see what a change did to the
structure: numbers inform, judgement decides.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

LONG_LINES, SHORT_LINES = 400, 60
SENDING = (
    ("api", ("quick", "fast_send", "server")),
    (
        "runtime",
        (
            "messages",
            "gateway",
            "composer",
            "actor",
            "outcomes",
            "sender",
            "outbox_sender",
            "hub",
            "engine_supervisor",
            "engine_slot",
        ),
    ),
    ("engine", ("host", "wire")),
)
"""Where the search for the way of a message begins: what a POST enters, and what writes its frame to the engine."""


SENDER = (
    "runtime/sender",
    "runtime/outbox_sender",
    "runtime/outcomes",
    "runtime/message_expiry",
    "delivery/queue_watch",
    "base/clock",
)
"""Where the state of sending from the outbox is."""


def product_files(root: Path) -> list[Path]:
    """Python and JavaScript of the product: no tests, no generated or foreign code."""
    found: list[Path] = []
    for folder in ("src/holdfast", "src/wasim", "packages/wasim/src"):
        for path in sorted((root / folder).rglob("*")):
            is_test = path.name.startswith(("test_", "conftest")) or path.name.endswith(".test.mjs")
            is_foreign = {"vendor", "node_modules"} & set(path.parts) or path.name == "tokens.py"
            if path.suffix in {".py", ".mjs", ".js"} and not is_test and not is_foreign:
                found.append(path)
    return found


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def names_with_two_meanings(files: Sequence[Path]) -> dict[str, list[str]]:
    """Public classes that more than one module of Holdfast defines under the same name."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in files:
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(path.as_posix().partition("src/holdfast/")[2])
    return {name: where for name, where in sorted(places.items()) if len(where) > 1}


def modules_of_sending(root: Path) -> list[str]:
    """The Python modules that a POST of a message runs through until its frame is written to the engine.

    Found by the imports of the modules in `SENDING`: themselves, and what these import from the packages of delivery
    (what a message is and when it may leave), of its storage and of the machine. An upper bound that a reader sees.
    """
    base = root / "src/holdfast"
    found: set[str] = set()
    for package, names in SENDING:
        for name in names:
            path = base / package / f"{name}.py"
            if path.exists():
                found.add(f"{package}.{name}")
                found |= set(_imported(path))
    wanted = re.compile(r"(delivery|runtime|engine|api)\.\w+|session\.(engine|machine|port)|store\.(outbox|database)")
    return sorted(name for name in found if wanted.fullmatch(name) and not name.endswith("errors"))


def _imported(path: Path) -> Iterator[str]:
    for node in tree(path).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("holdfast."):
            yield node.module.removeprefix("holdfast.")


def state_of_sender(root: Path) -> list[str]:
    """Attributes that the classes which send from the outbox change after their construction.

    The limits, the breaker and the messages in flight were values of their own before the redesign, too.
    """
    base = root / "src/holdfast"
    found: list[str] = []
    for name in SENDER:
        path = base / f"{name}.py"
        if path.exists():
            found += [f"{name.partition('/')[2]}.{each}" for each in sorted(set(_assigned(tree(path))))]
    return found


def _assigned(module: ast.Module) -> Iterator[str]:
    for function in ast.walk(module):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or function.name == "__init__":
            continue
        for node in ast.walk(function):
            targets: list[ast.expr]
            match node:
                case ast.Assign():
                    targets = node.targets
                case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
                    targets = [target]
                case ast.AsyncWith(items=items):
                    targets = [item.optional_vars for item in items if item.optional_vars is not None]
                case _:
                    continue
            for assigned in targets:
                for each in assigned.elts if isinstance(assigned, ast.Tuple) else [assigned]:
                    if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == "self":
                        yield each.attr


def counts(root: Path) -> dict[str, object]:
    files = product_files(root)
    python = [path for path in files if path.suffix == ".py"]
    holdfast = [path for path in python if "src/holdfast/" in path.as_posix()]
    sizes = {path.relative_to(root).as_posix(): lines(path) for path in files}
    sending = modules_of_sending(root)
    return {
        "lines of product code": sum(sizes.values()),
        "lines of Holdfast (Python)": sum(map(lines, holdfast)),
        "lines of the bridge (JavaScript)": sum(lines(path) for path in files if path.suffix == ".mjs"),
        "lines of wasim": sum(lines(path) for path in python if "/wasim/" in path.as_posix()),
        "files": len(files),
        f"files above {LONG_LINES} lines": {name: n for name, n in sorted(sizes.items()) if n > LONG_LINES},
        f"Python files below {SHORT_LINES} lines": sum(lines(path) < SHORT_LINES for path in python),
        "names with two meanings": names_with_two_meanings(holdfast),
        "modules from POST to frame (by imports)": sending,
        "state variables of the outbox sender": state_of_sender(root),
    }


def main(arguments: Sequence[str]) -> None:
    places = [argument for argument in arguments if not argument.startswith("--")]
    found = counts(Path(places[0]) if places else Path(__file__).parents[1])
    if "--json" in arguments:
        print(json.dumps(found, indent=2))
        return
    for what, value in found.items():
        if isinstance(value, list | dict):
            items = value if isinstance(value, list) else [f"{name} {value[name]}" for name in value]
            print(f"{what}: {len(value)}")
            for item in items:
                print(f"    {item}")
        else:
            print(f"{what}: {value:,}")


if __name__ == "__main__":
    main(sys.argv[1:])
