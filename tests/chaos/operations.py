"""The crash matrix of operations: the gateway or its engine host is killed at every step of four kinds of operation.

`uv run python -m tests.chaos.operations --strikes 100` is a long run that prints what was hit where; the test beside it
runs a part in CI. Afterwards each group exists once, each new member is in the group once, the profile shows the last
text, every message that was to be read is read, and every operation says that it was done.

It must use Holdfast only from the outside, with what an operator has.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import aiohttp

from holdfast.client import NoServer, Refused
from tests.chaos.victims import kill_gateway, kill_hosts, send_signal
from tests.processes import Wasim, running_wasim
from tests.served import Served, eventually, served

COMPANY, NUMBER, FRIEND = "company-0", "962790000001", "962790009001"
_SETTLED_WITHIN_S = 120.0
_REACHED_WITHIN_S = 30.0
_CALM_WITHIN_S = 60.0


@dataclass(slots=True)
class Trial:
    gateway: Served
    wasim: Wasim
    randomness: random.Random
    group: str = ""
    """A group of the account, to which members are added."""
    operations: list[str] = field(default_factory=list)
    """Ids of what was accepted with 202."""
    subjects: list[str] = field(default_factory=list)
    members: list[str] = field(default_factory=list)
    abouts: list[str] = field(default_factory=list)
    struck: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    _numbered: int = 0

    def number(self) -> int:
        self._numbered += 1
        return self._numbered

    async def accept(self, method: str, path: str, body: dict[str, object] | None) -> None:
        """A caller's program: repeats the request with its key until it gets an answer."""
        headers = {"Idempotency-Key": f"operation {self.number()}"}
        while True:
            await self.gateway.up.wait()
            client = self.gateway.client
            try:
                if method == "PATCH":
                    answer = await client.patch(f"/v1/sessions/{COMPANY}{path}", body or {}, headers)
                else:
                    answer = await client.post(f"/v1/sessions/{COMPANY}{path}", body, headers)
            except (NoServer, aiohttp.ClientError):
                await asyncio.sleep(0.02)
            except Refused as refused:
                if refused.status < 500:
                    raise
                await asyncio.sleep(0.2)
            else:
                self.operations.append(answer["id"])
                return

    async def strike(self, kind: str, point: str, victim: str) -> None:
        """Bring an operation to a point, kill the victim there, and wait until the session is connected again."""
        begin, xmlns, tag = KINDS[kind]
        async with asyncio.TaskGroup() as tasks:
            await POINTS[point](self, tasks, begin, {"xmlns": xmlns, "tag": tag}, VICTIMS[victim])
        await self.wasim.delete("/faults")
        await self.until_calm()
        self.struck[kind, point, victim] += 1

    async def until_calm(self) -> None:
        async def look() -> bool:
            try:
                return bool((await self.gateway.session(COMPANY))["state"] == "connected")
            except (NoServer, Refused, aiohttp.ClientError):
                return False

        await eventually(look, within_s=_CALM_WITHIN_S, what="a connected session")

    async def check(self) -> dict[str, object]:
        """Wait until every operation is settled. Returns the figures. Raises `AssertionError` with what is wrong."""

        async def settled() -> bool:
            rows = [await self.gateway.client.get(f"/v1/operations/{each}") for each in self.operations]
            return not any(row["state"] in {"queued", "running"} for row in rows)

        await eventually(settled, within_s=_SETTLED_WITHIN_S, what="the settlement of every operation")
        rows = [await self.gateway.client.get(f"/v1/operations/{each}") for each in self.operations]
        unhappy = [row for row in rows if row["state"] != "succeeded"]
        assert not unhappy, unhappy
        groups = await self.wasim.get("/groups")
        found = Counter(group["subject"] for group in groups)
        lost = [subject for subject in self.subjects if not found[subject]]
        doubled = [subject for subject in self.subjects if found[subject] > 1]
        assert not lost + doubled, f"groups lost {lost}, doubled {doubled}"
        made = {row["result"]["id"] for row in rows if row["kind"] == "create-group"}
        assert made == {group["id"] for group in groups if group["subject"] in self.subjects}
        (group,) = [each for each in groups if each["id"] == self.group]
        present = Counter(member["number"] for member in group["members"])
        assert all(present[number] == 1 for number in self.members), "a member is missing"
        (own,) = [each for each in await self.wasim.get("/phones") if each["number"] == NUMBER]
        assert not self.abouts or own["about"] == self.abouts[-1]
        repeated = own["aboutChanges"] - len(self.abouts)
        assert repeated == 0, f"the text was set {repeated} times too often"
        receipts = [each["receipts"]["read"] for each in await self.wasim.get("/messages", **{"from": FRIEND})]
        assert all(receipts), f"{receipts.count(0)} messages are not read"
        return {
            "strikes": sum(self.struck.values()),
            "operations": len(rows),
            "groupsCreated": len(self.subjects),
            "lost": len(lost),
            "doubled": len(doubled),
            "textsRepeated": repeated,
            "receiptsRepeated": sum(receipts) - len(receipts),
            "unknown": sum(row["state"] == "unknown" for row in rows),
            "attempts": sum(row["attempts"] for row in rows),
        }


# Kinds of operation, each with the query by which WhatsApp gets it.

Begin = Callable[[Trial], Coroutine[Any, Any, None]]


async def _create_group(trial: Trial) -> None:
    subject = f"group {trial.number()}"
    trial.subjects.append(subject)
    await trial.accept("POST", "/groups", {"subject": subject, "members": [FRIEND]})


async def _add_member(trial: Trial) -> None:
    number = f"96279{trial.number():07}"
    await trial.wasim.post("/phones", {"number": number})
    trial.members.append(number)
    await trial.accept("POST", f"/groups/{trial.group}/members", {"add": [number]})


async def _change_profile(trial: Trial) -> None:
    about = f"text {trial.number()}"
    trial.abouts.append(about)
    await trial.accept("PATCH", "/profile", {"about": about})


async def _mark_read(trial: Trial) -> None:
    id_ = f"3A{secrets.token_hex(9).upper()}"
    await trial.wasim.post(f"/phones/{FRIEND}/send", {"to": NUMBER, "text": "read me", "id": id_})

    async def stored() -> bool:
        await trial.gateway.up.wait()
        try:
            return any(item["whatsappId"] == id_ for item in await trial.gateway.inbox(COMPANY))
        except (NoServer, Refused, aiohttp.ClientError):
            return False

    await eventually(stored, within_s=_REACHED_WITHIN_S, what="the message in the inbox")
    await trial.accept("POST", f"/chats/{FRIEND}/read", None)


KINDS: dict[str, tuple[Begin, str, str]] = {
    "create a group": (_create_group, "w:g2", "create"),
    "add a member": (_add_member, "w:g2", "add"),
    "change the profile": (_change_profile, "status", "status"),
    "mark as read": (_mark_read, "", ""),
}

# Victims.

Strike = Callable[[Trial], Awaitable[None]]


VICTIMS: dict[str, Strike] = {
    "gateway": lambda trial: kill_gateway(trial.gateway),
    "host": lambda trial: kill_hosts(trial.gateway),
}

# Points.

Query = dict[str, Any]


async def _accept(trial: Trial, tasks: asyncio.TaskGroup, begin: Begin, query: Query, strike: Strike) -> None:
    """The request is in progress, possibly in the middle of its commit."""
    tasks.create_task(begin(trial))
    await asyncio.sleep(trial.randomness.uniform(0, 0.03))
    await strike(trial)


async def _committed(trial: Trial, tasks: asyncio.TaskGroup, begin: Begin, query: Query, strike: Strike) -> None:
    """The caller has its 202; the operation is about to run, runs, or has just been done."""
    await begin(trial)
    await asyncio.sleep(trial.randomness.uniform(0, 0.1))
    await strike(trial)


async def _handed_over(trial: Trial, tasks: asyncio.TaskGroup, begin: Begin, query: Query, strike: Strike) -> None:
    """The gateway has passed the operation to its engine host, which is frozen."""
    hosts = trial.gateway.hosts()
    if query["tag"]:
        send_signal(hosts, signal.SIGSTOP)
    try:
        await begin(trial)
        await asyncio.sleep(0.05)
        await strike(trial)
    finally:
        send_signal(hosts, signal.SIGCONT)


async def _sent_to_whatsapp(trial: Trial, tasks: asyncio.TaskGroup, begin: Begin, query: Query, strike: Strike) -> None:
    """The engine host has sent it, and WhatsApp never received it."""
    await _at_fault(trial, begin, query | {"lost": True}, strike)


async def _done(trial: Trial, tasks: asyncio.TaskGroup, begin: Begin, query: Query, strike: Strike) -> None:
    """WhatsApp has carried it out, and its answer never arrives."""
    await _at_fault(trial, begin, query, strike)


async def _at_fault(trial: Trial, begin: Begin, query: Query, strike: Strike) -> None:
    if not query["tag"]:  # read receipts have no answer
        await begin(trial)
        await strike(trial)
        return
    fault = await trial.wasim.fault("withhold-answers", number=NUMBER, count=1, **query)
    await begin(trial)

    async def look() -> bool:
        return any(each["id"] == fault["id"] and each["hits"] for each in await trial.wasim.get("/faults"))

    await eventually(look, within_s=_REACHED_WITHIN_S, what="the point that was to be struck")
    await strike(trial)


POINTS: dict[str, Callable[[Trial, asyncio.TaskGroup, Begin, Query, Strike], Awaitable[None]]] = {
    "accept": _accept,
    "committed": _committed,
    "handed to the engine": _handed_over,
    "request lost": _sent_to_whatsapp,
    "answer lost": _done,
}

# The whole run.


def schedule(strikes: int, randomness: random.Random) -> list[tuple[str, str, str]]:
    """Kind, point and victim, each combination equally often, in random order."""
    chosen: list[tuple[str, str, str]] = []
    while len(chosen) < strikes:
        round_ = list(product(KINDS, POINTS, VICTIMS))
        randomness.shuffle(round_)
        chosen += round_
    return chosen[:strikes]


@asynccontextmanager
async def trial(folder: Path, randomness: random.Random) -> AsyncIterator[Trial]:
    async with (
        running_wasim(folder / "wasim") as wasim,
        served(
            folder,
            wasim=wasim,
            HOLDFAST_BACKUP_EVERY_H="0",
            HOLDFAST_BACKOFF_BASE_MS="100",  # failures come faster here than the default backoff resets
            HOLDFAST_BACKOFF_CAP_MS="1000",
        ) as gateway,
    ):
        for number in (NUMBER, FRIEND):
            await wasim.post("/phones", {"number": number, "autoRead": False})
        await gateway.pair(COMPANY, NUMBER, wasim)
        tried = Trial(gateway=gateway, wasim=wasim, randomness=randomness)
        tried.group = str((await wasim.post("/groups", {"subject": "Base", "members": [NUMBER, FRIEND]}))["id"])
        yield tried


async def run(
    folder: Path, *, strikes: list[tuple[str, str, str]], randomness: random.Random, tell: Callable[[str], None]
) -> dict[str, object]:
    """Cause these failures one after another, and check the results. Raises `AssertionError` with what is wrong."""
    async with trial(folder, randomness) as tried:
        for n, (kind, point, victim) in enumerate(strikes, start=1):
            tell(f"{n:4}  {kind}: {victim} dies at: {point}")
            await tried.strike(kind, point, victim)
        return await tried.check()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strikes", type=int, default=40)
    parser.add_argument("--seed", default=secrets.token_hex(4))
    asked = parser.parse_args()
    randomness = random.Random(asked.seed)
    print(f"CHAOS_SEED={asked.seed}")  # noqa: T201 – run by hand
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(
            run(
                Path(folder),
                strikes=schedule(asked.strikes, randomness),
                randomness=randomness,
                tell=lambda line: print(line, flush=True),  # noqa: T201 – run by hand
            )
        )
    print(json.dumps(figures))  # noqa: T201 – run by hand


if __name__ == "__main__":
    main()
