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
from tests.world import COMPANY, Chance, World

GROUP, OTHER_GROUP = "120363012345678901@g.us", "120363012345678902@g.us"
MEMBER = "962790000001@s.whatsapp.net"
FLOWERS = CreateGroup(subject="Flowers", members=[MEMBER])


def refused(code: int, *, error: str = "refused", retry_after_s: float | None = None) -> OperationAnswered:
    return OperationAnswered(link=0, operation="", step="run", error=error, code=code, retry_after_s=retry_after_s)


class Groups:
    """A WhatsApp that creates groups, and may lose the request or its answer."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.created: list[dict[str, Any]] = []
        self.loses: Callable[[RunOperation], None] | None = None
        """Called instead of an answer, after the group was created."""
        self.dropped = 0
        self.drops: Callable[[RunOperation], None] | None = None
        """Called instead of creating a group."""
        world.engine.operations["create-group"] = self

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


async def begin(world: World, arguments: Arguments, **options: Any) -> Operation:
    return await world.now(world.operations.accept(COMPANY, arguments, **options))


async def until_settled(world: World, operation: Operation, *, within_s: float = 600) -> Operation:
    return await world.now(world.operations.settled(operation, within_s=within_s), within_s=within_s + 1)


def runs(world: World, name: str = "create-group") -> list[RunOperation]:
    return [each for each in world.commands(RunOperation) if (each.name, each.step) == (name, "run")]


async def test_a_group_is_created_when_the_session_is_connected(world: World) -> None:
    """The operation is accepted without a link and carried out on the first one; the result names the group."""
    async with world.running() as gateway:
        await world.now(gateway.put(COMPANY))
        operation = await begin(world, FLOWERS)
        assert operation.state == "queued"
        groups = Groups(world)
        await world.pair()
        settled = await until_settled(world, operation)
        assert (settled.state, settled.attempts) == ("succeeded", 1)
        assert settled.result["id"] == groups.created[0]["id"]
        assert settled.result["members"] == [{"jid": MEMBER, "done": True}]


@pytest.mark.parametrize("how", ["link", "host", "gateway"])
async def test_a_group_whose_creation_was_not_answered_is_recognised(world: World, how: str) -> None:
    """WhatsApp created the group, and the answer was lost with the link, the engine host or the whole gateway: the
    operation succeeds with that group, and no second one is created."""
    async with world.running():
        link = await world.pair()
        groups = Groups(world)
        groups.loses = lambda command: lose(world, link, how)
        operation = await begin(world, FLOWERS)
        await world.until(lambda: len(groups.created) == 1)
        groups.loses = None
        world.prepare = lambda engine: engine.operations.update({"create-group": groups})
        if how != "gateway":
            settled = await until_settled(world, operation)
    if how == "gateway":
        async with world.running():
            settled = await until_settled(world, operation)
    assert (settled.state, settled.result["id"]) == ("succeeded", groups.created[0]["id"])
    assert settled.result["members"] == [{"jid": MEMBER, "done": True}]
    assert len(groups.created) == 1


def lose(world: World, link: LinkId, how: str) -> None:
    if how == "link":
        world.engine.drop(link, code=428)
    elif how == "host":
        world.engine.lose_host()


async def test_a_group_that_was_not_created_is_created_later(world: World) -> None:
    """The link ended before WhatsApp got the request. It is retried only after a second observation seconds later."""
    async with world.running():
        link = await world.pair()
        groups = Groups(world)
        groups.drops = lambda command: world.engine.drop(link, code=428)
        operation = await begin(world, FLOWERS)
        await world.until(lambda: groups.dropped == 1)
        groups.drops = None
        began_at = world.clock.monotonic()
        settled = await until_settled(world, operation)
        assert (settled.state, settled.attempts, len(groups.created)) == ("succeeded", 2, 1)
        assert world.clock.monotonic() - began_at >= CONFIRM_AFTER_S


async def test_an_outcome_that_cannot_be_determined_is_unknown(world: World) -> None:
    """While the outcome was open, two groups with this subject appeared: no other is created, and the error
    says why.
    """
    async with world.running():
        link = await world.pair()
        groups = Groups(world)
        groups.loses = lambda command: world.engine.drop(link, code=428)
        operation = await begin(world, FLOWERS)
        await world.until(lambda: len(groups.created) == 1)
        groups.create("Flowers")
        settled = await until_settled(world, operation)
        assert (settled.state, settled.error_code) == ("unknown", "unknown-outcome")
        assert groups.created[0]["id"] in str(settled.error)
        assert len(groups.created) == 2


async def test_existing_groups_are_not_mistaken_for_the_new_one(world: World) -> None:
    """The account already has a group with the same subject; a lost request is repeated anyway."""
    async with world.running():
        link = await world.pair()
        groups = Groups(world)
        before = groups.create("Flowers")
        groups.drops = lambda command: world.engine.drop(link, code=428)
        operation = await begin(world, FLOWERS)
        await world.until(lambda: groups.dropped == 1)
        groups.drops = None
        settled = await until_settled(world, operation)
        assert settled.state == "succeeded"
        assert settled.result["id"] != before["id"]
        assert len(groups.created) == 2


async def test_operations_of_one_target_keep_their_order(world: World) -> None:
    """The second operation of a group waits for the first; that of another group does not."""
    async with world.running():
        await world.pair()
        seen: list[tuple[object, object]] = []

        def answer(command: RunOperation) -> object:
            seen.append((command.arguments["group"], command.arguments["subject"]))
            return None if command.arguments["subject"] == "first" else {"changed": ["subject"]}

        world.engine.operations["update-group"] = answer
        first = await begin(world, UpdateGroup(group=GROUP, subject="first"))
        second = await begin(world, UpdateGroup(group=GROUP, subject="second"))
        other = await begin(world, UpdateGroup(group=OTHER_GROUP, subject="other"))
        assert (await until_settled(world, other)).state == "succeeded"
        assert seen == [(GROUP, "first"), (OTHER_GROUP, "other")]
        (command,) = [each for each in runs(world, "update-group") if each.operation == first.id]
        world.engine.answer_operation(command, {"changed": ["subject"]})
        assert (await until_settled(world, second)).state == "succeeded"
        assert seen[-1] == (GROUP, "second")


async def test_a_definite_refusal_is_final(world: World) -> None:
    """The account is not an admin: the operation has an explanation and WhatsApp's code, and is not retried."""
    async with world.running():
        await world.pair()
        world.engine.operations["update-group"] = lambda _: refused(403)
        settled = await until_settled(world, await begin(world, UpdateGroup(group=GROUP, subject="x")))
        assert (settled.state, settled.error_code, settled.whatsapp_code) == ("failed", "refused", 403)
        assert "not an admin" in (settled.error or "")
        assert len(runs(world, "update-group")) == 1


async def test_a_limit_of_whatsapp_delays_all_of_the_kind(world: World) -> None:
    """429 delays the operation, and others of its kind are not tried meanwhile; both succeed afterwards."""
    async with world.running():
        await world.pair()
        limited = refused(429, error="rate-limited", retry_after_s=30)
        world.engine.operations["update-group"] = lambda _: limited
        first = await begin(world, UpdateGroup(group=GROUP, subject="a"))
        await world.until(lambda: len(runs(world, "update-group")) == 1)
        await world.quiet()
        put_off = await world.now(world.operations.find(first.id))
        assert (put_off.state, put_off.retry_code) == ("queued", "429")
        second = await begin(world, UpdateGroup(group=OTHER_GROUP, subject="b"))
        await world.wait(20)
        assert len(runs(world, "update-group")) == 1
        world.engine.operations["update-group"] = lambda _: {"changed": ["subject"]}
        assert (await until_settled(world, first)).state == "succeeded"
        assert (await until_settled(world, second)).state == "succeeded"


async def test_an_unknown_code_is_retried(world: World) -> None:
    """Nobody knows what 599 means, so it settles nothing."""
    async with world.running():
        await world.pair()
        world.engine.operations["block"] = lambda _: refused(599)
        operation = await begin(world, Block(jid=MEMBER, blocked=True))
        await world.until(lambda: len(runs(world, "block")) == 3)
        world.engine.operations["block"] = lambda _: {"blocked": True}
        assert (await until_settled(world, operation)).state == "succeeded"


async def test_a_repeated_departure_from_a_group_is_done(world: World) -> None:
    """The answer to the first attempt was lost; the second is refused because the account is gone already."""
    async with world.running():
        link = await world.pair()
        world.engine.operations["leave-group"] = lambda _: world.engine.drop(link, code=428)
        operation = await begin(world, LeaveGroup(group=GROUP))
        await world.until(lambda: world.link() != link)
        world.engine.operations["leave-group"] = lambda _: refused(404)
        assert (await until_settled(world, operation)).state == "succeeded"


async def test_each_member_has_an_answer(world: World) -> None:
    """One is added, one was in the group already, and one has to be invited; the operation fails only if nobody is
    added.
    """
    async with world.running():
        await world.pair()
        rows = [
            {"jid": "1@s.whatsapp.net", "code": 200},
            {"jid": "2@s.whatsapp.net", "code": 409},
            {"jid": "3@s.whatsapp.net", "code": 403, "inviteCode": "ABC", "inviteExpiresS": 1_800_000_000},
        ]
        world.engine.operations["change-members"] = lambda command: {"add": rows[: len(command.arguments["add"])]}  # type: ignore[arg-type]  # a list
        three = ChangeMembers(group=GROUP, add=["1@s.whatsapp.net", "2@s.whatsapp.net", "3@s.whatsapp.net"])
        settled = await until_settled(world, await begin(world, three))
        assert settled.state == "succeeded"
        assert [row["done"] for row in settled.result["add"]] == [True, True, False]
        assert settled.result["add"][2]["inviteCode"] == "ABC"
        world.engine.operations["change-members"] = lambda _: {"add": rows[2:]}
        settled = await until_settled(world, await begin(world, ChangeMembers(group=GROUP, add=["3@s.whatsapp.net"])))
        assert (settled.state, settled.error_code, settled.whatsapp_code) == ("failed", "members-refused", 403)
        assert settled.result["add"][0]["inviteCode"] == "ABC"


async def test_the_same_key_is_the_same_operation(world: World) -> None:
    """A repeated request gets the first operation, even after a restart; another request under that key is refused."""
    async with world.running():
        await world.pair()
        Groups(world)
        first = await begin(world, FLOWERS, idempotency_key="k")
        await until_settled(world, first)
    async with world.running():
        assert (await begin(world, FLOWERS, idempotency_key="k")).id == first.id
        with pytest.raises(Conflict, match="another operation"):
            await begin(world, CreateGroup(subject="Bread", members=[MEMBER]), idempotency_key="k")


async def test_a_queued_operation_can_be_cancelled(world: World) -> None:
    """A queued operation is never carried out after that; one that was given to the engine can't be cancelled."""
    async with world.running() as gateway:
        await world.now(gateway.put(COMPANY))
        queued = await begin(world, FLOWERS)
        assert (await world.now(world.operations.cancel(queued.id))).state == "cancelled"
        await world.pair()
        running = await begin(world, Block(jid=MEMBER, blocked=True))
        await world.until(lambda: len(runs(world, "block")) == 1)
        with pytest.raises(Conflict, match="is running"):
            await world.now(world.operations.cancel(running.id))
        assert not runs(world)
        with pytest.raises(NotFound):
            await world.now(world.operations.cancel("op_none"))


async def test_what_waited_too_long_expires(world: World) -> None:
    """Without a link until its time passed, it is never carried out."""
    async with world.running() as gateway:
        await world.now(gateway.put(COMPANY))
        operation = await begin(world, FLOWERS, expires_in_s=60)
        await world.wait(61)
        assert (await world.now(world.operations.find(operation.id))).state == "expired"
        await world.pair()
        await world.wait(5)
        assert not runs(world)


async def test_a_company_has_a_bounded_number_of_open_operations(world: World) -> None:
    """Past the bound requests are refused with 429; a settled operation makes room."""
    async with world.running() as gateway:
        await world.now(gateway.put(COMPANY))
        few = OperationService(
            gateway, world.parts.operations, events=world.events, clock=world.clock, randomness=Chance(), most_open=2
        )
        first = await world.now(few.accept(COMPANY, FLOWERS))
        await world.now(few.accept(COMPANY, FLOWERS))
        with pytest.raises(TooManyOperations, match="not settled"):
            await world.now(few.accept(COMPANY, FLOWERS))
        await world.now(few.cancel(first.id))
        assert (await world.now(few.accept(COMPANY, FLOWERS))).state in OPEN


async def test_every_change_of_state_is_an_event(world: World) -> None:
    """Readers of the stream and webhooks see accepted, running and settled operations."""
    async with world.running():
        await world.pair()
        Groups(world)
        await until_settled(world, await begin(world, FLOWERS))
        found = await world.now(world.events.after(0, companies=None, most=100))
        bodies = [each.body for each in found if each.type == "operation.updated"]
        assert [
            next(state for state in ("queued", "running", "succeeded") if f'"{state}"' in body) for body in bodies
        ] == [
            "queued",
            "running",
            "succeeded",
        ]
