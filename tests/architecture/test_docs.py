"""Pages that are made from the source say what the source says, and leave nothing out."""

from __future__ import annotations

import ast
import json
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any, cast

import pytest
import typer

from holdfast.api.api_keys import add_api_keys
from holdfast.api.backups import add_backups
from holdfast.api.routes import make_api
from holdfast.cli import cli
from holdfast.cli.examples import EXAMPLES
from holdfast.delivery.events import TYPES
from holdfast.engine.node import find_node
from holdfast.health import conditions, verdict
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


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"name": "flying", "tests": ["tests/api/test_chats.py::test_flying"]}, "there is no test tests/api"),
        ({"name": "flying", "tests": ["tests/api/test_no.py::test_flying"]}, "there is no test tests/api/test_no.py"),
        ({"name": "flying", "routes": ["GET /v1/fly"], "left_out": "no wings"}, "there is no route GET /v1/fly"),
        ({"name": "flying", "routes": ["GET /v1/sessions"]}, "name a test that shows it, or say in left_out why"),
    ],
)
def test_a_feature_without_test_or_route_stops_the_generator(row: dict[str, Any], sentence: str) -> None:
    """So the table names only tests that exist, and every feature without one has a reason."""
    page = runpy.run_path(str(ROOT / "scripts" / "features.py"))["page"]
    with pytest.raises(Exception, match=f"^flying: {sentence}"):
        page({"group": [{"name": "all", "feature": [row]}]}, {"GET /v1/sessions"})


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


def test_no_removed_command_has_an_example() -> None:
    """Such an example would be shown nowhere."""
    assert set(EXAMPLES) == {path for path, _ in commands()}


def test_every_setting_is_in_the_docs() -> None:
    """By its variable."""
    assert headings("settings.md") == {variable(name) for name in Settings.model_fields}


def test_every_setting_is_read() -> None:
    """A setting that no code reads would be documented and accepted, and change nothing."""
    sources = set((ROOT / "src").rglob("*.py")) - {ROOT / "src/holdfast/settings/groups.py"}
    read = set(re.findall(r"\.(\w+)", "\n".join(path.read_text(encoding="utf-8") for path in sources)))
    assert sorted(set(Settings.model_fields) - read) == [], "pass its value to the code that needs it"


def test_every_reason_is_in_the_docs() -> None:
    """By the name that API, alerts and logs call it, with its code."""
    page = (DOCS / "reasons.md").read_text(encoding="utf-8")
    for reason in (*reasons.BY_CODE.values(), reasons.DEVICE_REMOVED, *reasons.OWN):
        assert f"| {reason.code or '–'} | {reason.name} |" in page


def test_every_alert_is_in_the_docs() -> None:
    """Every cause that health/conditions.py can name, and every reason that needs a person."""
    page = (DOCS / "alerts.md").read_text(encoding="utf-8")
    causes = set(causes_in(Path(conditions.__file__)))
    assert {"not-connected", "redis-unavailable", "zombie"} <= causes
    missing = {cause for cause in causes if f"| `{cause}` |" not in page}
    assert not missing, "add signals that cause the alert to `conditions` of scripts/reference.py, and run `just docs`"
    assert all(f"| `{name}` |" in page for name in ("banned", "replaced", "logged-out", "unlinked", "client-outdated"))


def causes_in(source: Path) -> Iterator[str]:
    """The causes that are spelt out there: `cause="…"`, and the first word of `_whole(…)`."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        match node:
            case ast.keyword(arg="cause", value=ast.Constant(value=str(cause))):
                yield cause
            case ast.Call(func=ast.Name(id="_whole"), args=[ast.Constant(value=str(cause)), *_]):
                yield cause


def test_every_code_of_a_health_finding_is_in_the_docs() -> None:
    """With its status, in the table of the page about alerting; the names of reasons have a page of their own."""
    page = (DOCS / "alerting.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]*) \| (degraded|unhealthy) \|", page, re.MULTILINE)
    documented = {(code, status) for cell, status in rows for code in re.findall("`(.*?)`", cell)}
    found = {*findings_in(Path(verdict.__file__)), ("not-connected", "unhealthy")}
    found |= {(code, "degraded") for code in (*verdict.HOLDS, verdict.OUTBOX_LATE)}
    assert documented == found, "docs/alerting.md has a row for each finding of health/verdict.py"


def findings_in(source: Path) -> Iterator[tuple[str, str]]:
    """Code and status of the findings whose code is spelt out there."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Name(id="_degraded" | "_unhealthy" as name), args=[ast.Constant(value=code), *_]):
                yield str(code), name[1:]


def test_every_type_of_event_is_in_the_docs() -> None:
    """In the table of types of the page about webhooks, which has no other type."""
    cells = re.findall(r"^\| (`\w+\.\w+`[^|]*) \|", (DOCS / "webhooks.md").read_text(), re.MULTILINE)
    documented = sorted(name for cell in cells for name in re.findall("`(.*?)`", cell))
    assert documented == sorted(TYPES), "the table of types in docs/webhooks.md has each type of TYPES once"


def test_examples_of_routes_have_ids_of_the_right_kind() -> None:
    """Only messages, also in the inbox and as the name of their media, have ids that begin with `msg_`."""
    examples = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    found = set(re.findall(r"/(\w+)/msg_", examples))
    assert found == {"messages", "inbox", "media"}, "add the id of another kind to `_IDS` of scripts/reference.py"


def test_every_route_is_in_the_docs() -> None:
    """By method and path, each with a line that can be typed; what takes JSON shows some."""
    parts = dict.fromkeys(signature(make_api).parameters)
    api = make_api(**cast(Any, {**parts, "settings": {}}))
    add_backups(api, cast(Any, None))
    add_api_keys(api, cast(Any, None))
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
            f"add a body for {name} to api/examples.py"
        )


def test_the_sample_of_the_log_is_what_grep_would_show() -> None:
    """Each line of it begins, behind time and level, with one of the three words; reasons are spelt as in the code."""
    (sample,) = re.findall(
        r"^```text\n(.*?)^```", (DOCS / "logs.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    lines = sample.splitlines()
    shape = re.compile(r"\S+Z (INFO|WARNING) (Session|Connection|Keep-alive) \S.*")
    assert [line for line in lines if not shape.fullmatch(line)] == []
    for reason in (
        reasons.BY_CODE[428],
        reasons.BY_CODE[503],
        reasons.NO_PONG,
        reasons.ENGINE_HOST_LOST,
        reasons.RECONNECT_REQUESTED,
    ):
        assert any(reason.sentence in line for line in lines)


def test_the_runbook_has_every_reason() -> None:
    """By name, with its number where it has one, and something to do."""
    sections = runbook("Reasons")
    for reason in (*reasons.BY_CODE.values(), *reasons.OWN, reasons.reason_of(999, {}), CONNECT_FAILED):
        heading = reason.name if reason.code in {None, 999, CONNECT_FAILED.code} else f"{reason.name} ({reason.code})"
        assert "**Do**" in sections.pop(heading, ""), (
            f"docs/runbook.md needs a section {heading!r} that says what to **do**"
        )
    assert not sections, "reasons that nobody gives"


CONNECT_FAILED = reasons.reason_of(407, {}, "WebSocket Error (407)")


def test_the_runbook_has_every_alert() -> None:
    """Under its own heading, or as the reason whose name it bears."""
    page = (DOCS / "alerts.md").read_text(encoding="utf-8")
    causes = set(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE))
    assert {"banned", "not-connected"} <= causes
    sections = runbook("Alerts")
    as_reasons = {heading.partition(" ")[0] for heading in runbook("Reasons")}
    assert all("**Do**" in section for section in sections.values())
    assert causes - as_reasons == set(sections), "docs/runbook.md has a section under Alerts for each of these causes"
    intro = (DOCS / "runbook.md").read_text(encoding="utf-8").partition("\n## Alerts\n")[2].partition("###")[0]
    assert causes & as_reasons == set(re.findall(r"`([a-z-]+)`", intro)) - {"cause"}


def runbook(part: str) -> dict[str, str]:
    """The sections of one part of the runbook, by heading."""
    text = (DOCS / "runbook.md").read_text(encoding="utf-8")
    whole = re.search(rf"^## {part}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert whole, part
    return dict(re.findall(r"^### (.+?)\n(.*?)(?=^### |\Z)", whole[1], re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as a site; a dead link ends its build."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_is_built_without_a_dead_link(site: Path) -> None:
    """Every page is in the menu, every link and anchor leads somewhere, and nothing is loaded from another server."""
    pages = list(site.glob("*.html"))
    assert len(pages) >= len(list(DOCS.glob("*.md")))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<(script|img|iframe)[^>]* src=\"(https?:)?//", text), page
        assert not re.search(r"<link[^>]* href=\"(https?:)?//", text), page


def test_the_sites_search_finds_pages_by_the_words_of_newcomers(site: Path) -> None:
    """The page that answers is among the first five results, each page counted once."""
    wanted = {
        "receive": "receiving.html", "webhook": "webhooks.html", "waha": "moving.html", "evolution": "moving.html",
        "docker": "install.html", "alert": "alerting.html", "qr": "link.html", "banned": "runbook.html",
    }  # fmt: skip
    search = """
      const [lunrFile, indexFile, ...words] = process.argv.slice(1), fs = require("node:fs");
      const scope = {}; scope.self = scope;
      require("node:vm").runInNewContext(fs.readFileSync(lunrFile, "utf8"), scope);
      const {docs} = JSON.parse(fs.readFileSync(indexFile, "utf8"));
      const index = scope.lunr(function () {  // as the site's worker.js builds it
        this.field("title"); this.field("text"); this.ref("location");
        docs.forEach((each) => this.add(each));
      });
      console.log(JSON.stringify(words.map((word) => index.search(word).map((found) => found.ref))));
    """
    files = [str(site / "search" / name) for name in ("lunr.js", "search_index.json")]
    command = [str(find_node().executable), "-e", search, *files, *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for (word, page), found in zip(wanted.items(), json.loads(done.stdout), strict=True):
        pages = list(dict.fromkeys(ref.partition("#")[0] for ref in found))
        assert page in pages[:5], word


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"])
def test_links_of_the_pages_above_lead_somewhere(name: str) -> None:
    """To files that are there."""
    linked = re.findall(r"\]\((?!https?://)([^)#]+)", (ROOT / name).read_text(encoding="utf-8"))
    assert linked
    assert [path for path in linked if not (ROOT / path).exists()] == []


def test_contributing_names_only_files_and_names_that_exist() -> None:
    """Otherwise a recipe would become stale unnoticed when something that it names is renamed."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    quoted = " ".join(re.findall("(?<!`)`([^`]+)`(?!`)", text))
    folders = ("src", "packages", "tests", "scripts", "docs", "bench")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.*") if "__pycache__" not in path.parts]
    named = set(re.findall(r"(?<![\w./*…-])\w[\w./-]*\.(?:py|mjs|toml|md)\b", quoted))
    assert len(named) > 50
    paths = [f"/{path.relative_to(ROOT)}" for path in (*files, *ROOT.glob("*.*"))]
    assert [name for name in sorted(named) if not any(path.endswith(f"/{name}") for path in paths)] == []
    code = "\n".join(path.read_text(encoding="utf-8") for path in files if path.suffix in {".py", ".mjs"})
    words = re.findall(r"(?<![\w./*…-])[A-Za-z_]\w{2,}(?![\w./-])", quoted)
    names = {word for word in words if word != word.lower() or "_" in word}
    assert sorted(names - set(re.findall(r"\w+", code))) == []


def test_pages_name_no_setting_and_no_command_that_there_is_not() -> None:
    """Text that is not generated from the source would otherwise become stale unnoticed."""
    settings = {variable(name) for name in Settings.model_fields}
    known = {path.split()[0] for path, _ in commands()}
    for page in (*DOCS.glob("*.md"), ROOT / "README.md"):
        text = page.read_text(encoding="utf-8")
        named = set(re.findall(r"\bHOLDFAST_[A-Z_]*[A-Z](?![A-Z_…])", text)) - settings
        assert {each for each in named if not any(name.startswith(each + "_") for name in settings)} == set(), page
        typed = set(re.findall(r"(?:^|`|run |bin/|--no-sync )holdfast ([a-z][a-z-]+)", text, re.MULTILINE))
        assert typed <= known, page
