"""Notifications for linked devices: changed settings, limits of their account, devices of theirs and of contacts."""

from __future__ import annotations

from wasim.server import notices
from wasim.server.delivery import Delivery
from wasim.server.directory import Directory
from wasim.server.entropy import Entropy, new_id
from wasim.server.fault_hooks import FaultHooks
from wasim.server.phones import Phones
from wasim.server.state import Address, Device
from wasim.wire.nodes import Node


class Announcements:
    def __init__(
        self, directory: Directory, phones: Phones, fault_hooks: FaultHooks, entropy: Entropy, delivery: Delivery
    ) -> None:
        self._directory = directory
        self._phones = phones
        self._fault_hooks = fault_hooks
        self._entropy = entropy
        self._delivery = delivery

    def settings(self, number: str, versions: dict[str, int], *, exclude: Address | None = None, now: float) -> None:
        """Collections of an account's settings have these versions now. `exclude`: the device that changed them."""
        for device in self._directory.linked_devices(number):
            if device.address != exclude:
                for name, version in versions.items():
                    self._notify(
                        device, notices.settings_changed(new_id(self._entropy), number, {name: version}, now), now
                    )

    def reach_out_lock(self, number: str | None, until: float | None, *, now: float) -> None:
        """The account (None: all) may not write to new contacts until then, or (None) may again."""
        for device in self._directory.linked_devices(number):
            self._notify(device, notices.reach_out_lock(new_id(self._entropy), until, now), now)

    def new_chat_quota(self, number: str | None, *, now: float) -> None:
        """How much of the account's (None: of each account's) quota of new chats is used."""
        for device in self._directory.linked_devices(number):
            quota = self._fault_hooks.new_chat_quota(device.number, now=now)
            self._notify(device, notices.new_chat_quota(new_id(self._entropy), quota, now), now)

    def low_on_prekeys(self, address: Address, now: float) -> None:
        left = len(self._directory.prekeys(address))
        self._delivery.deliver(address, "notification", notices.low_on_prekeys(new_id(self._entropy), left, now), now)

    def device(self, device: Device, change: str, *, now: float) -> None:
        """A device was linked or removed: own devices and contacts are notified; the phone signs its new list."""
        self._phones.sign_devices(device.number, now=now)
        account = self._directory.accounts[device.number]
        for number in (account.number, *sorted(account.contacts)):
            for other in self._directory.linked_devices(number):
                if other.address != device.address:
                    notice = notices.devices_changed(
                        self._directory, device, change, to=number, notice_id=new_id(self._entropy), now=now
                    )
                    self._notify(other, notice, now)

    def _notify(self, device: Device, notice: Node, now: float) -> None:
        self._delivery.deliver(device.address, "notification", notice, now)
