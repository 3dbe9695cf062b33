"""A listener for tests of the port: it records every report, and answers an engine's requests as a store would.

Answers can be held back (`hold`). The write-ahead guarantees are tested in this way: whatever must wait for a commit
has to be seen waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from holdfast.session.account_changes import AnyAccountChange
from holdfast.session.engine import (
    AnsweredMessage,
    AnsweredMessageFound,
    AnsweredMessageRequested,
    AnyReport,
    CallSignal,
    Commit,
    Committed,
    Decrypted,
    Engine,
    GroupChange,
    InboundMessage,
    KeysRequested,
    LinkId,
    Plaintext,
    PlaintextRequested,
    SentContent,
    SentContentRequested,
    SignalKeys,
    Undecryptable,
)

R = TypeVar("R", bound=AnyReport)


@dataclass(slots=True, kw_only=True)
class Stored:
    """The store of one session."""

    credentials: str | None = None
    keys: dict[str, dict[str, str]] = field(default_factory=dict)
    plaintexts: dict[str, str] = field(default_factory=dict)
    inbox: list[InboundMessage] = field(default_factory=list)
    sent: dict[str, dict[str, object]] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)
    undecryptable: list[Undecryptable] = field(default_factory=list)
    groups: dict[str, str] = field(default_factory=dict)
    changes: list[AnyAccountChange] = field(default_factory=list)
    history: list[InboundMessage] = field(default_factory=list)
    calls: list[CallSignal] = field(default_factory=list)
    group_changes: list[GroupChange] = field(default_factory=list)

    def keep(self, commit: Commit) -> None:
        """Store everything in a commit at once."""
        if commit.credentials is not None:
            self.credentials = commit.credentials
        for kind, values in commit.keys.items():
            for id_, value in values.items():
                self._put(kind, id_, value)
        for decrypted in commit.decrypted:
            self._keep_decrypted(decrypted)
        self.made.update({made.whatsapp_id: made.made for made in commit.made})
        self.undecryptable.extend(commit.undecryptable)
        self.groups.update(commit.groups)
        self.changes.extend(commit.changes)
        known = {message.whatsapp_id for message in self.history}
        # As the real store: a part that was not acknowledged before the link ended comes again.
        self.history.extend(message for message in commit.history if message.whatsapp_id not in known)
        self.calls.extend(commit.calls)
        self.group_changes.extend(commit.group_changes)

    def _put(self, kind: str, id_: str, value: str | None) -> None:
        if value is None:
            self.keys.get(kind, {}).pop(id_, None)
        else:
            self.keys.setdefault(kind, {})[id_] = value

    def _keep_decrypted(self, decrypted: Decrypted) -> None:
        if decrypted.ciphertext_sha256 not in self.plaintexts:
            self.plaintexts[decrypted.ciphertext_sha256] = decrypted.plaintext
            if decrypted.message is not None:
                self._show(decrypted.message)

    def answered(self, chat: str, whatsapp_id: str) -> AnsweredMessage | None:
        for kept in self.inbox:
            if (kept.chat, kept.whatsapp_id) == (chat, whatsapp_id) and kept.message_secret is not None:
                return AnsweredMessage(
                    secret=kept.message_secret,
                    sender=kept.sender,
                    sender_lid=kept.sender_lid,
                    from_me=kept.from_me,
                    content=kept.content,
                )
        return None

    def _show(self, message: InboundMessage) -> None:
        known = {(kept.chat, kept.sender, kept.whatsapp_id) for kept in self.inbox}
        if (message.chat, message.sender, message.whatsapp_id) not in known:
            self.inbox.append(message)


class Recorder:
    """Records reports, and answers with `stored` unless a test withholds an answer."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.reports: list[AnyReport] = []
        self.lost: list[str] = []
        self.stored: dict[LinkId, Stored] = {}
        self.holding: Callable[[Commit], bool] = lambda _commit: False
        self.held: list[Commit] = []
        self._news = asyncio.Event()

    def report(self, report: AnyReport) -> None:
        self.reports.append(report)
        self._news.set()
        match report:
            case Commit():
                self._commit(report)
            case KeysRequested(link=link, request=request, type=kind, ids=ids):
                known = self.store(link).keys.get(kind, {})
                self._answer(SignalKeys(link=link, request=request, values={i: known[i] for i in ids if i in known}))
            case PlaintextRequested(link=link, request=request, ciphertext_sha256=digest):
                plaintext = self.store(link).plaintexts.get(digest)
                self._answer(Plaintext(link=link, request=request, plaintext=plaintext))
            case SentContentRequested(link=link, request=request, whatsapp_id=id_):
                store = self.store(link)
                self._answer(
                    SentContent(link=link, request=request, content=store.sent.get(id_), made=store.made.get(id_))
                )
            case AnsweredMessageRequested(link=link, request=request, chat=chat, whatsapp_id=id_):
                found = self.store(link).answered(chat, id_)
                self._answer(AnsweredMessageFound(link=link, request=request, message=found))
            case _:
                pass

    def host_lost(self, *, detail: str) -> None:
        self.lost.append(detail)
        self._news.set()

    def store(self, link: LinkId) -> Stored:
        """The store behind a link; let two links share one by assigning `stored[link]`."""
        return self.stored.setdefault(link, Stored())

    def of(self, kind: type[R], link: LinkId | None = None) -> list[R]:
        """All reports of a kind so far, of one link or of all."""
        return [r for r in self.reports if isinstance(r, kind) and (link is None or r.link == link)]

    async def wait(self, kind: type[R], link: LinkId, *, nth: int = 1, seconds: float = 20) -> R:
        """Wait for the nth report of a kind on a link, and return it."""
        await self.until(lambda: len(self.of(kind, link)) >= nth, seconds=seconds, what=f"{kind.__name__} {nth}")
        return self.of(kind, link)[nth - 1]

    async def until(self, true: Callable[[], bool], *, seconds: float = 20, what: str = "it") -> None:
        """Wait until a condition holds; it is checked again at each report."""
        try:
            async with asyncio.timeout(seconds):
                while not true():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            seen = ", ".join(type(r).__name__ for r in self.reports[-12:])
            raise AssertionError(f"{what} did not come within {seconds} s; last reports: {seen}; {self.lost}") from None

    def hold(self, which: Callable[[Commit], bool] = lambda _commit: True) -> None:
        """From now on store and answer these commits only at `release`."""
        self.holding = which

    def release(self) -> None:
        """Store and answer all held commits, and hold no more."""
        self.holding = lambda _commit: False
        held, self.held = self.held, []
        for commit in held:
            self._commit(commit)

    def _commit(self, commit: Commit) -> None:
        if self.held or self.holding(commit):
            self.held.append(commit)
            return
        self.store(commit.link).keep(commit)
        self._answer(Committed(link=commit.link, seq=commit.seq))

    def _answer(self, answer: Committed | SignalKeys | Plaintext | SentContent | AnsweredMessageFound) -> None:
        if self.engine is not None:
            self.engine.command(answer)
