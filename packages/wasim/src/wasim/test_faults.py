"""Faults: the effect of each kind, the affected accounts, and the duration."""

from __future__ import annotations

import pytest

from wasim.faults import KINDS, MOMENTARY, BadFault, FaultRequest, Faults, MediaVerdict, parse_fault
from wasim.server.fault_hooks import (
    MESSAGE_ACCEPTED,
    MESSAGE_DELIVERED,
    DeliveryVerdict,
    LinkEnd,
    LoginFailure,
    MessageVerdict,
)
from wasim.server.quota import NewChatQuota
from wasim.server.state import Address
from wasim.wire.nodes import Node

START = 100.0
ALICE, BOB = Address("962302", 1), Address("962303", 1)


def start(faults: Faults, **body: object) -> int:
    return faults.start(parse_fault(body), now=START).id


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_field_has_a_default(kind: str) -> None:
    """Each kind can be started without fields; a momentary kind does not stay active."""
    faults = Faults()
    start(faults, kind=kind)
    assert bool(faults.active) == (kind not in MOMENTARY)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({}, "kinds are"),
        ({"kind": "earthquake"}, "'earthquake' is not known"),
        ([], "is not known"),
        ({"kind": "cut", "ms": 5}, "cut has no field 'ms'"),
        ({"kind": "cut", "seconds": 5}, "happens once"),
        ({"kind": "restart", "number": "962302"}, "whole server"),
        ({"kind": "cut", "how": "softly"}, "cut: .*softly|cut: "),
        ({"kind": "freeze", "seconds": "long"}, "freeze: "),
        ({"kind": "media-slow", "number": "962302"}, "whole server"),
        ({"kind": "media-cut", "direction": "left"}, "media-cut: "),
        ({"kind": "reach-out-lock", "until": "2026-11-22T10:56:00"}, "has no time zone"),
        ({"kind": "reach-out-lock", "until": "2026-11-22T10:56:00Z", "seconds": 5}, "not both"),
        ({"kind": "query-error", "code": "rate-overlimit"}, "code 'rate-overlimit' is not a number"),
        ({"kind": "query-error", "chat": "962303"}, "query-error has no field 'chat'"),
        ({"kind": "new-chat-quota", "quota": -1}, "new-chat-quota: "),
        ({"kind": "cut-on-message", "how": "softly"}, "cut-on-message: "),
    ],
)
def test_bad_requests_are_refused_with_a_sentence(body: object, why: str) -> None:
    """The sentence names the kind and what is wrong with it."""
    with pytest.raises(BadFault, match=why):
        parse_fault(body)


def test_without_faults_nothing_is_affected() -> None:
    """Verdicts are neutral, no receipts are dropped, and logins succeed."""
    faults = Faults()
    assert faults.on_message(ALICE, chat="962304", known=True, now=0) == MESSAGE_ACCEPTED
    assert not faults.drops_receipt("962302", now=0)
    assert faults.on_login(ALICE, now=0) is None
    assert faults.next_deadline is None


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ({"kind": "blackhole"}, MessageVerdict(accepted=False)),
        ({"kind": "withhold-acks"}, MessageVerdict(acks=0)),
        ({"kind": "reorder-acks", "ms": 300}, MessageVerdict(ack_jitter_s=0.3)),
        ({"kind": "double-acks"}, MessageVerdict(acks=2)),
        ({"kind": "delay-acks", "ms": 250}, MessageVerdict(ack_delay_s=0.25)),
        ({"kind": "ack-error", "code": 463}, MessageVerdict(relayed=False, error="463")),
        ({"kind": "ack-error"}, MessageVerdict(relayed=False, error="500")),
    ],
)
def test_each_kind_of_message_fault_has_its_verdict(body: dict[str, object], verdict: MessageVerdict) -> None:
    """It applies only to the named account and counts its effects."""
    faults = Faults()
    fault_id = start(faults, **body, number="962302")
    assert faults.on_message(ALICE, chat="962304", known=True, now=0) == verdict
    assert faults.on_message(BOB, chat="962304", known=True, now=0) == MESSAGE_ACCEPTED
    assert faults.active[fault_id].hits == 1


def test_a_fault_without_number_applies_to_all_accounts() -> None:
    """Two faults for messages are not combined: the older one applies."""
    faults = Faults()
    start(faults, kind="blackhole")
    start(faults, kind="double-acks")
    assert faults.on_message(BOB, chat="962304", known=True, now=0) == MessageVerdict(accepted=False)


def test_a_fault_applies_at_most_count_times() -> None:
    """After `count` messages it has no effect, and the next fault applies."""
    faults = Faults()
    start(faults, kind="ack-error", code=463, count=2)
    start(faults, kind="double-acks")
    verdicts = [faults.on_message(ALICE, chat="962304", known=True, now=0) for _ in range(3)]
    assert [verdict.error for verdict in verdicts] == ["463", "463", None]
    assert verdicts[2].acks == 2


def test_logins_fail_at_most_count_times() -> None:
    """They fail with reason and attributes, only for that account."""
    faults = Faults()
    start(faults, kind="failure", reason=402, attrs={"expire": "60"}, count=1, number="962302")
    assert faults.on_login(BOB, now=0) is None
    assert faults.on_login(ALICE, now=0) == LoginFailure(reason="402", attrs={"expire": "60"})
    assert faults.on_login(ALICE, now=0) is None


def test_a_login_failure_has_a_default_reason() -> None:
    """It is 500."""
    faults = Faults()
    start(faults, kind="failure")
    assert faults.on_login(ALICE, now=0) == LoginFailure(reason="500", attrs={})


def test_receipts_are_dropped_for_one_account() -> None:
    """Only receipts for messages of the named account are dropped."""
    faults = Faults()
    start(faults, kind="drop-receipts", number="962302")
    assert faults.drops_receipt("962302", now=0)
    assert not faults.drops_receipt("962303", now=0)


def test_withheld_acks_are_kept_for_release() -> None:
    """They are kept with their link; without such a fault there is nothing to keep."""
    faults = Faults()
    ack = Node("ack", {"id": "M1"})
    faults.ack_withheld(ALICE, 7, ack)
    fault_id = start(faults, kind="withhold-acks", release=True)
    faults.ack_withheld(ALICE, 7, ack)
    assert faults.active[fault_id].withheld == [(7, ack)]


def test_a_fault_ends_after_its_seconds() -> None:
    """The earliest end of all faults is the next deadline."""
    faults = Faults()
    short = start(faults, kind="freeze", seconds=5)
    start(faults, kind="blackhole", seconds=60)
    start(faults, kind="drop-receipts")
    assert faults.next_deadline == 105.0
    assert faults.due(104.9) == []
    assert [fault.id for fault in faults.due(105.0)] == [short]


def test_an_ended_fault_has_no_effect() -> None:
    """It is in the history; ending it again does nothing."""
    faults = Faults()
    fault_id = start(faults, kind="blackhole")
    ended = faults.end(fault_id, now=9.0)
    assert ended is not None
    assert ended.ended_at == 9.0
    assert faults.end(fault_id, now=10.0) is None
    assert faults.on_message(ALICE, chat="962304", known=True, now=10) == MESSAGE_ACCEPTED
    assert [fault.id for fault in faults.ended] == [fault_id]


def test_fields_have_camel_case_names() -> None:
    """Names are as in the rest of the control interface."""
    assert parse_fault({"kind": "flap", "afterMs": 5}) == FaultRequest(kind="flap", after_ms=5)


def test_a_locked_account_can_write_only_to_known_chats() -> None:
    """Messages to new chats get 463 until the given time; without one, the reported end is a day ahead."""
    faults = Faults()
    start(faults, kind="reach-out-lock", number="962302", until="1970-01-01T00:05:00Z")
    assert faults.on_message(ALICE, chat="962304", known=True, now=START) == MESSAGE_ACCEPTED
    assert faults.on_message(ALICE, chat="962304", known=False, now=START) == MessageVerdict(relayed=False, error="463")
    assert faults.on_message(BOB, chat="962304", known=False, now=START) == MESSAGE_ACCEPTED
    assert (faults.reach_out_lock("962302", now=START), faults.reach_out_lock("962303", now=START)) == (300.0, None)
    assert faults.next_deadline == 300.0
    start(faults, kind="reach-out-lock", number="962303")
    assert faults.reach_out_lock("962303", now=START) == START + 86_400


def test_messages_are_damaged_or_delivered_twice() -> None:
    """This affects `count` messages to the account; a re-encrypted message is never damaged."""
    faults = Faults()
    start(faults, kind="corrupt", number="962302", count=1)
    start(faults, kind="redeliver", number="962303", count=1)
    assert faults.on_delivery(ALICE, is_resend=True, now=START) == MESSAGE_DELIVERED
    assert faults.on_delivery(ALICE, is_resend=False, now=START) == DeliveryVerdict(damaged=True)
    assert faults.on_delivery(ALICE, is_resend=False, now=START) == MESSAGE_DELIVERED
    assert faults.on_delivery(BOB, is_resend=True, now=START) == DeliveryVerdict(repeated=True)
    assert faults.on_delivery(BOB, is_resend=False, now=START) == MESSAGE_DELIVERED


def test_messages_to_phones_are_damaged_only_on_request() -> None:
    """`to: phone` does not affect linked devices, and faults for devices don't affect phones."""
    faults = Faults()
    phone = Address("962302", 0)
    start(faults, kind="corrupt", number="962302")
    assert faults.on_delivery(phone, is_resend=False, now=START) == MESSAGE_DELIVERED
    start(faults, kind="corrupt", number="962303", to="phone")
    assert faults.on_delivery(Address("962303", 0), is_resend=False, now=START) == DeliveryVerdict(damaged=True)
    assert faults.on_delivery(BOB, is_resend=False, now=START) == MESSAGE_DELIVERED


def test_receipts_are_delayed() -> None:
    """Only receipts for that account's messages are delayed."""
    faults = Faults()
    start(faults, kind="delay-receipts", number="962302", ms=700)
    assert (faults.receipt_delay("962302", now=START), faults.receipt_delay("962303", now=START)) == (0.7, 0.0)


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ({"kind": "media-refuse"}, MediaVerdict(status=503)),
        ({"kind": "media-slow", "bytesPerS": 9.5}, MediaVerdict(bytes_per_s=9.5)),
        ({"kind": "media-cut", "afterBytes": 7}, MediaVerdict(cut_after=7)),
    ],
)
def test_each_media_fault_has_its_verdict(body: dict[str, object], verdict: MediaVerdict) -> None:
    """It applies in both directions, or in the given one."""
    faults = Faults()
    assert faults.on_media("up") == MediaVerdict()
    first = start(faults, **body, direction="down")
    assert (faults.on_media("up"), faults.on_media("down")) == (MediaVerdict(), verdict)
    faults.end(first, now=START)
    start(faults, **body)
    assert (faults.on_media("up"), faults.on_media("down")) == (verdict, verdict)


def test_answers_to_queries_are_withheld() -> None:
    """Up to `count` queries are carried out but not answered, or lost."""
    faults = Faults()
    start(faults, kind="withhold-answers", number="962302", xmlns="w:g2", tag="create", count=1)
    start(faults, kind="withhold-answers", xmlns="w:g2", tag="create", count=1, lost=True)
    assert faults.on_answer(ALICE, xmlns="w:g2", tag="participating", now=START) == "answered"
    found = [faults.on_answer(ALICE, xmlns="w:g2", tag="create", now=START) for _ in range(3)]
    assert found == ["unanswered", "lost", "answered"]


def test_queries_are_refused_by_namespace_and_tag() -> None:
    """Up to `count` matching queries of the account fail, with WhatsApp's text for the code."""
    faults = Faults()
    start(faults, kind="query-error", number="962302", xmlns="encrypt", tag="key", code=503, count=2)
    assert faults.on_query(ALICE, xmlns="encrypt", tag="count", now=START) is None
    assert faults.on_query(ALICE, xmlns="usync", tag="usync", now=START) is None
    assert faults.on_query(BOB, xmlns="encrypt", tag="key", now=START) is None
    answers = [faults.on_query(ALICE, xmlns="encrypt", tag="key", now=START) for _ in range(3)]
    assert answers == [(503, "service-unavailable"), (503, "service-unavailable"), None]
    start(faults, kind="query-error", xmlns="usync")
    assert faults.on_query(BOB, xmlns="usync", tag="usync", now=START) == (429, "rate-overlimit")


def test_the_quota_of_new_chats_is_used_up() -> None:
    """The given number of new chats is accepted, the next gets 475, known chats always pass; the query shows use and
    end."""
    faults = Faults()
    assert faults.new_chat_quota("962302", now=START) is None
    start(faults, kind="new-chat-quota", number="962302", quota=1, seconds=60)
    assert faults.on_message(ALICE, chat="962304", known=False, now=START) == MESSAGE_ACCEPTED
    refused = MessageVerdict(relayed=False, error="475")
    assert faults.on_message(ALICE, chat="962305", known=False, now=START) == refused
    assert faults.on_message(ALICE, chat="962304", known=True, now=START) == MESSAGE_ACCEPTED
    assert faults.on_message(BOB, chat="962305", known=False, now=START) == MESSAGE_ACCEPTED
    quota = NewChatQuota(total=1, used=1, cycle_start=START, cycle_end=START + 60)
    assert faults.new_chat_quota("962302", now=START) == quota
    assert quota.is_used_up


@pytest.mark.parametrize(
    ("body", "end"),
    [
        ({"kind": "stream-error-on-message"}, LinkEnd(reason="xml-not-well-formed")),
        ({"kind": "stream-error-on-message", "code": 500, "reason": "ack"}, LinkEnd(code="500", reason="ack")),
        ({"kind": "cut-on-message"}, LinkEnd(how="rst")),
        ({"kind": "cut-on-message", "how": "close", "closeCode": 1011}, LinkEnd(how="close", close_code=1011)),
    ],
)
def test_messages_to_one_chat_end_the_link(body: dict[str, object], end: LinkEnd) -> None:
    """Other chats are not affected."""
    faults = Faults()
    start(faults, **body, chat="962305")
    assert faults.on_message(ALICE, chat="962304", known=True, now=START) == MESSAGE_ACCEPTED
    verdict = MessageVerdict(accepted=False, ends_link=end)
    assert faults.on_message(ALICE, chat="962305", known=True, now=START) == verdict


def test_ack_errors_can_be_limited_to_one_chat() -> None:
    """Messages to other chats are accepted."""
    faults = Faults()
    start(faults, kind="ack-error", code=599, chat="962305")
    assert faults.on_message(ALICE, chat="962304", known=True, now=START) == MESSAGE_ACCEPTED
    assert faults.on_message(ALICE, chat="962305", known=True, now=START).error == "599"
