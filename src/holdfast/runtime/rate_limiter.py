"""The rate limits of one session, synchronised with the stored data of its account.

`delivery.rate_limits` is pure and knows monotonic seconds only; this module connects it with the wall clock and the
store. A restart must never forget a lock or a ban.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

from holdfast.base.clock import Clock, iso, to_monotonic, to_wall
from holdfast.delivery.rate_limits import (
    NEW_CHAT_QUOTA,
    REACH_OUT_LOCK,
    Allowance,
    Pacing,
    RateLimits,
    effective_pacing,
)
from holdfast.delivery.stores import Account, Accounts, Outbox, Outgoing
from holdfast.health.advice import to_minute
from holdfast.health.signals import HoldSignals

log = logging.getLogger(__name__)

LOCK_S = 24 * 3600.0
"""The assumed duration of a lock when WhatsApp doesn't state its end."""
DAY_S = 24 * 3600.0
_REASONS = {
    REACH_OUT_LOCK: "WhatsApp accepts no messages to new contacts",
    NEW_CHAT_QUOTA: "WhatsApp's quota of new chats is used up: no messages to new contacts",
}


def own_pacing(account: Account, default: Pacing) -> Pacing:
    """The default with the differences that are stored for this account."""
    return default if account.pacing is None else effective_pacing(default, account.pacing)


def restore(limits: RateLimits, account: Account, clock: Clock) -> None:
    """Apply the stored data of an account."""
    first_contacts = [to_monotonic(clock, at) for at in account.first_contacts]
    limits.restore(first_contacts=first_contacts, approached=account.approached)
    for code, until in ((REACH_OUT_LOCK, account.reach_out_until), (NEW_CHAT_QUOTA, account.quota_until)):
        if until is not None:
            limits.lock(code, to_monotonic(clock, until))


def _wall(clock: Clock, moment: float) -> str:
    return iso(to_wall(clock, moment))


class RateLimiter:
    def __init__(
        self,
        company: str,
        *,
        outbox: Outbox,
        accounts: Accounts,
        clock: Clock,
        pacing: Pacing,
        jitter: Callable[[], float],
    ) -> None:
        self._company = company
        self._outbox = outbox
        self._accounts = accounts
        self._clock = clock
        self._default = self._own = pacing
        self._tight_until = 0.0
        self._limits = RateLimits(pacing, jitter=jitter)

    async def load(self) -> None:
        """Read the stored data of the account: at the start, and after the operator changed it."""
        since = iso(self._clock.now() - timedelta(seconds=DAY_S))
        account = await self._accounts.account(self._company, since=since)
        self._own = own_pacing(account, self._default)
        restore(self._limits, account, self._clock)
        if account.tight_until is not None:
            self._tight_until = to_monotonic(self._clock, account.tight_until)

    # Restrictions of WhatsApp.

    def lock(self, code: str, *, until_s: int | None = None) -> str:
        """WhatsApp accepts no messages to new contacts, until the Unix time that it named or for a day.

        Takes effect at once; returns the end, ISO 8601. `store_lock` stores it.
        """
        now = self._clock.monotonic()
        known_end = self._limits.locked_until(code) or now
        if until_s is not None:
            until = now + max(until_s - self._clock.now().timestamp(), 0.0)
        else:
            until = known_end if known_end > now else now + LOCK_S
        if until != known_end:
            self._limits.lock(code, until)
            log.warning(
                "Session %s: %s until %s; known chats are not affected",
                self._company,
                _REASONS[code],
                to_minute(to_wall(self._clock, until)),
            )
        return _wall(self._clock, until)

    async def store_lock(self, code: str) -> None:
        """Store the lock, and its end with every message that it holds; nothing for one that is lifted by now."""
        moment = self._limits.locked_until(code)
        if moment is None:
            return
        until = _wall(self._clock, moment)
        await self._accounts.set_lock(self._company, code=code, until=until)
        await self._outbox.reschedule_held(self._company, code=code, until=until)

    async def unlock(self, code: str) -> None:
        """WhatsApp lifted the lock."""
        if self._limits.locked_until(code) is None:
            return
        log.info("Session %s: WhatsApp accepts messages to new contacts again (%s ended)", self._company, code)
        self._limits.unlock(code)
        await self._accounts.set_lock(self._company, code=code, until=None)
        await self._outbox.reschedule_held(self._company, code=code, until=None)

    async def tighten(self, *, for_s: float) -> None:
        """WhatsApp banned the number for a time: fewer messages are sent for this long."""
        self._tight_until = self._clock.monotonic() + for_s
        await self._accounts.set_tight(self._company, until=_wall(self._clock, self._tight_until))

    @property
    def lock_now(self) -> HoldSignals | None:
        """WhatsApp's lock that ends last, while there is one."""
        lock = self._limits.longest_lock(self._clock.monotonic())
        return None if lock is None else HoldSignals(code=lock.code, until=to_wall(self._clock, lock.until))

    # Sending.

    def allowance(self, *, room: int) -> Allowance:
        """The messages that may be sent now."""
        now = self._clock.monotonic()
        self._limits.set_pacing(self._own.tightened if self._tight_until > now else self._own)
        return self._limits.allowance(now, room=room)

    def spend(self, message: Outgoing) -> None:
        """A message was handed to the engine."""
        now = self._clock.monotonic()
        self._limits.spend(message.chat, message.contact, is_bulk=message.is_bulk, now=now)

    def acked(self, message: Outgoing) -> None:
        """WhatsApp accepted the message."""
        self._limits.acked(message.chat, message.contact, self._clock.monotonic())

    def forget(self, chat: str) -> None:
        """No message to this chat is in flight any more, or its contact is known now."""
        self._limits.forget(chat)


MAX_IN_FLIGHT, MIN_IN_FLIGHT = 20, 4
"""Limits of messages in flight: of a session that sends alone, and of one among many."""
_ACTIVE_S = 1.0
"""A session counts as sending for this long after its last message."""


class SendShares:
    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._sent_at: dict[str, float] = {}

    def sends(self, company: str) -> None:
        """This company sends a message now."""
        self._sent_at[company] = self._clock.monotonic()

    def share(self, company: str) -> int:
        """How many messages it may have in flight now."""
        since = self._clock.monotonic() - _ACTIVE_S
        self._sent_at = {name: at for name, at in self._sent_at.items() if at >= since}
        others = len(self._sent_at.keys() - {company})
        return max(MAX_IN_FLIGHT // (1 + others), MIN_IN_FLIGHT)
