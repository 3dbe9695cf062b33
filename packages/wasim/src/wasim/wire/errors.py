"""Errors in bytes from a peer. They are always the peer's fault, and end the connection."""

from __future__ import annotations


class WireError(Exception):
    """The peer sent something that is not WhatsApp's wire format."""
