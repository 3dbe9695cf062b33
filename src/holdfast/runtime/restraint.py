"""What one session may write now: its admission, kept in step with what is stored about its account.

The admission is pure and knows monotonic seconds only; here they meet wall clock and rows. It must never forget a lock
or a ban because Holdfast was restarted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from holdfast.base.clock import Clock, iso
from holdfast.delivery.admission import REACH_OUT_LOCK, Admission, Hold
from holdfast.delivery.chats import Entry
from holdfast.delivery.pacing import Pacing, pacing_with
from holdfast.delivery.ports import Accounts, Outbox

log = logging.getLogger(__name__)

LOCK_S = 24 * 3600.0
"""How long a reach-out lock is taken to last when WhatsApp doesn't say."""
_DAY_S = 24 * 3600.0
_MOST_ASKED = 20_000
"""Chats of which it is remembered whether they are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restrictions:
    """What counts for an account now, for people."""

    pacing: Pacing
    new_in_last_day: int
    reach_out_until: str | None
    tight_until: str | None


async def restrictions(company: str, accounts: Accounts, default: Pacing, clock: Clock) -> Restrictions:
    """As they are stored, whoever runs the session."""
    now = clock.now()
    account = await accounts.account(company, since=iso(now - timedelta(seconds=_DAY_S)))
    own = default if account.pacing is None else pacing_with(default, account.pacing)
    tight, locked = (_if_ahead(at, now) for at in (account.tight_until, account.reach_out_until))
    return Restrictions(
        pacing=own if tight is None else own.tightened,
        new_in_last_day=len(account.first_contacts),
        reach_out_until=locked,
        tight_until=tight,
    )


def _if_ahead(at: str | None, now: datetime) -> str | None:
    return at if at is not None and datetime.fromisoformat(at) > now else None


class Restraint:
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
        self._asked: set[str] = set()
        self._marked: set[str] = set()
        """WhatsApp ids of messages whose rows say what holds them."""
        self._refused: list[Entry] = []
        self._admission = Admission(pacing, jitter=jitter)
        self._locked_until: float | None = None

    async def load(self) -> None:
        """What is stored about the account. Also after a change of it."""
        now = self._clock.now()
        account = await self._accounts.account(self._company, since=iso(now - timedelta(seconds=_DAY_S)))
        self._own = self._default if account.pacing is None else pacing_with(self._default, account.pacing)
        self._admission.first_contacts([self._moment(at) for at in account.first_contacts])
        self._locked_until = None if account.reach_out_until is None else self._moment(account.reach_out_until)
        if self._locked_until is not None:
            self._admission.lock(self._locked_until)
        if account.tight_until is not None:
            self._tight_until = self._moment(account.tight_until)

    # What WhatsApp says.

    def lock(self, *, until_s: int | None = None) -> float:
        """WhatsApp takes no messages to new contacts: until the Unix time it named, or for a day. Returns the end.

        From now on; `keep_lock` writes it down.
        """
        now = self._clock.monotonic()
        if until_s is None and self._locked_until is not None and self._locked_until > now:
            return self._locked_until  # it goes on; the end is known already
        seconds = LOCK_S if until_s is None else max(until_s - self._clock.now().timestamp(), 0.0)
        until = self._locked_until = now + seconds
        self._admission.lock(until)
        self._marked.clear()  # what is marked names another end
        log.warning(
            "Session %s: WhatsApp takes no messages to new contacts until %s; known chats go on",
            self._company,
            self._told(until),
        )
        return until

    async def keep_lock(self) -> None:
        """Also with every message that it holds."""
        if self._locked_until is None:
            return
        until = self._told(self._locked_until)
        await self._accounts.set_lock(self._company, until=until)
        await self._outbox.hold_new(self._company, code=REACH_OUT_LOCK, until=until)

    async def unlock(self) -> None:
        """WhatsApp lifted the lock."""
        if self._locked_until is None:
            return
        log.info("Session %s: WhatsApp takes messages to new contacts again", self._company)
        self._locked_until = None
        self._admission.lock(self._clock.monotonic())
        await self._accounts.set_lock(self._company, until=None)

    async def tighten(self, *, for_s: float) -> None:
        """WhatsApp banned the number for a time: less is sent for so long."""
        self._tight_until = self._clock.monotonic() + for_s
        await self._accounts.set_tight(self._company, until=self._told(self._tight_until))

    # Who is known.

    def know(self, chats: Iterable[str]) -> None:
        self._admission.know(chats)

    def knows(self, chat: str) -> bool:
        return self._admission.knows(chat)

    def acked(self, chat: str) -> None:
        self._admission.acked(chat, self._clock.monotonic())

    def failed(self, chat: str) -> None:
        self._admission.failed(chat)

    async def meet(self, chats: Iterable[str]) -> None:
        """Learn which of these chats are known."""
        strange = {chat for chat in chats if chat not in self._asked and not self._admission.knows(chat)}
        if not strange:
            return
        if len(self._asked) > _MOST_ASKED:
            self._asked.clear()
        self._admission.know(await self._outbox.known(self._company, strange))
        self._asked |= strange

    # Admitting.

    @property
    def wakes_at(self) -> float | None:
        """When something that was refused in this round may be admitted."""
        return self._admission.wakes_at

    def begin(self) -> bool:
        """A new round; False when nothing at all may leave now."""
        now = self._clock.monotonic()
        self._admission.set_pacing(self._own.tightened if self._tight_until > now else self._own)
        self._admission.begin()
        self._refused = []
        return self._admission.is_open(now)

    def admit(self, entry: Entry) -> bool:
        now = self._clock.monotonic()
        if self._admission.admit(entry, now):
            return True
        self._refused.append(entry)
        return False

    async def note_held(self) -> None:
        """Write down what holds the messages that were refused, and that nothing does any more."""
        now = self._clock.monotonic()
        held = self._admission.hold(now)
        if held is None:
            if self._marked:
                self._marked.clear()
                await self._outbox.release(self._company, code=REACH_OUT_LOCK)
                await self._outbox.release(self._company, code="daily-limit")
            return
        new = {entry.whatsapp_id for entry in self._refused if not self.knows(entry.chat)} - self._marked
        if new:
            self._marked |= new
            await self._outbox.hold_new(self._company, code=held.code, until=self._told(held.until))

    async def hold_back(self, whatsapp_ids: Collection[str], until: float) -> None:
        """WhatsApp refused these because of its lock."""
        self._marked.update(whatsapp_ids)
        await self._outbox.hold(self._company, whatsapp_ids, code=REACH_OUT_LOCK, until=self._told(until))

    def holds(self, entry: Entry) -> bool:
        """Is it to a new contact, and held as such?"""
        return self._admission.holds(entry, self._clock.monotonic())

    def held(self) -> Hold | None:
        """What holds messages to new contacts now."""
        return self._admission.hold(self._clock.monotonic())

    def _moment(self, at: str) -> float:
        left = datetime.fromisoformat(at) - self._clock.now()
        return self._clock.monotonic() + left.total_seconds()

    def _told(self, moment: float) -> str:
        return iso(self._clock.now() + timedelta(seconds=moment - self._clock.monotonic()))
