"""A request to send a message: exactly one kind of content, and options for any kind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, cast

import msgspec
from msgspec import Meta

from holdfast.base.errors import BadInput
from holdfast.delivery.content import MAX_MENTIONS, MessageBody, MessageId
from holdfast.delivery.kinds import KINDS, Text

LONGEST_EXPIRY_S = 30 * 24 * 3600
MAX_AUDIENCE = 1_000
"""People who get one status. Each of their devices gets a key of its own in one stanza."""


class MessageOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Where a message goes and how. A field that is null counts as left out."""

    to: Annotated[
        str | None,
        Meta(
            description="phone number of the recipient, 7 to 15 digits with country code; or the JID of a group "
            "(it ends with @g.us), a hidden id (@lid) or a channel (@newsletter), a username (@name), or `status`. "
            "reaction, edit and delete need none when their messageId is an `id`"
        ),
    ] = None
    audience: Annotated[
        Annotated[list[str], Meta(min_length=1, max_length=MAX_AUDIENCE)] | None,
        Meta(
            description="only to `status`: who can see it, by number or JID. Default: the people saved in the phone's "
            f"address book, up to {MAX_AUDIENCE:,}"
        ),
    ] = None
    mentions: Annotated[
        Annotated[list[str], Meta(max_length=MAX_MENTIONS)] | None,
        Meta(description="people that `@number` in the text refers to, by number or JID"),
    ] = None
    reply_to: Annotated[MessageId | None, Meta(description="the message that this one answers")] = None
    expires_in_s: Annotated[
        Annotated[int, Meta(ge=1, le=LONGEST_EXPIRY_S)] | None,
        Meta(description="seconds after which it is no longer sent"),
    ] = None
    priority: Annotated[
        Literal["interactive", "bulk"] | None,
        Meta(description="interactive by default; bulk waits for interactive messages and has a rate of its own"),
    ] = None
    typing: Annotated[bool | None, Meta(description='show the recipient "typing" first')] = None


def _field(kind: type[MessageBody]) -> tuple[str, object, None]:
    if kind is Text:
        return str(kind.kind), Annotated[str | None, Meta(description="the message, up to 65,536 characters")], None
    return str(kind.kind), kind | None, None


MessageRequest = cast(
    "type[MessageOptions]",
    msgspec.defstruct(
        "MessageRequest",
        [_field(kind) for kind in KINDS.values()],
        bases=(MessageOptions,),
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
        rename="camel",
    ),
)
"""The JSON body of a request: `MessageOptions`, and one field for each kind."""
MessageRequest.__doc__ = f"Exactly one of {', '.join(list(KINDS)[:-1])} and {list(KINDS)[-1]}."


def body_of(message: MessageOptions) -> MessageBody:
    """The one kind of content of a `MessageRequest`. Raises `BadInput` when it has none, or several."""
    given = {name: value for name in KINDS if (value := getattr(message, name)) is not None}
    if len(given) != 1:
        if not given:
            raise BadInput(f"the message has no content: give one of {listed(KINDS)}", field="body")
        raise BadInput(f"the message has {listed(given, 'and')}: send each as its own message", field=list(given)[1])
    (value,) = given.values()
    return Text(text=value) if isinstance(value, str) else cast("MessageBody", value)


def listed(names: Iterable[str], word: str = "or") -> str:
    *others, last = names
    return f"{', '.join(others)} {word} {last}" if others else last
