"""A session that another process runs, as far as its stored record tells."""

from __future__ import annotations

from datetime import datetime

from holdfast.base.clock import Clock
from holdfast.health.keepalive import KeepAlives
from holdfast.runtime.view import View
from holdfast.session.reasons import stored_reason
from holdfast.session.state import Session
from holdfast.session.stores import Record


def view_of(record: Record, *, node: str, clock: Clock) -> View:
    """What only the process that runs it knows is left out."""
    reason = None if record.reason is None else stored_reason(record.reason, record.code)
    resumes_at = None if record.resumes_at is None else datetime.fromisoformat(record.resumes_at)
    return View(
        record=record,
        session=Session(state=record.state, attempts=record.attempts, reason=reason),
        qr=None,
        next_attempt_at=resumes_at,
        keepalives=KeepAlives(),
        ends=(),
        frame_at=None,
        acked_at=None,
        in_state_s=(clock.now() - datetime.fromisoformat(record.since)).total_seconds(),
        silent_s=0,
        node=node or None,
    )
