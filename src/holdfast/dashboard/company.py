"""The fragments of a company's page, rendered the same way for the page and for its event stream."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import segno
from markupsafe import Markup

from holdfast.base.clock import iso
from holdfast.dashboard.context import AppContext
from holdfast.dashboard.operation_entries import operation_entries
from holdfast.dashboard.rendering import percent
from holdfast.dashboard.timeline import newest_first, timeline_entries
from holdfast.delivery.lookup import OutboundRow
from holdfast.health.advice import format_duration
from holdfast.health.stability import Stability
from holdfast.runtime.diagnosis import Diagnosis
from holdfast.runtime.errors import SessionRestarting
from holdfast.runtime.ownership import RunsElsewhere
from holdfast.runtime.view import View
from holdfast.session import events
from holdfast.session.assertions import snippet
from holdfast.session.machine import TABLE
from holdfast.session.reasons import SessionReaction
from holdfast.session.state import State

MESSAGES_SHOWN = 20
ENTRIES_SHOWN = 30
WINDOWS = {"5m": "5 min", "1h": "1 h", "24h": "24 h"}
"""Windows of the stability table, with the headings of their columns."""
DAY_S = 86_400
_HISTORY_S = 7 * DAY_S


@dataclass(frozen=True, slots=True)
class SessionAction:
    """An action that a user can request for a session."""

    name: str
    label: str
    event: events.Event
    question: str | None
    """Text of the confirmation dialog; None: no confirmation is needed."""
    done: str


SESSION_ACTIONS: Mapping[str, SessionAction] = {
    action.name: action
    for action in (
        SessionAction("start", "Start", events.StartAsked(), None, "starting the session"),
        SessionAction(
            "reconnect",
            "Reconnect",
            events.ReconnectAsked(),
            "The connection is closed and opened again at once. Messages wait until it is back; none is lost.",
            "reconnecting",
        ),
        SessionAction(
            "stop",
            "Stop",
            events.StopAsked(),
            "Holdfast disconnects until the session is started again. The phone stays linked; accepted messages wait.",
            "the session is stopped; accepted messages wait",
        ),
        SessionAction(
            "log-out",
            "Log out",
            events.LogoutAsked(),
            "The device is unlinked at WhatsApp, and its credentials are moved to quarantine. To connect again, "
            "someone has to scan a QR code with the company's phone.",
            "logging out at WhatsApp",
        ),
        SessionAction("pair", "Show a QR code", events.PairAsked(), None, "requesting a QR code from WhatsApp"),
    )
}
_QR_PLACE = Markup('<div id="qr-box"></div>')
_UNLINKED = {State.UNPAIRED, State.PAIRING, State.LOGGED_OUT}


def actions_for(view: View) -> list[SessionAction]:
    """The buttons to show: actions that the state allows and that would have an effect."""
    state = view.record.state
    names = {
        State.CONNECTED: ("reconnect", "stop", "log-out"),
        State.CONNECTING: ("reconnect", "stop", "log-out"),
        State.RECONNECTING: ("reconnect", "stop", "log-out"),
        State.PAUSED: (*_resuming(view), "stop", "log-out"),
        State.STOPPED: ("start", "log-out"),
        State.PAIRING: ("stop",),
    }.get(state, ())
    is_linked = view.record.phone_number is not None
    possible = [SESSION_ACTIONS[name] for name in names if (state, type(SESSION_ACTIONS[name].event)) in TABLE]
    return [action for action in possible if action.name != "log-out" or is_linked]


def _resuming(view: View) -> tuple[str, ...]:
    """How to leave a pause: a retry at once where Holdfast retries automatically, a start where a user has to fix
    something first; not during a temporary ban."""
    reaction = None if view.session.reason is None else view.session.reason.reaction
    match reaction:
        case SessionReaction.PAUSE_UNTIL:
            return ()
        case SessionReaction.PROBE:
            return ("reconnect",)
        case _:
            return ("start",)


class Fragments:
    """Renders the fragments of one company's page, and finds those that changed since the last time."""

    def __init__(self, context: AppContext, company: str) -> None:
        self._context = context
        self._company = company
        self._made: dict[str, str] = {}
        self._history = ""
        self._history_state: object = None
        """State of the session, and its operations, when the history was read."""
        self._is_current = False
        """Whether the history includes the current state."""
        self._messages: Sequence[OutboundRow] | None = None

    async def all(self) -> dict[str, str]:
        """All fragments by name. Raises `NotFound`."""
        return {**await self.quick(), **await self.slow()}

    async def all_parts(self) -> dict[str, str]:
        """All fragments for a full page load, with the QR code inside its place."""
        made = await self.all()
        return made | {"link": made["link"].replace(_QR_PLACE, made.get("qr", ""))}

    async def quick(self) -> dict[str, str]:
        """The cheap fragments: state, QR code, and the history when it changed."""
        row = await self._context.fleet.row(self._company)
        view = await self._context.gateway.cluster_view(self._company)
        is_shown = view.record.state in _UNLINKED and row.node is None
        values = {"company": self._company, "row": row, "view": view, "is_unlinked": is_shown}
        return {
            "head": self._part("head", **values),
            "actions": self._part("actions", actions=actions_for(view) if row.node is None else [], **values),
            "link": self._link(view, values),
            **({"qr": self._part("qr", **_qr(view), **values)} if is_shown and view.passkey is None else {}),
            "facts": self._part("facts", **values),
            "history": await self._history_part(view),
        }

    async def slow(self) -> dict[str, str]:
        """The fragments that need counts from the database."""
        try:
            found = await self._context.diagnoser.diagnose(self._company)
        except (RunsElsewhere, SessionRestarting):
            return {"stability": self._part("stability", goals=None)}
        return {"stability": self._part("stability", goals=_goals(found), windows=WINDOWS.values())}

    def _link(self, view: View, values: Mapping[str, object]) -> str:
        """How to link a phone: by a code, or with a passkey where the account requires one."""
        passkey = view.passkey
        if passkey is None or not values["is_unlinked"]:
            return self._part("link", qr_place=_QR_PLACE, **values)
        return self._part(
            "passkey",
            company=self._company,
            passkey=passkey,
            options=json.dumps(passkey.options),
            snippet=snippet(passkey.options),
            expires_at=iso(passkey.expires_at),
        )

    def changed(self, parts: Mapping[str, str]) -> list[str]:
        """The fragments that differ from the last ones."""
        changed = [html for name, html in parts.items() if self._made.get(name) != html]
        if parts.get("link", "") in changed and "qr" in parts and parts["qr"] not in changed:
            changed.append(parts["qr"])  # its place is empty again
        self._made.update(parts)
        return changed

    async def messages_changed(self) -> bool:
        newest = await self._context.lookup.sent_messages(
            self._company, words="", state=None, before=None, limit=MESSAGES_SHOWN
        )
        known, self._messages = self._messages, newest
        return known != newest

    async def _history_part(self, view: View) -> str:
        """Read the history again after a transition, until it includes that transition: the database has it a moment
        later than the session's record."""
        record = view.record
        operations = await self._context.operations.newest(self._company, limit=ENTRIES_SHOWN)
        sign = (record.state, record.since, record.reason, record.attempts, view.next_attempt_at, operations)
        is_new = self._history_state != sign
        if is_new or not self._is_current:
            transitions = await self._context.diagnoser.transitions(self._company, seconds=_HISTORY_S)
            since = iso(self._context.clock.now() - timedelta(seconds=_HISTORY_S))
            entries = newest_first(timeline_entries(transitions), operation_entries(operations, since=since))
            self._history = self._part("history", entries=entries[:ENTRIES_SHOWN])
            has_last = not transitions or transitions[-1].after is record.state
            self._history_state, self._is_current = sign, has_last and not is_new
        return self._history

    def _part(self, name: str, **values: object) -> str:
        return self._context.templates.render(f"company_{name}.html", **values)


def _qr(view: View) -> dict[str, object]:
    code = view.qr
    if code is None:
        return {"picture": None, "expires_at": None}
    picture = segno.make_qr(code.text).svg_inline(border=4, omitsize=True, svgclass=None, lineclass=None)
    return {"picture": Markup(picture), "expires_at": iso(code.expires_at)}  # noqa: S704 – lines of our own making


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of the stability table. `holds` is None when nothing was measured."""

    shown: str
    holds: bool | None


def _goals(found: Diagnosis) -> list[tuple[str, str, list[Cell]]]:
    """The stability table: measure, goal, and the value of each window."""
    tables = [
        zip(found.stability[window].table(), _figures(found.stability[window]), strict=True) for window in WINDOWS
    ]
    return [
        (goals[0][0].what, goals[0][0].goal, [Cell(shown or "–", row.holds if shown else None) for row, shown in goals])
        for goals in zip(*tables, strict=True)
    ]


def _figures(measured: Stability) -> tuple[str | None, ...]:
    """Values in the order of the table; None where nothing was measured."""
    is_observed = measured.observed_s > 0
    slowest = (
        measured.reconnect_p95_s
        if measured.disconnected_s is None
        else max(measured.disconnected_s, measured.reconnect_p95_s or 0)
    )
    return (
        percent(measured.uptime_percent) if is_observed else None,
        percent(measured.delivery_percent) if measured.messages.accepted else None,
        None if slowest is None else format_duration(slowest),
        f"{measured.disconnections_an_hour:.1f}" if is_observed else None,
    )
