"""The passkey ceremony of one session, for callers: the challenge, and their answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from holdfast.base.clock import Clock
from holdfast.base.errors import Conflict, Fault, HoldfastError, NotFound
from holdfast.session import engine, events
from holdfast.session.assertions import BadAssertion, checked, lifetime_s
from holdfast.session.state import PasskeyStep, Policy

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passkey:
    """A passkey challenge that waits for an answer, or was just answered."""

    options: Mapping[str, object]
    """In the form that `PublicKeyCredential.parseRequestOptionsFromJSON` expects."""
    expires_at: datetime
    step: PasskeyStep = PasskeyStep.SIGN
    code: str | None = None
    """The code that the phone shows too, once WhatsApp accepted the signature."""


class PasskeyTimedOut(HoldfastError):
    """WhatsApp did not continue after it got the assertion."""

    code = "passkey-timeout"
    fault = Fault.WHATSAPP


class PasskeyNotFollowed(PasskeyTimedOut):
    """WhatsApp continued in a way that this version does not understand."""

    code = "passkey-failed"


class PasskeyLinkEnded(PasskeyTimedOut):
    """The connection to WhatsApp ended while WhatsApp checked the assertion."""

    code = "passkey-link-ended"


_AGAIN = "ask for a new QR code or pairing code and start again"
_SIGN_NEWEST = "fetch the challenge again and sign the new one"
Finished = engine.PasskeyContinued | engine.PasskeyFailed


class PasskeyRelay:
    """Connects callers, the engine and the session machine during one ceremony."""

    def __init__(
        self,
        company: str,
        *,
        clock: Clock,
        policy: Policy,
        command: Callable[[Callable[[engine.LinkId], engine.AnyCommand]], None],
        post: Callable[[Callable[[int], events.Event]], None],
    ) -> None:
        """`command` reaches the engine link and `post` the session machine; both do nothing while there is no link."""
        self._company = company
        self._clock = clock
        self._policy = policy
        self._command = command
        self._post = post
        self._waiting: asyncio.Future[Finished] | None = None
        self.now: Passkey | None = None

    # What the engine reports.

    def handle(self, report: engine.PasskeyRequested | Finished) -> None:
        match report:
            case engine.PasskeyRequested(options=options):
                self._requested(options)
            case engine.PasskeyContinued(code=code, confirm=confirm):
                step = PasskeyStep.COMPARE if confirm else PasskeyStep.FINISH
                if self.now is not None:
                    self.now = replace(self.now, step=step, code=code)
                self._finish(report)
            case engine.PasskeyFailed(code=code, detail=detail):
                log.warning("Session %s: linking with a passkey failed (%s): %r", self._company, code, detail)
                self._finish(report)

    def _requested(self, options: Mapping[str, object]) -> None:
        lasts_s = lifetime_s(options)
        event_lasts_s = min(max(lasts_s, self._policy.passkey_step_s), self._policy.passkey_challenge_s)
        self.now = Passkey(options=options, expires_at=self._clock.now() + timedelta(seconds=event_lasts_s))
        self._finish(engine.PasskeyFailed(link=0, code="asked-again"))

    def link_ended(self, reason: str | None) -> None:
        """The link of the ceremony ended, for the reason of this name, or the device is linked."""
        self.now = None
        self._finish(engine.PasskeyFailed(link=0, code=reason or ""))

    def _finish(self, report: Finished) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(report)

    # Requests of callers.

    def shown(self) -> Passkey:
        """The challenge that the owner must sign. Raises `NotFound`."""
        if self.now is None or self.now.step is not PasskeyStep.SIGN:
            raise NotFound(
                f"WhatsApp does not ask company {self._company} for a passkey now: it does so after a code was "
                "scanned or typed, if the account requires it"
            )
        return self.now

    async def answer(self, assertion: Mapping[str, object]) -> Passkey:
        """Pass an assertion to WhatsApp, and wait until WhatsApp continues.

        Raises `Conflict` without a challenge, `BadAssertion`, and `PasskeyTimedOut`.
        """
        asked = self.now
        if asked is None or asked.step is not PasskeyStep.SIGN:
            raise Conflict(f"WhatsApp does not ask company {self._company} for a passkey now: {_AGAIN}")
        taken = checked(assertion, asked.options)
        self.now = replace(asked, step=PasskeyStep.SENT)
        self._waiting = asyncio.get_running_loop().create_future()
        self._command(lambda link: engine.AnswerPasskey(link=link, assertion=taken))
        self._post(events.PasskeyAnswered)
        report = await self._waiting
        if isinstance(report, engine.PasskeyFailed):
            raise _refusal(report.code)
        return replace(asked, step=PasskeyStep.COMPARE if report.confirm else PasskeyStep.FINISH, code=report.code)

    def confirm(self) -> None:
        """A person compared the codes, and they are the same. Raises `Conflict`."""
        self._check_compare()
        assert self.now is not None
        self.now = replace(self.now, step=PasskeyStep.FINISH)
        self._command(lambda link: engine.ConfirmPasskey(link=link))
        self._post(events.PasskeyConfirmed)

    def mismatch(self) -> None:
        """A person compared the codes, and they differ. Raises `Conflict`."""
        self._check_compare()
        self._post(lambda link: events.PasskeyDeclined(link, "passkey-code-mismatch"))

    def decline(self) -> None:
        """The person ends the ceremony. Raises `Conflict`."""
        if self.now is None:
            raise Conflict(f"WhatsApp does not ask company {self._company} for a passkey now")
        self._post(lambda link: events.PasskeyDeclined(link, "passkey-declined"))

    def _check_compare(self) -> None:
        if self.now is None or self.now.step is not PasskeyStep.COMPARE:
            raise Conflict(f"company {self._company} has no code to compare now")


def _refusal(code: str) -> HoldfastError:
    """The error for a caller whose assertion did not succeed; `code` is the name of the reason."""
    match code:
        case "passkey-refused":
            return BadAssertion(
                f"WhatsApp did not accept this signature: sign with a passkey of this account; {_AGAIN}"
            )
        case "passkey-declined":
            return Conflict(f"signing was cancelled while WhatsApp checked the signature: {_AGAIN}")
        case "passkey-expired":
            return Conflict(f"WhatsApp's request for a passkey ended before the signature reached it: {_AGAIN}")
        case "asked-again":
            return Conflict(f"WhatsApp asked for a passkey again while it checked the signature: {_SIGN_NEWEST}")
        case "passkey-timeout":
            return PasskeyTimedOut(f"WhatsApp did not continue after the signature: {_AGAIN}")
        case "passkey-failed" | "passkey-unreadable":
            return PasskeyNotFollowed(
                f"WhatsApp's passkey exchange can't be followed: it may have changed. Update Holdfast, then {_AGAIN}"
            )
        case _:
            return PasskeyLinkEnded(f"the connection to WhatsApp ended while it checked the signature: {_AGAIN}")
