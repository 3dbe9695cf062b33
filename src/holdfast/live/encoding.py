"""The shape of live state: key, fields, lifetime. What `redis-cli get whatsapp:session:962302` prints."""

from __future__ import annotations

import json
from collections.abc import Mapping

from holdfast.session.state import State
from holdfast.session.stores import Record

LIFETIME_S = 3600
"""A record in Redis expires after this time without a renewal."""


def key(company: str) -> str:
    return f"whatsapp:session:{company}"


def document(record: Record, *, node: str) -> dict[str, object]:
    """The record as other programs read it; `connectedAt` is null while no link is open. `node` is the process that
    wrote it.
    """
    return {
        "state": record.state.value,
        "connectedAt": record.connected_at if record.state is State.CONNECTED else None,
        "lastActivity": record.last_activity,
        "phoneNumber": record.phone_number,
        "reconnectAttempts": record.attempts,
        "companyId": record.company,
        "since": record.since,
        "reason": record.reason,
        "code": record.code,
        "resumesAt": record.resumes_at,
        "node": node,
    }


def encode(content: Mapping[str, object]) -> str:
    return json.dumps(content)


def decode(text: object) -> dict[str, object] | None:
    """None when the value is not a JSON object: the key is missing, or belongs to another program."""
    if not isinstance(text, str | bytes):
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
