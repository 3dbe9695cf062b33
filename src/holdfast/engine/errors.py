"""Errors of the engine room: no engine to be had, or a host whose words can't be understood."""

from __future__ import annotations

from holdfast.base.errors import Fault, HoldfastError


class EngineUnavailable(HoldfastError):
    """The engine can't be started: no Node, no Baileys, or a host without a hello. The sentence says the cure."""

    code = "engine-unavailable"
    fault = Fault.OPERATOR


class WireError(HoldfastError):
    """A line on the pipe between Holdfast and an engine host breaks the agreement. Never carries the line itself."""

    code = "engine-wire"
    fault = Fault.ENGINE
