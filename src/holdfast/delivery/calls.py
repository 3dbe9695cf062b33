"""Calls that come in: what is known of one, and which of them are rejected automatically."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from holdfast.base.errors import BadInput

CALL = "call"
"""Type of the inbox row of a call."""
RINGING = "ringing"
REJECTED = "rejected"
LONGEST_TEXT = 4_096
RECENT_S = 600
"""A caller gets the text about a rejected call if the call is not older than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    whatsapp_id: str
    chat: str
    creator: str
    """The caller as the call names it; WhatsApp wants it back when the call is rejected."""
    state: str
    """`ringing`, `answered`, `rejected`, `missed` or `ended`."""


class Calls(Protocol):
    async def find(self, company: str, call_id: str) -> Call | None:
        """By our id of the call."""

    async def end(self, company: str, call: Call, *, outcome: str) -> None:
        """The call no longer rings. Changes nothing if it had ended before."""


def checked_call_text(text: str | None) -> str | None:
    """The text for callers whose call is rejected; None for an empty one. Raises `BadInput`."""
    if text is not None and len(text) > LONGEST_TEXT:
        raise BadInput(
            f"rejectedCallText has {len(text)} characters: give at most {LONGEST_TEXT}", field="rejectedCallText"
        )
    return (text or "").strip() or None
