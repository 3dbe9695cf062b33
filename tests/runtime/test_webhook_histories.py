"""Random histories of webhooks: nothing is lost, and the order of a chat is kept, whatever fails."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.delivery.events import Event
from holdfast.delivery.webhooks import Attempt, Endpoint
from tests.gateway_harness import GatewayHarness
from tests.runtime.test_webhooks import DAY_S, Office

ANSWERS = st.sampled_from([200, 200, 200, 204, 302, 429, 500, 503, None])
STEPS = st.one_of(
    st.tuples(st.just("happen"), st.lists(st.sampled_from("abc"), min_size=1, max_size=4)),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 1.0, 6.0, 40.0, 700.0, 9000.0])),
    st.tuples(st.just("answer"), st.lists(ANSWERS, min_size=1, max_size=4)),
    st.tuples(st.just("crash"), st.just(0)),
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, max_size=12))
async def test_every_event_arrives_in_the_order_of_its_chat(steps: list[tuple[str, object]]) -> None:
    """The receiver fails at random, Holdfast crashes in between, and there are long waits; in the end every event is
    accepted.
    """
    with tempfile.TemporaryDirectory() as folder:
        harness = GatewayHarness(Path(folder))
        try:
            await _play(Office(harness), steps)
        finally:
            harness.database.close()


async def _play(office: Office, steps: list[tuple[str, object]]) -> None:
    await office.set()
    office.receiver.takes_s = lambda event: 0.5
    happened: list[tuple[str, int]] = []
    rest = list(steps)
    while rest:
        async with office.open():
            while rest and rest[0][0] != "crash":
                await _step(office, *rest.pop(0), happened)
        rest = rest[1:]
    office.receiver.answer = lambda endpoint, event: Attempt(status=200)
    async with office.open():
        ids = {number for _, number in happened}
        await office.harness.until(lambda: set(office.receiver.numbers) >= ids, within_s=3 * DAY_S)
        await office.harness.quiet()
    for chat in "abc":
        numbers = office.receiver.by_chat().get(chat, [])
        assert list(dict.fromkeys(numbers)) == [number for each, number in happened if each == chat]
    assert len({event.id for event in office.receiver.taken}) == len(happened)


async def _step(office: Office, what: str, how: object, happened: list[tuple[str, int]]) -> None:
    match what, how:
        case "happen", list() as chats:
            for chat in chats:
                happened.append((chat, len(happened)))
                await office.happen(len(happened) - 1, chat=chat)
        case "wait", float() as seconds:
            await office.harness.wait(seconds)
        case "answer", list() as answers:
            office.receiver.answer = _in_turn(answers)


def _in_turn(statuses: list[int | None]) -> Callable[[Endpoint, Event], Attempt]:
    tries = 0

    def answer(_: Endpoint, __: Event) -> Attempt:
        nonlocal tries
        tries += 1
        return Attempt(status=statuses[tries % len(statuses)], error="no", retry_after_s=3.0)

    return answer
