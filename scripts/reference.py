"""The pages of reference: commands, settings, routes and alerts, made from the code that has them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import typer

from holdfast.api.backups import add_backups
from holdfast.api.description import KEYED
from holdfast.api.examples import BODIES
from holdfast.api.routes import make_api
from holdfast.cli import COMMANDS, cli
from holdfast.cli.examples import EXAMPLES
from holdfast.delivery.webhooks import Endpoint, EndpointState, Health
from holdfast.health.advice import WHAT_TO_DO
from holdfast.health.conditions import Condition, Surroundings, conditions_around, conditions_of
from holdfast.health.conftest import QUIET
from holdfast.health.signals import HoldSigns, HourSigns, Limits, MessageSigns, NotStoredSigns
from holdfast.health.verdict import HOLDS
from holdfast.health.webhooks import conditions_of_webhooks
from holdfast.session import reasons
from holdfast.session.state import State
from holdfast.settings import Settings, variable
from holdfast.settings.explained import Explained, explained

_MADE = "<!-- Made by scripts/make_docs.py from {source}: change that and run `just docs`. -->\n\n"

_COMMANDS = """\
# Commands

Each talks to the running Holdfast at `HOLDFAST_URL`, or on this machine, with the key in `HOLDFAST_API_KEY` or in the
data folder. `--json` prints one JSON document on standard output; progress and errors go to standard error.

| exit code | |
| --- | --- |
| 0 | good |
| 1 | the thing asked about is not good |
| 2 | wrong use: of the command, or of a setting |
| 3 | no Holdfast answers |

`holdfast --install-completion` teaches your shell the names.

"""

_SETTINGS = """\
# Settings

Environment variables go over `holdfast.toml` in the folder that Holdfast runs in, and that over the defaults. In the
file a section's name and a key make the name: `[keepalive] interval_s = 20` is `HOLDFAST_KEEPALIVE_INTERVAL_S=20`.
What can't be used stops the start with a sentence. `holdfast settings` shows what is in force and where it came from.

"""

_API = """\
# HTTP API

`/openapi.json` of a running Holdfast has every field. Send the key as `X-API-Key: KEY` or `Authorization: Bearer KEY`.
JSON is camelCase, times are ISO 8601 in UTC. Errors are `application/problem+json` with `status`, `code`, `detail` and
the `field` at fault. Lists are `{items, next}`: pass `next` as `after`, until it is null.

```sh
KEY=$(cat holdfast-data/api-key); URL=http://127.0.0.1:3000
```

"""

_ALERTS = """\
# Alerts

What Holdfast tells people by `HOLDFAST_ALERT_URLS` and in its log, once when it begins, again while it lasts, and
when it is over. Companies in the same trouble share one alert. Each line is as company 962302 would be told of. The
[reasons](reasons.md) say more about what WhatsApp's codes mean.

"""


# Commands.


def commands() -> Iterator[tuple[str, Any]]:
    """Every command by what a person types, such as `backup create`. `Any`: typer keeps its click to itself."""
    yield from _within(typer.main.get_command(cli), "")


def _within(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        full = f"{path} {name}".strip()
        if hasattr(command, "commands"):
            yield from _within(command, full)
        else:
            yield full, command


def commands_page() -> str:
    known = dict(commands())
    parts = [
        f"## {heading}\n\n" + "".join(_command(path, known[path]) for path in known if path.split()[0] in names)
        for heading, names in COMMANDS.items()
    ]
    return (_MADE.format(source="src/holdfast/cli") + _COMMANDS + "".join(parts)).rstrip() + "\n"


def _command(path: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    usage = " ".join([f"holdfast {path}", *(each.metavar or each.name.upper() for each in arguments)])
    rows = "".join(_parameter(each) for each in command.params if each.name != "help")
    table = f"| | |\n| --- | --- |\n{rows}\n" if rows else ""
    sentence = inspect.cleandoc(command.help or "")
    return f"### holdfast {path}\n\n`{usage}`\n\n{sentence}\n\n{table}```sh\n{EXAMPLES[path]}\n```\n\n"


def _parameter(each: Any) -> str:
    name = each.metavar or each.name if each.param_type_name == "argument" else ", ".join(each.opts)
    takes = f" {each.metavar or _takes(each)}" if each.param_type_name == "option" and not each.is_flag else ""
    default = "" if each.default in (None, False, ()) or each.required else f" (unless said: {each.default})"
    return f"| `{name}{takes}` | {_cell(each.help)}{default} |\n"


def _takes(each: Any) -> str:
    return "N" if isinstance(each.default, int) else "TEXT"


# Settings.


def settings_page() -> str:
    return (
        _MADE.format(source="src/holdfast/settings")
        + _SETTINGS
        + "".join(f"## {heading}\n\n" + "".join(map(_setting, each)) for heading, each in explained(Settings).items())
    ).rstrip() + "\n"


def _setting(each: Explained) -> str:
    default = "not set" if each.default is None else f"`{each.default}`"
    tuning = "" if each.tuning is None else f"{each.tuning}\n\n"
    head = f"### {variable(each.name)}\n\n{each.meaning[0].upper()}{each.meaning[1:]}.\n\n"
    return f"{head}Default: {default}. Give {each.allowed}.\n\n{tuning}"


# Routes.

_FILES = {
    "POST /v1/sessions/{company}/media": ("image/jpeg", "photo.jpg"),
    "POST /v1/sessions/{company}/passkey": ("application/json", "assertion.json"),
}
"""Bodies that are files."""
_IN_PATH = {"company": "962302", "id": "msg_01…", "chat": "962790000099"}
_OPEN = "open to all who reach the port"


def document() -> dict[str, Any]:
    """The OpenAPI document; describing needs no gateway."""
    parts = dict.fromkeys(inspect.signature(make_api).parameters)
    api = make_api(**cast(Any, {**parts, "settings": {}}))
    add_backups(api, cast(Any, None))
    return api.openapi()


def routes(found: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """`GET /v1/sessions` and what it does."""
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            yield f"{method.upper()} {path}", operation


def api_page() -> str:
    found = document()
    known = list(routes(found))
    tags = dict.fromkeys(operation["tags"][0] for _, operation in known)
    table = "".join(
        f"| [`{name}`](#{_anchor(name)}) | {_sentence(operation)} | {_key(operation)} |\n" for name, operation in known
    )
    return (
        _MADE.format(source="the routes in src/holdfast/api")
        + _API
        + _usual()
        + f"| route | | key |\n| --- | --- | --- |\n{table}\n"
        + "".join(_tag(tag, known, found) for tag in tags)
    ).rstrip() + "\n"


def _tag(tag: str, known: list[tuple[str, dict[str, Any]]], found: dict[str, Any]) -> str:
    return f"## {tag.capitalize()}\n\n" + "".join(
        _route(name, operation, found) for name, operation in known if operation["tags"][0] == tag
    )


def _route(name: str, operation: dict[str, Any], found: dict[str, Any]) -> str:
    method, _, path = name.partition(" ")
    rows = "".join(
        f"| `{each['name']}` | {each['in']} | {_cell(each.get('description', ''))} |\n"
        for each in operation.get("parameters", [])
        if each["in"] != "path"
    )
    fields = _fields(_body_schema(operation, found), found)
    table = f"| | in | |\n| --- | --- | --- |\n{rows}{fields}\n" if rows or fields else ""
    told = inspect.cleandoc(operation.get("description", ""))
    example = f"```sh\n{_curl(name, method, path, operation)}\n```"
    return f"### {name}\n\n{told}\n\n{table}{example}\n\nAnswers {_answers(operation)}.\n\n"


def _curl(name: str, method: str, path: str, operation: dict[str, Any]) -> str:
    path = path.replace("/groups/{id}", "/groups/120363012345678901@g.us")
    place = re.sub(r"\{(\w+)\}", lambda word: _IN_PATH.get(word[1], "…"), path)
    parts = ["curl"] + ([] if method == "GET" else [f"-X {method}"])
    parts += ['-H "X-API-Key: $KEY"'] if operation.get("security") else []
    if name in _FILES:
        media_type, file = _FILES[name]
        parts += [f"-H 'Content-Type: {media_type}'", f"--data-binary @{file}"]
    elif name in BODIES:
        parts += ["-H 'Content-Type: application/json'", f"-d '{json.dumps(BODIES[name])}'"]
    return " ".join([*parts, f'"$URL{place}"' if "…" in place else f"$URL{place}"])


def _body_schema(operation: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return _resolved(content.get("schema", {}), found)


def _resolved(schema: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    for choice in schema.get("anyOf", []):
        if "$ref" in choice:
            return _resolved(choice, found)
    if "$ref" not in schema:
        return schema
    shape: dict[str, Any] = found["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return shape


def _fields(schema: dict[str, Any], found: dict[str, Any]) -> str:
    needed = set(schema.get("required", []))
    return "".join(
        f"| `{name}`{'' if name in needed else ' (optional)'} | body | "
        f"{_cell(each.get('description') or _resolved(each, found).get('description', ''))} |\n"
        for name, each in schema.get("properties", {}).items()
    )


def _answers(operation: dict[str, Any]) -> str:
    """Statuses; what one means here if that is not what it means everywhere."""
    usual = {str(status): answer["description"] for status, answer in KEYED.items()}
    return ", ".join(
        status if int(status) < 400 or said == usual.get(status) else f"{status} ({_cell(said).rstrip('.')})"
        for status, said in ((str(status), answer["description"]) for status, answer in operation["responses"].items())
    )


def _usual() -> str:
    rows = "".join(f"| {status} | {_cell(answer['description'])} |\n" for status, answer in KEYED.items())
    return f"| problem | |\n| --- | --- |\n{rows}\n"


def _sentence(operation: dict[str, Any]) -> str:
    return _cell(inspect.cleandoc(operation.get("description", "")).split("\n\n")[0])


def _key(operation: dict[str, Any]) -> str:
    return "yes" if operation.get("security") else _OPEN


def _anchor(heading: str) -> str:
    """As GitHub and MkDocs make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


# Alerts.


def conditions() -> list[Condition]:
    """Each alert once, as it would be told of company 962302 in a bad hour."""
    limits = Limits()
    away = [replace(QUIET, state=State.RECONNECTING, in_state_s=372, attempts=9, reason=reasons.BY_CODE[408])]
    stopped = [replace(QUIET, state=State.PAUSED, reason=reason) for reason in _needing_a_person()]
    gone = [
        replace(QUIET, state=State.LOGGED_OUT, reason=reason)
        for reason in (*reasons.BY_CODE.values(), reasons.DEVICE_REMOVED)
        if reason.reaction in {reasons.SessionReaction.LOGGED_OUT, reasons.SessionReaction.CONFIRM_LOGOUT}
    ]
    bad_hour = [replace(QUIET, hour=HourSigns(lost=30, zombies=30, calm_s=0), budget_left=0)]
    locks = [HoldSigns(code=code, until=datetime(2026, 11, 28, 23, 51, tzinfo=UTC)) for code in HOLDS]
    bad_hour += [replace(QUIET, hold=lock) for lock in locks]
    bad_hour.append(replace(QUIET, messages=MessageSigns(waiting=3, oldest_s=840, late_s=840)))
    bad_hour.append(replace(QUIET, not_stored=NotStoredSigns(count=2, newest="3EB0A9253FA6", since_s=60)))
    bad_hour.append(replace(QUIET, not_stored=NotStoredSigns(count=2, newest="3EB0A9253FA64269E11C", since_s=60)))
    found = [each for signals in (*away, *stopped, *gone, *bad_hour) for each in conditions_of(signals, limits)]
    everything = {name: _bad(hint) for name, hint in inspect.get_annotations(Surroundings, eval_str=True).items()}
    found += conditions_around(Surroundings(**everything), limits)
    found += conditions_of_webhooks(_dead_endpoints(), now=_MOMENT)
    return list({each.cause: each for each in reversed(found)}.values())[::-1]


_MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def _dead_endpoints() -> Iterator[Endpoint]:
    """One of each kind that deserves an alert."""
    for state in (EndpointState.ASIDE, EndpointState.OFF):
        health = Health(state=state, failures=9, failing_since=_MOMENT - timedelta(minutes=20))
        yield Endpoint(id="e", company="962302", url="https://e", secret=None, events=None, health=health)


def _bad(hint: Any) -> Any:
    """A value that no limit allows, for a field of this type."""
    if "tuple" in str(hint):
        return ("2.3000.1043857760",)
    if hint is bool:
        return False
    return 3600.0 if "float" in str(hint) else 5


def _needing_a_person() -> list[reasons.Reason]:
    kinds = {
        reasons.SessionReaction.STOP,
        reasons.SessionReaction.PROBE,
        reasons.SessionReaction.PAUSE_UNTIL,
        reasons.SessionReaction.REPLACED,
    }
    known = [reason for reason in reasons.BY_CODE.values() if reason.reaction in kinds]
    return [*known, reasons.reason_of(999, {})]


def alerts_page() -> str:
    rows = "".join(
        f"| `{each.cause}` | {each.severity} | {each.title} | {_cell(each.sentence)} | {WHAT_TO_DO[_action(each)]} |\n"
        for each in conditions()
    ).replace("999", "N")
    return (
        _MADE.format(source="src/holdfast/health")
        + _ALERTS
        + f"| cause | severity | title | sentence | what to do |\n| --- | --- | --- | --- | --- |\n{rows}"
    )


def _action(each: Condition) -> Any:
    """The word as the table of actions knows it; a text compares equal to it."""
    return next(word for word in WHAT_TO_DO if word == each.action)


def _cell(text: str | None) -> str:
    """Within a table: one line, no bars."""
    return " ".join((text or "").split()).replace("|", "\\|")


PAGES = {"commands.md": commands_page, "settings.md": settings_page, "api.md": api_page, "alerts.md": alerts_page}
