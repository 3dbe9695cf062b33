"""What a company may send: the limits that operator and tenant set, and WhatsApp's restrictions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from holdfast.base.clock import Clock, iso, to_wall
from holdfast.base.errors import BadInput
from holdfast.delivery.content import Content
from holdfast.delivery.message import OPEN
from holdfast.delivery.rate_limits import (
    DAILY_LIMIT,
    NEW_CHAT_QUOTA,
    REACH_OUT_LOCK,
    TENANT,
    Pacing,
    RateLimits,
    loosened,
    pacing_with,
)
from holdfast.delivery.stores import Accounts, Message
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.rate_limiter import DAY_S, own_pacing, restore
from holdfast.runtime.view import View
from holdfast.session.state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Restrictions:
    """The limits of an account as they are now, for people."""

    pacing: Pacing
    new_in_last_day: int
    reach_out_until: str | None
    quota_until: str | None
    tight_until: str | None
    hold_code: str | None
    """The restriction that holds messages to new contacts now; None when there is none."""
    hold_until: str | None


class AccountLimits:
    """Reads the store, so every process gives the same answer."""

    def __init__(self, gateway: Gateway, accounts: Accounts, *, default: Pacing, clock: Clock) -> None:
        self._gateway = gateway
        self._accounts = accounts
        self._default = default
        self._clock = clock

    async def restrictions(self, company: str) -> Restrictions:
        """What this company may send now. Raises `NotFound`."""
        await self._gateway.require(company)
        now = self._clock.now()
        account = await self._accounts.account(company, since=iso(now - timedelta(seconds=DAY_S)))
        tight, locked, quota = (
            _if_ahead(at, now) for at in (account.tight_until, account.reach_out_until, account.quota_until)
        )
        pacing = own_pacing(account, self._default)
        pacing = pacing if tight is None else pacing.tightened
        limits = RateLimits(pacing, jitter=lambda: 0.0)
        restore(limits, account, self._clock)
        hold = limits.hold(self._clock.monotonic())
        return Restrictions(
            pacing=pacing,
            new_in_last_day=len(account.first_contacts),
            reach_out_until=locked,
            quota_until=quota,
            tight_until=tight,
            hold_code=None if hold is None else hold.code,
            hold_until=None if hold is None else iso(to_wall(self._clock, hold.until)),
        )

    async def stored_pacing(self, company: str) -> Content:
        """How the pacing of this company differs from the settings, as it was set; a tenant's figures as `TENANT`."""
        account = await self._accounts.account(company, since=iso(self._clock.now()))
        return account.pacing or {}

    async def set_pacing(self, company: str, pacing: Content | None) -> None:
        """Store how the pacing of this company differs from the settings; None removes all differences."""
        await self._gateway.require(company)
        await self._accounts.set_pacing(company, pacing)
        await self._changed(company)

    async def set_tenant_pacing(self, company: str, pacing: Content) -> None:
        """Store the figures of a tenant beside those of the operator."""
        await self._gateway.require(company)
        await self._accounts.set_tenant_pacing(company, pacing)
        await self._changed(company)

    async def _changed(self, company: str) -> None:
        if actor := self._gateway.find(company):
            await actor.work.sender.account_changed()

    async def check_tenant_pacing(self, company: str, proposed: Content) -> None:
        """A tenant can only tighten what the operator set, in the settings or for this company.

        Raises `BadInput`, naming the first figure that would lift a limit.
        """
        account = await self._accounts.account(company, since=iso(self._clock.now()))
        operators = {name: value for name, value in (account.pacing or {}).items() if name != TENANT}
        figure = loosened(pacing_with(self._default, operators), proposed)
        if figure is not None:
            raise BadInput(
                f"pacing.{figure} is {proposed[figure]}, which is above the operator's limit: this API key can only "
                "tighten the limits; an API key for all companies can set others",
                field=f"pacing.{figure}",
            )


def _if_ahead(at: str | None, now: datetime) -> str | None:
    return at if at is not None and datetime.fromisoformat(at) > now else None


_OF_MESSAGES = {
    REACH_OUT_LOCK: "WhatsApp accepts no messages to new contacts from this number for now; known chats are not "
    "affected",
    NEW_CHAT_QUOTA: "WhatsApp's quota of new chats is used up for this number; known chats are not affected",
    DAILY_LIMIT: "this number has written to as many new contacts as are allowed in 24 hours; known chats are not "
    "affected",
}
_OF_STATES = {
    State.UNPAIRED: "no phone is linked: scan a QR code",
    State.PAIRING: "no phone is linked yet: scan the QR code",
    State.CONNECTING: "the session is connecting",
    State.RECONNECTING: "the session is reconnecting",
    State.PAUSED: "the session is paused",
    State.LOGGED_OUT: "the device was logged out: scan a QR code",
    State.STOPPED: "the session is stopped: start it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldNotice:
    """Why a message waits."""

    code: str
    """Stable: that of a hold, or the session's state."""
    sentence: str
    until: str | None
    """Known end of it, ISO 8601."""


def hold_notice(message: Message, view: View | None, restrictions: Restrictions | None = None) -> HoldNotice | None:
    """Why a message waits: WhatsApp, a limit, or the state of its session; None when nothing holds it.

    `view` is the session as it is now, `restrictions` are its account's; None if they are unknown.
    """
    if message.state not in OPEN:
        return None
    if message.held_code in _OF_MESSAGES:
        return HoldNotice(code=message.held_code, sentence=_OF_MESSAGES[message.held_code], until=message.held_until)
    if message.is_to_new_contact and restrictions is not None and restrictions.hold_code is not None:
        code = restrictions.hold_code
        return HoldNotice(code=code, sentence=_OF_MESSAGES[code], until=restrictions.hold_until)
    if view is None or view.record.state not in _OF_STATES:
        return None
    state, reason = view.record.state, view.session.shown_reason
    sentence = _OF_STATES[state] if reason is None else f"{_OF_STATES[state]} – {reason.sentence}"
    return HoldNotice(code=state.value, sentence=sentence, until=iso(view.next_attempt_at))
