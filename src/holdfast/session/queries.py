"""What a session can ask WhatsApp for a person: each query with its arguments and the shape of its answer.

A query is defined here and, under the same name, in `engine/baileys/queries.mjs`. It changes nothing at WhatsApp that
would have to happen exactly once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, Literal, TypeVar

import msgspec

R = TypeVar("R")

NUMBERS_AT_ONCE = 50
"""Phone numbers in one query to WhatsApp."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query(Generic[R]):
    name: str
    answer: type[R]
    """What the engine's JSON becomes."""
    arguments: Mapping[str, object]
    cache_s: float = 0
    """Seconds for which the answer is cached."""
    cost: int = 1
    """How many queries to WhatsApp it takes, for the session's limit."""
    reserve: int = 0
    """How many queries it leaves to others: it is refused when fewer than these would remain in the session's limit."""

    @property
    def key(self) -> str:
        """Cache key: equal for queries that have the same answer."""
        return f"{self.name} {json.dumps(self.arguments, sort_keys=True)}"


class CheckedNumber(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    number: str
    """Digits, as requested."""
    chat: str | None = None
    """The JID of the account in WhatsApp's own spelling of the number; None: the number is not on WhatsApp."""
    lid: str | None = None


class FoundUsername(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    jid: str | None = None
    """None: nobody has it, or its owner protects it with a key."""
    lid: str | None = None


class FoundHidden(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    lid: str
    """As requested."""
    exists: bool = False
    number: str | None = None
    """The JID by number, where WhatsApp reports it."""
    username: str | None = None


class GroupMember(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    jid: str
    """By phone number where WhatsApp reports it."""
    lid: str | None = None
    role: str = "member"
    """`member`, `admin` or `superadmin`."""


class Group(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    id: str
    subject: str | None = None
    description: str | None = None
    size: int = 0
    created_at_s: int | None = None
    owner: str | None = None
    announce_only: bool = False
    """Only admins may write."""
    locked: bool = False
    """Only admins may change subject, picture and description."""
    join_approval: bool = False
    members_add: bool = False
    """Every member may add others."""
    disappearing_s: int = 0
    community: str | None = None
    """The community that it belongs to."""
    is_community: bool = False
    members: list[GroupMember] | None = None
    """None in a list of groups."""


class Invite(msgspec.Struct, frozen=True, kw_only=True):
    code: str | None = None


class JoinRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    jid: str
    lid: str | None = None
    requested_at_s: int | None = None
    method: str | None = None


class Profile(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    name: str | None = None
    about: str | None = None
    picture: str | None = None
    """Its address."""


class Privacy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """WhatsApp's own values; None: it does not report this setting for the account."""

    last_seen: str | None = None
    online: str | None = None
    picture: str | None = None
    about: str | None = None
    read_receipts: str | None = None
    groups_add: str | None = None
    calls: str | None = None
    messages: str | None = None


class Channel(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    id: str
    name: str | None = None
    description: str | None = None
    invite: str | None = None
    """The code of its invite link."""
    followers: int = 0
    created_at_s: int | None = None
    verified: bool = False
    role: str | None = None
    """Of this account: `owner`, `admin`, `subscriber`; `guest`: it does not follow the channel."""
    muted: bool = False


class OpeningHours(msgspec.Struct, frozen=True, kw_only=True):
    day: str
    """WhatsApp's name: `mon` …"""
    mode: str | None = None
    """`open_24h`, `specific_hours`, `appointment_only`."""
    opens: str | None = None
    """HH:MM"""
    closes: str | None = None


class Business(msgspec.Struct, frozen=True, kw_only=True):
    description: str | None = None
    category: str | None = None
    address: str | None = None
    email: str | None = None
    websites: list[str] = []
    timezone: str | None = None
    hours: list[OpeningHours] = []


class About(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    about: str | None = None
    """The text of a person; None: there is none, or it is hidden from this account."""
    set_at_s: int | None = None
    business: Business | None = None


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    url: str


class PictureFile(msgspec.Struct, frozen=True, kw_only=True):
    mimetype: Literal["image/jpeg", "image/png", "image/webp"]
    """As the first bytes of the file say."""
    base64: bytes
    """The file itself."""


class UploadedAgain(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    direct_path: Annotated[str, msgspec.Meta(max_length=1000, pattern="^/")]
    """Where WhatsApp's media servers have the file now."""


class HistorySent(msgspec.Struct, frozen=True, kw_only=True):
    messages: int
    """How many messages the phone sent; they are stored."""


class TypingShown(msgspec.Struct, frozen=True, kw_only=True):
    """WhatsApp was informed."""


class CallRejected(msgspec.Struct, frozen=True, kw_only=True):
    """WhatsApp was informed."""


class PresenceSubscribed(msgspec.Struct, frozen=True, kw_only=True):
    """WhatsApp was asked; it does not confirm."""


def check_numbers(numbers: Sequence[str]) -> Query[list[CheckedNumber]]:
    """`numbers` in digits. The answer has one row for each, in their order."""
    cost = -(-len(numbers) // NUMBERS_AT_ONCE)
    arguments = {"numbers": list(numbers), "atOnce": NUMBERS_AT_ONCE}
    return Query(name="check-numbers", answer=list[CheckedNumber], arguments=arguments, cost=cost)


def find_username(username: str) -> Query[FoundUsername]:
    """Who has this username; in lower case, without `@`."""
    return Query(name="find-username", answer=FoundUsername, arguments={"username": username}, cache_s=600)


def find_hidden(lids: Sequence[str]) -> Query[list[FoundHidden]]:
    """Which of these hidden ids exist, and their usernames."""
    cost = -(-len(lids) // NUMBERS_AT_ONCE)
    arguments = {"lids": list(lids), "atOnce": NUMBERS_AT_ONCE}
    return Query(name="find-hidden", answer=list[FoundHidden], arguments=arguments, cache_s=600, cost=cost)


def groups() -> Query[list[Group]]:
    """The groups that the account is in, without their members."""
    return Query(name="groups", answer=list[Group], arguments={}, cache_s=30)


def group(jid: str) -> Query[Group]:
    """One group with its members. The engine caches it until WhatsApp reports a change."""
    return Query(name="group", answer=Group, arguments={"jid": jid})


def picture(jid: str, *, size: str) -> Query[Picture]:
    """The address of the picture of a person or group; `size` is `preview` or `full`."""
    return Query(name="picture", answer=Picture, arguments={"jid": jid, "size": size}, cache_s=60)


def picture_file(jid: str, *, reserve: int) -> Query[PictureFile]:
    """The preview of that picture as a file of at most 128 KiB."""
    return Query(name="picture-file", answer=PictureFile, arguments={"jid": jid}, reserve=reserve)


def about(jid: str) -> Query[About]:
    """The text that a person shows, and the business profile."""
    return Query(name="about", answer=About, arguments={"jid": jid}, cache_s=60, cost=2)


def typing(jid: str, state: str) -> Query[TypingShown]:
    """Show the people of a chat that somebody is `composing` or `recording`, or `paused`."""
    return Query(name="typing", answer=TypingShown, arguments={"jid": jid, "state": state})


def reject_call(call_id: str, creator: str) -> Query[CallRejected]:
    """Reject a call that rings. Rejecting it twice is harmless."""
    return Query(name="reject-call", answer=CallRejected, arguments={"callId": call_id, "creator": creator})


def subscribe_presence(jids: Sequence[str]) -> Query[PresenceSubscribed]:
    """Ask WhatsApp to report when these people come online. It lasts as long as the link."""
    arguments = {"jids": list(jids)}
    return Query(name="subscribe-presence", answer=PresenceSubscribed, arguments=arguments, cost=len(arguments["jids"]))


def invite(group_jid: str) -> Query[Invite]:
    """The code of a group's invite link, which is made if there is none."""
    return Query(name="invite", answer=Invite, arguments={"jid": group_jid})


def invited_group(code: str) -> Query[Group]:
    """The group that an invite link leads to."""
    return Query(name="invited-group", answer=Group, arguments={"code": code})


def join_requests(group_jid: str) -> Query[list[JoinRequest]]:
    """The people who ask to join a group."""
    return Query(name="join-requests", answer=list[JoinRequest], arguments={"jid": group_jid})


def blocklist() -> Query[list[str]]:
    """The people that the account blocks, as JIDs, by phone number where it is known."""
    return Query(name="blocklist", answer=list[str], arguments={})


def profile() -> Query[Profile]:
    """What others see of the account."""
    return Query(name="profile", answer=Profile, arguments={}, cost=2)


def privacy() -> Query[Privacy]:
    """The account's privacy settings."""
    return Query(name="privacy", answer=Privacy, arguments={})


def channels() -> Query[list[Channel]]:
    """The channels that the account follows."""
    return Query(name="channels", answer=list[Channel], arguments={}, cache_s=30)


def channel(*, jid: str | None = None, invite: str | None = None) -> Query[Channel]:
    """One channel: by JID, or by the code of its invite link."""
    return Query(name="channel", answer=Channel, arguments={"jid": jid} if jid else {"invite": invite})


def uploaded_again(message: Mapping[str, object], *, media_key: str) -> Query[UploadedAgain]:
    """Ask the phone to upload the file of a message again, which WhatsApp's media servers no longer have.

    message: `{id, chat, fromMe, sender, senderLid}`. media_key: the key of the file, in base64.
    """
    return Query(name="media-again", answer=UploadedAgain, arguments={"message": dict(message), "mediaKey": media_key})


def chat_history(jid: str, *, oldest: Mapping[str, object], count: int) -> Query[HistorySent]:
    """Ask the phone for messages of a chat before `oldest`: `{id, fromMe, atS}`."""
    arguments = {"jid": jid, "oldest": dict(oldest), "count": count}
    return Query(name="chat-history", answer=HistorySent, arguments=arguments)
