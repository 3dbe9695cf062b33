"""The schemas of chats: the overview, and messages of both directions in one shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from holdfast.api.message_models import MediaModel
from holdfast.api.schemas import ApiModel, ErrorModel, ListPage
from holdfast.delivery.chats import MARKED_UNREAD, Chat, Entry, SentEntry
from holdfast.delivery.content import text_of
from holdfast.delivery.media import shown_media
from holdfast.delivery.message import MessageState
from holdfast.delivery.stores import Received

MediaUrl = Callable[[Received], str | None]
_OPTIONS = frozenset({"text", "typing", "disappearingS"})
"""Parts of a stored outbound content that are not shown as content."""


class GivenReactionModel(ApiModel):
    emoji: str
    sender: Annotated[str | None, Field(description="JID")]
    sender_name: str | None
    from_me: bool
    at: str


class ChatMessageModel(ApiModel):
    """A message of either direction. Reactions, edits and deletions are folded into the message that they change."""

    id: Annotated[str, Field(description="msg_… in the outbox, in_… in the inbox")]
    whatsapp_id: str
    chat: str
    direction: Annotated[
        Literal["inbound", "outbound"],
        Field(description="outbound: sent by the account, through Holdfast or on another of its devices"),
    ]
    type: str
    text: Annotated[str | None, Field(description="its newest text, or the caption; null after a deletion")]
    content: Annotated[
        dict[str, object] | None, Field(description="structured content, as in the inbox; replyTo, mentions …")
    ]
    media: MediaModel | None
    sender: Annotated[str | None, Field(description="JID; null: this account")]
    sender_name: str | None
    sender_lid: str | None
    state: Annotated[
        str,
        Field(
            description="of a message sent through Holdfast: queued, sending, sent, delivered, read, played, failed, "
            "expired, cancelled; of others: received, or sent on the phone"
        ),
    ]
    at: Annotated[str, Field(description="when Holdfast accepted or received it; the timeline is ordered by it")]
    sent_at: str | None
    delivered_at: str | None
    read_at: str | None
    edited_at: str | None
    deleted_at: str | None
    reactions: list[GivenReactionModel]
    error: ErrorModel | None

    @classmethod
    def of(cls, entry: Entry, media_url: MediaUrl) -> Self:
        if isinstance(entry.message, SentEntry):
            fields = _sent(entry.message)
        else:
            fields = _received(entry.message, media_url(entry.message))
        if entry.edited_at is not None:
            fields["text"] = entry.edited_text
        if entry.deleted_at is not None:
            fields |= {"text": None, "content": None, "media": None}
        return cls(
            **fields,
            at=entry.at,
            edited_at=entry.edited_at,
            deleted_at=entry.deleted_at,
            reactions=[GivenReactionModel.from_fields(each) for each in entry.reactions],
        )


def _sent(sent: SentEntry) -> dict[str, Any]:
    message, body = sent.message, sent.content.get(sent.message.kind)
    medium = body if isinstance(body, dict) and "media" in body else None
    content = {
        name: part
        for name, part in sent.content.items()
        if name not in _OPTIONS and (name != message.kind or medium is None)
    }
    return {
        "id": message.id,
        "whatsapp_id": message.whatsapp_id,
        "chat": message.chat,
        "direction": "outbound",
        "type": message.kind,
        "text": text_of(sent.content),
        "content": content or None,
        "media": None if medium is None else MediaModel.model_validate(shown_media(medium, url=None)),
        "sender": None,
        "sender_name": None,
        "sender_lid": None,
        "state": message.state.value,
        "sent_at": message.sent_at,
        "delivered_at": message.delivered_at,
        "read_at": message.read_at,
        "error": None if message.error_code is None else ErrorModel(code=message.error_code, message=message.error),
    }


def _received(received: Received, media_url: str | None) -> dict[str, Any]:
    media = received.media
    return {
        "id": received.id,
        "whatsapp_id": received.whatsapp_id,
        "chat": received.chat,
        "direction": "outbound" if received.from_me else "inbound",
        "type": received.type,
        "text": received.text,
        "content": received.content,
        "media": None if media is None else MediaModel.model_validate(shown_media(media, url=media_url)),
        "sender": None if received.from_me else received.sender,
        "sender_name": received.sender_name,
        "sender_lid": received.sender_lid,
        "state": MessageState.SENT.value if received.from_me else "received",
        "sent_at": received.sent_at,
        "delivered_at": None,
        "read_at": None,
        "error": None,
    }


class TimelinePageModel(ListPage[ChatMessageModel]):
    """Newest message first. `next` as `after` gives the older page, `previous` as `before` what is newer than this
    page: also what arrives later."""

    previous: str


class NamesModel(ApiModel):
    saved: Annotated[str | None, Field(description="in the phone's address book")]
    push: Annotated[str | None, Field(description="as the person set it in WhatsApp")]
    business: str | None
    subject: Annotated[str | None, Field(description="of a group")]
    username: str | None


class ChatModel(ApiModel):
    chat: Annotated[str, Field(description="JID")]
    kind: Annotated[str, Field(description="person, group, channel, status or broadcast")]
    name: Annotated[
        str, Field(description="saved name, push name, business name, group subject, username or number: the first one")
    ]
    names: NamesModel
    phone_number: str | None
    last_at: str | None
    last_message: Annotated[
        ChatMessageModel | None, Field(description="of either direction; null: none, or it is no longer stored")
    ]
    unread: Annotated[int, Field(description="inbound messages since the chat was last read")]
    marked_unread: Annotated[bool, Field(description="a person marked the chat as unread")]
    pinned_at: str | None
    archived: bool
    muted_until: str | None
    disappearing_s: Annotated[
        int | None,
        Field(
            description="after how many seconds new messages of a person's chat disappear; null: they stay. The timer "
            "of a group is in `GET …/groups/{id}`"
        ),
    ]

    @classmethod
    def of(cls, chat: Chat, media_url: MediaUrl) -> Self:
        return cls.from_fields(
            chat,
            names=NamesModel.from_fields(chat.names),
            phone_number=chat.names.number,
            last_message=None if chat.last is None else ChatMessageModel.of(chat.last, media_url),
            unread=max(chat.unread, 0),
            marked_unread=chat.unread == MARKED_UNREAD,
            archived=chat.is_archived,
        )
