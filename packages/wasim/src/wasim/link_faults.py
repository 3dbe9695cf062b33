"""Carries out the faults that affect connections: refuse, cut, freeze, latency and flap."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from wasim.faults import Fault, Faults
from wasim.sockets import LinkSocket


class LinkFaults:
    def __init__(self, faults: Faults, sockets: Mapping[int, LinkSocket]) -> None:
        self._faults = faults
        self._sockets = sockets

    def connected(self, socket: LinkSocket) -> bool:
        """A client made a TCP connection. Returns whether a fault refuses it."""
        refusal = self._faults.first_active("refuse", None)
        if refusal is not None:
            refusal.hits += 1
            _refuse(socket, refusal)
        freeze = self._faults.first_active("freeze", None)
        if freeze is not None and freeze.request.new_links and freeze.request.number is None:
            _freeze(freeze, socket)
        latency = self._faults.first_active("latency", None)
        if latency is not None and latency.request.number is None:
            _delay(latency, socket)
        return refusal is not None

    def logged_in(self, number: str, socket: LinkSocket) -> None:
        flap = self._faults.first_active("flap", number)
        if flap is not None:
            asyncio.get_running_loop().call_later(flap.request.after_ms / 1000, _flap, flap, socket)
        freeze = self._faults.first_active("freeze", number)
        if freeze is not None and freeze.request.new_links:
            _freeze(freeze, socket)
        latency = self._faults.first_active("latency", number)
        if latency is not None:
            _delay(latency, socket)

    def start(self, fault: Fault, links: Iterable[int]) -> None:
        """Apply a new fault to these connections; faults of other kinds are ignored."""
        for socket in self._known(links):
            match fault.kind:
                case "cut":
                    socket.cut(fault.request.how, code=fault.request.close_code)
                case "freeze":
                    _freeze(fault, socket)
                case "latency":
                    _delay(fault, socket)

    def end(self, fault: Fault) -> None:
        for socket in self._known(fault.frozen):
            socket.thaw()
        for socket in self._known(fault.delayed):
            socket.latency_s = 0.0

    def _known(self, links: Iterable[int]) -> list[LinkSocket]:
        return [self._sockets[link] for link in links if link in self._sockets]


def _refuse(socket: LinkSocket, refusal: Fault) -> None:
    if refusal.request.status is None:
        socket.cut("fin")
    else:
        socket.refuse_status = refusal.request.status


def _freeze(fault: Fault, socket: LinkSocket) -> None:
    socket.freeze()
    fault.frozen.add(socket.number)


def _delay(fault: Fault, socket: LinkSocket) -> None:
    socket.latency_s = fault.request.ms / 1000
    fault.delayed.add(socket.number)


def _flap(fault: Fault, socket: LinkSocket) -> None:
    if fault.ended_at is None:
        fault.hits += 1
        socket.cut("rst")
