"""The life of an operation: what each answer means, what an observation shows, and when it is given up."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast.session import operation_states as states
from holdfast.session.operation_states import CONFIRM_AFTER_S, RETRY_FOR_DAYS, Answer, Operation, OperationState
from holdfast.session.operations import (
    AnswerRequests,
    Arguments,
    Block,
    ChangeMembers,
    CreateGroup,
    JoinGroup,
    LeaveGroup,
    RevokeInvite,
    SetPicture,
    UpdateGroup,
)

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
GROUP, ANNA = "120363012345678901@g.us", "962790000001@s.whatsapp.net"
CREATE = CreateGroup(subject="Flowers", members=[ANNA])


def stored(arguments: Arguments, **changes: Any) -> Operation:
    made = states.draft(arguments, company="962302", id_="op_1", idempotency_key=None, now=NOW, expires_in_s=None)
    return Operation(
        seq=1,
        id=made.id,
        company=made.company,
        kind=made.kind,
        target=made.target,
        arguments=made.arguments,
        state=changes.pop("state", OperationState.QUEUED),
        attempts=changes.pop("attempts", 0),
        accepted_at="2026-11-28T12:00:00.000Z",
        **changes,
    )


def running(arguments: Arguments, **changes: Any) -> Operation:
    return replace(states.began(stored(arguments), now=NOW), **changes)


@pytest.mark.parametrize(
    ("answer", "state", "code"),
    [
        (Answer(result={"blocked": True}), "succeeded", None),
        (Answer(error="refused", whatsapp_code=403), "failed", "refused"),
        (Answer(error="refused", whatsapp_code=410, detail="gone"), "failed", "refused"),
        (Answer(error="not-on-whatsapp"), "failed", "not-on-whatsapp"),
        (Answer(error="no-such-group"), "failed", "no-such-group"),
        (Answer(error="bad-content", detail="why"), "failed", "bad-content"),
        (Answer(error="rate-limited", retry_after_s=30), "queued", None),
        (Answer(error="file-not-written", detail="No space left on device"), "queued", None),
        (Answer(error="server-busy"), "running", None),
        (Answer(error="timeout"), "running", None),
        (Answer(error="link-down"), "running", None),
        (Answer(error="engine-error", detail="bug"), "running", None),
        (Answer(error="refused", whatsapp_code=599), "running", None),
        (Answer(error="a word of a later version"), "running", None),
    ],
)
def test_only_a_definite_refusal_is_final(answer: Answer, state: str, code: str | None) -> None:
    """Everything else is tried again, and only after a limit it certainly was not done."""
    found = states.answered(running(Block(jid=ANNA, blocked=True)), Block(jid=ANNA, blocked=True), answer, now=NOW)
    assert (found.state, found.error_code) == (state, code)
    assert (found.settled_at is None) is (state in {"queued", "running"})
    if state == "failed":
        assert found.error


def test_an_engine_that_always_fails_settles_it() -> None:
    """After five attempts; nobody would notice an endless retry of a bug."""
    operation = running(Block(jid=ANNA, blocked=True), attempts=5)
    answer = Answer(error="engine-error", detail="bug")
    assert states.answered(operation, Block(jid=ANNA, blocked=True), answer, now=NOW).state == "failed"


@pytest.mark.parametrize(
    ("attempts", "retry_after_s", "seconds"),
    [(1, None, 2), (3, None, 8), (1, 30.0, 30), (99, None, 600), (1, 9e9, 600)],
)
def test_pauses_grow_and_follow_the_limit(attempts: int, retry_after_s: float | None, seconds: float) -> None:
    """Two, four, eight seconds, at least what WhatsApp's limit lasts, and ten minutes at most."""
    answer = Answer(error="server-busy", retry_after_s=retry_after_s)
    found = states.put_off(running(CREATE, attempts=attempts), answer, now=NOW)
    assert found.next_at is not None
    assert datetime.fromisoformat(found.next_at) - NOW == timedelta(seconds=seconds)


def test_an_operation_is_given_up_after_some_days() -> None:
    """What may have been done is unknown; what certainly was not has failed."""
    late = NOW + timedelta(days=RETRY_FOR_DAYS)
    assert states.put_off(running(CREATE), Answer(error="timeout"), now=late).state == "unknown"
    assert states.put_off(stored(CREATE), Answer(error="rate-limited"), now=late).state == "failed"


def test_a_lost_creation_is_queried_twice() -> None:
    """Nothing found soon after the attempt is observed again; still nothing later means that it was not done."""
    operation = running(CREATE, observed=[{"id": "old"}])
    answer = Answer(result=[{"id": "old"}])
    again = states.after_observation(operation, CREATE, answer, now=NOW)
    assert again is not None
    assert again.next_at is not None
    later = NOW + timedelta(seconds=CONFIRM_AFTER_S)
    assert states.after_observation(operation, CREATE, answer, now=later) is None
    expired = replace(operation, expires_at="2026-11-28T12:00:01.000Z")
    found = states.after_observation(expired, CREATE, answer, now=later)
    assert found is not None
    assert found.state == "expired"
    assert states.after_observation(operation, CREATE, Answer(error="timeout"), now=NOW) != operation


def test_a_clock_that_was_set_back_delays_no_confirmation() -> None:
    """The attempt seems to be in the future: the seconds after which it is confirmed begin now."""
    operation = running(CREATE, observed=[])
    days_before = NOW - timedelta(days=3)
    again = states.after_observation(operation, CREATE, Answer(result=[]), now=days_before)
    assert again is not None
    later = days_before + timedelta(seconds=CONFIRM_AFTER_S)
    assert again.next_at == later.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert states.after_observation(again, CREATE, Answer(result=[]), now=later) is None


@pytest.mark.parametrize(
    ("arguments", "before", "after", "state"),
    [
        (CREATE, [{"id": "old"}], [{"id": "old"}, {"id": "new", "members": [{"jid": ANNA}]}], "succeeded"),
        (CREATE, [], [{"id": "new"}, {"id": "newer"}], "unknown"),
        (SetPicture(media_id="med_1"), {"id": None}, {"id": "P1"}, "succeeded"),
        (SetPicture(media_id="med_1"), {"id": "P1"}, {"id": "P1"}, None),
        (SetPicture(media_id="med_1"), {"id": "P1"}, {"id": None}, None),
        (SetPicture(), {"id": "P1"}, {"id": None}, "succeeded"),
        (SetPicture(), {"id": "P1"}, {"id": "P1"}, None),
        (RevokeInvite(group=GROUP), {"code": "A"}, {"code": "B"}, "succeeded"),
        (RevokeInvite(group=GROUP), {"code": "A"}, {"code": "A"}, None),
    ],
)
def test_an_observation_shows_whether_it_was_done(
    arguments: Arguments, before: Any, after: Any, state: str | None
) -> None:
    """None: it was not done, and is tried again."""
    later = NOW + timedelta(seconds=CONFIRM_AFTER_S)
    found = states.after_observation(running(arguments, observed=before), arguments, Answer(result=after), now=later)
    assert (None if found is None else found.state) == state


def test_a_failed_first_observation_defers_or_settles_it() -> None:
    """Nothing was done yet, so it stays queued."""
    off = states.observing_failed(stored(CREATE), Answer(error="server-busy"), now=NOW)
    assert (off.state, off.retry_code) == ("queued", "server-busy")
    refused = states.observing_failed(stored(CREATE), Answer(error="refused", whatsapp_code=403), now=NOW)
    assert refused.state == "failed"


@pytest.mark.parametrize(("attempts", "state"), [(1, "failed"), (2, "succeeded")])
@pytest.mark.parametrize(("arguments", "code"), [(LeaveGroup(group=GROUP), 404), (JoinGroup(code="A"), 409)])
def test_a_repeated_attempt_may_find_it_done(arguments: Arguments, code: int, attempts: int, state: str) -> None:
    """Having left, or joined, already is a refusal the first time and the proof of success after a lost answer."""
    answer = Answer(error="refused", whatsapp_code=code)
    assert states.answered(running(arguments, attempts=attempts), arguments, answer, now=NOW).state == state


def test_each_person_has_an_answer() -> None:
    """Done before counts as done; if nobody's was accepted, the operation failed."""
    members = ChangeMembers(group=GROUP, add=[ANNA])
    both = {"add": [{"jid": "a", "code": 409}, {"jid": "b", "code": 999}], "remove": [{"jid": "c", "code": 404}]}
    found = states.succeeded(running(members), members, both, now=NOW)
    assert [row["done"] for rows in found.result.values() for row in rows] == [True, False, True]
    requests = AnswerRequests(group=GROUP, approve=[ANNA])
    refused = states.succeeded(running(requests), requests, {"approve": [{"jid": ANNA, "code": 404}]}, now=NOW)
    assert (refused.state, refused.error_code, refused.whatsapp_code) == ("failed", "members-refused", 404)


def test_targets_identify_the_changed_object() -> None:
    """Operations with one target keep their order."""
    kinds = [CREATE, UpdateGroup(group=GROUP), SetPicture(), SetPicture(jid=GROUP), JoinGroup(code="A"), Block(
        jid=ANNA, blocked=True
    )]  # fmt: skip
    assert [each.target for each in kinds] == ["groups", GROUP, "profile", GROUP, "groups", ANNA]
    assert (SetPicture(media_id="m").medium, CREATE.medium) == ("m", None)


def test_the_same_request_has_the_same_hash() -> None:
    """Another subject or another expiry is another request."""

    def hash_of(subject: str, expires_in_s: int | None) -> str:
        arguments = CreateGroup(subject=subject, members=[ANNA])
        made = states.draft(arguments, company="c", id_="x", idempotency_key="k", now=NOW, expires_in_s=expires_in_s)
        return made.request_hash

    assert hash_of("a", None) == hash_of("a", None)
    assert len({hash_of("a", None), hash_of("b", None), hash_of("a", 5)}) == 3
