"""Ids look as promised and don't repeat; chance stays in its bounds."""

from __future__ import annotations

import re

from holdfast.base.clock import SystemClock
from holdfast.base.ids import SystemRandomSource, may_be_id


def test_ids_have_their_forms() -> None:
    """Programs tell ids apart by their beginning; WhatsApp's has the form that WhatsApp Web gives it."""
    randomness = SystemRandomSource()
    assert re.fullmatch(r"msg_[0-9a-f]{24}", randomness.message_id())
    assert re.fullmatch(r"3EB0[0-9A-F]{18}", randomness.whatsapp_id())
    assert re.fullmatch(r"hf_[A-Za-z0-9_-]{43}", randomness.api_key())


def test_ids_of_messages_begin_with_the_time() -> None:
    """In milliseconds, so that the index of ids grows at its end."""
    clock = SystemClock()
    before = int(clock.now().timestamp() * 1000)
    made = int(SystemRandomSource().message_id()[4:16], 16)
    assert before <= made <= int(clock.now().timestamp() * 1000)


def test_ids_do_not_repeat() -> None:
    """A thousand of each kind are a thousand."""
    randomness = SystemRandomSource()
    for make in (randomness.message_id, randomness.whatsapp_id, randomness.api_key):
        assert len({make() for _ in range(1000)}) == 1000


def test_jitter_is_a_share() -> None:
    """Jitter lies in [0, 1) and differs from call to call."""
    draws = [SystemRandomSource().jitter() for _ in range(1000)]
    assert all(0 <= draw < 1 for draw in draws)
    assert len(set(draws)) > 900


def test_ids_that_no_database_can_look_up_are_invalid() -> None:
    """NUL, line ends and letters of other alphabets: no id of ours or of WhatsApp's has them."""
    assert all(may_be_id(text) for text in ("msg_0a", "3EB0AA", "med_1"))
    assert not any(may_be_id(text) for text in ("msg_\0", "a\nb", "ä"))
