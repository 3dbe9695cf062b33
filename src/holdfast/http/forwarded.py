"""How a node of a cluster marks a request that it forwards to the node that runs the session.

The mark is a header, signed with a secret that all nodes read from the shared database. It names the target, so that a
request that reaches the wrong process is refused; the time, so that it can't be repeated later; and the rights of the
caller, so that the caller's API key need not be sent on. A request with a mark is never forwarded again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from holdfast.base.errors import Fault, HoldfastError

HEADER = "Holdfast-Forwarded"
NOT_HERE = "Holdfast-Not-Here"
"""A header of a response: the session does not run on the node that was asked, and nothing was done."""
FORWARDED = "holdfast.forwarded"
"""Key in the ASGI scope: the `Hop` of a request that another node forwarded."""
FROM_RECORD = "holdfast.from_record"
"""Key in the ASGI scope: the owner can't be reached, so a page shows the stored record instead."""
VALID_S = 30.0
"""How long a mark is valid, by the database's clock."""


class BadMark(HoldfastError):
    """A request was marked as forwarded, but not by a node of this cluster."""

    code = "bad-forward-signature"
    fault = Fault.CALLER


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """What a node says of a request that it forwards."""

    target: str
    """Id of the node that it is sent to."""
    request: str
    """Method and path with query."""
    at: float
    """Unix seconds by the database's clock."""
    key_id: str | None = None
    """Hash of the caller's API key; None when the caller gave none."""
    companies: Sequence[str] | None = None
    """The companies that the key is limited to; None: all."""


class NodeSignatures:
    """Signs marks, and verifies those of other nodes."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def mark(self, hop: Hop) -> str:
        """The value of the header."""
        claims = base64.urlsafe_b64encode(json.dumps(asdict(hop)).encode())
        return f"{claims.decode()}.{self._signature(claims)}"

    def verified(self, mark: str, *, target: str, request: str, now: float) -> Hop:
        """Read a mark. Raises `BadMark` unless it is from this cluster, for this node and request, and recent."""
        claims, _, signature = mark.partition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(claims.encode()).encode()):
            raise BadMark(f"the header {HEADER} is not signed by a node of this cluster: leave it out")
        try:
            hop = Hop(**json.loads(base64.urlsafe_b64decode(claims)))
        except (binascii.Error, ValueError, TypeError) as error:
            raise BadMark(f"the header {HEADER} is from another version of Holdfast") from error
        if hop.target != target or hop.request != request:
            raise BadMark(f"the header {HEADER} belongs to another node or request")
        if abs(now - hop.at) > VALID_S:
            raise BadMark(f"the header {HEADER} is {abs(now - hop.at):.0f} s old: it is valid for {VALID_S:.0f} s")
        return hop

    def _signature(self, claims: bytes) -> str:
        return hmac.new(self._secret, claims, hashlib.sha256).hexdigest()
