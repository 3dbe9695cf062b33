"""Errors of the engine package: no engine can be started, or a host's lines can't be parsed."""

from __future__ import annotations

from holdfast.base.errors import Fault, HoldfastError


class EngineUnavailable(HoldfastError):
    """The engine can't be started: no Node, no Baileys, or a host that sends no hello. The sentence contains the
    cure."""

    code = "engine-unavailable"
    fault = Fault.OPERATOR


class WireError(HoldfastError):
    """A line on the pipe between Holdfast and an engine host violates the protocol. Never contains the line itself."""

    code = "engine-protocol"
    fault = Fault.ENGINE
