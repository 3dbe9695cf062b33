"""The life of an operation: from the accepted request to an outcome that is known, or reported as unknown.

Decides only: values in, values out. `session/operations.py` has the kinds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from holdfast.session.operations import KINDS, Arguments, Done, Failure, NotDone, Undetermined

LONGEST_EXPIRY_S = 30 * 24 * 3600
MAX_OPEN = 1000
"""Operations of one company that are not settled."""
RETRY_FOR_DAYS = 7
"""An operation without an expiry fails when it has been postponed for this long."""
CONFIRM_AFTER_S = 15.0
"""An attempt whose connection ended can take effect a little later. Only what is still missing after so many seconds
was not done."""
_LONGEST_PAUSE_S = 600.0


class OperationState(StrEnum):
    QUEUED = "queued"
    """Not done: it waits for the link, for earlier operations of its target, or for its next attempt."""
    RUNNING = "running"
    """Given to an engine; the outcome is not known yet."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """WhatsApp refused it. It was not done."""
    EXPIRED = "expired"
    """Its time passed before it could be carried out. It was not done."""
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    """Whether it was done can't be found out. It is not tried again, because that could do it twice."""


OPEN = frozenset({OperationState.QUEUED, OperationState.RUNNING})


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationDraft:
    """A request that was checked: what is stored of it."""

    id: str
    company: str
    kind: str
    target: str
    arguments: Mapping[str, Any]
    request_hash: str
    idempotency_key: str | None = None
    expires_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An operation as it is stored. Times are ISO 8601 in UTC."""

    seq: int
    id: str
    company: str
    kind: str
    target: str
    """What it changes: the JID of a group or person, `groups` or `profile`. Operations of one target keep their
    order."""
    arguments: Mapping[str, Any]
    state: OperationState
    attempts: int
    accepted_at: str
    tried_at: str | None = None
    """When the last attempt began."""
    settled_at: str | None = None
    expires_at: str | None = None
    next_at: str | None = None
    """Not before this time."""
    observed: Any = None
    """What was observed at WhatsApp before the first attempt, for kinds that compare."""
    result: Any = None
    error_code: str | None = None
    error: str | None = None
    whatsapp_code: int | None = None
    """The code of WhatsApp's refusal."""
    retry_at: str | None = None
    retry_code: str | None = None
    retry_message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOperations:
    """What is to be done with a company's operations that are not settled."""

    heads: Sequence[Operation]
    """The first one of each target, for which the others wait; those that are due come first."""
    expired: Sequence[Operation]
    """Those whose time has passed, and that were certainly not done."""
    next_expiry: str | None
    """When the next one will expire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedOperation:
    operation: Operation
    is_new: bool
    """False: a request with this Idempotency-Key was accepted before."""


def draft(
    arguments: Arguments,
    *,
    company: str,
    id_: str,
    idempotency_key: str | None,
    now: datetime,
    expires_in_s: int | None,
    hashed: Mapping[str, Any] | None = None,
) -> OperationDraft:
    """`hashed`: as `request_hash` takes it."""
    values = msgspec.to_builtins(arguments)
    return OperationDraft(
        id=id_,
        company=company,
        kind=arguments.kind,
        target=arguments.target,
        arguments=values,
        request_hash=request_hash(arguments, hashed, expires_in_s=expires_in_s),
        idempotency_key=idempotency_key,
        expires_at=None if expires_in_s is None else _iso(now + timedelta(seconds=expires_in_s)),
    )


def request_hash(arguments: Arguments, hashed: Mapping[str, Any] | None, *, expires_in_s: int | None) -> str:
    """What a repeated request with the same Idempotency-Key has in common with the first one.

    `hashed`: the caller's own input, if the arguments are made from it and would differ in a repeated request.
    """
    given = arguments.hashed_arguments(msgspec.to_builtins(arguments)) if hashed is None else hashed
    identity = json.dumps([arguments.kind, given, expires_in_s], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()


def arguments_of(operation: Operation) -> Arguments:
    """Raises `KeyError` and `msgspec.ValidationError` for a row of another version."""
    return msgspec.convert(operation.arguments, KINDS[operation.kind])


def is_light(operation: Operation) -> bool:
    """Whether it is of a kind that is not paced, and reported only when it fails."""
    kind = KINDS.get(operation.kind)
    return kind is not None and kind.is_light


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An engine's answer about one step of an operation."""

    result: Any = None
    error: str | None = None
    """A word of the engine port; None: it was carried out."""
    whatsapp_code: int | None = None
    detail: str = ""
    retry_after_s: float | None = None


LINK_DOWN = Answer(error="link-down", detail="the connection ended before WhatsApp answered")
_REFUSALS = {
    400: "WhatsApp could not read the request",
    401: "WhatsApp does not allow it: the account may have been removed from this group, or is blocked",
    403: "WhatsApp does not allow it: the account is not a member of the group, or not an admin",
    404: "WhatsApp does not know this group, channel, person or invitation",
    405: "WhatsApp does not allow this here",
    406: "WhatsApp does not accept it",
    409: "it conflicts with the present state at WhatsApp, or was done before",
    410: "this invitation or group is gone",
    412: "WhatsApp's conditions for it are not met",
    413: "it is too large for WhatsApp",
    419: "WhatsApp's limit is reached: the group or the account can't have more",
    436: "WhatsApp does not accept it for this account",
}
"""WhatsApp's codes that settle an operation. Any other code is retried."""
_WORDS = {
    "not-found": (404, "WhatsApp knows nothing with this id"),
    "no-such-group": (404, "there is no such group, or the account is not in it"),
    "not-on-whatsapp": (404, "this number is not on WhatsApp"),
    "bad-content": (None, "the engine can't make a request of it"),
}
_PASSING = {
    "rate-limited": "WhatsApp limits how often the account may do this",
    "server-busy": "WhatsApp is busy",
    "timeout": "WhatsApp did not answer in time",
    "link-down": "the connection ended before WhatsApp answered",
    "engine-error": "the engine failed",
    "refused": "WhatsApp did not accept it for now",
    "file-not-written": "its file could not be written to Holdfast's disk",
}
_CERTAINLY_NOT_DONE = frozenset({"rate-limited", "file-not-written"})
_ENGINE_ATTEMPTS = 5


def began(operation: Operation, *, now: datetime) -> Operation:
    """It is given to the engine now."""
    return replace(
        operation,
        state=OperationState.RUNNING,
        attempts=operation.attempts + 1,
        tried_at=_iso(now),
        next_at=None,
    )


def answered(operation: Operation, arguments: Arguments, answer: Answer, *, now: datetime) -> Operation:
    """The operation after the engine's answer to an attempt."""
    if answer.error is None:
        return succeeded(operation, arguments, answer.result, now=now)
    if (failure := _failure(operation, answer)) is not None:
        if operation.attempts > 1 and answer.error == "refused" and answer.whatsapp_code in arguments.done_codes:
            return succeeded(operation, arguments, None, now=now)
        return failed(operation, failure, now=now)
    is_certain = answer.error in _CERTAINLY_NOT_DONE
    state = OperationState.QUEUED if is_certain else OperationState.RUNNING
    return put_off(replace(operation, state=state), answer, now=now)


def succeeded(operation: Operation, arguments: Arguments, result: Any, *, now: datetime) -> Operation:
    """`result` is the engine's."""
    shown = None if result is None else arguments.described(result)
    if (failure := None if shown is None else arguments.outcome(shown)) is not None:
        return replace(failed(operation, failure, now=now), result=shown)
    return _settle(operation, OperationState.SUCCEEDED, now=now, result=shown)


def failed(operation: Operation, failure: Failure, *, now: datetime) -> Operation:
    return _settle(
        operation,
        OperationState.FAILED,
        now=now,
        error_code=failure.code,
        error=failure.sentence,
        whatsapp_code=failure.whatsapp_code,
    )


def after_observation(operation: Operation, arguments: Arguments, answer: Answer, *, now: datetime) -> Operation | None:
    """The operation after an observation at WhatsApp; None: it was certainly not done, and is tried again now."""
    if answer.error is not None:
        return put_off(operation, answer, now=now)
    match arguments.judge(operation.observed, answer.result):
        case Done(result):
            return succeeded(operation, arguments, result, now=now)
        case Undetermined(sentence):
            return _settle(operation, OperationState.UNKNOWN, now=now, error_code="unknown-outcome", error=sentence)
        case NotDone():
            tried_at = now if operation.tried_at is None else datetime.fromisoformat(operation.tried_at)
            tried_at = min(tried_at, now)  # later than now: the wall clock was set back
            confirmed_at = tried_at + timedelta(seconds=CONFIRM_AFTER_S)
            if now < confirmed_at:
                return replace(operation, tried_at=_iso(tried_at), next_at=_iso(confirmed_at))
            if operation.expires_at is not None and _iso(now) >= operation.expires_at:
                return expired(operation, now=now)
            return None


def observing_failed(operation: Operation, answer: Answer, *, now: datetime) -> Operation:
    """The observation before the first attempt failed. Nothing was done."""
    if (failure := _failure(operation, answer)) is not None:
        return failed(operation, failure, now=now)
    return put_off(operation, answer, now=now)


def put_off(operation: Operation, answer: Answer, *, now: datetime) -> Operation:
    """Another attempt, or another observation, later."""
    reason = _PASSING.get(answer.error or "", "it could not be carried out")
    sentence = f"{reason} ({answer.detail})" if answer.detail and answer.error != "link-down" else reason
    if now - datetime.fromisoformat(operation.accepted_at) >= timedelta(days=RETRY_FOR_DAYS):
        return _give_up(operation, f"{sentence}; retried for {RETRY_FOR_DAYS} days", answer, now=now)
    code = answer.error if answer.whatsapp_code is None else str(answer.whatsapp_code)
    if answer.error == "link-down":
        return replace(operation, next_at=None)  # the next link is soon enough
    after_s = min(2.0 ** min(operation.attempts, 10), _LONGEST_PAUSE_S)
    if answer.retry_after_s is not None:
        after_s = min(max(after_s, answer.retry_after_s), _LONGEST_PAUSE_S)
    return replace(
        operation,
        next_at=_iso(now + timedelta(seconds=after_s)),
        retry_at=_iso(now),
        retry_code=code,
        retry_message=sentence,
    )


def expired(operation: Operation, *, now: datetime) -> Operation:
    return _settle(
        operation,
        OperationState.EXPIRED,
        now=now,
        error_code="expired",
        error="it expired before it could be carried out; nothing was changed",
    )


def _failure(operation: Operation, answer: Answer) -> Failure | None:
    """Only a definite refusal is final."""
    error, code = answer.error or "", answer.whatsapp_code
    if error in _WORDS:
        known, sentence = _WORDS[error]
        says_more = error in {"bad-content", "not-found"} and answer.detail
        return Failure(code=error, sentence=f"{sentence}: {answer.detail}" if says_more else sentence,
                       whatsapp_code=code if code is not None else known)  # fmt: skip
    if error == "refused" and code in _REFUSALS:
        detail = f", {answer.detail}" if answer.detail else ""
        return Failure(
            code="refused", sentence=f"{_REFUSALS[code]} (WhatsApp's code {code}{detail})", whatsapp_code=code
        )
    if error == "engine-error" and operation.attempts >= _ENGINE_ATTEMPTS:
        return Failure(code=error, sentence=f"the engine failed {operation.attempts} times: {answer.detail}")
    return None


def _give_up(operation: Operation, sentence: str, answer: Answer, *, now: datetime) -> Operation:
    """After too many days. What may have been done is unknown, not failed."""
    is_open_question = operation.state is OperationState.RUNNING
    return _settle(
        operation,
        OperationState.UNKNOWN if is_open_question else OperationState.FAILED,
        now=now,
        error_code="unknown-outcome" if is_open_question else answer.error,
        error=sentence,
        whatsapp_code=answer.whatsapp_code,
    )


def _settle(operation: Operation, state: OperationState, *, now: datetime, **changes: Any) -> Operation:
    return replace(operation, state=state, settled_at=_iso(now), next_at=None, **changes)


def body_of(operation: Operation) -> dict[str, object]:
    """An operation as the API and events show it."""
    error = None if operation.error_code is None else {
        "code": operation.error_code, "message": operation.error, "whatsappCode": operation.whatsapp_code
    }  # fmt: skip
    retries = None if operation.retry_code is None or operation.state not in OPEN else {
        "at": operation.retry_at, "code": operation.retry_code, "message": operation.retry_message
    }  # fmt: skip
    return {
        "id": operation.id,
        "companyId": operation.company,
        "kind": operation.kind,
        "target": operation.target,
        "state": operation.state.value,
        "attempts": operation.attempts,
        "acceptedAt": operation.accepted_at,
        "settledAt": operation.settled_at,
        "expiresAt": operation.expires_at,
        "result": operation.result,
        "error": error,
        "retries": retries,
    }


def must_observe(operation: Operation, arguments: Arguments) -> bool:
    """Before the first attempt, and after one without an answer."""
    return arguments.observes and (operation.observed is None or operation.state is OperationState.RUNNING)


def _iso(moment: datetime) -> str:
    """As `holdfast.base.clock.iso`, which a pure package can't import."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
