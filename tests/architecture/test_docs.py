"""Pages that are made from the source say what the source says, and leave nothing out."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any, cast

import pytest
import typer

from holdfast.api.backups import add_backups
from holdfast.api.routes import make_api
from holdfast.cli import cli
from holdfast.cli.examples import EXAMPLES
from holdfast.health import conditions
from holdfast.session import reasons
from holdfast.settings import Settings, variable

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def headings(page: str, level: int = 3) -> set[str]:
    found = re.findall(rf"^{'#' * level} (.+)$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return set(found)


def commands(group: Any = None, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every command by what a person types. `Any`: typer keeps its click to itself."""
    top: Any = group or typer.main.get_command(cli)
    for name, command in top.commands.items():
        full = f"{path} {name}".strip()
        if hasattr(command, "commands"):
            yield from commands(command, full)
        else:
            yield full, command


def test_generated_pages_are_fresh() -> None:
    """Each is what `just docs` would write now."""
    script = ROOT / "scripts" / "make_docs.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), f"run `just docs` and commit what it wrote: {done.stderr}"


def test_every_command_is_in_the_docs_and_explains_itself() -> None:
    """A sentence, a sentence for each argument and option, and an example."""
    assert headings("commands.md") == {f"holdfast {path}" for path, _ in commands()}
    for path, command in commands():
        assert command.help, path
        assert [each.name for each in command.params if not each.help] == [], path


@pytest.mark.parametrize("path", [path for path, _ in commands()])
def test_every_example_is_one_that_the_command_takes(path: str) -> None:
    """It is parsed as if it had been typed; nothing is carried out."""
    assert path in EXAMPLES, "add a line to src/holdfast/cli/examples.py"
    words = shlex.split(EXAMPLES[path])
    assert words[: 1 + len(path.split())] == ["holdfast", *path.split()]
    command = dict(commands())[path]
    command.make_context(path, words[1 + len(path.split()) :])


def test_no_example_is_left_of_a_command_that_is_gone() -> None:
    """They would stand in nobody's help."""
    assert set(EXAMPLES) == {path for path, _ in commands()}


def test_every_setting_is_in_the_docs() -> None:
    """By its variable."""
    assert headings("settings.md") == {variable(name) for name in Settings.model_fields}


def test_every_reason_is_in_the_docs() -> None:
    """By the name that API, alerts and logs call it, with its code."""
    page = (DOCS / "reasons.md").read_text(encoding="utf-8")
    for reason in (*reasons.BY_CODE.values(), reasons.DEVICE_REMOVED, *reasons.OWN):
        assert f"| {reason.code or '–'} | {reason.name} |" in page


def test_every_alert_is_in_the_docs() -> None:
    """Every cause that health/conditions.py can name, and every reason that needs a person."""
    page = (DOCS / "alerts.md").read_text(encoding="utf-8")
    causes = set(causes_in(Path(conditions.__file__)))
    assert {"not-connected", "redis-away", "zombie"} <= causes
    assert {cause for cause in causes if f"| `{cause}` |" not in page} == set()
    assert all(f"| `{name}` |" in page for name in ("banned", "replaced", "logged-out", "unlinked", "client-outdated"))


def causes_in(source: Path) -> Iterator[str]:
    """The causes that are spelt out there: `cause="…"`, and the first word of `_whole(…)`."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        match node:
            case ast.keyword(arg="cause", value=ast.Constant(value=str(cause))):
                yield cause
            case ast.Call(func=ast.Name(id="_whole"), args=[ast.Constant(value=str(cause)), *_]):
                yield cause


def test_every_route_is_in_the_docs() -> None:
    """By method and path, each with a line that can be typed; what takes JSON shows some."""
    parts = dict.fromkeys(signature(make_api).parameters)
    api = make_api(**cast(Any, {**parts, "settings": {}}))
    add_backups(api, cast(Any, None))
    document = api.openapi()
    known = {
        f"{method.upper()} {path}": operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert headings("api.md") == set(known)
    sections = dict(re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", (DOCS / "api.md").read_text(), re.MULTILINE | re.DOTALL))
    for name, operation in known.items():
        assert "curl " in sections[name]
        assert "requestBody" not in operation or re.search(r" (-d|--data-binary) ", sections[name]), (
            f"add a body for {name} to scripts/reference.py"
        )


def test_the_sample_of_the_log_is_what_grep_would_show() -> None:
    """Each line of it begins, behind time and level, with one of the three words; reasons are spelt as in the code."""
    (sample,) = re.findall(
        r"^```text\n(.*?)^```", (DOCS / "logs.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    lines = sample.splitlines()
    shape = re.compile(r"\S+Z (INFO|WARNING) (Session|Connection|Keep-alive) \S.*")
    assert [line for line in lines if not shape.fullmatch(line)] == []
    for reason in (reasons.BY_CODE[428], reasons.BY_CODE[503], reasons.NO_PONG, reasons.HOST_LOST, reasons.ASKED):
        assert any(reason.sentence in line for line in lines)
