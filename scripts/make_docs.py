"""Write the pages of docs/ that say what the code says: `make_docs.py [--check]`.

docs/states.md and docs/reasons.md come from the session machine itself, the others from `reference.py`. The tables are
the machine's own; what leads from state to state is found by trying: every state, in the situations it can be in, meets
every event. `--check` writes nothing and fails when a page is stale.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import itertools
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import reference

from holdfast.session import engine, events, reasons
from holdfast.session import state as session_state
from holdfast.session.backoff import Backoff
from holdfast.session.events import Event
from holdfast.session.machine import ROWS, TABLE, NotPossible, Rule, step
from holdfast.session.reasons import Reason
from holdfast.session.state import Link, Policy, Session, State

DOCS = Path(__file__).parents[1] / "docs"
TRIED = Path(__file__).parents[1] / "tests" / "acceptance" / "tried.toml"
"""What the acceptance tests do, by code and name."""
HEADER = "<!-- Made by scripts/make_docs.py from src/holdfast/session: change that and run `just docs`. -->\n\n"
_NOW = 1000.0
_EVERYWHERE = {"StopAsked", "LogoutAsked"}
"""Left out of the picture, or there would be no picture: possible everywhere, each with one target."""

_WITHOUT_PHONE = {State.UNPAIRED, State.PAIRING, State.LOGGED_OUT}
_KINDS: tuple[type[Event], ...] = get_args(Event)

_SAMPLES: list[Event] = [
    events.StartAsked(),
    events.StopAsked(),
    events.ReconnectAsked(),
    events.LogoutAsked(),
    events.PairAsked(),
    engine.QrShown(link=1, qr="", valid_ms=60_000),
    engine.Paired(link=1, jid=""),
    engine.LinkOpened(link=1, jid=""),
    *(engine.LinkClosed(link=1, code=code) for code in [*reasons.BY_CODE, 999] if code is not None),
    engine.LinkClosed(link=1, code=408, detail="QR refs attempts ended"),
    events.HostLost(),
    events.HostLost(1),
    events.EngineQuarantined(),
    events.KeepingFailed(1),
    engine.Ponged(link=1, n=1),
    events.SendsWaited(1, _NOW),
    events.ProbeAsked(1),
    events.ConnectGranted(2),
    events.ConnectDeferred(_NOW, reasons.WAITS_TURN),
    events.Tick(),
]
"""Every event, in all the forms that the machine tells apart."""


# Trying.


def situations(state: State) -> list[Session]:
    """The different ways in which a session can be in `state`, all of them due."""
    session = Session(state=state, paired=state not in _WITHOUT_PHONE, newest_link=1)
    link = Link(number=1, began_at=0, gives_up_at=_NOW)
    up = replace(link, gives_up_at=None, opened_at=1, ping=1, ponged_at=2, next_ping_at=_NOW)
    logging_in = replace(session, link=link)
    doubted = replace(logging_in, attempts=10, reason=reasons.BY_CODE[401], same_reason=1)
    waiting = replace(session, next_attempt_at=_NOW)
    match state:
        case State.UNPAIRED | State.STOPPED:
            return [replace(session, paired=False), replace(session, paired=True)]
        case State.LOGGED_OUT:
            return [session]
        case State.CONNECTED:
            dead = replace(session, link=replace(up, pinged_at=1), replaced=2, replaced_at=_NOW)
            return [replace(session, link=up), dead]
        case State.PAIRING:
            return [logging_in, doubted, replace(session, link=replace(link, paired=True), paired=True), waiting]
        case State.CONNECTING:
            return [logging_in, doubted]
        case State.RECONNECTING:
            return [logging_in, doubted, waiting]
        case State.PAUSED:
            return [logging_in, doubted, waiting, replace(waiting, reason=reasons.BY_CODE[402])]


def targets(state: State, kind: type[Event]) -> list[State]:
    """The states that an event can lead to from `state`, `state` itself included."""
    found = set()
    for session, event in itertools.product(situations(state), _SAMPLES):
        if type(event) is kind and (session.link is not None or getattr(event, "link", None) is None):
            with contextlib.suppress(NotPossible):
                found.add(step(session, event, now=_NOW, jitter=0.5, policy=Policy())[0].state)
    return [target for target in State if target in found]


# States.


def states() -> str:
    return (
        HEADER
        + "# States of a session\n\n"
        + "What the machine (`src/holdfast/session/machine.py`) does about each event in each state. Three rules\n"
        + "stand above the tables: a report of another link than the current one changes nothing, a `Tick` before\n"
        + "the deadline changes nothing, and a pair that is not here is refused (`NotPossible`) and changes nothing.\n"
        + "`LinkClosed` follows the [table of reasons](reasons.md).\n\n"
        + _diagram()
        + "\nFrom every state `StopAsked` leads to stopped, and `LogoutAsked` to logged_out.\n\n"
        + "".join(_state(state) for state in State)
        + _policy()
    )


def _diagram() -> str:
    arrows: defaultdict[tuple[State, State], list[str]] = defaultdict(list)
    for state, kind in itertools.product(State, _KINDS):
        if (state, kind) in TABLE and kind.__name__ not in _EVERYWHERE:
            for target in targets(state, kind):
                arrows[state, target].append(kind.__name__)
    lines = [
        f"    {state} --> {target}: {', '.join(names)}"
        for (state, target), names in arrows.items()
        if state is not target
    ]
    return "```mermaid\nstateDiagram-v2\n    [*] --> unpaired\n" + "\n".join(lines) + "\n```\n"


def _state(state: State) -> str:
    rows = "".join(
        f"| {kind.__name__} | {_claim(ROWS[state][kind])} | {', '.join(targets(state, kind))} |\n"
        for kind in _KINDS
        if kind in ROWS[state]
    )
    return f"## {state}\n\n| event | what happens | then |\n| --- | --- | --- |\n{rows}\n"


def _claim(rule: Rule) -> str:
    doc = inspect.getdoc(rule)
    assert doc, f"the rule {rule} has no docstring"
    return doc.split("\n\n")[0].replace("\n", " ")


def _policy() -> str:
    """The numbers, with the sentences beside them in the source."""
    docs = attribute_docs(session_state, "Policy")
    values = {field.name: getattr(Policy(), field.name) for field in fields(Policy) if field.name != "backoff"}
    rows = "".join(f"| {name} | {_shown(value)} | {docs.get(name, '')} |\n" for name, value in values.items())
    formula = " ".join((inspect.getdoc(Backoff) or "").split())
    numbers = ", ".join(f"{field.name} {_shown(getattr(Backoff(), field.name))}" for field in fields(Backoff))
    head = "## The numbers\n\nSeconds unless the name says otherwise.\n\n| name | value | |\n| --- | --- | --- |\n"
    return f"{head}| backoff | {numbers} | {formula} |\n{rows}"


def _shown(value: object) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else f"{value}"


def attribute_docs(module: ModuleType, name: str) -> dict[str, str]:
    """The strings below the attributes of class `name`, which Python itself forgets."""
    tree = ast.parse(inspect.getsource(module))
    (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    docs = {}
    for node, below in zip(found.body, found.body[1:], strict=False):
        match node, below:
            case (
                ast.Assign(targets=[ast.Name(id=attribute)]) | ast.AnnAssign(target=ast.Name(id=attribute)),
                ast.Expr(value=ast.Constant(value=str(doc))),
            ):
                docs[attribute] = " ".join(doc.split())
    return docs


# Reasons.


def reasons_page() -> str:
    return (
        HEADER
        + "# Why links end\n\n"
        + "Each end of a link has a reason, each reason a reaction. `name` is what the API, the alerts and the logs\n"
        + "call it; `fault` says who can mend it; `action` is what the person who reads it should do.\n\n"
        + "## By WhatsApp's or Baileys' code\n\n"
        + _table([*reasons.BY_CODE.values(), reasons.DEVICE_REMOVED, reasons.QR_USED_UP])
        + "\n401 with `device_removed` is the second of its rows, 408 with Baileys' word that the QR codes are used\n"
        + "up likewise; 409 of type `replaced` is 440. A code that is not here:\n\n"
        + _table([reasons.reason_of(999, {}), reasons.reason_of(999, {}, "WebSocket Error (")], code="any")
        + _tried()
        + "\n## What Holdfast finds itself\n\n"
        + _table([reason for reason in reasons.OWN if reason.code is None])
        + "\n## Reactions\n\n| reaction | |\n| --- | --- |\n"
        + "".join(
            f"| {reasons.SessionReaction[member]} | {doc} |\n"
            for member, doc in attribute_docs(reasons, "SessionReaction").items()
        )
    )


def _table(rows: Iterable[Reason], *, code: str | None = None) -> str:
    head = "| code | name | fault | reaction | sentence | action |\n| --- | --- | --- | --- | --- | --- |\n"
    return head + "".join(
        f"| {code or reason.code or '–'} | {reason.name} | {reason.fault} | {reason.reaction} "
        f"| {reason.sentence.replace('999', 'N')} | {reason.action} |\n"
        for reason in sorted(rows, key=lambda reason: reason.code or 0)
    )


def _tried() -> str:
    """What of this is tried on the real Baileys: the table that `tests/acceptance/test_reasons.py` works off."""
    rows = tomllib.loads(TRIED.read_text(encoding="utf-8"))["trial"]
    return (
        "\n## What is tried\n\nOn the real Baileys, against wasim: the reaction, and what API, Redis, history and log "
        "say of it\n(`tests/acceptance/test_reasons.py`). What stands at login answers every login.\n\n"
        "| code | name | reaction | at login | on an open link |\n| --- | --- | --- | --- | --- |\n"
    ) + "".join(
        f"| {row['code']} | {row['name']} | {row['reaction']} | {_faults('failure', row.get('login'))} "
        f"| {', '.join(map(_fault, row.get('mid_stream', []))) or '–'} |\n"
        for row in sorted(rows, key=lambda row: int(row["code"]))
    )


def _faults(kind: str, fields: dict[str, Any] | None) -> str:
    return "–" if fields is None else _fault({"kind": kind, **fields})


def _fault(fault: dict[str, Any]) -> str:
    """`stream-error 503`; attributes as they are on the wire."""
    said = [str(value) for key, value in fault.items() if key != "attrs"]
    return " ".join(said + [f"{key}={value}" for key, value in fault.get("attrs", {}).items()])


PAGES = {"states.md": states, "reasons.md": reasons_page, **reference.PAGES}


def stale() -> list[str]:
    """The pages that differ from what the source says."""
    return [
        name
        for name, make in PAGES.items()
        if not (DOCS / name).exists() or (DOCS / name).read_text(encoding="utf-8") != make()
    ]


def main(arguments: list[str]) -> int:
    names = stale()
    if arguments == ["--check"]:
        for name in names:
            print(f"docs/{name} is stale: run `just docs` and commit it", file=sys.stderr)
        return 1 if names else 0
    for name in names:
        (DOCS / name).write_text(PAGES[name](), encoding="utf-8")
        print(f"docs/{name} written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
