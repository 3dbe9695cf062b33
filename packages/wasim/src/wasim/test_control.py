"""docs/wasim.md and `GET /` list every route, fault and option."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from wasim import cli
from wasim.authority import open_authority
from wasim.clock import Clock
from wasim.control import ROUTES_TEXT, make_app
from wasim.faults import KINDS
from wasim.media import MediaFolder
from wasim.shell import Simulator
from wasim.store import Store

DOCS = Path(__file__).parents[4].joinpath("docs", "wasim.md").read_text()


def test_every_route_is_documented(tmp_path: Path) -> None:
    """Both list it with its method."""
    with Store(tmp_path) as store:
        simulator = Simulator(store=store, clock=Clock(), host="127.0.0.1", port=0)
        app = make_app(simulator, open_authority(tmp_path, now=0.0), MediaFolder(tmp_path / "media"))
    routes = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None}
    listed = re.sub(r" +", " ", ROUTES_TEXT)
    for method, path in routes - {("GET", "/")}:
        if method != "HEAD":
            assert re.search(rf"`{method} {re.escape(path)}(\?[^`]*)?`", DOCS), f"{method} {path} is not in the docs"
            assert path in listed, f"{path} is not in GET /"


@pytest.mark.parametrize("kind", KINDS)
def test_every_fault_is_documented(kind: str) -> None:
    """The document lists it with all of its fields."""
    row = next((line for line in DOCS.splitlines() if line.startswith(f"| `{kind}` |")), None)
    assert row is not None, f"the fault {kind} is not in the docs"
    for name in KINDS[kind]:
        assert f"`{name}`" in row, f"{kind} does not describe {name}"


def test_every_option_is_documented() -> None:
    for name in inspect.signature(cli.serve).parameters:
        option = f"--{name.replace('_', '-')}"
        assert f"| `{option}` |" in DOCS, f"{option} is not in the docs"
