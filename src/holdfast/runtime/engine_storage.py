"""Stores and looks up what an engine asks for, for one session, in the order of its requests.

A commit is answered only when it is durable; until then the engine lets no later frame leave. Requests that
arrive during a write are written together. When the store fails, nothing more of that link is stored or answered, and
the link is given up: its ratchet would be ahead of what was stored. A redelivery is harmless; a later ratchet step
without the earlier one is not.

WhatsApp delivers again what was not acknowledged. A message that the store refuses a second time is stored as a stub:
an inbound message must not end a session's links forever.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from itertools import groupby

from holdfast.base.clock import Clock
from holdfast.delivery.stores import Outbox
from holdfast.runtime.engine_supervisor import EngineSupervisor
from holdfast.session.engine import (
    AnsweredMessageFound,
    AnsweredMessageRequested,
    AnyCommand,
    CallSignal,
    Commit,
    Committed,
    HistoryProgress,
    InboundMessage,
    KeysRequested,
    LinkId,
    Plaintext,
    PlaintextRequested,
    SentContent,
    SentContentRequested,
    SignalKeys,
)
from holdfast.session.ignoring import without_ignored
from holdfast.session.stores import EngineStore, LeaseLost
from holdfast.session.stubs import identities, with_stubs

log = logging.getLogger(__name__)

_REFUSED_KEPT = 10_000
_SLOW_S = 1.0
"""A store that takes this long delays pings noticeably, so late answers are not WhatsApp's fault."""

Question = KeysRequested | PlaintextRequested | SentContentRequested | AnsweredMessageRequested
EngineQuery = Commit | Question


class EngineStorage:
    def __init__(
        self,
        company: str,
        *,
        store: EngineStore,
        outbox: Outbox,
        supervisor: EngineSupervisor,
        clock: Clock,
        commit_receipts: Callable[[], asyncio.Event],
        received: Callable[[Sequence[InboundMessage]], None],
        ignored: Callable[[], Collection[str]],
        left_out: Callable[[Mapping[str, int]], None],
        progressed: Callable[[HistoryProgress, int], None],
        called: Callable[[Sequence[CallSignal]], Awaitable[None]],
        failed: Callable[[LinkId], None],
    ) -> None:
        """`commit_receipts` returns an event that is set when all receipts reported so far are durable. `received` is
        called with new inbound messages once they are durable; `left_out`, with the number of messages that were not
        stored, by `ignored` kind; `progressed`, with parts of a history and the number of messages in them. `called`
        handles calls before WhatsApp may forget them, perhaps more than once. `failed` is called with a link that must
        be given up."""
        self._company = company
        self._store = store
        self._outbox = outbox
        self._supervisor = supervisor
        self._clock = clock
        self._commit_receipts = commit_receipts
        self._received = received
        self._ignored = ignored
        self._left_out = left_out
        self._progressed = progressed
        self._called = called
        self._failed = failed
        self._queue: asyncio.Queue[EngineQuery] = asyncio.Queue()
        self._began_at: float | None = None
        """When the requests that are being answered were taken (monotonic seconds)."""
        self._held_until: float | None = None
        self._stopped_link: LinkId | None = None
        self._refused: set[str] = set()
        """Identities of the messages in commits that the store refused once."""
        self._logged_out: LinkId | None = None

    def handle(self, query: EngineQuery) -> None:
        self._queue.put_nowait(query)

    def forget_keys(self, link: LinkId) -> None:
        """This link's credentials go to quarantine: from now on only the messages of its commits are stored."""
        self._logged_out = link

    @property
    def held_until(self) -> float | None:
        """The last moment at which a slow store delayed frames (monotonic seconds); now, if it does so at present."""
        self._note_slowness()
        return self._held_until

    def _note_slowness(self) -> None:
        now = self._clock.monotonic()
        if self._began_at is not None and now - self._began_at >= _SLOW_S:
            self._held_until = now

    async def caught_up(self) -> None:
        """Return when every request so far is answered or given up."""
        await self._queue.join()

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            gathered = [await self._queue.get()]
            while not self._queue.empty():
                gathered.append(self._queue.get_nowait())
            self._began_at = self._clock.monotonic()
            for link, queries in groupby(gathered, key=lambda each: each.link):
                await self._answer_all(link, list(queries))
            self._note_slowness()
            self._began_at = None
            for _ in gathered:
                self._queue.task_done()

    async def _answer_all(self, link: LinkId, queries: Sequence[EngineQuery]) -> None:
        if link == self._stopped_link:
            return
        try:
            await self._store_commits([each for each in queries if isinstance(each, Commit)])
            for each in queries:
                self._supervisor.command(await self._answer(each))
        except LeaseLost as error:
            log.warning("Session %s: the link is given up: %s", self._company, error)
            self._stop_link(link)
        except Exception:
            log.exception(
                "Session %s: a request of its engine could not be answered; the link is given up", self._company
            )
            self._stop_link(link)

    def _stop_link(self, link: LinkId) -> None:
        self._stopped_link = link
        self._failed(link)

    async def _store_commits(self, commits: Sequence[Commit]) -> None:
        """An empty commit is a barrier: WhatsApp never repeats a receipt that was acknowledged, so receipts are
        stored first."""
        are_durable = self._commit_receipts() if any(_is_empty(commit) for commit in commits) else None
        if any(self._refused & identities(commit) for commit in commits):
            for commit in commits:
                await self._store_merged([commit])
        else:
            await self._store_merged(commits)
        if are_durable is not None:
            await are_durable.wait()  # both ran at the same time: one wait for the disk, not two

    async def _store_merged(self, commits: Sequence[Commit]) -> None:
        for commit in commits:
            if commit.history_progress is not None:
                self._progressed(commit.history_progress, len(commit.history))
        merged = merge(commits, with_keys=bool(commits) and commits[-1].link != self._logged_out)
        if merged is None:
            return
        accepted, left_out = without_ignored(merged, self._ignored())
        new = await self._store_or_stub(accepted)
        if left_out:
            self._left_out(left_out)
        if new:
            self._received(new)
        if accepted.calls:
            await self._called(accepted.calls)

    async def _store_or_stub(self, commit: Commit) -> Sequence[InboundMessage]:
        messages = identities(commit)
        try:
            return await self._store.commit(self._company, commit)
        except LeaseLost:
            raise
        except Exception as error:
            if not self._refused & messages:
                self._remember_refused(messages)
                raise
            stored = await self._retry_or_stub(commit, error)
            self._refused -= messages
            return stored

    async def _retry_or_stub(self, commit: Commit, error: Exception) -> Sequence[InboundMessage]:
        """Try the commit once more, in case the store only failed for a moment; then store stubs."""
        with contextlib.suppress(Exception):
            return await self._store.commit(self._company, commit)
        cause = f"the store refused it ({type(error).__name__})"
        return await self._store.commit(self._company, with_stubs(commit, error=cause))

    def _remember_refused(self, messages: frozenset[str]) -> None:
        """Bounded, because a store may fail for a long time. All of these messages are delivered again."""
        if len(self._refused) > _REFUSED_KEPT:
            self._refused.clear()
        self._refused |= messages

    async def _answer(self, query: EngineQuery) -> AnyCommand:
        match query:
            case Commit(link=link, seq=seq):
                return Committed(link=link, seq=seq)
            case KeysRequested(link=link, request=request):
                values = await self._store.keys(self._company, query.type, query.ids)
                return SignalKeys(link=link, request=request, values=values)
            case PlaintextRequested(link=link, request=request):
                known = await self._store.plaintext(self._company, query.ciphertext_sha256)
                text = None if known is None else base64.b64encode(known).decode()
                return Plaintext(link=link, request=request, plaintext=text)
            case SentContentRequested(link=link, request=request):
                content, made = await self._outbox.sent_content(self._company, query.whatsapp_id, chat=query.chat)
                return SentContent(link=link, request=request, content=content, made=made)
            case AnsweredMessageRequested(link=link, request=request):
                message = await self._store.answered_message(self._company, query.whatsapp_id, chat=query.chat)
                return AnsweredMessageFound(link=link, request=request, message=message)


def merge(commits: Sequence[Commit], *, with_keys: bool) -> Commit | None:
    """Merge commits of one link: the last value of each key wins. None when there is nothing to store."""
    if not commits:
        return None
    keys: dict[str, dict[str, str | None]] = {}
    credentials: str | None = None
    paired = False
    for commit in commits if with_keys else ():
        for type_, values in commit.keys.items():
            keys.setdefault(type_, {}).update(values)
        if commit.credentials is not None:
            credentials, paired = commit.credentials, commit.paired
    last = commits[-1]
    merged = Commit(
        link=last.link,
        seq=last.seq,
        credentials=credentials,
        paired=paired,
        keys=keys,
        decrypted=[item for commit in commits for item in commit.decrypted],
        undecryptable=[item for commit in commits for item in commit.undecryptable],
        made=[item for commit in commits for item in commit.made],
        groups={jid: subject for commit in commits for jid, subject in commit.groups.items()},
        usernames={lid: username for commit in commits for lid, username in commit.usernames.items()},
        changes=[item for commit in commits for item in commit.changes],
        history=[item for commit in commits for item in commit.history],
        calls=[call for commit in commits for call in commit.calls],
        group_changes=[change for commit in commits for change in commit.group_changes],
    )
    return None if _is_empty(merged) else merged


def _is_empty(commit: Commit) -> bool:
    return commit == Commit(link=commit.link, seq=commit.seq)
