"""The life of a message: every state with every status update, and the meaning of errors."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.delivery.message import (
    CLOSE_POINTS,
    CRASH_POINTS,
    ENGINE_ATTEMPTS,
    MOVES,
    OPEN,
    GiveUp,
    HoldBack,
    MessageState,
    Retry,
    StatusUpdate,
    advance,
    is_condemned,
    is_suspect,
    judge_ack_error,
    judge_refusal,
)
from holdfast.delivery.rate_limits import NEW_CHAT_QUOTA, REACH_OUT_LOCK

S, N = MessageState, StatusUpdate

_UPDATES: Final = [
    N.HANDED_OVER, N.ACKED, N.DELIVERED, N.READ, N.PLAYED, N.GIVEN_UP, N.EXPIRED, N.CANCELLED,
]  # fmt: skip
_TABLE: Final = {
    # state       handed over  acked    delivered    read     played    given up   expired    cancelled
    S.QUEUED:    [S.SENDING,   S.SENT,  S.DELIVERED, S.READ,  S.PLAYED, S.FAILED,  S.EXPIRED, S.CANCELLED],
    S.SENDING:   [S.SENDING,   S.SENT,  S.DELIVERED, S.READ,  S.PLAYED, S.FAILED,  S.SENDING, S.SENDING],
    S.SENT:      [S.SENT,      S.SENT,  S.DELIVERED, S.READ,  S.PLAYED, S.SENT,    S.SENT,    S.SENT],
    S.DELIVERED: [S.DELIVERED, S.DELIVERED, S.DELIVERED, S.READ, S.PLAYED, S.DELIVERED, S.DELIVERED, S.DELIVERED],
    S.READ:      [S.READ,      S.READ,  S.READ,      S.READ,  S.PLAYED, S.READ,    S.READ,    S.READ],
    S.PLAYED:    [S.PLAYED] * 8,
    S.FAILED:    [S.FAILED,    S.SENT,  S.DELIVERED, S.READ,  S.PLAYED, S.FAILED,  S.FAILED,  S.FAILED],
    S.EXPIRED:   [S.EXPIRED] * 8,
    S.CANCELLED: [S.CANCELLED, S.SENT,  S.DELIVERED, S.READ,  S.PLAYED, S.CANCELLED, S.CANCELLED, S.CANCELLED],
}  # fmt: skip

BAD_CONTENT = "the engine can't make a WhatsApp message of this content"

_KNOWN = [S.QUEUED, S.SENDING, S.FAILED, S.SENT, S.DELIVERED, S.READ, S.PLAYED]
"""In the order of what is known about delivery, from least to most."""


@pytest.mark.parametrize(
    ("state", "update", "after"),
    [(state, update, after) for state, row in _TABLE.items() for update, after in zip(_UPDATES, row, strict=True)],
)
def test_each_state_handles_each_update(state: MessageState, update: StatusUpdate, after: MessageState) -> None:
    """Transitions are those of the table above, and no others."""
    assert advance(state, update) is after


def test_the_table_is_whole() -> None:
    """No state and no update is missing, here or in the code."""
    assert set(_TABLE) == set(MOVES) == set(MessageState)
    assert set(_UPDATES) == set(StatusUpdate)


@given(st.sampled_from(MessageState), st.lists(st.sampled_from(StatusUpdate)))
def test_a_known_arrival_is_never_lost(state: MessageState, history: list[StatusUpdate]) -> None:
    """Updates in any order never move a message back, nor out of `expired`."""
    for update in history:
        after = advance(state, update)
        if state is S.EXPIRED:
            assert after is state
        elif state is S.CANCELLED:
            assert after in {S.CANCELLED, S.SENT, S.DELIVERED, S.READ, S.PLAYED}
        elif after not in {S.EXPIRED, S.CANCELLED}:
            assert _KNOWN.index(after) >= _KNOWN.index(state)
        state = after


@given(st.lists(st.sampled_from([N.ACKED, N.DELIVERED, N.READ, N.PLAYED, N.GIVEN_UP, N.HANDED_OVER]), min_size=1))
def test_acks_and_receipts_lead_to_the_same_state_in_any_order(history: list[StatusUpdate]) -> None:
    """WhatsApp guarantees no order between acks and receipts."""

    def end(order: list[StatusUpdate]) -> MessageState:
        state = S.SENDING
        for update in order:
            state = advance(state, update)
        return state

    assert end(history) is end(history[::-1])


def test_only_messages_that_may_still_be_sent_are_open() -> None:
    """The queue in the outbox uses this set."""
    assert {S.QUEUED, S.SENDING} == OPEN


@pytest.mark.parametrize(
    ("code", "attempts", "sentence"),
    [
        ("479", 2, "WhatsApp does not accept the message for the recipient's devices (ack error 479)"),
        ("403", 1, "WhatsApp does not allow this account to write to this chat (ack error 403)"),
        ("400", 1, "WhatsApp could not read the message (ack error 400)"),
    ],
)
def test_a_definite_refusal_settles_a_message(code: str, attempts: int, sentence: str) -> None:
    """The sentence says why."""
    assert judge_ack_error(code, attempts=attempts) == GiveUp(sentence=sentence)


@pytest.mark.parametrize(
    ("code", "attempts", "after_s"),
    [
        *(("500", 1, 2), ("503", 3, 8), ("503", 6, 64), ("503", 5000, 600), ("479", 1, 2)),
        *(("408", 1, 2), ("429", 2, 4), ("599", 1, 2), ("987", 1, 2), ("a word of tomorrow", 1, 2)),
    ],
)
def test_every_other_ack_error_is_retried(code: str, attempts: int, after_s: float) -> None:
    """Each pause is longer, up to ten minutes, for rate limits, WhatsApp's own problems and unknown codes."""
    verdict = judge_ack_error(code, attempts=attempts)
    assert isinstance(verdict, Retry)
    assert (verdict.after_s, verdict.is_general) == (after_s, code != "479")
    assert verdict.message.endswith(f"(ack error {code})")


@pytest.mark.parametrize(("code", "lock"), [("463", REACH_OUT_LOCK), ("475", NEW_CHAT_QUOTA)])
def test_a_lock_on_new_contacts_holds_the_message(code: str, lock: str) -> None:
    """The lock says nothing about the message or its recipient."""
    verdict = judge_ack_error(code, attempts=1)
    assert isinstance(verdict, HoldBack)
    assert verdict.code == lock


@pytest.mark.parametrize(
    ("code", "detail", "attempts", "sentence"),
    [
        ("not-on-whatsapp", "", 1, "this number is not on WhatsApp"),
        ("not-on-whatsapp", "the number is not on WhatsApp", 1, "this number is not on WhatsApp"),
        ("bad-content", "no text", 1, f"{BAD_CONTENT}: no text"),
        ("engine-error", "boom", ENGINE_ATTEMPTS, "the engine failed 5 times to make the message: boom"),
    ],
)
def test_a_message_that_the_engine_cannot_send_fails_with_a_reason(
    code: str, detail: str, attempts: int, sentence: str
) -> None:
    """A failing engine settles a message after five attempts in a row."""
    assert judge_refusal(code, detail, attempts=attempts) == GiveUp(sentence=sentence)


@pytest.mark.parametrize(
    ("code", "detail", "attempts", "after_s", "message"),
    [
        ("link-down", "", 1, 1, "the engine could not send the message (link-down)"),
        ("timeout", "", 4, 8, "the engine could not send the message (timeout)"),
        ("timeout", "", 5000, 600, "the engine could not send the message (timeout)"),
        ("engine-error", "boom", ENGINE_ATTEMPTS - 1, 8, "the engine could not send the message (engine-error): boom"),
        ("rate-limited", "usync", 1, 1, "WhatsApp limits the session's requests: usync"),
        ("a word of tomorrow", "", 1, 1, "the engine could not send the message (a word of tomorrow)"),
    ],
)
def test_other_refusals_of_the_engine_are_retried(
    code: str, detail: str, attempts: int, after_s: float, message: str
) -> None:
    """A retry is safe, because nothing was sent."""
    assert judge_refusal(code, detail, attempts=attempts) == Retry(after_s=after_s, message=message)


def test_a_pause_of_the_engine_counts() -> None:
    """The engine's own pause is used, up to an upper bound."""
    for retry_after_s, after_s in ((7.5, 7.5), (1e9, 600)):
        verdict = judge_refusal("rate-limited", "usync", attempts=9, retry_after_s=retry_after_s)
        assert isinstance(verdict, Retry)
        assert verdict.after_s == after_s


def test_a_message_becomes_suspect_before_it_is_given_up() -> None:
    """Two lost hosts or stream errors make it a suspect and five make it fail; links that were just closed count
    half."""
    scores = [CRASH_POINTS * n for n in range(1, 6)]
    assert [is_suspect(score) for score in scores] == [False, True, True, True, True]
    assert [is_condemned(score) for score in scores] == [False, False, False, False, True]
    assert CLOSE_POINTS * 2 == CRASH_POINTS
