"""What a phone still has of its chats, and how it is divided for a linked device.

A device gets the newest messages of each chat at once, then the rest of the last weeks in parts, and everything older
only if it asked for that when it was linked. Later it may ask for more messages of one chat.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from wasim.server.directory import Directory
from wasim.wire import content
from wasim.wire.attachments import MessageKey
from wasim.wire.content import Conversation, HistoryMessage, HistorySync, LidMapping, OnDemandRequest, WebMessage
from wasim.wire.jids import LID, PN
from wasim.wire.protobuf import decode, encode

BOOTSTRAP_MESSAGES = 20
"""The newest messages of each chat that a device gets at once."""
RECENT_S = 90 * 86_400
MESSAGES_A_PART = 5_000
_RECORD = "history"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    sync_type: int
    history: HistorySync


class PhoneHistories:
    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._chats: dict[str, dict[str, Conversation]] = {}

    def restore(self, kind: str, key: str, value: bytes) -> None:
        """Restore a stored record; records of other kinds are ignored."""
        if kind == _RECORD:
            number, _, chat = key.partition(">")
            self._chats.setdefault(number, {})[chat] = decode(Conversation, value)

    def add(self, number: str, conversation: Conversation) -> None:
        """A phone has a chat with these messages, oldest first, instead of what it had of it."""
        self._chats.setdefault(number, {})[conversation.id or ""] = conversation
        self._directory.note(_RECORD, f"{number}>{conversation.id}", encode(conversation))

    def parts(self, number: str, *, full: bool, now: float) -> Iterator[Part]:
        """What a newly linked device gets, in order."""
        chats = list(self._chats.get(number, {}).values())
        newest = tuple(replace(chat, messages=chat.messages[-BOOTSTRAP_MESSAGES:][::-1]) for chat in chats)
        yield Part(
            sync_type=content.INITIAL_BOOTSTRAP,
            history=HistorySync(conversations=newest, mappings=tuple(self._mappings(chats))),
        )
        since = int(now) - RECENT_S
        older = [(chat, chat.messages[:-BOOTSTRAP_MESSAGES]) for chat in chats]
        recent = [(chat, tuple(each for each in kept if _at(each) >= since)) for chat, kept in older]
        yield from _divided(content.RECENT, recent)
        if full:
            yield from _divided(
                content.FULL, [(chat, tuple(each for each in kept if _at(each) < since)) for chat, kept in older]
            )

    def before(self, number: str, request: OnDemandRequest) -> HistorySync:
        """Messages of a chat before the one that the request names."""
        chat = self._chats.get(number, {}).get(request.chat or "", Conversation(id=request.chat))
        limit_s = (request.oldest_at_ms or 0) // 1000
        older = [each for each in chat.messages if _at(each) < limit_s]
        asked = tuple(older[-(request.count or 50) :][::-1])
        return HistorySync(
            sync_type=content.ON_DEMAND, conversations=(replace(chat, messages=asked),), chunk_order=1, progress=100
        )

    def _mappings(self, chats: list[Conversation]) -> Iterator[LidMapping]:
        for chat in chats:
            account = self._directory.accounts.get((chat.id or "").removesuffix(f"@{PN}"))
            if account is not None:
                yield LidMapping(pn=chat.id, lid=f"{account.lid}@{LID}")


def _at(message: HistoryMessage) -> int:
    return (message.message and message.message.at) or 0


def _divided(sync_type: int, chats: list[tuple[Conversation, tuple[HistoryMessage, ...]]]) -> Iterator[Part]:
    """Parts of at most `MESSAGES_A_PART` messages, newest first within a chat."""
    total = sum(len(messages) for _, messages in chats)
    held: list[Conversation] = []
    count = sent = order = 0
    for chat, messages in chats:
        left = messages[::-1]
        while left:
            taken, left = left[: MESSAGES_A_PART - count], left[MESSAGES_A_PART - count :]
            held.append(replace(chat, messages=taken))
            count += len(taken)
            sent += len(taken)
            if count == MESSAGES_A_PART or sent == total:
                order += 1
                progress = sent * 100 // total
                history = HistorySync(conversations=tuple(held), chunk_order=order, progress=progress)
                yield Part(sync_type=sync_type, history=history)
                held, count = [], 0


def text_message(chat: str, id_: str, text: str, *, at: int, from_me: bool, name: str | None = None) -> HistoryMessage:
    """A text as a history has it."""
    key = MessageKey(remote_jid=chat, from_me=int(from_me), id=id_)
    message = content.Content(conversation=text)
    return HistoryMessage(message=WebMessage(key=key, message=message, at=at, push_name=name))
