"""Errors of a session that can't do now what it was asked."""

from __future__ import annotations

from holdfast.base.errors import Fault, HoldfastError
from holdfast.session.reasons import Reason
from holdfast.session.state import State


class NotConnected(HoldfastError):
    """What was asked needs a connection to WhatsApp."""

    code = "not-connected"
    fault = Fault.HOLDFAST

    def __init__(self, company: str, state: State, reason: Reason | None = None) -> None:
        """`reason`: why the session has no connection."""
        why = "" if reason is None else f" ({reason.sentence})"
        super().__init__(
            f"the session of company {company} is {state}{why}: this request needs a connection to WhatsApp"
        )


class SessionRestarting(HoldfastError):
    """Nothing runs the session just now: Holdfast failed inside it, is stopping, or is changing what it has stored."""

    code = "session-restarting"
    fault = Fault.HOLDFAST

    def __init__(self, company: str) -> None:
        super().__init__(f"the session of company {company} is being restarted: try again in a few seconds")
