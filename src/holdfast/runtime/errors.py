"""Why a session can't do now what it was asked."""

from __future__ import annotations

from holdfast.base.errors import Fault, HoldfastError
from holdfast.session.state import State


class NotConnected(HoldfastError):
    """What was asked needs a connection to WhatsApp."""

    code = "not-connected"
    fault = Fault.HOLDFAST

    def __init__(self, company: str, state: State) -> None:
        super().__init__(f"the session of company {company} is {state}: this needs its connection to WhatsApp")


class SessionRestarting(HoldfastError):
    """The session's actor has ended: Holdfast failed inside it, or is stopping."""

    code = "session-restarting"
    fault = Fault.HOLDFAST

    def __init__(self, company: str) -> None:
        super().__init__(
            f"the session of company {company} is being restarted after an internal error: try again in a few seconds"
        )
