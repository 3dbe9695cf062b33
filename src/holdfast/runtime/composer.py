"""Turns what a caller wants sent into a draft for the outbox: checked, its medium stored, the message that it refers to
found. Nothing of it is in the outbox yet."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from datetime import timedelta

from holdfast.base.clock import Clock, iso
from holdfast.base.errors import BadInput, Conflict
from holdfast.base.ids import Chance, may_be_id
from holdfast.delivery.content import (
    CAN_REPLY,
    Content,
    DeletePart,
    EditPart,
    Kind,
    MediaPart,
    Part,
    ReactionPart,
    Referred,
    StoredMedia,
    TextPart,
    check,
    check_target,
    kind_of,
    make,
    mentioned,
    reply_to,
)
from holdfast.delivery.media import check_voice
from holdfast.delivery.media_ports import References
from holdfast.delivery.ports import INTERACTIVE, Draft
from holdfast.delivery.recipient import parse_recipient
from holdfast.runtime.media import PIECE, MediaShelf


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A message as a caller wants it sent."""

    to: str | None
    """None: the chat of the message that the part names."""
    part: Part
    mentions: tuple[str, ...] = ()
    reply_to: str | None = None
    """Id of the message that it answers."""
    idempotency_key: str | None = None
    priority: int = INTERACTIVE
    expires_in_s: float | None = None
    """Not sent when it has not left by then."""
    typing: bool = False
    """Show "typing" first."""


def text_wish(
    to: str,
    text: str,
    *,
    idempotency_key: str | None = None,
    priority: int = INTERACTIVE,
    expires_in_s: float | None = None,
) -> Wish:
    """A plain text."""
    part = TextPart(text=text)
    return Wish(to=to, part=part, idempotency_key=idempotency_key, priority=priority, expires_in_s=expires_in_s)


@dataclass(frozen=True, slots=True)
class Repeated:
    """The request was made before, and accepted: the message that it made."""

    message_id: str


class Composer:
    def __init__(self, *, references: References, shelf: MediaShelf, clock: Clock, chance: Chance) -> None:
        self._references = references
        self.shelf = shelf
        self._clock = clock
        self._chance = chance

    async def compose(self, company: str, wish: Wish) -> Draft | Repeated:
        """Raises `BadInput`, naming the field, and `Conflict` for a key that came with another request."""
        recipient, chat = (None, None) if wish.to is None else parse_recipient(wish.to, field="to")
        check(wish.part)
        _check_options(wish)
        request_hash = _hash(wish, recipient)
        if not isinstance(wish.part, TextPart) and wish.idempotency_key is not None:
            before = await self._references.replayed(company, wish.idempotency_key)
            if before is not None:
                return _repeated(wish.idempotency_key, before, request_hash)
        target = await self._target(company, wish.part, chat)
        if recipient is None or chat is None:
            recipient, chat = _chat_of(target)
        content = await self._content(company, wish, target, chat)
        return self._draft(company, wish, recipient=recipient, chat=chat, content=content, request_hash=request_hash)

    def _draft(
        self, company: str, wish: Wish, *, recipient: str, chat: str, content: Content, request_hash: str
    ) -> Draft:
        expires_at = None
        if wish.expires_in_s is not None:
            expires_at = iso(self._clock.now() + timedelta(seconds=wish.expires_in_s))
        return Draft(
            id=self._chance.message_id(),
            whatsapp_id=self._chance.whatsapp_id(),
            company=company,
            recipient=recipient,
            chat=chat,
            content=content,
            idempotency_key=wish.idempotency_key,
            request_hash=request_hash,
            kind=kind_of(wish.part).value,
            priority=wish.priority,
            expires_at=expires_at,
        )

    async def _content(self, company: str, wish: Wish, target: Referred | None, chat: str) -> Content:
        answered: Content = {}
        if wish.reply_to is not None:
            answered = reply_to(await self._refer(company, wish.part, wish.reply_to, chat, field="replyTo"))
        mentions = mentioned(list(wish.mentions))
        content = make(wish.part, media=await self._medium(company, wish.part), target=target)
        content |= {"mentions": mentions} if mentions else {}
        return content | answered | ({"typing": True} if wish.typing else {})

    async def _medium(self, company: str, part: Part) -> StoredMedia | None:
        if not isinstance(part, MediaPart):
            return None
        media = await self.shelf.take(company, part)
        if part.voice:
            check_voice(media.mimetype, field=part.kind.value)
        return media

    async def _target(self, company: str, part: Part, chat: str | None) -> Referred | None:
        match part:
            case ReactionPart() | EditPart() | DeletePart():
                return await self._refer(company, part, part.message_id, chat, field=f"{kind_of(part)}.messageId")
        return None

    async def _refer(self, company: str, part: Part, message_id: str, chat: str | None, *, field: str) -> Referred:
        found = await self._references.find(company, message_id, chat=chat) if may_be_id(message_id) else None
        if found is None:
            cure = "give `id` of a message in outbox or inbox, or `whatsappId` of one together with `to`"
            raise BadInput(f'{field} "{message_id[:80]}" is unknown: {cure}', field=field)
        if chat is not None and found.chat != chat:
            raise BadInput(f'{field} "{message_id[:80]}" is a message of another chat than `to`', field=field)
        check_target(part, found, field=field, now=self._clock.now())
        return found


def _check_options(wish: Wish) -> None:
    kind = kind_of(wish.part)
    if wish.to is None and kind in CAN_REPLY:
        raise BadInput("to is missing: give the phone number, group or hidden id that it goes to", field="to")
    given = {"mentions": bool(wish.mentions), "replyTo": wish.reply_to is not None}
    for name, is_given in given.items():
        if is_given and (kind not in CAN_REPLY or (kind is Kind.STICKER and name == "mentions")):
            raise BadInput(f"{name} can't go with {kind}: leave it out", field=name)


def _chat_of(target: Referred | None) -> tuple[str, str]:
    assert target is not None, "a part without a message has a recipient"
    return parse_recipient(target.chat, field="to")


def _repeated(key: str, before: tuple[str, str | None], request_hash: str) -> Repeated:
    message_id, hash_before = before
    if hash_before != request_hash:
        raise Conflict(
            f'Idempotency-Key "{key}" was used for another message of this company: give each message a key of its own',
            field="Idempotency-Key",
        )
    return Repeated(message_id)


def _hash(wish: Wish, recipient: str | None) -> str:
    """Of all that a caller can say, so that the same key with another request is noticed. A plain text's is as it was
    before there were other kinds."""
    options: Content = {
        "to": recipient,
        "mentions": list(wish.mentions),
        "replyTo": wish.reply_to,
        "expiresInS": wish.expires_in_s,
        "priority": wish.priority,
        "typing": wish.typing,
    }
    said: Content = {field.name: _hashable(field.name, getattr(wish.part, field.name)) for field in fields(wish.part)}
    body = said if isinstance(wish.part, TextPart) else {kind_of(wish.part).value: said}
    body |= {name: value for name, value in options.items() if value}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _hashable(name: str, value: object) -> object:
    """A whole file is not written out once more."""
    if name != "base64" or not isinstance(value, str):
        return value
    digest = hashlib.sha256()
    for at in range(0, len(value), PIECE):
        digest.update(value[at : at + PIECE].encode())
    return digest.hexdigest()
