"""Whether the caller of a request has a valid API key, as the server has to know for each connection."""

from __future__ import annotations

from starlette.types import Scope

CALLER = "holdfast.caller"
"""Key in the ASGI scope: the `Caller` of a request. Middleware copies the scope, so nothing is set in it later."""


class Caller:
    is_keyed = False
    """Whether the request has a valid API key, or comes from somebody who is signed in."""


def mark_keyed(scope: Scope) -> None:
    """The request of this ASGI scope has a valid API key."""
    caller: Caller | None = scope.get(CALLER)
    if caller is not None:  # set by the server
        caller.is_keyed = True
