"""Operations: what changes something at WhatsApp – a group, the profile, the block list – and is carried out once.

An operation is a durable row. It is committed before the caller gets a 202, carried out when the link is open, in order
for each target, and settled by WhatsApp's answer. When there is no answer, because a process or a link ended, the
kind decides how its outcome is found out: most kinds can be repeated without further effect; the others look at
WhatsApp again and compare with what was there before.

A kind is defined here, in `KINDS`, and under the same name in `engine/baileys/operations.mjs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import msgspec


@dataclass(frozen=True, slots=True)
class Done:
    """An observation shows that the operation was carried out."""

    result: Any


@dataclass(frozen=True, slots=True)
class NotDone:
    """An observation shows no effect of the operation."""


@dataclass(frozen=True, slots=True)
class Undetermined:
    """An observation does not show whether the operation was carried out; `sentence` says why."""

    sentence: str


Verdict = Done | NotDone | Undetermined


class Arguments(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What one kind of operation needs to know. JIDs are canonical."""

    kind: ClassVar[str]
    observes: ClassVar[bool] = False
    """Repeating it would have a further effect: before the first attempt, and after one without an answer, the engine
    reads the state at WhatsApp (`observe` in the engine), and `judge` compares."""

    is_light: ClassVar[bool] = False
    """WhatsApp's own apps do it all the time: it is not paced, and only its failure is reported as an event."""

    done_codes: ClassVar[frozenset[int]] = frozenset()
    """WhatsApp's refusals of a repeated attempt which mean that an earlier one was carried out."""

    target_field: ClassVar[str]
    """The argument that names the target."""

    @property
    def target(self) -> str:
        """What it changes; operations of one target run one after another."""
        target: str = getattr(self, self.target_field)
        return target

    @property
    def medium(self) -> str | None:
        """The id of the stored file that the engine needs."""
        return None

    def hashed_arguments(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arguments that identify a request: a repeated Idempotency-Key must come with the same ones."""
        return arguments

    def judge(self, before: Any, after: Any) -> Verdict:
        """Was an attempt without an answer carried out? Only called for kinds that observe."""
        raise NotImplementedError

    def described(self, result: Any) -> Any:
        """The engine's result as callers see it."""
        return result

    def outcome(self, result: Any) -> Failure | None:
        """Why a result (as callers see it) is still a failure, for kinds with several parts."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    code: str
    sentence: str
    whatsapp_code: int | None = None


class CreateGroup(Arguments, frozen=True, kw_only=True):
    kind = "create-group"
    observes = True

    subject: str
    members: list[str]

    @property
    def target(self) -> str:
        return "groups"

    def judge(self, before: Any, after: Any) -> Verdict:
        """An observation lists the account's own groups with this subject. Operations on `groups` run one after
        another, so a group that was not there before the attempt is the one that it created.
        """
        known = {group["id"] for group in before}
        new = [group for group in after if group["id"] not in known]
        if not new:
            return NotDone()
        if len(new) > 1:
            ids = ", ".join(str(group["id"]) for group in new)
            return Undetermined(
                f"the connection ended before WhatsApp answered, and then there were several new groups with this "
                f"subject ({ids}): one of them may be the one it created, so it is not retried"
            )
        present = {jid for member in new[0].get("members", []) for jid in (member.get("jid"), member.get("lid")) if jid}
        members = [{"jid": jid, "code": 200 if jid in present else 0} for jid in self.members]
        return Done({"id": new[0]["id"], "subject": new[0].get("subject"), "members": members})

    def described(self, result: Any) -> Any:
        return {**result, "members": member_results(result["members"], action="add")}


class ChangeMembers(Arguments, frozen=True, kw_only=True):
    """WhatsApp answers a repeated change of a member with 409 or 404, which counts as done."""

    kind = "change-members"
    target_field = "group"

    group: str
    add: list[str] = []
    remove: list[str] = []
    promote: list[str] = []
    demote: list[str] = []

    def described(self, result: Any) -> Any:
        return {action: member_results(rows, action=action) for action, rows in result.items()}

    def outcome(self, result: Any) -> Failure | None:
        return _all_refused(row for rows in result.values() for row in rows)


class UpdateGroup(Arguments, frozen=True, kw_only=True):
    """The engine reads the group first and changes only what differs."""

    kind = "update-group"
    target_field = "group"

    group: str
    subject: str | None = None
    description: str | None = None
    """Empty: none."""
    announce_only: bool | None = None
    locked: bool | None = None
    join_approval: bool | None = None
    members_add: bool | None = None
    disappearing_s: int | None = None


class LeaveGroup(Arguments, frozen=True, kw_only=True):
    kind = "leave-group"
    target_field = "group"
    done_codes = frozenset({401, 403, 404})

    group: str


class SetPicture(Arguments, frozen=True, kw_only=True):
    """The engine compares the id of the picture before and after, so that others don't see it changed twice."""

    kind = "set-picture"
    observes = True

    jid: str | None = None
    """A group; None: the account itself."""
    media_id: str | None = None
    """A stored JPEG; None: the picture is removed."""

    @property
    def target(self) -> str:
        return self.jid or "profile"

    @property
    def medium(self) -> str | None:
        return self.media_id

    def judge(self, before: Any, after: Any) -> Verdict:
        if self.media_id is None:
            return NotDone() if after["id"] else Done({"id": None})
        return NotDone() if after["id"] in {None, before["id"]} else Done({"id": after["id"]})


class RevokeInvite(Arguments, frozen=True, kw_only=True):
    kind = "revoke-invite"
    target_field = "group"
    observes = True

    group: str

    def judge(self, before: Any, after: Any) -> Verdict:
        return NotDone() if after["code"] == before["code"] else Done(after)


class JoinGroup(Arguments, frozen=True, kw_only=True):
    kind = "join-group"
    done_codes = frozenset({409})

    code: str
    """Of the invite link."""
    group: str | None = None
    """With `admin` and `expires_s`: a personal invitation, as its message has it."""
    admin: str | None = None
    expires_s: int | None = None

    @property
    def target(self) -> str:
        return self.group or "groups"


class AnswerRequests(Arguments, frozen=True, kw_only=True):
    """WhatsApp answers a repeated approval or rejection with 404, which counts as done."""

    kind = "answer-join-requests"
    target_field = "group"

    group: str
    approve: list[str] = []
    reject: list[str] = []

    def described(self, result: Any) -> Any:
        return {action: member_results(rows, action=action) for action, rows in result.items()}

    def outcome(self, result: Any) -> Failure | None:
        return _all_refused(row for rows in result.values() for row in rows)


class SetProfile(Arguments, frozen=True, kw_only=True):
    kind = "set-profile"

    name: str | None = None
    about: str | None = None

    @property
    def target(self) -> str:
        return "profile"


class SetPrivacy(Arguments, frozen=True, kw_only=True):
    """The engine reads the settings first and changes only what differs. Fields that are None stay unchanged."""

    kind = "set-privacy"

    last_seen: str | None = None
    online: str | None = None
    picture: str | None = None
    about: str | None = None
    read_receipts: str | None = None
    groups_add: str | None = None
    calls: str | None = None
    messages: str | None = None

    @property
    def target(self) -> str:
        return "privacy"


class FollowChannel(Arguments, frozen=True, kw_only=True):
    """Repeating it has no effect."""

    kind = "follow-channel"
    target_field = "channel"

    channel: str
    followed: bool
    """False: leave it."""


class Block(Arguments, frozen=True, kw_only=True):
    kind = "block"
    target_field = "jid"

    jid: str
    blocked: bool


class ReadChat(Arguments, frozen=True, kw_only=True):
    """Read receipts for messages of a chat, oldest first. WhatsApp ignores repeated ones."""

    kind = "read-chat"
    target_field = "chat"
    is_light = True

    chat: str
    messages: list[dict[str, str | None]]
    """`{id, sender, senderLid}` each."""

    def hashed_arguments(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """A repeated request finds fewer unread messages."""
        return {"chat": self.chat}


class UpdateChat(Arguments, frozen=True, kw_only=True):
    """Settings of a chat, which the account's devices share. Fields that are None stay unchanged."""

    kind = "update-chat"
    target_field = "chat"

    chat: str
    archived: bool | None = None
    muted_until_s: int | None = None
    """Unix seconds; -1: forever; 0: not muted."""
    pinned: bool | None = None
    unread: bool | None = None
    disappearing_s: int | None = None
    """0: never."""
    cleared: Literal[True] | None = None
    """Remove its messages from the account's devices."""
    deleted: Literal[True] | None = None
    """Remove the chat from the account's devices."""
    last: dict[str, Any] | None = None
    """The newest message of the chat, `{id, fromMe, sender, atS}`: WhatsApp applies some settings up to it."""

    def hashed_arguments(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """A repeated request may find newer messages."""
        return {name: value for name, value in arguments.items() if name != "last"}


class SaveContact(Arguments, frozen=True, kw_only=True):
    """An entry of the account's address book, which its devices share."""

    kind = "save-contact"
    target_field = "jid"

    jid: str
    """By phone number."""
    name: str | None = None
    """None: the entry is removed."""
    first_name: str | None = None
    on_phone: bool = False
    """Also save it in the address book of the phone itself, not only in WhatsApp."""


class EditLabel(Arguments, frozen=True, kw_only=True):
    """Create, rename or delete a label."""

    kind = "edit-label"

    label: str
    name: str
    color: int = 0
    deleted: bool = False

    @property
    def target(self) -> str:
        return "labels"


class LabelChat(Arguments, frozen=True, kw_only=True):
    kind = "label-chat"
    target_field = "chat"

    chat: str
    label: str
    labelled: bool


class StarMessage(Arguments, frozen=True, kw_only=True):
    kind = "star-message"
    target_field = "chat"

    chat: str
    message: str
    """Its WhatsApp id."""
    from_me: bool
    starred: bool


KINDS: Mapping[str, type[Arguments]] = MappingProxyType({
    each.kind: each
    for each in (
        CreateGroup, ChangeMembers, UpdateGroup, LeaveGroup, JoinGroup, RevokeInvite, AnswerRequests, SetPicture,
        SetProfile, SetPrivacy, FollowChannel, Block, ReadChat, UpdateChat, SaveContact, EditLabel, LabelChat,
        StarMessage,
    )
})  # fmt: skip


# Members, each with an answer of its own.

_MEMBER_CODES = {
    0: "WhatsApp's answer was lost, and this person is not in the group",
    401: "this person blocked the account",
    403: "this person's privacy settings don't allow it; invite the person instead",
    404: "this person is not in the group, or not on WhatsApp",
    406: "WhatsApp does not accept this person",
    408: "this person left the group recently and can't be added yet; invite the person instead",
    409: "this person is in the group already",
    417: "this person does not have the role that would be changed",
    419: "the group is full",
    429: "WhatsApp limits such changes",
    500: "the group is full, or WhatsApp reports an error of its own",
}
_DONE = {"add": {409}, "remove": {404}}
"""Answers of WhatsApp to a change that was made before."""


def member_results(rows: Iterable[Mapping[str, Any]], *, action: str) -> list[dict[str, Any]]:
    """WhatsApp's answer about each member: `{jid, code, inviteCode?, inviteExpiresS?}` → `{jid, done, …}`."""
    return [_member_result(row, action) for row in rows]


def _member_result(row: Mapping[str, Any], action: str) -> dict[str, Any]:
    code = int(row["code"])
    shown: dict[str, Any] = {"jid": row["jid"], "done": code == 200 or code in _DONE.get(action, ())}
    if code != 200:
        shown["whatsappCode"] = code
        shown["message"] = _MEMBER_CODES.get(code, "WhatsApp refused it")
    return shown | {name: row[name] for name in ("inviteCode", "inviteExpiresS") if row.get(name) is not None}


def _all_refused(rows: Iterable[Mapping[str, Any]]) -> Failure | None:
    listed = list(rows)
    if not listed or any(row["done"] for row in listed):
        return None
    code = listed[0].get("whatsappCode")
    reasons = "; ".join(dict.fromkeys(str(row["message"]) for row in listed))
    return Failure(code="members-refused", sentence=f"WhatsApp refused all of it: {reasons}", whatsapp_code=code)
