"""Operations as the gateway carries them out: order, crashes, limits, and outcomes that have to be determined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from holdfast.base.errors import Conflict, NotFound
from holdfast.runtime.operations import OperationService, TooManyOperations
from holdfast.session.engine import LinkId, OperationAnswered, RunOperation
from holdfast.session.operation_states import CONFIRM_AFTER_S, OPEN, Operation
from holdfast.session.operations import Arguments, Block, ChangeMembers, CreateGroup, LeaveGroup, UpdateGroup
from tests.gateway_harness import COMPANY, GatewayHarness, JitterFreeRandomSource

GROUP, OTHER_GROUP = "120363012345678901@g.us", "120363012345678902@g.us"
MEMBER = "962790000001@s.whatsapp.net"
FLOWERS = CreateGroup(subject="Flowers", members=[MEMBER])


def refused(code: int, *, error: str = "refused", retry_after_s: float | None = None) -> OperationAnswered:
    return OperationAnswered(link=0, operation="", step="run", error=error, code=code, retry_after_s=retry_after_s)


class Groups:
    """A WhatsApp that creates groups, and may lose the request or its answer."""

    def __init__(self, harness: GatewayHarness) -> None:
        self.harness = harness
        self.created: list[dict[str, Any]] = []
        self.loses: Callable[[RunOperation], None] | None = None
        """Called instead of an answer, after the group was created."""
        self.dropped = 0
        self.drops: Callable[[RunOperation], None] | None = None
        """Called instead of creating a group."""
        harness.engine.operations["create-group"] = self

    def __call__(self, command: RunOperation) -> object:
        if command.step == "observe":
            return [group for group in self.created if group["subject"] == command.arguments["subject"]]
        if self.drops is not None:
            self.drops(command)
            self.dropped += 1
            return None
        made = self.create(str(command.arguments["subject"]))
        if self.loses is not None:
            self.loses(command)
            return None
        return {"id": made["id"], "subject": made["subject"], "members": [{"jid": MEMBER, "code": 200}]}

    def create(self, subject: str) -> dict[str, Any]:
        id_ = f"1203630000000000{len(self.created):02}@g.us"
        self.created.append({"id": id_, "subject": subject, "members": [{"jid": MEMBER}]})
        return self.created[-1]


async def begin(harness: GatewayHarness, arguments: Arguments, **options: Any) -> Operation:
    return await harness.now(harness.operations.accept(COMPANY, arguments, **options))


async def until_settled(harness: GatewayHarness, operation: Operation, *, within_s: float = 600) -> Operation:
    return await harness.now(harness.operations.settled(operation, within_s=within_s), within_s=within_s + 1)


def runs(harness: GatewayHarness, name: str = "create-group") -> list[RunOperation]:
    return [each for each in harness.commands(RunOperation) if (each.name, each.step) == (name, "run")]


async def test_a_group_is_created_when_the_session_is_connected(harness: GatewayHarness) -> None:
    """The operation is accepted without a link and carried out on the first one; the result names the group."""
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
        operation = await begin(harness, FLOWERS)
        assert operation.state == "queued"
        groups = Groups(harness)
        await harness.pair()
        settled = await until_settled(harness, operation)
        assert (settled.state, settled.attempts) == ("succeeded", 1)
        assert settled.result["id"] == groups.created[0]["id"]
        assert settled.result["members"] == [{"jid": MEMBER, "done": True}]


@pytest.mark.parametrize("how", ["link", "host", "gateway"])
async def test_a_group_whose_creation_was_not_answered_is_recognised(harness: GatewayHarness, how: str) -> None:
    """WhatsApp created the group, and the answer was lost with the link, the engine host or the whole gateway: the
    operation succeeds with that group, and no second one is created."""
    async with harness.running():
        link = await harness.pair()
        groups = Groups(harness)
        groups.loses = lambda command: lose(harness, link, how)
        operation = await begin(harness, FLOWERS)
        await harness.until(lambda: len(groups.created) == 1)
        groups.loses = None
        harness.prepare = lambda engine: engine.operations.update({"create-group": groups})
        if how != "gateway":
            settled = await until_settled(harness, operation)
    if how == "gateway":
        async with harness.running():
            settled = await until_settled(harness, operation)
    assert (settled.state, settled.result["id"]) == ("succeeded", groups.created[0]["id"])
    assert settled.result["members"] == [{"jid": MEMBER, "done": True}]
    assert len(groups.created) == 1


def lose(harness: GatewayHarness, link: LinkId, how: str) -> None:
    if how == "link":
        harness.engine.drop(link, code=428)
    elif how == "host":
        harness.engine.lose_host()


async def test_a_group_that_was_not_created_is_created_later(harness: GatewayHarness) -> None:
    """The link ended before WhatsApp got the request. It is retried only after a second observation seconds later."""
    async with harness.running():
        link = await harness.pair()
        groups = Groups(harness)
        groups.drops = lambda command: harness.engine.drop(link, code=428)
        operation = await begin(harness, FLOWERS)
        await harness.until(lambda: groups.dropped == 1)
        groups.drops = None
        began_at = harness.clock.monotonic()
        settled = await until_settled(harness, operation)
        assert (settled.state, settled.attempts, len(groups.created)) == ("succeeded", 2, 1)
        assert harness.clock.monotonic() - began_at >= CONFIRM_AFTER_S


async def test_an_outcome_that_cannot_be_determined_is_unknown(harness: GatewayHarness) -> None:
    """While the outcome was open, two groups with this subject appeared: no other is created, and the error
    says why.
    """
    async with harness.running():
        link = await harness.pair()
        groups = Groups(harness)
        groups.loses = lambda command: harness.engine.drop(link, code=428)
        operation = await begin(harness, FLOWERS)
        await harness.until(lambda: len(groups.created) == 1)
        groups.create("Flowers")
        settled = await until_settled(harness, operation)
        assert (settled.state, settled.error_code) == ("unknown", "unknown-outcome")
        assert groups.created[0]["id"] in str(settled.error)
        assert len(groups.created) == 2


async def test_existing_groups_are_not_mistaken_for_the_new_one(harness: GatewayHarness) -> None:
    """The account already has a group with the same subject; a lost request is repeated anyway."""
    async with harness.running():
        link = await harness.pair()
        groups = Groups(harness)
        before = groups.create("Flowers")
        groups.drops = lambda command: harness.engine.drop(link, code=428)
        operation = await begin(harness, FLOWERS)
        await harness.until(lambda: groups.dropped == 1)
        groups.drops = None
        settled = await until_settled(harness, operation)
        assert settled.state == "succeeded"
        assert settled.result["id"] != before["id"]
        assert len(groups.created) == 2


async def test_operations_of_one_target_keep_their_order(harness: GatewayHarness) -> None:
    """The second operation of a group waits for the first; that of another group does not."""
    async with harness.running():
        await harness.pair()
        seen: list[tuple[object, object]] = []

        def answer(command: RunOperation) -> object:
            seen.append((command.arguments["group"], command.arguments["subject"]))
            return None if command.arguments["subject"] == "first" else {"changed": ["subject"]}

        harness.engine.operations["update-group"] = answer
        first = await begin(harness, UpdateGroup(group=GROUP, subject="first"))
        second = await begin(harness, UpdateGroup(group=GROUP, subject="second"))
        other = await begin(harness, UpdateGroup(group=OTHER_GROUP, subject="other"))
        assert (await until_settled(harness, other)).state == "succeeded"
        assert seen == [(GROUP, "first"), (OTHER_GROUP, "other")]
        (command,) = [each for each in runs(harness, "update-group") if each.operation == first.id]
        harness.engine.answer_operation(command, {"changed": ["subject"]})
        assert (await until_settled(harness, second)).state == "succeeded"
        assert seen[-1] == (GROUP, "second")


async def test_many_operations_of_one_target_keep_no_other_target_waiting(harness: GatewayHarness) -> None:
    """However many wait for the first one of their group, which WhatsApp does not answer."""
    async with harness.running():
        await harness.pair()
        changed = {"changed": ["subject"]}
        harness.engine.operations["update-group"] = lambda command: (
            None if command.arguments["group"] == GROUP else changed
        )
        for number in range(250):
            await begin(harness, UpdateGroup(group=GROUP, subject=f"{number}"))
        last = await begin(harness, UpdateGroup(group=GROUP, subject="late"), expires_in_s=30)
        other = await begin(harness, UpdateGroup(group=OTHER_GROUP, subject="other"))
        assert (await until_settled(harness, other, within_s=20)).state == "succeeded"
        assert (await until_settled(harness, last, within_s=40)).state == "expired"


async def test_many_operations_of_a_limited_kind_keep_no_other_kind_waiting(harness: GatewayHarness) -> None:
    """WhatsApp limits how often the account may block people, and says nothing about groups."""
    async with harness.running():
        await harness.pair()
        harness.engine.operations["block"] = lambda _: refused(429, error="rate-limited", retry_after_s=600)
        harness.engine.operations["update-group"] = lambda _: {"changed": ["subject"]}
        for number in range(250):
            await begin(harness, Block(jid=f"9627900{number:05}@s.whatsapp.net", blocked=True))
        other = await begin(harness, UpdateGroup(group=GROUP, subject="other"))
        assert (await until_settled(harness, other, within_s=60)).state == "succeeded"


async def test_a_definite_refusal_is_final(harness: GatewayHarness) -> None:
    """The account is not an admin: the operation has an explanation and WhatsApp's code, and is not retried."""
    async with harness.running():
        await harness.pair()
        harness.engine.operations["update-group"] = lambda _: refused(403)
        settled = await until_settled(harness, await begin(harness, UpdateGroup(group=GROUP, subject="x")))
        assert (settled.state, settled.error_code, settled.whatsapp_code) == ("failed", "refused", 403)
        assert "not an admin" in (settled.error or "")
        assert len(runs(harness, "update-group")) == 1


async def test_a_limit_of_whatsapp_delays_all_of_the_kind(harness: GatewayHarness) -> None:
    """429 delays the operation, and others of its kind are not tried meanwhile; both succeed afterwards."""
    async with harness.running():
        await harness.pair()
        limited = refused(429, error="rate-limited", retry_after_s=30)
        harness.engine.operations["update-group"] = lambda _: limited
        first = await begin(harness, UpdateGroup(group=GROUP, subject="a"))
        await harness.until(lambda: len(runs(harness, "update-group")) == 1)
        await harness.quiet()
        put_off = await harness.now(harness.operations.find(first.id))
        assert (put_off.state, put_off.retry_code) == ("queued", "429")
        second = await begin(harness, UpdateGroup(group=OTHER_GROUP, subject="b"))
        await harness.wait(20)
        assert len(runs(harness, "update-group")) == 1
        harness.engine.operations["update-group"] = lambda _: {"changed": ["subject"]}
        assert (await until_settled(harness, first)).state == "succeeded"
        assert (await until_settled(harness, second)).state == "succeeded"


async def test_an_unknown_code_is_retried(harness: GatewayHarness) -> None:
    """Nobody knows what 599 means, so it settles nothing."""
    async with harness.running():
        await harness.pair()
        harness.engine.operations["block"] = lambda _: refused(599)
        operation = await begin(harness, Block(jid=MEMBER, blocked=True))
        await harness.until(lambda: len(runs(harness, "block")) == 3)
        harness.engine.operations["block"] = lambda _: {"blocked": True}
        assert (await until_settled(harness, operation)).state == "succeeded"


async def test_a_repeated_departure_from_a_group_is_done(harness: GatewayHarness) -> None:
    """The answer to the first attempt was lost; the second is refused because the account is gone already."""
    async with harness.running():
        link = await harness.pair()
        harness.engine.operations["leave-group"] = lambda _: harness.engine.drop(link, code=428)
        operation = await begin(harness, LeaveGroup(group=GROUP))
        await harness.until(lambda: harness.link() != link)
        harness.engine.operations["leave-group"] = lambda _: refused(404)
        assert (await until_settled(harness, operation)).state == "succeeded"


async def test_each_member_has_an_answer(harness: GatewayHarness) -> None:
    """One is added, one was in the group already, and one has to be invited; the operation fails only if nobody is
    added.
    """
    async with harness.running():
        await harness.pair()
        rows = [
            {"jid": "1@s.whatsapp.net", "code": 200},
            {"jid": "2@s.whatsapp.net", "code": 409},
            {"jid": "3@s.whatsapp.net", "code": 403, "inviteCode": "ABC", "inviteExpiresS": 1_800_000_000},
        ]
        harness.engine.operations["change-members"] = lambda command: {"add": rows[: len(command.arguments["add"])]}  # type: ignore[arg-type]  # a list
        three = ChangeMembers(group=GROUP, add=["1@s.whatsapp.net", "2@s.whatsapp.net", "3@s.whatsapp.net"])
        settled = await until_settled(harness, await begin(harness, three))
        assert settled.state == "succeeded"
        assert [row["done"] for row in settled.result["add"]] == [True, True, False]
        assert settled.result["add"][2]["inviteCode"] == "ABC"
        harness.engine.operations["change-members"] = lambda _: {"add": rows[2:]}
        settled = await until_settled(
            harness, await begin(harness, ChangeMembers(group=GROUP, add=["3@s.whatsapp.net"]))
        )
        assert (settled.state, settled.error_code, settled.whatsapp_code) == ("failed", "members-refused", 403)
        assert settled.result["add"][0]["inviteCode"] == "ABC"


async def test_the_same_key_is_the_same_operation(harness: GatewayHarness) -> None:
    """A repeated request gets the first operation, even after a restart; another request under that key is refused."""
    async with harness.running():
        await harness.pair()
        Groups(harness)
        first = await begin(harness, FLOWERS, idempotency_key="k")
        await until_settled(harness, first)
    async with harness.running():
        assert (await begin(harness, FLOWERS, idempotency_key="k")).id == first.id
        with pytest.raises(Conflict, match="another operation"):
            await begin(harness, CreateGroup(subject="Bread", members=[MEMBER]), idempotency_key="k")


async def test_a_queued_operation_can_be_cancelled(harness: GatewayHarness) -> None:
    """A queued operation is never carried out after that; one that was given to the engine can't be cancelled."""
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
        queued = await begin(harness, FLOWERS)
        assert (await harness.now(harness.operations.cancel(queued.id))).state == "cancelled"
        await harness.pair()
        running = await begin(harness, Block(jid=MEMBER, blocked=True))
        await harness.until(lambda: len(runs(harness, "block")) == 1)
        with pytest.raises(Conflict, match="is running"):
            await harness.now(harness.operations.cancel(running.id))
        assert not runs(harness)
        with pytest.raises(NotFound):
            await harness.now(harness.operations.cancel("op_none"))


async def test_what_waited_too_long_expires(harness: GatewayHarness) -> None:
    """Without a link until its time passed, it is never carried out."""
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
        operation = await begin(harness, FLOWERS, expires_in_s=60)
        await harness.wait(61)
        assert (await harness.now(harness.operations.find(operation.id))).state == "expired"
        await harness.pair()
        await harness.wait(5)
        assert not runs(harness)


async def test_a_company_has_a_bounded_number_of_open_operations(harness: GatewayHarness) -> None:
    """Past the bound requests are refused with 429; a settled operation makes room."""
    async with harness.running() as gateway:
        await harness.now(gateway.put(COMPANY))
        few = OperationService(
            gateway,
            harness.services.operations,
            events=harness.events,
            clock=harness.clock,
            randomness=JitterFreeRandomSource(),
            max_open=2,
        )
        first = await harness.now(few.accept(COMPANY, FLOWERS))
        await harness.now(few.accept(COMPANY, FLOWERS))
        with pytest.raises(TooManyOperations, match="not settled"):
            await harness.now(few.accept(COMPANY, FLOWERS))
        await harness.now(few.cancel(first.id))
        assert (await harness.now(few.accept(COMPANY, FLOWERS))).state in OPEN


async def test_every_change_of_state_is_an_event(harness: GatewayHarness) -> None:
    """Readers of the stream and webhooks see accepted, running and settled operations."""
    async with harness.running():
        await harness.pair()
        Groups(harness)
        await until_settled(harness, await begin(harness, FLOWERS))
        found = await harness.now(harness.events.after(0, companies=None, limit=100))
        bodies = [each.body for each in found if each.type == "operation.updated"]
        assert [
            next(state for state in ("queued", "running", "succeeded") if f'"{state}"' in body) for body in bodies
        ] == [
            "queued",
            "running",
            "succeeded",
        ]
