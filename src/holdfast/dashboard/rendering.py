"""Renders templates as HTML. All values are escaped; only the templates contain markup."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from holdfast.base.clock import Clock, iso
from holdfast.dashboard.assets import Assets
from holdfast.dashboard.fleet import LABELS
from holdfast.dashboard.timeline import TimelineEntry
from holdfast.delivery.lookup import OutboundRow
from holdfast.delivery.message import MessageState
from holdfast.delivery.rate_limits import DAILY_LIMIT
from holdfast.health.advice import MINUTE, format_duration, from_minute, to_minute
from holdfast.health.verdict import HOLDS
from holdfast.session.state import State

STATES = {
    State.UNPAIRED: "Not linked",
    State.PAIRING: "Linking",
    State.CONNECTING: "Connecting",
    State.CONNECTED: "Connected",
    State.RECONNECTING: "Reconnecting",
    State.PAUSED: "Paused",
    State.LOGGED_OUT: "Logged out",
    State.STOPPED: "Stopped",
}
MESSAGE_TONES = {
    MessageState.QUEUED: "info",
    MessageState.SENDING: "info",
    MessageState.SENT: "success",
    MessageState.DELIVERED: "success",
    MessageState.READ: "success",
    MessageState.PLAYED: "success",
    MessageState.FAILED: "critical",
    MessageState.EXPIRED: "warning",
    MessageState.CANCELLED: "off",
}


class Templates:
    def __init__(self, assets: Assets, *, clock: Clock, base_path: str) -> None:
        """base_path: prefix of all links: empty, or such as `/holdfast`."""
        self._clock = clock
        self._fragments: dict[str, Markup] = {}
        self._environment = Environment(
            loader=PackageLoader("holdfast.dashboard"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(
            asset=lambda name: base_path + assets.address(name), root=base_path, tones=LABELS
        )
        filters: dict[str, Callable[..., object]] = {
            "age": self._age,
            "percent": percent,
            "joined_to_units": joined_to_units,
            "prose": prose,
            "state_label": lambda state: STATES[State(state)],
            "sent_message_tone": lambda state: MESSAGE_TONES[state],
            "disconnected_for": disconnected_for,
            "moment": moment,
            "sentence": sentence,
            "held": held,
        }
        self._environment.filters.update(filters)

    def render(self, name: str, **values: object) -> str:
        return self._environment.get_template(name).render(now=iso(self._clock.now()), **values)

    def render_once(self, name: str, values: Callable[[], Mapping[str, object]]) -> Markup:
        """A fragment that stays the same while the process runs. Its values are needed only the first time."""
        if name not in self._fragments:
            self._fragments[name] = Markup(self.render(name, **values()))  # noqa: S704 – the template escapes
        return self._fragments[name]

    def _age(self, at: str) -> str:
        return format_duration(max((self._clock.now() - datetime.fromisoformat(at)).total_seconds(), 0))


def percent(value: float | None) -> str:
    """Rounded down, so that `100 %` means all."""
    if value is None:
        return "–"
    return f"{value:.0f} %" if value == int(value) else f"{int(value * 10) / 10:.1f} %"


def joined_to_units(figures: str) -> str:
    """A non-breaking space between each number and its unit: `1 h 40 min` breaks at most after the hours."""
    return re.sub(r"(?<=\d) (?=[a-z%])", "\N{NO-BREAK SPACE}", figures)


def moment(at: str) -> str:
    """A time in UTC, on one line or with its clock on the next. A script shows it in the reader's time zone instead."""
    return f"{datetime.fromisoformat(at):%Y-%m-%d %H:%M:%S}\N{NO-BREAK SPACE}UTC"


def disconnected_for(entry: TimelineEntry) -> str:
    """Duration of a disconnection that is over."""
    began_at, ended_at = (datetime.fromisoformat(at) for at in (entry.at, entry.ended_at or entry.at))
    lasted_s = (ended_at - began_at).total_seconds()
    return format_duration(lasted_s) if lasted_s >= 0.1 else "less than 0.1 s"


def prose(text: str) -> Markup:
    """Text in which words between backticks become code."""
    parts = text.replace("``", "`").split("`")
    made = (Markup("<code>{}</code>").format(part) if n % 2 else escape(part) for n, part in enumerate(parts))
    return Markup("").join(made)


_HOLDS = {
    **HOLDS,
    DAILY_LIMIT: "this number has written to as many new contacts as its pacing allows in 24 hours",
}


def held(message: OutboundRow) -> Markup:
    """Why a queued message is held back, as a sentence."""
    return sentence(hold_sentence(message.held_code or "", message.held_until))


def hold_sentence(code: str, held_until: str | None) -> str:
    at = None if held_until is None else datetime.fromisoformat(held_until)
    until = "" if at is None else f", until {to_minute(at)}"
    return f"Held: {_HOLDS.get(code, code.replace('-', ' '))}{until}."


def sentence(text: str) -> Markup:
    """Add a capital letter and a full stop. A script shows the times in it in the reader's time zone."""
    text = text.strip()
    if not text:
        return Markup()
    first = text[0] if text.startswith(("http:", "https:")) else text[0].upper()
    full = first + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")
    parts = MINUTE.split(full)
    return Markup().join(_minute(part) if n % 2 else part for n, part in enumerate(parts))


def _minute(text: str) -> Markup:
    try:
        at = iso(from_minute(text))
    except ValueError:  # somebody else wrote it
        return escape(text)
    return Markup('<time datetime="{}" title="{}" data-minute>{}</time>').format(at, text, text)
