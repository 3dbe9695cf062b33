"""The records that the server stores: accounts, devices, groups, waiting stanzas, messages."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import msgspec

from wasim.server.webauthn import Passkey
from wasim.wire.jids import GROUP, STATUS, Jid

PHONE = 0
"""Device number of the phone itself."""

Addressing = Literal["lid", "pn"]


class Address(NamedTuple):
    """One device of one account."""

    number: str
    device: int

    @property
    def key(self) -> str:
        return f"{self.number}:{self.device}"


def parse_address(key: str) -> Address:
    number, _, device = key.partition(":")
    return Address(number, int(device))


class SignedPreKey(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    public: bytes
    signature: bytes


class Account(msgspec.Struct, kw_only=True):
    """A phone number on WhatsApp."""

    number: str
    lid: str
    name: str
    raw_id: int
    created_at: float
    addressing: Addressing = "lid"
    """How senders are identified to this account: by hidden id (as today), or by phone number."""
    username: str = ""
    """The name by which others find it, in lower case; empty: it has none."""
    hides_number: bool = False
    """Others see its hidden id and username, not its number."""
    auto_read: bool = True
    picture: str = ""
    """The address of a picture that is elsewhere; empty: it has none."""
    picture_id: str = ""
    """The id of a picture that the media host has; empty: it has none there."""
    picture_file: str = ""
    """The name of that file; empty: not made yet."""
    about: str = ""
    about_changes: int = 0
    """How many times its devices have set that text, even to the same value."""
    business: dict[str, str] = msgspec.field(default_factory=dict)
    """Its business profile by field, as `profiles.BUSINESS` names them; empty: it is no business account."""
    privacy: dict[str, str] = msgspec.field(default_factory=dict)
    """Its privacy settings by category; what is missing is `all`."""
    next_device: int = 1
    key_indexes: bytes = b""
    """The phone's signed list of its linked devices; empty: it has never linked any."""
    key_indexes_at: float = 0.0
    contacts: set[str] = msgspec.field(default_factory=set)
    """Numbers that it has exchanged messages with, which are notified about its devices."""
    blocked: set[str] = msgspec.field(default_factory=set)
    passkeys: list[Passkey] = msgspec.field(default_factory=list)
    """Linking a device requires a signature by one of these; none: no passkey is required."""


class Device(msgspec.Struct, kw_only=True, dict=True):
    """One device of an account, as the server stores it: without private keys."""

    number: str
    device: int
    identity: bytes
    registration_id: int
    signed_prekey: SignedPreKey
    key_index: int = 0
    noise_key: bytes = b""
    """The static key that it must log in with; a phone has none, because it is part of the server."""
    proof: bytes = b""
    """ADVSignedDeviceIdentity: its keys, signed by the phone and by itself."""
    push_name: str = ""
    name: str = ""
    """The name in the phone's list of linked devices."""
    linked_at: float = 0.0
    logins: int = 0
    wants_full_history: bool = False
    """It requested the full history when it was linked."""
    initial_sync_sent: bool = msgspec.field(default=False, name="welcomed")
    """Its phone has sent it the initial sync. Stored as `welcomed`."""

    @cached_property
    def address(self) -> Address:
        return Address(self.number, self.device)


class Group(msgspec.Struct, kw_only=True):
    """A group chat."""

    id: str
    subject: str
    subject_at: float
    creator: str
    """Phone number of the account that created it."""
    created_at: float
    members: dict[str, bool]
    """Phone numbers, and whether they are admins."""
    addressing: Addressing = "lid"
    """How members are identified in it."""
    description: str = ""
    description_id: str = ""
    announce: bool = False
    """Only admins may write."""
    locked: bool = False
    """Only admins may change subject, description and picture."""
    ephemeral_s: int = 0
    """After how many seconds messages disappear; 0: never."""
    join_approval: bool = False
    members_add: bool = False
    """Every member may add others and share the invite link."""
    invite_code: str = ""
    revoked_codes: set[str] = msgspec.field(default_factory=set)
    requests: dict[str, float] = msgspec.field(default_factory=dict)
    """Accounts that requested to join, and when."""
    invited: dict[str, str] = msgspec.field(default_factory=dict)
    """Personal invitations: the code by account, for those whose privacy forbids adding them."""
    left_at: dict[str, float] = msgspec.field(default_factory=dict)
    """When former members left the group."""
    picture_id: str = ""
    """Empty: it has no picture."""
    picture_file: str = ""
    """Its name on the media host."""

    @property
    def jid(self) -> Jid:
        return Jid(self.id, GROUP)


class StatusAudience(Group):
    """The people who get an account's status posts. It has a sender key like a group; others can't see its members."""

    @property
    def jid(self) -> Jid:
        return STATUS


def status_audience(number: str, audience: Iterable[str], *, now: float) -> StatusAudience:
    """The audience of a status post of `number`."""
    members = dict.fromkeys([number, *audience], False)
    return StatusAudience(id=STATUS.user, subject="", subject_at=now, creator=number, created_at=now, members=members)


StanzaKind = Literal["message", "receipt", "notification", "call"]
STANZA_KINDS: dict[str, StanzaKind] = {name: name for name in get_args(StanzaKind)}


class QueuedStanza(msgspec.Struct, kw_only=True):
    """A stanza that a device has not acknowledged yet."""

    kind: StanzaKind
    id: str
    stanza: bytes
    """Encoded, without the `offline` attribute."""


class MessageRecord(msgspec.Struct, kw_only=True):
    """The state of one message, by sender and id."""

    sender: str
    id: str
    to: str
    addressing: Addressing
    """How the sender addressed the recipient; receipts are returned in the same form."""
    first_at: float
    last_at: float
    count: int = 0
    resends: int = 0
    """Re-encryptions after a recipient's retry receipt; not counted as arrivals."""
    acked: bool = False
    error: str | None = None
    delivered: int = 0
    read: int = 0
