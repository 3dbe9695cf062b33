"""A message's life: every state with every piece of news, and what errors mean."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.delivery.message import (
    ENGINE_TRIES,
    MOVES,
    OPEN,
    GiveUp,
    HoldBack,
    MessageState,
    News,
    Retry,
    Verdict,
    advance,
    judge_ack_error,
    judge_refusal,
)

S, N = MessageState, News

_NEWS: Final = [
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
    S.CANCELLED: [S.CANCELLED] * 8,
}  # fmt: skip

BAD_CONTENT = "the engine can't make a WhatsApp message of this content"

_KNOWN = [S.QUEUED, S.SENDING, S.FAILED, S.SENT, S.DELIVERED, S.READ, S.PLAYED]
"""From knowing least about an arrival to knowing most."""


@pytest.mark.parametrize(
    ("state", "news", "after"),
    [(state, news, after) for state, row in _TABLE.items() for news, after in zip(_NEWS, row, strict=True)],
)
def test_each_state_takes_each_piece_of_news(state: MessageState, news: News, after: MessageState) -> None:
    """As in the table above, and in no other way."""
    assert advance(state, news) is after


def test_the_table_is_whole() -> None:
    """No state and no news is left out, here or in the code."""
    assert set(_TABLE) == set(MOVES) == set(MessageState)
    assert set(_NEWS) == set(News)


@given(st.sampled_from(MessageState), st.lists(st.sampled_from(News)))
def test_what_is_known_of_an_arrival_is_never_unlearned(state: MessageState, history: list[News]) -> None:
    """Whatever comes in whatever order: never back, and out of `expired` and `cancelled` never at all."""
    for news in history:
        after = advance(state, news)
        if state in {S.EXPIRED, S.CANCELLED}:
            assert after is state
        elif after not in {S.EXPIRED, S.CANCELLED}:
            assert _KNOWN.index(after) >= _KNOWN.index(state)
        state = after


@given(st.lists(st.sampled_from([N.ACKED, N.DELIVERED, N.READ, N.PLAYED, N.GIVEN_UP, N.HANDED_OVER]), min_size=1))
def test_acks_and_receipts_lead_to_the_same_state_in_any_order(history: list[News]) -> None:
    """WhatsApp promises no order between acks and receipts."""

    def end(order: list[News]) -> MessageState:
        state = S.SENDING
        for news in order:
            state = advance(state, news)
        return state

    assert end(history) is end(history[::-1])


def test_only_what_may_still_be_sent_is_open() -> None:
    """`begin` and the loading of the outbox go by this."""
    assert {S.QUEUED, S.SENDING} == OPEN


@pytest.mark.parametrize(
    ("code", "attempts", "verdict"),
    [
        ("500", 1, Retry(after_s=2)),
        ("503", 3, Retry(after_s=8)),
        ("503", 6, Retry(after_s=60)),
        ("503", 5000, Retry(after_s=60)),
        ("479", 1, Retry(after_s=2)),
        ("479", 2, GiveUp(sentence="WhatsApp does not accept the message for the recipient's devices (ack error 479)")),
        ("463", 1, HoldBack()),
        ("475", 1, GiveUp(sentence="the recipient's phone number is not accepted by WhatsApp (ack error 475)")),
        ("403", 1, GiveUp(sentence="WhatsApp does not allow this account to write to this chat (ack error 403)")),
        ("400", 1, GiveUp(sentence="WhatsApp could not read the message (ack error 400)")),
        ("987", 1, GiveUp(sentence="WhatsApp refused the message (ack error 987)")),
    ],
)  # fmt: skip
def test_an_ack_error_means_a_retry_or_the_end(code: str, attempts: int, verdict: Verdict) -> None:
    """A busy server is asked again for ever, a stale device session once, a lock never."""
    assert judge_ack_error(code, attempts=attempts) == verdict


@pytest.mark.parametrize(
    ("code", "detail", "attempts", "verdict"),
    [
        ("not-on-whatsapp", "", 1, GiveUp(sentence="this number is not on WhatsApp")),
        ("not-on-whatsapp", "the number is not on WhatsApp", 1, GiveUp(sentence="this number is not on WhatsApp")),
        ("bad-content", "no text", 1, GiveUp(sentence=f"{BAD_CONTENT}: no text")),
        ("link-down", "", 1, Retry(after_s=1)),
        ("timeout", "", 4, Retry(after_s=8)),
        ("timeout", "", 5000, Retry(after_s=60)),
        ("engine-error", "boom", ENGINE_TRIES - 1, Retry(after_s=8)),
        ("engine-error", "boom", ENGINE_TRIES, GiveUp(sentence="the engine failed 5 times to make the message: boom")),
        ("a word of tomorrow", "", 1, Retry(after_s=1)),
    ],
)  # fmt: skip
def test_a_refusal_means_a_retry_or_the_end(code: str, detail: str, attempts: int, verdict: Verdict) -> None:
    """What can't ever be sent ends with a sentence; the rest is tried again, an engine that fails five times."""
    assert judge_refusal(code, detail, attempts=attempts) == verdict
