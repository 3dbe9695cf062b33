"""A night as a list of (time, event): a failure seen in production becomes a test that runs in milliseconds.

Copy the events from the log, with seconds since the first; `replay` adds the Ticks and returns what happened.
"""

from __future__ import annotations

from holdfast.session.events import Event, HostLost, SendsWaited, StartAsked, StartLink, Tick
from holdfast.session.machine import deadline
from holdfast.session.state import Policy, Session, State, restored
from tests.doubles.engine_reports import granted_step, link_closed, link_opened, link_paired, ponged, qr_shown


def replay(night: list[tuple[float, Event]], *, until: float) -> list[str]:
    """State changes and effects, one line each: `seconds state (reason): effects`."""
    session, policy, lines = Session(), Policy(), []

    def take(at: float, event: Event) -> None:
        nonlocal session
        before = session
        session, effects = granted_step(session, event, now=at, jitter=0.0, policy=policy)
        if effects or session.state is not before.state:
            reason = f" ({session.reason.name})" if session.reason else ""
            done = " ".join(f"{type(effect).__name__}{getattr(effect, 'link', '')}" for effect in effects)
            lines.append(f"{at:g} {session.state}{reason}: {done}".rstrip(": "))

    for at, event in [*night, (until, Tick())]:
        while (due_at := deadline(session, policy=policy)) is not None and due_at < at:
            take(due_at, Tick())
        take(at, event)
    return lines


def test_a_first_hour() -> None:
    """Pairing, login, a half-open link found by its unacked send, an outage, a lost host: connected after each."""
    night: list[tuple[float, Event]] = [
        (0, StartAsked()),
        (0.5, qr_shown(1)),
        (40, link_paired(1)),
        (40.2, link_closed(1, 515, "Stream Errored (restart required)")),
        (40.3, link_closed(1, 401)),  # a late close of the old socket
        (40.5, link_opened(2)),
        (40.6, ponged(2, 1)),
        (60, SendsWaited(2, 60)),  # the link is silent; nothing else shows it
        (67.5, link_opened(3)),
        (67.6, ponged(3, 1)),
        (80, link_closed(3, 428, "Connection Terminated")),
        (80.5, link_closed(4, 408, "WebSocket Error (connect ECONNREFUSED 10.0.0.1:443)")),
        (83, link_closed(5, 503)),
        (90, link_opened(6)),
        (90.1, ponged(6, 1)),
        (100, HostLost(6)),
        (102, link_opened(7)),
        (102.1, ponged(7, 1)),
    ]
    assert replay(night, until=110) == [
        "0 pairing: StartLink1",
        "40.2 connecting: StartLink2",
        "40.5 connected: Ping2 Presence2",
        "62 connected: Ping2 Presence2",
        "67 reconnecting (no-pong): CutLink2",
        "67 reconnecting (no-pong): StartLink3",
        "67.5 connected: Ping3 Presence3",
        "80 reconnecting (transport-closed)",
        "80 reconnecting (transport-closed): StartLink4",
        "81.5 reconnecting (link-lost): StartLink5",
        "83.75 reconnecting (server-unavailable): StartLink6",
        "90 connected: Ping6 Presence6",
        "100 reconnecting (engine-host-lost)",
        "100 reconnecting (engine-host-lost): StartLink7",
        "102 connected: Ping7 Presence7",
    ]


def test_a_conflict_over_credentials_ends_in_a_pause() -> None:
    """Somebody left the old gateway running: two attempts, each after 30 s, then a pause and no link all night."""
    night: list[tuple[float, Event]] = [
        (0, StartAsked()),
        (1, qr_shown(1)),
        (2, link_paired(1)),
        (2.5, link_closed(1, 515)),
        (3, link_opened(2)),
        (3.1, ponged(2, 1)),
        (4, link_closed(2, 440)),
        (34.5, link_opened(3)),
        (35, link_closed(3, 440)),
        (65.5, link_opened(4)),
        (66, link_closed(4, 440)),
    ]
    lines = replay(night, until=30_000)
    assert [line for line in lines if "StartLink" in line] == [
        "0 pairing: StartLink1",
        "2.5 connecting: StartLink2",
        "34 reconnecting (replaced): StartLink3",
        "65 reconnecting (replaced): StartLink4",
    ]
    assert lines[-1] == "66 paused (replaced)"


def test_a_night_behind_a_portal() -> None:
    """A router that answers every upgrade with its own 401 for hours costs attempts, never the credentials."""
    session, policy, now = restored(state=State.CONNECTED, paired=True, attempts=0, resumes_at=None), Policy(), 0.0
    session, _ = granted_step(session, StartAsked(), now=now, jitter=0, policy=policy)
    links = 0
    while now < 30_000:
        refused = link_closed(session.newest_link, 401, "WebSocket Error (Unexpected server response: 401)")
        session, effects = granted_step(session, refused, now=now + 0.1, jitter=0, policy=policy)
        assert effects == ()
        now = deadline(session, policy=policy) or 0
        session, effects = granted_step(session, Tick(), now=now, jitter=0, policy=policy)
        assert effects == (StartLink(session.newest_link),)
        links += 1
    assert (session.paired, links) == (True, 509)
