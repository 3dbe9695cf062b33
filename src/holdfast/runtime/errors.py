"""Errors of sessions that can't carry out a request now."""

from __future__ import annotations

from holdfast.base.errors import Fault, HoldfastError
from holdfast.session.reasons import Reason
from holdfast.session.state import State


class NotConnected(HoldfastError):
    """The request needs a connection to WhatsApp."""

    code = "not-connected"
    fault = Fault.HOLDFAST

    def __init__(self, company: str, state: State, reason: Reason | None = None) -> None:
        """`reason`: why the session has no connection."""
        why = "" if reason is None else f" ({reason.sentence})"
        super().__init__(
            f"the session of company {company} is {state}{why}: this request needs a connection to WhatsApp"
        )


class SessionRestarting(HoldfastError):
    """No actor runs the session at the moment: it failed, Holdfast is stopping, or the session's stored rows are being
    changed.
    """

    code = "session-restarting"
    fault = Fault.HOLDFAST

    def __init__(self, company: str) -> None:
        super().__init__(f"the session of company {company} is being restarted: try again in a few seconds")
