"""Builds the WhatsApp message from a request of the control interface."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from wasim.server.directory import Directory
from wasim.server.entropy import Entropy
from wasim.server.phone_client import PhoneClients
from wasim.server.phone_inbox import ContactCard, PhoneLocation
from wasim.server.phone_sender import Plaintext
from wasim.server.state import PHONE, Account, Address, Group
from wasim.wire import content
from wasim.wire.attachments import Contact, ContextInfo, Location, Media, MessageKey, Reaction
from wasim.wire.content import Content, ExtendedText, ProtocolMessage, media_content
from wasim.wire.errors import WireError
from wasim.wire.jids import PN, Jid
from wasim.wire.polls import IV_BYTES, SECRET_BYTES, MessageContext, Poll, PollOption, PollUpdate, VoteKey
from wasim.wire.protobuf import decode, encode


class BadMessageRequest(Exception):
    """The request can't become a message; the sentence says why."""


class MessageAction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A reaction, an edit or a deletion, with the id of the message that it refers to."""

    id: str
    emoji: str = ""
    text: str = ""


class NewPoll(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    options: tuple[str, ...]
    selectable: int = 0
    """How many options a person may choose; 0: any number."""


class Vote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of a poll that the phone's owner chooses; none: the vote is withdrawn."""

    id: str
    options: tuple[str, ...] = ()


class MessageRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One of text, location, contact, poll, vote, reaction, edit, delete, payload and plaintext, or none of them when
    there is media."""

    text: str | None = None
    location: PhoneLocation | None = None
    contact: ContactCard | None = None
    reaction: MessageAction | None = None
    edit: MessageAction | None = None
    delete: MessageAction | None = None
    poll: NewPoll | None = None
    vote: Vote | None = None
    payload: bytes | None = None
    """A complete, encoded `Message` of WAProto, for kinds that have no field here."""
    plaintext: bytes | None = None
    """Encrypted unchanged, padding included: what a modified client may send, valid or not."""
    mentions: tuple[str, ...] = ()
    """Phone numbers."""
    reply_to: str | None = None
    """Id of a message that the phone received or sent."""
    disappears_after_s: int | None = None
    """The chat's timer of disappearing messages; 0: messages stay."""
    timer_set_at_s: int | None = None
    """When the timer was set, in Unix seconds; None: the message does not say."""


class MessageBuilder:
    def __init__(self, directory: Directory, phone_clients: PhoneClients, entropy: Entropy) -> None:
        self._entropy = entropy
        self._directory = directory
        self._phone_clients = phone_clients

    def build(
        self, number: str, to: Account | Group, request: MessageRequest, media: Media | None, *, now: float
    ) -> Plaintext:
        """The requested message, from a field or from media. Raises BadMessageRequest unless there is exactly one."""
        names = ("text", "location", "contact", "poll", "vote", "reaction", "edit", "delete", "payload", "plaintext")
        present = [name for name in names if getattr(request, name) is not None] + (["media"] if media else [])
        if len(present) != 1:
            found = " and ".join(present) or "nothing"
            raise BadMessageRequest(f"a message has one of {', '.join(names)} or one kind of media, this has {found}")
        context = self._context(number, to, request)
        if media is not None:
            return media_content(replace(media, context=context))
        if request.reaction is not None or request.edit is not None or request.delete is not None:
            return self._action(number, to, request, now)
        if request.poll is not None:
            return self._poll(request.poll, context)
        if request.vote is not None:
            return self._vote(number, to, request.vote, now)
        if request.payload is not None:
            return _decode_payload(request.payload)
        if request.plaintext is not None:
            return request.plaintext
        return _simple_content(request, context)

    def _context(self, number: str, to: Account | Group, request: MessageRequest) -> ContextInfo | None:
        context = ContextInfo(
            mentioned=tuple(self._name(to, mention) for mention in request.mentions),
            expiration=request.disappears_after_s or None,
            timer_set_at=request.timer_set_at_s,
        )
        if request.reply_to is None:
            return None if context == ContextInfo() else context
        author, quoted = self._quoted(number, to, request.reply_to)
        return replace(context, stanza_id=request.reply_to, participant=author, quoted=encode(quoted))

    def _name(self, to: Account | Group, number: str) -> str:
        account = self._directory.accounts.get(number)
        if account is None:
            raise BadMessageRequest(f"mentions {number}: there is no such phone")
        mode = to.addressing if isinstance(to, Group) else "pn"
        return str(self._directory.jid(Address(account.number, PHONE), mode))

    def _quoted(self, number: str, to: Account | Group, id_: str) -> tuple[str, Content]:
        """The author and the content of a message that the phone received or sent."""
        phone_message = self._phone_clients.phone_message(number, id_)
        if phone_message is not None:
            return phone_message.author, Content(conversation=phone_message.text or "")
        sent = self._phone_clients.phone_sender.sent(number, id_)
        if sent is None:
            raise BadMessageRequest(f"replyTo {id_}: the phone {number} neither received nor sent such a message")
        return self._name(to, number), sent

    def _action(self, number: str, to: Account | Group, request: MessageRequest, now: float) -> Content:
        at = int(now * 1000)
        if request.reaction is not None:
            key = self._key(number, to, request.reaction.id)
            return Content(reaction=Reaction(key=key, emoji=request.reaction.emoji, timestamp_ms=at))
        action = request.edit or request.delete
        assert action is not None, "one of the three is there"
        key = self._key(number, to, action.id)
        if not key.from_me:
            raise BadMessageRequest(
                f"{action.id} is not the phone's own message: only own messages can be edited and deleted"
            )
        if request.edit is None:
            return Content(protocol=ProtocolMessage(key=key, type=content.REVOKE))
        edited = Content(conversation=action.text)
        note = ProtocolMessage(key=key, type=content.MESSAGE_EDIT, edited=edited, timestamp_ms=at)
        return Content(protocol=note)

    def _poll(self, poll: NewPoll, context: ContextInfo | None) -> Content:
        options = tuple(PollOption(name=option) for option in poll.options)
        created = Poll(name=poll.name, options=options, selectable=poll.selectable, context=context)
        secret = MessageContext(secret=self._entropy(SECRET_BYTES))
        return Content(message_context=secret, poll_v3=created)

    def _vote(self, number: str, to: Account | Group, vote: Vote, now: float) -> Content:
        poll, creator = self._phone_clients.poll(number, vote.id)
        if poll is None:
            raise BadMessageRequest(f"vote for {vote.id}: the phone {number} neither received nor sent such a poll")
        unknown = [option for option in vote.options if option not in poll.options]
        if unknown:
            raise BadMessageRequest(f"vote for {unknown[0]!r}: the poll's options are {', '.join(poll.options)}")
        if poll.selectable and len(vote.options) > poll.selectable:
            raise BadMessageRequest(f"vote for {len(vote.options)} options: the poll allows {poll.selectable}")
        mode = to.addressing if isinstance(to, Group) else self._directory.accounts[number].addressing
        names = (str(self._directory.jid(Address(one, PHONE), mode)) for one in (creator, number))
        key = VoteKey(secret=poll.secret, poll=vote.id, creator=next(names), voter=next(names))
        encrypted = key.encrypt(vote.options, iv=self._entropy(IV_BYTES))
        return Content(
            vote=PollUpdate(key=self._key(number, to, vote.id), vote=encrypted, timestamp_ms=int(now * 1000))
        )

    def _key(self, number: str, to: Account | Group, id_: str) -> MessageKey:
        """The key of that message from the phone's view; an unknown message counts as its own."""
        chat = str(to.jid if isinstance(to, Group) else Jid(to.number, PN))
        phone_message = self._phone_clients.phone_message(number, id_)
        author = None
        if isinstance(to, Group):
            author = phone_message.author if phone_message is not None else self._name(to, number)
        return MessageKey(remote_jid=chat, from_me=int(phone_message is None), id=id_, participant=author)


def _decode_payload(payload: bytes) -> Content:
    try:
        return decode(Content, payload)
    except WireError as error:
        raise BadMessageRequest(f"payload is not a message of WAProto: {error}") from error


def _simple_content(request: MessageRequest, context: ContextInfo | None) -> Content:
    if request.location is not None:
        place = request.location
        return Content(
            location=Location(
                latitude=float(place.latitude),
                longitude=float(place.longitude),
                name=place.name,
                address=place.address,
                context=context,
            )
        )
    if request.contact is not None:
        return Content(contact=Contact(name=request.contact.name, vcard=request.contact.vcard, context=context))
    if context is not None:
        return Content(extended_text=ExtendedText(text=request.text, context=context))
    return Content(conversation=request.text)
