"""Rejects calls as they come in, where a company asks for it, and sends the caller a text.

The text goes through the outbox like any message, under an idempotency key made of the call's id: WhatsApp may report a
call twice, and the caller gets one text.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

from holdfast.base.clock import Clock
from holdfast.base.errors import BadInput
from holdfast.base.ids import RandomSource
from holdfast.delivery.calls import RECENT_S, REJECTED, Call, Calls
from holdfast.delivery.recipient import parse_recipient
from holdfast.delivery.stores import Draft
from holdfast.session.engine import AnyCommand, CallSignal, LinkId, RunQuery
from holdfast.session.queries import reject_call
from holdfast.session.stores import Record

log = logging.getLogger(__name__)

_UNANSWERED = 0
"""Number of queries whose answer nobody waits for."""


class CallRejection:
    def __init__(
        self,
        *,
        calls: Calls,
        clock: Clock,
        randomness: RandomSource,
        record: Callable[[], Record],
        command: Callable[[Callable[[LinkId], AnyCommand]], None],
        accept: Callable[[Draft], Awaitable[object]],
    ) -> None:
        """`record`: the session's record, with its settings. `command` gives the engine a command for the open link, if
        there is one. `accept` stores a message."""
        self._calls = calls
        self._clock = clock
        self._randomness = randomness
        self._record = record
        self._command = command
        self._accept = accept

    async def handle(self, signals: Sequence[CallSignal]) -> None:
        """Reject ringing calls, and store the texts. Called before WhatsApp may forget the calls, perhaps twice."""
        record = self._record()
        if record.auto_reject_calls is None:
            return
        for signal in signals:
            if signal.kind == "offer" and self._is_recent(signal):
                await self._reject(record, signal)

    def _is_recent(self, signal: CallSignal) -> bool:
        at = datetime.fromtimestamp(signal.at_s, UTC)
        return not signal.at_s or self._clock.now() - at < timedelta(seconds=RECENT_S)

    async def _reject(self, record: Record, signal: CallSignal) -> None:
        if record.rejected_call_text is not None and signal.group is None:
            await self._send_text(record.company, signal, record.rejected_call_text)
        if signal.offline:
            return  # it is over
        query = reject_call(signal.call_id, signal.creator)
        arguments = dict(query.arguments)
        self._command(lambda link: RunQuery(link=link, request=_UNANSWERED, name=query.name, arguments=arguments))
        call = Call(whatsapp_id=signal.call_id, chat=signal.caller, creator=signal.creator, state=REJECTED)
        await self._calls.end(record.company, call, outcome=REJECTED)
        log.info("Session %s: a call was rejected automatically", record.company)

    async def _send_text(self, company: str, signal: CallSignal, text: str) -> None:
        try:
            recipient, chat = parse_recipient(signal.caller, field="caller")
        except BadInput:  # WhatsApp repeats a call until it is acknowledged, so this must not fail
            log.info(
                "Session %s: the caller of a rejected call gets no text: no message can be sent to this id", company
            )
            return
        key = f"rejected-call-{hashlib.sha256(f'{chat} {signal.call_id}'.encode()).hexdigest()[:32]}"
        draft = Draft(
            id=self._randomness.message_id(),
            whatsapp_id=self._randomness.whatsapp_id(),
            company=company,
            recipient=recipient,
            chat=chat,
            content={"text": text},
            idempotency_key=key,
            request_hash=key,  # the text may have been changed since: the caller gets one anyway
        )
        await self._accept(draft)
