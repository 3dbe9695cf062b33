"""Turns a request into a draft for the outbox: checks it, stores its medium, and finds the message that it refers
to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta

import msgspec

from holdfast.base.clock import Clock, iso
from holdfast.base.errors import BadInput, Conflict
from holdfast.base.ids import RandomSource, may_be_id
from holdfast.delivery.chats import ChatKind, chat_kind
from holdfast.delivery.content import (
    Content,
    MediaBody,
    MessageBody,
    Referred,
    ReferringBody,
    check_reachable,
    mentioned,
    people,
    reply_to,
)
from holdfast.delivery.kinds import KINDS, Text
from holdfast.delivery.media_stores import References
from holdfast.delivery.recipient import STATUS, parse_destination, parse_recipient, username_in
from holdfast.delivery.requests import MAX_AUDIENCE, MessageOptions, listed
from holdfast.delivery.stores import BULK, INTERACTIVE, Draft
from holdfast.runtime.outbound_media import CHUNK_BYTES, OutboundMediaService

_encode = json.JSONEncoder(sort_keys=True).encode
_PRIORITIES = {None: INTERACTIVE, "interactive": INTERACTIVE, "bulk": BULK}


@dataclass(frozen=True, slots=True, kw_only=True)
class SendRequest:
    """A request to send a message."""

    body: MessageBody
    options: MessageOptions
    """Without `to` it goes to the chat of the message that the body refers to."""
    idempotency_key: str | None = None


def text_request(
    to: str,
    text: str,
    *,
    idempotency_key: str | None = None,
    priority: int = INTERACTIVE,
    expires_in_s: int | None = None,
) -> SendRequest:
    """A request to send a plain text."""
    options = MessageOptions(to=to, priority="bulk" if priority >= BULK else None, expires_in_s=expires_in_s)
    return SendRequest(body=Text(text=text), options=options, idempotency_key=idempotency_key)


@dataclass(frozen=True, slots=True)
class Repeated:
    """A request with this idempotency key was accepted before; the message that it created."""

    message_id: str


def check_request(request: SendRequest) -> None:
    """Raises `BadInput`, naming the field, for everything that is wrong with the request itself."""
    options, body = request.options, request.body
    is_username = options.to is not None and username_in(options.to) is not None
    chat = None if options.to is None or is_username else parse_destination(options.to, field="to")[1]
    body.check()
    _check_options(body, options)
    _check_post(body, options, chat)
    mentioned(options.mentions or [])
    if options.audience is not None:
        people(options.audience, field="audience")


class Composer:
    def __init__(
        self, *, references: References, outbound_media: OutboundMediaService, clock: Clock, randomness: RandomSource
    ) -> None:
        self._references = references
        self.outbound_media = outbound_media
        self._clock = clock
        self._randomness = randomness

    async def compose(self, company: str, request: SendRequest, *, named: str | None = None) -> Draft | Repeated:
        """Compose a request that `check_request` accepts. `named`: the JID of the person whose username `to` is.

        Raises `BadInput`, naming the field, and `Conflict` for a key that was used for another request.
        """
        options, body = request.options, request.body
        recipient, chat = _recipient(options.to, named)
        request_hash = None if request.idempotency_key is None else _hash(request, recipient)
        if not isinstance(body, Text) and (before := await self.repeated(company, request)) is not None:
            return before
        target = await self._target(company, body, chat)
        if recipient is None or chat is None:
            recipient, chat = _chat_of(target)
        content = await self._content(company, request, target, chat)
        return self._draft(company, request, recipient=recipient, chat=chat, content=content, request_hash=request_hash)

    async def repeated(self, company: str, request: SendRequest) -> Repeated | None:
        """What was accepted before with the idempotency key of a request. Raises `Conflict` for another request."""
        key = request.idempotency_key
        before = None if key is None else await self._references.replayed(company, key)
        if key is None or before is None:
            return None
        return _repeated(key, before, _hash(request, _shown_recipient(request.options.to)))

    def _draft(
        self,
        company: str,
        request: SendRequest,
        *,
        recipient: str,
        chat: str,
        content: Content,
        request_hash: str | None,
    ) -> Draft:
        expires_at, expires_in_s = None, request.options.expires_in_s
        if expires_in_s is not None:
            expires_at = iso(self._clock.now() + timedelta(seconds=expires_in_s))
        return Draft(
            id=self._randomness.message_id(),
            whatsapp_id=self._randomness.whatsapp_id(),
            company=company,
            recipient=recipient,
            chat=chat,
            content=content,
            idempotency_key=request.idempotency_key,
            request_hash=request_hash,
            kind=str(request.body.kind),
            priority=_PRIORITIES[request.options.priority],
            expires_at=expires_at,
        )

    async def _content(self, company: str, request: SendRequest, target: Referred | None, chat: str) -> Content:
        options, answered = request.options, Content()
        if options.reply_to is not None:
            answered = reply_to(await self._refer(company, options.reply_to, chat, field="replyTo"))
        mentions = mentioned(options.mentions or [])
        content = await self._stored(company, request.body, target)
        content |= {"mentions": mentions} if mentions else {}
        content |= {"audience": await self._audience(company, options)} if chat == STATUS else {}
        return content | answered | ({"typing": True} if options.typing else {})

    async def _audience(self, company: str, options: MessageOptions) -> list[str]:
        """The JIDs of the people who get a status."""
        if options.audience is not None:
            return people(options.audience, field="audience")
        saved = await self._references.saved_contacts(company, limit=MAX_AUDIENCE + 1)
        if not saved:
            raise BadInput(
                "the phone has shared no saved contacts, so nobody would see the status: give audience, a list of "
                "phone numbers",
                field="audience",
            )
        if len(saved) > MAX_AUDIENCE:
            raise BadInput(
                f"the phone has more than {MAX_AUDIENCE:,} saved contacts, and a status goes to at most as many: give "
                "audience, a list of phone numbers",
                field="audience",
            )
        return saved

    async def _stored(self, company: str, body: MessageBody, target: Referred | None) -> Content:
        """The body as it is stored in the outbox, under the name of its kind."""
        match body:
            case Text(text=text):
                return {"text": text}
            case MediaBody():
                media = await self.outbound_media.take(company, body)
                body.check_medium(media)
                return {str(body.kind): body.stored_with(media)}
            case ReferringBody():
                assert target is not None, "a body about another message comes with that message"
                return {str(body.kind): body.stored_with(target)}
        return {str(body.kind): body.stored()}

    async def _target(self, company: str, body: MessageBody, chat: str | None) -> Referred | None:
        if not isinstance(body, ReferringBody):
            return None
        field = f"{body.kind}.messageId"
        target = await self._refer(company, body.message_id, chat, field=field)
        body.check_target(target, field=field, now=self._clock.now())
        return target

    async def _refer(self, company: str, message_id: str, chat: str | None, *, field: str) -> Referred:
        found = await self._references.find(company, message_id, chat=chat) if may_be_id(message_id) else None
        if found is None:
            cure = "give `id` of a message in outbox or inbox, or `whatsappId` of one together with `to`"
            raise BadInput(f'{field} "{message_id[:80]}" is unknown, or no longer kept: {cure}', field=field)
        if chat is not None and found.chat != await self._references.canonical(company, chat):
            raise BadInput(f'{field} "{message_id[:80]}" is a message of another chat than `to`', field=field)
        check_reachable(found, field=field)
        return found


def _check_options(body: MessageBody, options: MessageOptions) -> None:
    if options.to is None and not isinstance(body, ReferringBody):
        raise BadInput("to is missing: give the phone number, group or hidden id that it goes to", field="to")
    for name, is_given, is_possible in (
        ("mentions", bool(options.mentions), body.can_mention),
        ("replyTo", options.reply_to is not None, body.can_reply),
    ):
        if is_given and not is_possible:
            raise BadInput(f"{name} can't go with {body.kind}: leave it out", field=name)


def _check_post(body: MessageBody, options: MessageOptions, chat: str | None) -> None:
    """A status and a post in a channel are of few kinds, and have few options."""
    if options.audience is not None and chat != STATUS:
        raise BadInput(f'audience can\'t go to "{options.to}": it is for a message to `status`', field="audience")
    match chat_kind(chat or ""):
        case ChatKind.STATUS:
            what, kinds = "a status", [name for name, kind in KINDS.items() if kind.is_for_status]
        case ChatKind.CHANNEL:
            what, kinds = "a post in a channel", [name for name, kind in KINDS.items() if kind.is_for_channels]
        case _:
            return
    if body.kind not in kinds:
        raise BadInput(f"{body.kind} can't be {what}: give {listed(kinds)}", field=str(body.kind))
    for name, is_given in (
        ("mentions", bool(options.mentions)), ("replyTo", options.reply_to is not None), ("typing", options.typing),
    ):  # fmt: skip
        if is_given:
            raise BadInput(f"{name} can't go with {what}: leave it out", field=name)


def _recipient(to: str | None, named: str | None) -> tuple[str | None, str | None]:
    """The recipient as it is shown, and the JID of the chat."""
    if to is None:
        return None, None
    return parse_destination(to, field="to") if named is None else (_shown_recipient(to), named)


def _shown_recipient(to: str | None) -> str | None:
    if to is None:
        return None
    username = username_in(to)
    return parse_destination(to, field="to")[0] if username is None else f"@{username}"


def _chat_of(target: Referred | None) -> tuple[str, str]:
    assert target is not None, "a body without `to` refers to a message"
    return parse_recipient(target.chat, field="to")


def _repeated(key: str, before: tuple[str, str | None], request_hash: str | None) -> Repeated:
    message_id, hash_before = before
    if hash_before != request_hash:
        raise Conflict(
            f'Idempotency-Key "{key}" was used for another message of this company: give each message a key of its own',
            field="Idempotency-Key",
        )
    return Repeated(message_id)


def _hash(request: SendRequest, recipient: str | None) -> str:
    """A hash of the whole request, so that the same key with another request is detected."""
    body, options = request.body, request.options
    content_fields: Content = {
        name: _hashable(name, value) for name, value in msgspec.structs.asdict(body).items() if value is not None
    }
    given: Content = {
        "to": recipient,
        "audience": options.audience,
        "mentions": options.mentions,
        "replyTo": options.reply_to,
        "expiresInS": options.expires_in_s,
        "priority": _PRIORITIES[options.priority],
        "typing": options.typing,
    }
    asked = content_fields if isinstance(body, Text) else {str(body.kind): content_fields}
    asked |= {name: value for name, value in given.items() if value}
    return hashlib.sha256(_encode(asked).encode()).hexdigest()


def _hashable(name: str, value: object) -> object:
    """A digest of an inline file; everything else as it is."""
    if name != "base64" or not isinstance(value, str):
        return value
    digest = hashlib.sha256()
    for at in range(0, len(value), CHUNK_BYTES):
        digest.update(value[at : at + CHUNK_BYTES].encode())
    return digest.hexdigest()
