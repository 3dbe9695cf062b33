"""Groups: their members, how the server describes them, and the notifications when they change.

They are created and changed through the control interface, and by devices of their members (`group_requests`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from wasim.server.delivery import Delivery
from wasim.server.directory import Directory
from wasim.server.entropy import Entropy, digits, new_id, token_urlsafe
from wasim.server.state import PHONE, Address, Addressing, Device, Group
from wasim.wire.jids import PN
from wasim.wire.nodes import Node


class GroupError(Exception):
    """A change is not possible; the sentence says why."""


class Groups:
    def __init__(self, directory: Directory, entropy: Entropy, delivery: Delivery) -> None:
        self._directory = directory
        self._entropy = entropy
        self._delivery = delivery

    def create(
        self, subject: str, members: Iterable[str], *, addressing: Addressing, now: float, key: str = ""
    ) -> Group:
        """A new group. The first member is its creator and admin; all members are notified.

        key: chosen by the creating device, which recognises its own group by it in the notification.

        Raises GroupError without members, or for one without account.
        """
        numbers = self._known(members)
        if not numbers:
            raise GroupError("a group needs at least one member")
        group = Group(
            id=f"120363{digits(self._entropy, 12)}",
            subject=subject,
            subject_at=now,
            creator=numbers[0],
            created_at=now,
            members={number: number == numbers[0] for number in numbers},
            addressing=addressing,
        )
        self._directory.groups[group.id] = group
        attrs = {"type": "new", "key": key} if key else {}
        self.notify(group, Node("create", attrs, [describe(self._directory, group)]), now)
        return group

    def new_id(self) -> str:
        """16 random bytes as URL-safe text."""
        return token_urlsafe(self._entropy, 16)

    def set_subject(self, group: Group, subject: str, *, by: str | None = None, now: float) -> None:
        """Change the group's name. by: the member who did; the creator by default."""
        author = group.creator if by is None else by
        group.subject, group.subject_at = subject, now
        attrs = {"subject": subject, "s_t": str(int(now)), "s_o": self._name(group, author)}
        self.notify(group, Node("subject", attrs), now, by=author)

    def add(self, group: Group, numbers: Iterable[str], *, now: float, by: str | None = None) -> list[str]:
        """Add members; returns the new ones, who are sent the whole group. Existing members are ignored.

        Raises GroupError for an unknown number.
        """
        new = [number for number in self._known(numbers) if number not in group.members]
        before = list(group.members)
        group.members |= dict.fromkeys(new, False)
        if new:
            added = Node("add", {}, [participant(self._directory, group, number) for number in new])
            self.notify(group, added, now, by=by, to=before)
            self.notify(group, Node("create", {}, [describe(self._directory, group)]), now, by=by, to=new)
        return new

    def remove(self, group: Group, numbers: Iterable[str], *, now: float, by: str | None = None) -> list[str]:
        """Remove members, or let `by` leave; returns those that were members. They are notified too."""
        removed = [number for number in numbers if number in group.members]
        if not removed:
            return []
        change = Node("remove", {}, [participant(self._directory, group, number) for number in removed])
        self.notify(group, change, now, by=by)
        for number in removed:
            del group.members[number]
        if group.members and not any(group.members.values()):
            group.members[next(iter(group.members))] = True  # a group always has an admin
        self._directory.touch(group)
        return removed

    def request_to_join(self, group: Group, numbers: Iterable[str], *, now: float) -> None:
        """Add requests to join; the members are notified. Raises GroupError for an unknown number."""
        for number in self._known(numbers):
            if number not in group.requests and number not in group.members:
                group.requests[number] = now
                requester = participant(self._directory, group, number)
                created = Node("created_membership_requests", {"request_method": "invite_link"}, [requester])
                self.notify(group, created, now, by=number)

    def _known(self, numbers: Iterable[str]) -> list[str]:
        listed = list(dict.fromkeys(numbers))
        for number in listed:
            if number not in self._directory.accounts:
                raise GroupError(f"there is no phone {number}; POST /phones creates one")
        return listed

    def _name(self, group: Group, number: str) -> str:
        return str(self._directory.jid(Address(number, PHONE), group.addressing))

    def notify(
        self,
        group: Group,
        change: Node,
        now: float,
        *,
        by: str | None = None,
        kind: str = "w:gp2",
        to: Collection[str] | None = None,
    ) -> None:
        """Store the group, and notify every linked device of its members of the change.

        by: who made it; the creator by default. to: only these members.
        """
        self._directory.touch(group)
        author = group.creator if by is None else by
        attrs = {
            "from": str(group.jid),
            "type": kind,
            "participant": self._name(group, author),
            "participant_pn": f"{author}@{PN}",
            "notify": self._directory.accounts[author].name,
            "t": str(int(now)),
        }
        for device in self._directory.members(group):
            if device.device != PHONE and (to is None or device.number in to):
                notice = Node("notification", attrs | {"id": new_id(self._entropy)}, [change])
                self._delivery.deliver(device.address, "notification", notice, now)


def describe(directory: Directory, group: Group) -> Node:
    """A group with all its members, in the form that clients expect."""
    creator = Address(group.creator, PHONE)
    attrs = {
        "id": group.id,
        "subject": group.subject,
        "s_t": str(int(group.subject_at)),
        "s_o": str(directory.jid(creator, group.addressing)),
        "creation": str(int(group.created_at)),
        "creator": str(directory.jid(creator, group.addressing)),
        "creator_pn": f"{group.creator}@{PN}",
        "addressing_mode": group.addressing,
        "size": str(len(group.members)),
    }
    members = [participant(directory, group, number) for number in group.members]
    return Node("group", attrs, [*members, *_settings(group)])


def _settings(group: Group) -> Iterator[Node]:
    """The settings of a group that differ from those of a new one."""
    if group.description:
        body = Node("body", {}, group.description.encode())
        yield Node("description", {"id": group.description_id, "t": str(int(group.created_at))}, [body])
    if group.announce:
        yield Node("announcement")
    if group.locked:
        yield Node("locked")
    if group.ephemeral_s:
        yield Node("ephemeral", {"expiration": str(group.ephemeral_s)})
    if group.join_approval:
        yield Node("membership_approval_mode", {}, [Node("group_join", {"state": "on"})])
    yield Node("member_add_mode", {}, b"all_member_add" if group.members_add else b"admin_add")


def participant(directory: Directory, group: Group, number: str) -> Node:
    """A member under the id that the group uses, with the other id beside it."""
    address = Address(number, PHONE)
    attrs = {"jid": str(directory.jid(address, group.addressing))}
    account = directory.accounts[number]
    if account.username:
        attrs["username"] = account.username
    if group.addressing == "pn":
        attrs["lid"] = str(directory.jid(address, "lid"))
    elif not account.hides_number:
        attrs["phone_number"] = str(directory.jid(address, "pn"))
    if group.members.get(number):
        attrs["type"] = "superadmin" if number == group.creator else "admin"
    return Node("participant", attrs)


def groups_of(directory: Directory, number: str) -> Iterator[Group]:
    """The groups of an account."""
    return (group for group in directory.groups.values() if number in group.members)


def device_copies(
    directory: Directory, sender: Device, group: Group, stanza: Node, now: float
) -> Iterator[tuple[Device, Node]]:
    """The copies of a group message for the devices of all members, with the sender key for that device, if any.

    A message that names a participant is only for that device: it answers a retry.
    """
    attrs = {key: value for key, value in stanza.attrs.items() if key in ("type", "edit")}
    attrs |= {"from": str(group.jid), "id": stanza.attrs.get("id", ""), "t": str(int(now))}
    attrs |= _author(directory, sender, group)
    keys = _sender_keys(stanza)
    common = [node for node in stanza.children if node.tag in ("enc", "meta")]
    for device in directory.members(group):
        if device.address == sender.address or not _is_for(directory, stanza, device):
            continue
        key = _sender_key_for(directory, keys, device)
        content = [*(key.all("enc") if key is not None else []), *common]
        if any(enc.attrs.get("type") == "pkmsg" for enc in content):
            content += stanza.all("device-identity")
        yield device, Node("message", attrs, content)


def _author(directory: Directory, sender: Device, group: Group) -> dict[str, str]:
    other: Addressing = "pn" if group.addressing == "lid" else "lid"
    attrs = {
        "participant": str(directory.jid(sender.address, group.addressing)),
        "addressing_mode": group.addressing,
        f"participant_{other}": str(directory.jid(Address(sender.number, PHONE), other)),
    }
    account = directory.accounts[sender.number]
    if account.hides_number and group.addressing == "lid":
        del attrs["participant_pn"]
    if account.username:
        attrs["participant_username"] = account.username
    return attrs | ({"notify": sender.push_name} if sender.push_name else {})


def _sender_keys(stanza: Node) -> dict[str, Node]:
    """Sender keys in a message, by the JID of the device."""
    listing = stanza.child("participants")
    return {to.attrs.get("jid", ""): to for to in listing.all("to")} if listing is not None else {}


def _sender_key_for(directory: Directory, keys: dict[str, Node], device: Device) -> Node | None:
    modes: tuple[Addressing, ...] = ("lid", "pn")
    names = (str(directory.jid(device.address, mode)) for mode in modes)
    return next((keys[name] for name in names if name in keys), None)


def _is_for(directory: Directory, stanza: Node, device: Device) -> bool:
    modes: tuple[Addressing, ...] = ("lid", "pn")
    named = stanza.attrs.get("participant")
    return named is None or named in {str(directory.jid(device.address, mode)) for mode in modes}
