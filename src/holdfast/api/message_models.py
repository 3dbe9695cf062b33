"""The schemas of messages, outbound and inbound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from holdfast.api.schemas import ApiModel, ErrorModel
from holdfast.delivery.events import received_body
from holdfast.delivery.stores import BULK, MemberReceipt, Message, Received
from holdfast.runtime.account_limits import HoldNotice


class AcceptedModel(ApiModel):
    id: str
    whatsapp_id: str
    state: str
    accepted_at: str


class HeldModel(ApiModel):
    code: Annotated[str, Field(description="stable code of a hold, or the session's state")]
    message: str
    until: Annotated[str | None, Field(description="its end, if known")]

    @classmethod
    def of(cls, held: HoldNotice) -> HeldModel:
        return cls(code=held.code, message=held.sentence, until=held.until)


class RetriesModel(ApiModel):
    """Why the last attempt failed; the message is retried."""

    at: str
    code: str
    message: str | None


class ReceiptModel(ApiModel):
    member: Annotated[str, Field(description="JID of the member")]
    delivered_at: str | None
    read_at: str | None
    played_at: str | None


class MessageModel(AcceptedModel):
    company_id: str
    to: str
    chat: Annotated[str, Field(description="JID of the chat")]
    type: Annotated[str, Field(description="text, image, video … edit or delete")]
    priority: str
    attempts: int
    expires_at: Annotated[
        str | None, Field(description="not sent after this time, unless it may have been sent already")
    ]
    held: Annotated[HeldModel | None, Field(description="what it is waiting for; null: nothing")]
    retries: Annotated[RetriesModel | None, Field(description="the last failed attempt, while it is retried")]
    sent_at: str | None
    delivered_at: str | None
    read_at: str | None
    played_at: str | None
    error: ErrorModel | None
    receipts: Annotated[
        list[ReceiptModel] | None,
        Field(description="of a message to a group, read by its id: what each member has confirmed; otherwise null"),
    ]

    @classmethod
    def of(
        cls, message: Message, held: HoldNotice | None = None, receipts: Sequence[MemberReceipt] | None = None
    ) -> MessageModel:
        error = None if message.error_code is None else ErrorModel(code=message.error_code, message=message.error)
        return cls.from_fields(
            message,
            company_id=message.company,
            to=message.recipient,
            type=message.kind,
            priority="bulk" if message.priority >= BULK else "interactive",
            held=None if held is None else HeldModel.of(held),
            retries=_retries(message),
            error=error,
            receipts=None if receipts is None else [ReceiptModel.from_fields(each) for each in receipts],
        )


def _retries(message: Message) -> RetriesModel | None:
    if message.retry_at is None or message.retry_code is None:
        return None
    return RetriesModel(at=message.retry_at, code=message.retry_code, message=message.retry_message)


class MediaModel(ApiModel):
    mimetype: str | None
    size_bytes: int | None
    filename: str | None
    seconds: Annotated[int | None, Field(description="duration")]
    voice: Annotated[bool, Field(description="a voice note")]
    url: Annotated[str | None, Field(description="URL without a key, valid for some days; null: only with a key")]


class ReceivedModel(ApiModel):
    id: str
    company_id: str
    chat: str
    sender: str
    sender_name: Annotated[
        str | None, Field(description="as the phone has saved it, as the sender set it in WhatsApp, or a business name")
    ]
    sender_lid: Annotated[str | None, Field(description="hidden id (…@lid) of the sender, where WhatsApp reports it")]
    group_subject: Annotated[str | None, Field(description="subject of the group, if known")]
    type: Annotated[
        str, Field(description="text, image, video … revoke; undecryptable until it can be read; unknown with `raw`")
    ]
    text: Annotated[str | None, Field(description="its text, or the caption")]
    content: Annotated[
        dict[str, object] | None,
        Field(
            description="structured content: location, contact, contacts, reaction, choices, event, order, product, "
            "invite, payment, call, eventResponse, mentions, replyTo, forwarded, viewOnce, videoNote, ad; and "
            "encrypted with unreadable, the reason why an encrypted answer has no content"
        ),
    ]
    selected: Annotated[
        dict[str, object] | None, Field(description="{id, title} of what was chosen from buttons, a list or a template")
    ]
    poll: Annotated[
        dict[str, object] | None,
        Field(description="{options, votes} of a poll, or of a vote: all options and the chosen ones"),
    ]
    raw: Annotated[
        dict[str, object] | None,
        Field(description="fields of WhatsApp's own message, if Holdfast doesn't understand its kind"),
    ]
    target: Annotated[
        str | None, Field(description="whatsappId of the message that this one edits, deletes or reacts to")
    ]
    media: MediaModel | None
    from_me: bool
    sent_at: str
    stored_at: str
    origin: Annotated[str, Field(description="live; history: the phone sent it later, as a part of its history")]
    completed_at: Annotated[
        str | None, Field(description="when a message that could not be decrypted at first was decrypted")
    ]
    whatsapp_id: str

    @classmethod
    def of(cls, received: Received, media_url: str | None = None) -> ReceivedModel:
        """The message in the form that events have, too."""
        return cls.model_validate(received_body(received, media_url=media_url))
