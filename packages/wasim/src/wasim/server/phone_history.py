"""The history of a phone's chats, and how it is divided into parts for a linked device.

A device gets the newest messages of each chat first, then those of the last 90 days in parts, and older ones only if it
requested the full history when it was linked. Later it may request more messages of one chat.
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
"""How many of the newest messages of each chat a device gets first."""
RECENT_S = 90 * 86_400
MESSAGES_PER_PART = 5_000
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
        """Replace the history of a chat by these messages, oldest first."""
        self._chats.setdefault(number, {})[conversation.id or ""] = conversation
        self._directory.put_record(_RECORD, f"{number}>{conversation.id}", encode(conversation))

    def parts(self, number: str, *, full: bool, now: float) -> Iterator[Part]:
        """The parts for a newly linked device, in order."""
        chats = list(self._chats.get(number, {}).values())
        newest = tuple(replace(chat, messages=chat.messages[-BOOTSTRAP_MESSAGES:][::-1]) for chat in chats)
        yield Part(
            sync_type=content.INITIAL_BOOTSTRAP,
            history=HistorySync(conversations=newest, mappings=tuple(self._mappings(chats))),
        )
        since = int(now) - RECENT_S
        older = [(chat, chat.messages[:-BOOTSTRAP_MESSAGES]) for chat in chats]
        recent = [(chat, tuple(each for each in messages if _at(each) >= since)) for chat, messages in older]
        yield from _divided(content.RECENT, recent)
        if full:
            yield from _divided(
                content.FULL,
                [(chat, tuple(each for each in messages if _at(each) < since)) for chat, messages in older],
            )

    def before(self, number: str, request: OnDemandRequest) -> HistorySync:
        """Messages of a chat before the one that the request names."""
        chat = self._chats.get(number, {}).get(request.chat or "", Conversation(id=request.chat))
        limit_s = (request.oldest_at_ms or 0) // 1000
        older = [each for each in chat.messages if _at(each) < limit_s]
        requested = tuple(older[-(request.count or 50) :][::-1])
        return HistorySync(
            sync_type=content.ON_DEMAND, conversations=(replace(chat, messages=requested),), chunk_order=1, progress=100
        )

    def _mappings(self, chats: list[Conversation]) -> Iterator[LidMapping]:
        for chat in chats:
            account = self._directory.accounts.get((chat.id or "").removesuffix(f"@{PN}"))
            if account is not None:
                yield LidMapping(pn=chat.id, lid=f"{account.lid}@{LID}")


def _at(message: HistoryMessage) -> int:
    return (message.message and message.message.at) or 0


def _divided(sync_type: int, chats: list[tuple[Conversation, tuple[HistoryMessage, ...]]]) -> Iterator[Part]:
    """Parts of at most `MESSAGES_PER_PART` messages, newest first within a chat."""
    total = sum(len(messages) for _, messages in chats)
    conversations: list[Conversation] = []
    count = sent = order = 0
    for chat, messages in chats:
        left = messages[::-1]
        while left:
            selected, left = left[: MESSAGES_PER_PART - count], left[MESSAGES_PER_PART - count :]
            conversations.append(replace(chat, messages=selected))
            count += len(selected)
            sent += len(selected)
            if count == MESSAGES_PER_PART or sent == total:
                order += 1
                progress = sent * 100 // total
                history = HistorySync(conversations=tuple(conversations), chunk_order=order, progress=progress)
                yield Part(sync_type=sync_type, history=history)
                conversations, count = [], 0


def text_message(chat: str, id_: str, text: str, *, at: int, from_me: bool, name: str | None = None) -> HistoryMessage:
    """A text as a history has it."""
    key = MessageKey(remote_jid=chat, from_me=int(from_me), id=id_)
    message = content.Content(conversation=text)
    return HistoryMessage(message=WebMessage(key=key, message=message, at=at, push_name=name))
