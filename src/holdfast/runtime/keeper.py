"""The keeper: answers what an engine wants kept or found again, for one session.

A commit is answered only when it is durable; until then the engine lets no later frame leave. When the store fails,
nothing is answered and the link is given up: rather no link than one whose ratchet is ahead of what was stored.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Awaitable, Callable, Sequence

from holdfast.delivery.ports import Outbox
from holdfast.runtime.hub import EngineHub
from holdfast.session.port import (
    AnyCommand,
    Commit,
    Committed,
    InboundMessage,
    Keys,
    KeysWanted,
    LinkId,
    Plaintext,
    PlaintextWanted,
    SentContent,
    SentContentWanted,
)
from holdfast.session.ports import EngineStore

log = logging.getLogger(__name__)

Wanted = Commit | KeysWanted | PlaintextWanted | SentContentWanted


class Keeper:
    def __init__(
        self,
        company: str,
        *,
        store: EngineStore,
        outbox: Outbox,
        hub: EngineHub,
        settled: Callable[[], Awaitable[None]],
        received: Callable[[Sequence[InboundMessage]], None],
        failed: Callable[[LinkId], None],
    ) -> None:
        """`settled` returns when all receipts heard so far are durable. `received` hears of new inbound messages once
        they are durable; `failed`, of a link that must be given up."""
        self._company = company
        self._store = store
        self._outbox = outbox
        self._hub = hub
        self._settled = settled
        self._received = received
        self._failed = failed

    async def answer(self, wanted: Wanted) -> None:
        try:
            command = await self._command(wanted)
        except Exception:
            log.exception("Session %s: the store failed; the link is given up", self._company)
            self._failed(wanted.link)
            return
        self._hub.command(command)

    async def _command(self, wanted: Wanted) -> AnyCommand:
        match wanted:
            case Commit():
                return await self._commit(wanted)
            case KeysWanted(link=link, request=request):
                values = await self._store.keys(self._company, wanted.type, wanted.ids)
                return Keys(link=link, request=request, values=values)
            case PlaintextWanted(link=link, request=request):
                known = await self._store.plaintext(self._company, wanted.ciphertext_sha256)
                text = None if known is None else base64.b64encode(known).decode()
                return Plaintext(link=link, request=request, plaintext=text)
            case SentContentWanted(link=link, request=request):
                content = await self._outbox.sent_content(self._company, wanted.whatsapp_id)
                return SentContent(link=link, request=request, content=content)

    async def _commit(self, commit: Commit) -> Committed:
        """An empty commit is a barrier: WhatsApp repeats no receipt that was acknowledged, so it is stored first."""
        if not (commit.keys or commit.decrypted or commit.credentials):
            await self._settled()
            return Committed(link=commit.link, seq=commit.seq)
        new = await self._store.commit(self._company, commit)
        if new:
            self._received(new)
        return Committed(link=commit.link, seq=commit.seq)
