"""Calls between accounts: an offer rings on all devices of the other account until one side ends it.

Media of calls are not simulated, and calls are not stored: they end with the process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wasim.server.delivery import Delivery
from wasim.server.directory import Directory
from wasim.server.entropy import Entropy, new_id
from wasim.server.state import PHONE, Address, Device
from wasim.wire.jids import PN
from wasim.wire.nodes import Node

End = Literal["accepted", "rejected", "timeout", "ended"]
ENDS: tuple[End, ...] = ("accepted", "rejected", "timeout", "ended")
_MAX_CALLS = 1000


@dataclass(slots=True, kw_only=True)
class Call:
    id: str
    caller: str
    """Phone number."""
    callee: str
    video: bool
    state: Literal["ringing", "accepted", "rejected", "timeout", "ended"] = "ringing"


class CallError(Exception):
    """That call can't be started or ended; the sentence says why."""


class Calls:
    def __init__(self, directory: Directory, entropy: Entropy, delivery: Delivery) -> None:
        self._directory = directory
        self._entropy = entropy
        self._delivery = delivery
        self._calls: dict[str, Call] = {}

    def of(self, number: str) -> list[Call]:
        """The calls of an account, oldest first."""
        return [call for call in self._calls.values() if number in (call.caller, call.callee)]

    def start(self, caller: str, callee: str, *, video: bool, now: float) -> Call:
        """Ring on the linked devices of another account. Raises CallError."""
        if callee not in self._directory.accounts:
            raise CallError(f"there is no phone {callee}; POST /phones creates one")
        if caller == callee:
            raise CallError("an account can't call itself")
        if caller in self._directory.accounts[callee].blocked:
            raise CallError(f"{callee} has blocked {caller}")
        call = Call(id=self._entropy(16).hex().upper(), caller=caller, callee=callee, video=video)
        self._calls[call.id] = call
        if len(self._calls) > _MAX_CALLS:
            del self._calls[next(iter(self._calls))]
        media = [Node("audio", {"enc": "opus", "rate": "16000"})]
        media += [Node("video", {"enc": "vp8", "dec": "vp8"})] if video else []
        for device in self._linked_devices(callee):
            attrs = self._names(call, device, offer=True)
            self._signal(call, device, Node("offer", attrs, [*media, Node("net", {"medium": "3"})]), now)
        return call

    def end(self, call_id: str, number: str, how: End, *, now: float, exclude: Address | None = None) -> Call:
        """One side ends a call that rings; the linked devices of the other account, or the other devices of the same
        one, get a signal. Raises CallError.

        exclude: the device that ended it, which needs no signal.
        """
        call = self._calls.get(call_id)
        if call is None or number not in (call.caller, call.callee):
            raise CallError(f"{number} has no call {call_id}")
        if call.state != "ringing":
            raise CallError(f"the call {call_id} is no longer ringing: it was {call.state}")
        if (how in ("accepted", "rejected")) != (number == call.callee):
            raise CallError(f"only {'the callee' if number == call.caller else 'the caller'} can make a call {how}")
        call.state = how
        reason = {"accepted": "accepted_elsewhere", "rejected": "rejected_elsewhere", "timeout": "timeout"}.get(how)
        for device in self._linked_devices(call.callee):
            if device.address != exclude:
                attrs = self._names(call, device) | ({"reason": reason} if reason is not None else {})
                self._signal(call, device, Node("terminate", attrs), now)
        answer = {"accepted": "accept", "rejected": "reject"}.get(how)
        for device in self._linked_devices(call.caller) if answer is not None else ():
            self._signal(call, device, Node(answer or "", self._names(call, device)), now)
        return call

    def receive(self, device: Device, stanza: Node, *, now: float) -> None:
        """A linked device rejects a call. Other signals need media, and are ignored."""
        child = stanza.children[0] if stanza.children else Node("")
        call = self._calls.get(child.attrs.get("call-id", ""))
        if child.tag == "reject" and call is not None and call.callee == device.number and call.state == "ringing":
            self.end(call.id, device.number, "rejected", now=now, exclude=device.address)

    def _linked_devices(self, number: str) -> list[Device]:
        return [device for device in self._directory.devices_of(number) if device.device != PHONE]

    def _names(self, call: Call, to: Device, *, offer: bool = False) -> dict[str, str]:
        mode = self._directory.accounts[to.number].addressing
        attrs = {"call-id": call.id, "call-creator": str(self._directory.jid(Address(call.caller, PHONE), mode))}
        return attrs | ({"caller_pn": f"{call.caller}@{PN}"} if offer and mode == "lid" else {})

    def _signal(self, call: Call, to: Device, child: Node, now: float) -> None:
        other = call.caller if to.number == call.callee else call.callee
        mode = self._directory.accounts[to.number].addressing
        attrs = {
            "from": str(self._directory.jid(Address(other, PHONE), mode)),
            "id": new_id(self._entropy),
            "t": str(int(now)),
            "notify": self._directory.accounts[other].name,
            "platform": "android",
        }
        self._delivery.deliver(to.address, "call", Node("call", attrs, [child]), now)
