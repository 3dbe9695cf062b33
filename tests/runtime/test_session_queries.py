"""A session's limit of queries to WhatsApp, without a gateway."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.runtime.session_queries import PACE, SessionQueries, TooManyQueries
from holdfast.session.engine import AnyCommand, QueryAnswered, RunQuery
from holdfast.session.queries import about, blocklist, picture_file
from tests.doubles.fake_clock import FakeClock

HALF = PACE.burst // 2
ANSWERS: dict[str, object] = {"about": {}, "blocklist": [], "picture-file": {"mimetype": "image/png", "base64": "iVBO"}}


class WhatsApp:
    """Answers every query at once."""

    def __init__(self, clock: FakeClock) -> None:
        self.asked: list[str] = []
        self.queries = SessionQueries("962302", clock=clock, command=self._take, link=lambda: 1)

    def _take(self, command: AnyCommand) -> None:
        assert isinstance(command, RunQuery)
        self.asked.append(command.name)
        answer = QueryAnswered(link=1, request=command.request, result=ANSWERS[command.name])
        asyncio.get_running_loop().call_soon(self.queries.answer, answer)

    async def answer(self, count: int) -> None:
        """Other queries."""
        for _ in range(count):
            await self.queries.ask(blocklist())


async def test_a_query_with_a_reserve_leaves_that_many_to_others() -> None:
    """It is refused while others are not, and possible again once the limit has recovered."""
    clock = FakeClock()
    whatsapp = WhatsApp(clock)
    file = picture_file("962790000001@s.whatsapp.net", reserve=HALF)
    await whatsapp.answer(PACE.burst - HALF)
    with pytest.raises(TooManyQueries):
        await whatsapp.queries.ask(file)
    clock.advance_to(clock.monotonic() + 1.5)
    assert (await whatsapp.queries.ask(file)).base64 == b"\x89PN"
    with pytest.raises(TooManyQueries):
        await whatsapp.queries.ask(file)
    await whatsapp.answer(HALF)
    with pytest.raises(TooManyQueries):
        await whatsapp.answer(1)
    assert whatsapp.asked.count("picture-file") == 1


async def test_answers_that_are_out_of_date_do_not_pile_up() -> None:
    """A link stays open for weeks, and asks about many people."""
    clock = FakeClock()
    whatsapp = WhatsApp(clock)
    for n in range(2_000):
        clock.advance_to(clock.monotonic() + 5)
        await whatsapp.queries.ask(about(f"{n}@s.whatsapp.net"))
    assert len(whatsapp.queries._cache) <= 1_000
