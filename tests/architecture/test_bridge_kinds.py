"""The tables of the Node bridge have the kinds that Python and the documents have."""

from __future__ import annotations

import re
from pathlib import Path

from holdfast.engine.node import BRIDGE_DIR
from holdfast.session import queries
from holdfast.session.operations import KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "messages.md").read_text(encoding="utf-8")


def table(module: str, name: str) -> dict[str, str]:
    """The entries of a table in a module of the bridge, by key."""
    source = (BRIDGE_DIR / module).read_text(encoding="utf-8")
    found = re.search(rf"^(?:export )?const {name} = \{{\n(.*?)^\}}$", source, re.MULTILINE | re.DOTALL)
    assert found, f"{module} has no table {name}"
    return dict(re.findall(r"^  '?([\w-]+)'?: (.*?)(?=^  ['\w]|\Z)", found[1], re.MULTILINE | re.DOTALL))


def test_operations_have_the_same_names_on_both_sides() -> None:
    """A kind without its entry would be accepted by the API, and refused by the engine."""
    entries = table("operations.mjs", "OPERATIONS") | table("accountoperations.mjs", "ACCOUNT_OPERATIONS")
    assert set(entries) == set(KINDS), "session/operations.py and engine/baileys/operations.mjs define the same kinds"
    observing = {name for name, entry in entries.items() if re.search(r"^    (async )?observe[:(]", entry, re.M)}
    assert observing == {name for name, kind in KINDS.items() if kind.observes}


def test_queries_have_the_same_names_on_both_sides() -> None:
    """A query without its entry would be answered with an error of the engine."""
    asked = re.findall(r'Query\(name="([\w-]+)"', Path(queries.__file__).read_text(encoding="utf-8"))
    entries = table("queries.mjs", "QUERIES")
    assert set(entries) == set(asked), "session/queries.py and engine/baileys/queries.mjs define the same queries"


def test_every_kind_of_inbound_message_is_documented() -> None:
    """In the table of the page about messages."""
    kinds = {entry.split("'")[1] for entry in table("description.mjs", "KINDS").values()}
    assert {"text", "poll_vote", "group_invite"} <= kinds
    section = PAGE.split("\n## Kinds of inbound messages\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    documented = {name for cell in cells for name in re.findall("`(.*?)`", cell)}
    assert not kinds - documented, "add a row under 'Kinds of inbound messages' in docs/messages.md"
