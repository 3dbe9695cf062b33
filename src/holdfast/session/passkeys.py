"""Rules of the session machine while a person links a phone whose account requires a passkey.

The state stays `pairing`. Each step of the ceremony has its own deadline, in case the person leaves or WhatsApp stops
answering. However the ceremony fails, its link is cut and the session waits until somebody asks for a new code: the
next link starts from the beginning.
"""

from __future__ import annotations

from dataclasses import replace

from holdfast.session import reasons
from holdfast.session.assertions import lifetime_s
from holdfast.session.engine import PasskeyContinued, PasskeyFailed, PasskeyRequested
from holdfast.session.events import PasskeyAnswered, PasskeyConfirmed, PasskeyDeclined
from holdfast.session.reasons import Reason
from holdfast.session.reconnect import Moment, Step, lose
from holdfast.session.state import PasskeyStep, Session

FAILURES = {
    "passkey-refused": reasons.PASSKEY_REFUSED,
    "passkey-timeout": reasons.PASSKEY_TIMEOUT,
    "passkey-declined": reasons.PASSKEY_DECLINED,
    "passkey-code-mismatch": reasons.PASSKEY_CODE_MISMATCH,
}


def requested(session: Session, event: PasskeyRequested, moment: Moment) -> Step:
    """Give the person as long as WhatsApp's challenge lives."""
    policy = moment.policy
    lasts_s = min(max(lifetime_s(event.options), policy.passkey_step_s), policy.passkey_challenge_s)
    return _at(replace(session, reason=reasons.PASSKEY_REQUIRED), PasskeyStep.SIGN, moment.now + lasts_s), ()


def answered(session: Session, _: PasskeyAnswered, moment: Moment) -> Step:
    """WhatsApp has the assertion and must continue."""
    return _moved(session, PasskeyStep.SIGN, PasskeyStep.SENT, moment, moment.policy.passkey_step_s)


def continued(session: Session, event: PasskeyContinued, moment: Moment) -> Step:
    """Wait for a person to compare the codes, or for WhatsApp to link the device."""
    if event.confirm:
        return _moved(session, PasskeyStep.SENT, PasskeyStep.COMPARE, moment, moment.policy.passkey_compare_s)
    return _moved(session, PasskeyStep.SENT, PasskeyStep.FINISH, moment, moment.policy.passkey_step_s)


def confirmed(session: Session, _: PasskeyConfirmed, moment: Moment) -> Step:
    """The codes are the same: WhatsApp has to link the device."""
    return _moved(session, PasskeyStep.COMPARE, PasskeyStep.FINISH, moment, moment.policy.passkey_step_s)


def failed(session: Session, event: PasskeyFailed | PasskeyDeclined, moment: Moment) -> Step:
    """Cut the link, whose ceremony can't be repeated."""
    return lose(session, FAILURES.get(event.code, reasons.PASSKEY_FAILED), moment)


def overdue(step: PasskeyStep) -> Reason:
    """The reason for giving up a ceremony at the deadline of this step."""
    return reasons.PASSKEY_EXPIRED if step in {PasskeyStep.SIGN, PasskeyStep.COMPARE} else reasons.PASSKEY_TIMEOUT


def _moved(session: Session, before: PasskeyStep, after: PasskeyStep, moment: Moment, lasts_s: float) -> Step:
    if session.link is None or session.link.passkey is not before:
        return session, ()
    return _at(session, after, moment.now + lasts_s), ()


def _at(session: Session, step: PasskeyStep, until: float) -> Session:
    assert session.link is not None
    return replace(session, link=replace(session.link, passkey=step, gives_up_at=until))
