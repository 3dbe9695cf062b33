"""What the account's owner and its other devices set, as the engine reports it: names, chats, labels, stars.

A field that is None was not changed.
"""

from __future__ import annotations

import msgspec

FOREVER_S = -1
"""A time without an end."""


class AccountChange(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", rename="camel", omit_defaults=True):
    """A change of the account's settings (WhatsApp's "app state")."""


class ChatChanged(AccountChange, frozen=True, kw_only=True, tag="chat"):
    chat: str
    archived: bool | None = None
    muted_until_s: int | None = None
    """Unix seconds, `FOREVER_S`, or 0: not muted."""
    pinned_at_s: int | None = None
    """Unix seconds, or 0: not pinned."""
    unread: bool | None = None
    """Somebody marked the chat as unread, or as read."""
    disappearing_s: int | None = None
    """Seconds after which new messages disappear, or 0."""
    timer_set_at_s: int | None = None
    """When that was set, in Unix seconds. None: just now. An older setting than the stored one is ignored."""


class ChatRead(AccountChange, frozen=True, kw_only=True, tag="read"):
    """Another device of the account read these messages, and all before them."""

    chat: str
    whatsapp_ids: list[str]


class ContactSaved(AccountChange, frozen=True, kw_only=True, tag="contact"):
    """An entry of the account's address book was saved, or removed."""

    chat: str
    """JID of the person, by phone number where it is known."""
    lid: str | None = None
    saved_name: str | None = None
    """None: the entry was removed."""
    username: str | None = None


class PersonNamed(AccountChange, frozen=True, kw_only=True, tag="person"):
    """The phone reported the name that a person set."""

    chat: str
    """JID of the person."""
    push_name: str


class LabelChanged(AccountChange, frozen=True, kw_only=True, tag="label"):
    label: str
    name: str | None = None
    """None: the label was deleted."""
    color: int | None = None
    """Number in WhatsApp's palette."""


class Labelled(AccountChange, frozen=True, kw_only=True, tag="labelled"):
    """A chat, or one of its messages, got a label or lost it."""

    label: str
    chat: str
    whatsapp_id: str | None = None
    on: bool


class Starred(AccountChange, frozen=True, kw_only=True, tag="starred"):
    """A message was starred, or no longer is."""

    chat: str
    whatsapp_id: str
    on: bool


AnyAccountChange = ChatChanged | ChatRead | ContactSaved | PersonNamed | LabelChanged | Labelled | Starred
