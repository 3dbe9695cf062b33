"""What can be wrong with bytes from a peer. Always the peer's fault; the connection ends with it."""

from __future__ import annotations


class WireError(Exception):
    """The peer sent something that is not WhatsApp's wire format."""
