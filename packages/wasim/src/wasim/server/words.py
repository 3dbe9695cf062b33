"""From what a phone's owner wants to say to the message that says it."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from wasim.server.handsets import Handsets
from wasim.server.letters import Card, Place
from wasim.server.state import PHONE, Account, Address, Directory, Group
from wasim.wire import content
from wasim.wire.attachments import Contact, ContextInfo, Location, Media, MessageKey, Reaction
from wasim.wire.content import Content, ExtendedText, ProtocolNote, carrying
from wasim.wire.errors import WireError
from wasim.wire.jids import PN, Jid
from wasim.wire.protobuf import decode, encode


class NotSayable(Exception):
    """The wish can't be put into a message; the sentence says why."""


class About(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message that something is said about: a reaction's, an edit's, a deletion's."""

    id: str
    emoji: str = ""
    text: str = ""


class Wish(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One of text, location, contact, reaction, edit, delete and payload – or none of them when there is media."""

    text: str | None = None
    location: Place | None = None
    contact: Card | None = None
    reaction: About | None = None
    edit: About | None = None
    delete: About | None = None
    payload: bytes | None = None
    """A whole `Message` of WAProto, encoded: for kinds that have no field here."""
    mentions: tuple[str, ...] = ()
    """Numbers."""
    reply_to: str | None = None
    """Id of a message that the phone got or sent."""


class Words:
    def __init__(self, directory: Directory, handsets: Handsets) -> None:
        self._directory = directory
        self._handsets = handsets

    def put(self, number: str, to: Account | Group, wish: Wish, media: Media | None, *, now: float) -> Content:
        """The message of a wish, or of media. Raises NotSayable unless it says exactly one thing."""
        names = ("text", "location", "contact", "reaction", "edit", "delete", "payload")
        said = [name for name in names if getattr(wish, name) is not None] + (["media"] if media else [])
        if len(said) != 1:
            found = " and ".join(said) or "nothing"
            raise NotSayable(f"a message says one of {', '.join(names)} or one kind of media, this has {found}")
        context = self._context(number, to, wish)
        if media is not None:
            return carrying(replace(media, context=context))
        if wish.reaction is not None or wish.edit is not None or wish.delete is not None:
            return self._about(number, to, wish, now)
        if wish.payload is not None:
            return _opened(wish.payload)
        return _plain(wish, context)

    def _context(self, number: str, to: Account | Group, wish: Wish) -> ContextInfo | None:
        if wish.reply_to is None and not wish.mentions:
            return None
        mentioned = tuple(self._name(to, mention) for mention in wish.mentions)
        if wish.reply_to is None:
            return ContextInfo(mentioned=mentioned)
        author, quoted = self._quoted(number, to, wish.reply_to)
        return ContextInfo(stanza_id=wish.reply_to, participant=author, quoted=encode(quoted), mentioned=mentioned)

    def _name(self, to: Account | Group, number: str) -> str:
        account = self._directory.accounts.get(number)
        if account is None:
            raise NotSayable(f"mentions {number}: there is no such phone")
        mode = to.addressing if isinstance(to, Group) else "pn"
        return str(self._directory.jid(Address(account.number, PHONE), mode))

    def _quoted(self, number: str, to: Account | Group, id_: str) -> tuple[str, Content]:
        """The author and the content of a message that the phone got or sent."""
        letter = self._handsets.letter(number, id_)
        if letter is not None:
            return letter.author, Content(conversation=letter.text or "")
        sent = self._handsets.speech.sent(number, id_)
        if sent is None:
            raise NotSayable(f"replyTo {id_}: the phone {number} neither got nor sent such a message")
        return self._name(to, number), sent

    def _about(self, number: str, to: Account | Group, wish: Wish, now: float) -> Content:
        at = int(now * 1000)
        if wish.reaction is not None:
            key = self._key(number, to, wish.reaction.id)
            return Content(reaction=Reaction(key=key, emoji=wish.reaction.emoji, timestamp_ms=at))
        about = wish.edit or wish.delete
        assert about is not None, "one of the three is there"
        key = self._key(number, to, about.id)
        if not key.from_me:
            raise NotSayable(f"{about.id} is not the phone's own message: only own ones are edited and deleted")
        if wish.edit is None:
            return Content(protocol=ProtocolNote(key=key, type=content.REVOKE))
        edited = Content(conversation=about.text)
        note = ProtocolNote(key=key, type=content.MESSAGE_EDIT, edited=edited, timestamp_ms=at)
        return Content(protocol=note)

    def _key(self, number: str, to: Account | Group, id_: str) -> MessageKey:
        """How the phone names that message; one that it does not know is taken for its own."""
        chat = str(to.jid if isinstance(to, Group) else Jid(to.number, PN))
        letter = self._handsets.letter(number, id_)
        author = None
        if isinstance(to, Group):
            author = letter.author if letter is not None else self._name(to, number)
        return MessageKey(remote_jid=chat, from_me=int(letter is None), id=id_, participant=author)


def _opened(payload: bytes) -> Content:
    try:
        return decode(Content, payload)
    except WireError as error:
        raise NotSayable(f"payload is no message of WAProto: {error}") from error


def _plain(wish: Wish, context: ContextInfo | None) -> Content:
    if wish.location is not None:
        place = wish.location
        return Content(
            location=Location(
                latitude=float(place.latitude),
                longitude=float(place.longitude),
                name=place.name,
                address=place.address,
                context=context,
            )
        )
    if wish.contact is not None:
        return Content(contact=Contact(name=wish.contact.name, vcard=wish.contact.vcard, context=context))
    if context is not None:
        return Content(extended_text=ExtendedText(text=wish.text, context=context))
    return Content(conversation=wish.text)
