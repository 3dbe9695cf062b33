"""Parses the recipient of a message: from the form that people write to the JID that WhatsApp needs."""

from __future__ import annotations

import re

from holdfast.base.errors import BadInput
from holdfast.delivery.phone_numbers import LONGEST, SHORTEST, phone_number, shown, visible

__all__ = [
    "LONGEST",
    "NOT_PERSONS",
    "SHORTEST",
    "STATUS",
    "jid",
    "parse_channel",
    "parse_destination",
    "parse_recipient",
    "phone_number",
    "username_in",
]

_GROUP = re.compile(r"[0-9]{1,20}(-[0-9]{1,20})?@g\.us", re.IGNORECASE)
_HIDDEN_ID = re.compile(r"(?P<user>[0-9]{1,20})(:[0-9]{1,3})?@lid", re.IGNORECASE)
_SERVER = "s.whatsapp.net"
_PERSON_SERVERS = (f"@{_SERVER}", "@c.us")


_CHANNEL = re.compile(r"[0-9]{1,20}@newsletter")
STATUS = "status@broadcast"
"""The chat of everybody's status posts."""
NOT_PERSONS = ("@g.us", "@broadcast", "@newsletter")
"""Ends of the JIDs of groups, status and broadcast lists, and channels."""

_USERNAME = re.compile(r"@(?=[\w.]*[a-z])[a-z0-9_.]{3,35}", re.IGNORECASE | re.ASCII)


def reaches_several(chat: str) -> bool:
    """Whether several people get a message to this chat, each with receipts of their own: a group, or a status."""
    return chat.endswith("@g.us") or chat == STATUS


def username_in(text: str) -> str | None:
    """The username in `@name`, in lower case and without the `@`; None for a text of another form.

    WhatsApp's rules: 3 to 35 letters, digits, dots and underscores, at least one letter.
    """
    plain = visible(text)
    return plain[1:].lower() if _USERNAME.fullmatch(plain) is not None else None


def jid(number: str) -> str:
    """The JID of a person by phone number, given as digits."""
    return f"{number}@{_SERVER}"


def parse_recipient(text: str, *, field: str) -> tuple[str, str]:
    """The recipient in the form for display, and the JID of the chat: a phone number, a group or a hidden id (LID).

    `+962 79 000 0001` → `962790000001`, `962790000001@s.whatsapp.net`. Device numbers are left out: WhatsApp delivers
    to all devices of an account. Raises `BadInput`, naming `field`.
    """
    plain = visible(text)
    if "@" not in plain or plain.lower().endswith(_PERSON_SERVERS):
        number = phone_number(text, field=field)
        return number, jid(number)
    if _GROUP.fullmatch(plain) is not None:
        group = plain.lower()
        return group, group
    if (hidden := _HIDDEN_ID.fullmatch(plain)) is not None:
        lid = f"{hidden['user']}@lid"
        return lid, lid
    raise BadInput(
        f'{field} "{shown(text, limit=60)}" is not a valid recipient: give a phone number, '
        "a group such as 120363012345678901@g.us, a hidden id such as 123456789012345@lid, or a username such as @rami",
        field=field,
    )


def parse_destination(text: str, *, field: str) -> tuple[str, str]:
    """As `parse_recipient`; or `status`, for a status post, or a channel.

    The JID of all status posts is refused: a program that answers every inbound message would post its answer to all
    contacts when one of them posts a status.
    """
    plain = visible(text).lower()
    if plain == "status":
        return plain, STATUS
    if plain == STATUS:
        raise BadInput(
            f'{field} "{STATUS}" is not a valid recipient: a status has no chat; to post one, give "status"',
            field=field,
        )
    if _CHANNEL.fullmatch(plain) is not None:
        return plain, plain
    return parse_recipient(text, field=field)


def parse_channel(text: str, *, field: str) -> str:
    """The JID of a channel. Raises `BadInput`, naming `field`."""
    plain = visible(text).lower()
    if _CHANNEL.fullmatch(plain) is None:
        raise BadInput(
            f'{field} "{shown(text, limit=60)}" is not a channel: give one such as 120363012345678901@newsletter',
            field=field,
        )
    return plain
