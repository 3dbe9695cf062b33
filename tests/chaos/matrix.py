"""The crash matrix: four kinds of failure at nine points of a message's path, under traffic of ten companies in both
directions.

`uv run python -m tests.chaos.matrix --strikes 200` is a long run that prints what failed where; the test beside it runs
a part in CI. A point is recognised from the outside, by what wasim, the operating system and the API show: a frozen
host has received a message, a WhatsApp that drops one has received it, and so on. The order of the pairs, and delays,
are drawn from a printed seed.

It must use Holdfast only from the outside, with what an operator has.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import secrets
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import aiohttp

from holdfast.client import Json, NoServer, Refused
from tests.chaos.receiver import SECRET, Receiver, receiving
from tests.chaos.victims import kill_gateway, kill_hosts, send_signal
from tests.processes import KillableWasim, killable_wasim
from tests.served import Served, eventually, served

CONTACTS = ("962790009001", "962790009002")
"""People with phones, who exchange messages with all companies."""
ARRIVED_WITHIN_S = 120.0
_REACHED_WITHIN_S = 60.0
_CALM_WITHIN_S = 60.0
"""Seconds after a failure within which all sessions must be connected again."""
_DISK_FULL_S = 1.5
_UNTIL_DECRYPTED_S = 0.2


def number_of(company: int) -> str:
    return f"9627900{company:05}"


@dataclass(slots=True)
class TrialMessage:
    """One message; requests are repeated with the same key or id until one is accepted."""

    company: str
    contact: str
    text: str
    id: str = ""
    """The WhatsApp id, once it is known."""


@dataclass(slots=True)
class Trial:
    """Ten companies, two contacts, a webhook receiver, and all messages so far."""

    gateway: Served
    wasim: KillableWasim
    receiver: Receiver
    randomness: random.Random
    companies: dict[str, str]
    sent: list[TrialMessage] = field(default_factory=list)
    """Sent by companies, accepted with 202."""
    written: list[TrialMessage] = field(default_factory=list)
    """Sent by contacts, accepted by WhatsApp."""
    struck: Counter[tuple[str, str]] = field(default_factory=Counter)
    _numbered: int = 0

    # Writing.

    def new_message(self, company: str) -> TrialMessage:
        self._numbered += 1
        contact = CONTACTS[self._numbered % len(CONTACTS)]
        return TrialMessage(company=company, contact=contact, text=f"message {self._numbered:06} of this trial")

    async def send(self, message: TrialMessage) -> None:
        """A company's program: repeats the request until it gets a 202."""
        while not message.id:
            await self.gateway.up.wait()
            try:
                answer = await self.gateway.send(message.company, message.contact, message.text, key=message.text)
            except (NoServer, aiohttp.ClientError):
                await asyncio.sleep(0.02)
            except Refused as refused:
                if refused.status < 500:
                    raise
                await asyncio.sleep(0.2)
            else:
                message.id = answer["whatsappId"]
                self.sent.append(message)

    async def write(self, message: TrialMessage) -> None:
        """A contact's phone: retries until WhatsApp has it, under one id."""
        id_ = f"3A{secrets.token_hex(9).upper()}"
        body = {"to": self.companies[message.company], "text": message.text, "id": id_}
        while not message.id:
            try:
                await self.wasim.post(f"/phones/{message.contact}/send", body)
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.05)
            else:
                message.id = id_
                self.written.append(message)

    async def has_stored(self, message: TrialMessage) -> bool:
        """Is the message in the company's inbox?"""
        items = await self.gateway.inbox(message.company)
        return any(item["whatsappId"] == message.id for item in items)

    @asynccontextmanager
    async def traffic(self, *, per_s: float) -> AsyncIterator[None]:
        """Each company sends and receives at this rate for the duration of the block."""
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for company in self.companies:
                tasks.create_task(self._repeat(self.send, company, per_s, ended))
                tasks.create_task(self._repeat(self.write, company, per_s, ended))
            try:
                yield
            finally:
                ended.set()

    async def _repeat(
        self, deliver: Callable[[TrialMessage], Awaitable[None]], company: str, per_s: float, ended: asyncio.Event
    ) -> None:
        await asyncio.sleep(self.randomness.random() / per_s)
        while not ended.is_set():
            await deliver(self.new_message(company))
            await asyncio.sleep(self.randomness.uniform(0.5, 1.5) / per_s)

    # Failures.

    async def strike(self, point: str, victim: str) -> None:
        """Bring one message to a point, cause the failure there, and wait until everything works again."""
        company = self.randomness.choice(sorted(self.companies))
        async with asyncio.TaskGroup() as tasks:
            await POINTS[point](self, company, tasks, VICTIMS[victim])
        await self.until_calm()
        self.struck[point, victim] += 1

    async def until_calm(self) -> None:
        async def look() -> bool:
            try:
                page = await self.gateway.client.get("/v1/sessions")
            except (NoServer, Refused, aiohttp.ClientError):
                return False
            return all(session["state"] == "connected" for session in page["items"])

        await eventually(look, within_s=_CALM_WITHIN_S, what="all sessions connected")

    # Checks.

    async def until_settled(self, *, unsettled: tuple[str, ...] = ("queued", "sending", "sent")) -> None:
        """Wait until no message has one of these states, and every message is in inboxes and at the receiver."""

        async def look() -> bool:
            try:
                open_ones = [
                    await self.gateway.client.get(f"/v1/sessions/{company}/messages", state=state, limit="1")
                    for company in self.companies
                    for state in unsettled
                ]
            except (NoServer, Refused, aiohttp.ClientError):
                return False
            return not any(page["items"] for page in open_ones)

        await eventually(look, within_s=ARRIVED_WITHIN_S, what="the settlement of every accepted message")
        await eventually(self._inbox_is_whole, within_s=ARRIVED_WITHIN_S, what="every inbound message")
        await eventually(self._webhooks_are_whole, within_s=ARRIVED_WITHIN_S, what="every webhook")

    async def _inbox_is_whole(self) -> bool:
        return sum([len(await self.gateway.inbox(company)) for company in self.companies]) >= len(self.written)

    async def _webhooks_are_whole(self) -> bool:
        return len(self.receiver.messages) >= len(self.written)

    async def check(self) -> dict[str, object]:
        """Check: accepted = delivered, inbox = written, webhooks = inbox, no duplicates, order kept. Returns the
        figures."""
        copies = await self._check_contacts()
        for company in self.companies:
            await self._check_company(company)
        return {
            "accepted": len(self.sent),
            "delivered": len(self.sent),
            "written": len(self.written),
            "inboxRows": len(self.written),
            "webhooks": len(self.receiver.messages),
            "webhooksRepeated": self.receiver.repeated,
            "sentAgainUnderTheSameId": await self._sent_again(),
            "copiesCollapsedByPhones": copies,
            "strikes": sum(self.struck.values()),
        }

    async def _check_contacts(self) -> int:
        copies = 0
        for contact in CONTACTS:
            items = await self.wasim.get(f"/phones/{contact}/inbox")
            copies += sum(item["count"] - 1 for item in items)
            assert not any(item["undecryptable"] for item in items), "a contact could not read something"
            for company, number in self.companies.items():
                seen = [item["id"] for item in items if item["from"] == number]
                owed = [message.id for message in self.sent if (message.company, message.contact) == (company, contact)]
                assert seen == owed, f"{company} to {contact}: {_difference(owed, seen)}"
        phones = await self.wasim.get("/phones")
        reused = {phone["number"]: phone["signal"]["reusedKeys"] for phone in phones}
        assert not any(reused.values()), f"keys were used twice: {reused}"
        return copies

    async def _sent_again(self) -> int:
        """Stanzas that WhatsApp accepted although it had one with that id."""
        records = [await self.wasim.get("/messages", **{"from": number}) for number in self.companies.values()]
        return sum(record["count"] - 1 for each in records for record in each)

    async def _check_company(self, company: str) -> None:
        items = await self.gateway.inbox(company)
        assert {item["type"] for item in items} <= {"text"}, f"{company} could not read something"
        told = [each for each in self.receiver.messages if each["companyId"] == company]
        for contact in CONTACTS:
            owed = [message.id for message in self.written if (message.company, message.contact) == (company, contact)]
            stored = [item["whatsappId"] for item in items if item["sender"].startswith(f"{contact}@")]
            assert stored == owed, f"inbox of {company}: {_difference(owed, stored)}"
            hooked = [each["whatsappId"] for each in told if each["sender"].startswith(f"{contact}@")]
            assert hooked == stored, f"webhooks of {company}: {_difference(stored, hooked)}"


def _difference(owed: list[str], seen: list[str]) -> str:
    missing, strange = set(owed) - set(seen), set(seen) - set(owed)
    twice = {id_ for id_ in seen if seen.count(id_) > 1}
    if missing or strange or twice:
        return f"{len(owed)} owed, {len(seen)} seen; missing {missing}, not owed {strange}, twice {twice}"
    late = [(a, b) for a, b in zip(owed, seen, strict=True) if a != b]
    return f"out of order from {late[:1]}, {len(late)} places"


# Kinds of failure.

Strike = Callable[[Trial], Awaitable[None]]


async def _kill_whatsapp(trial: Trial) -> None:
    await trial.wasim.kill()
    await asyncio.sleep(trial.randomness.uniform(0, 1))
    await trial.wasim.start()


async def _fill_disk(trial: Trial) -> None:
    """Make every write of the gateway fail for a while, as on a full disk."""
    pid = trial.gateway.pid
    _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, most))
    trial.gateway.thaw()
    await asyncio.sleep(_DISK_FULL_S)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))


VICTIMS: dict[str, Strike] = {
    "gateway": lambda trial: kill_gateway(trial.gateway),
    "host": lambda trial: kill_hosts(trial.gateway),
    "whatsapp": _kill_whatsapp,
    "disk": _fill_disk,
}

# Points.


async def _accept(trial: Trial, company: str, tasks: asyncio.TaskGroup, strike: Strike) -> None:
    """The request is in progress, possibly in the middle of its commit."""
    tasks.create_task(trial.send(trial.new_message(company)))
    await asyncio.sleep(trial.randomness.uniform(0, 0.015))
    await strike(trial)


async def _committed(trial: Trial, company: str, tasks: asyncio.TaskGroup, strike: Strike) -> None:
    """The caller has its 202."""
    await trial.send(trial.new_message(company))
    await strike(trial)


async def _handed_over(trial: Trial, company: str, tasks: asyncio.TaskGroup, strike: Strike) -> None:
    """The gateway has passed the message to its engine host, which is frozen."""
    hosts = trial.gateway.hosts()
    send_signal(hosts, signal.SIGSTOP)
    try:
        await trial.send(trial.new_message(company))
        await asyncio.sleep(0.05)
        await strike(trial)
    finally:
        send_signal(hosts, signal.SIGCONT)


async def _frame_written(trial: Trial, company: str, tasks: asyncio.TaskGroup, strike: Strike) -> None:
    """The frame has been sent, and WhatsApp drops it."""
    await _at_fault(trial, "blackhole", company, tasks, strike)


async def _ack(trial: Trial, company: str, tasks: asyncio.TaskGroup, strike: Strike) -> None:
    """WhatsApp has relayed the message, and withholds its ack."""
    await _at_fault(trial, "withhold-acks", company, tasks, strike)


async def _receipt(trial: Trial, company: str, tasks: asyncio.TaskGroup, strike: Strike) -> None:
    """The contact's receipt is on its way to the gateway."""
    message = trial.new_message(company)
    await trial.send(message)

    async def look() -> bool:
        records = await trial.wasim.get("/messages", **{"from": trial.companies[company], "id": message.id})
        return any(record["receipts"]["delivered"] for record in records)

    await _patiently(look, within_s=_REACHED_WITHIN_S)
    await strike(trial)


async def _inbound_decrypt(trial: Trial, company: str, tasks: asyncio.TaskGroup, strike: Strike) -> None:
    """The engine host has decrypted the message, and the gateway, which is frozen, has not stored it.

    Another message of the same contact comes first, so that the host has the keys and need not request them.
    """
    before = trial.new_message(company)
    await trial.write(before)
    await _patiently(lambda: trial.has_stored(before), within_s=_REACHED_WITHIN_S)
    gateway = [trial.gateway.pid]
    send_signal(gateway, signal.SIGSTOP)
    try:
        await trial.write(replace(trial.new_message(company), contact=before.contact))
        await asyncio.sleep(_UNTIL_DECRYPTED_S)
        await strike(trial)
    finally:
        send_signal(gateway, signal.SIGCONT)


async def _inbound_commit(trial: Trial, company: str, tasks: asyncio.TaskGroup, strike: Strike) -> None:
    """The message is stored; its receipt has just been sent, or not yet."""
    message = trial.new_message(company)
    writing = tasks.create_task(trial.write(message))
    await asyncio.sleep(trial.randomness.uniform(0, 0.05))
    await strike(trial)
    await writing


async def _webhook_sent(trial: Trial, company: str, tasks: asyncio.TaskGroup, strike: Strike) -> None:
    """The receiver has the request and has not answered yet."""
    async with trial.receiver.delayed_responses(company) as asked:
        await trial.write(trial.new_message(company))
        await _patiently(asked, within_s=_REACHED_WITHIN_S)
        await strike(trial)


async def _at_fault(trial: Trial, kind: str, company: str, tasks: asyncio.TaskGroup, strike: Strike) -> None:
    fault = await trial.wasim.fault(kind, number=trial.companies[company])
    await trial.send(trial.new_message(company))

    async def look() -> bool:
        faults = await trial.wasim.get("/faults")
        return any(each["id"] == fault["id"] and each["hits"] for each in faults)

    await _patiently(look, within_s=_REACHED_WITHIN_S)
    await strike(trial)
    await trial.wasim.delete("/faults")


async def _patiently(look: Callable[[], Awaitable[bool]], *, within_s: float) -> None:
    await eventually(look, within_s=within_s, what="the point that was to be struck")


POINTS: dict[str, Callable[[Trial, str, asyncio.TaskGroup, Strike], Awaitable[None]]] = {
    "accept": _accept,
    "commit": _committed,
    "handed to the engine": _handed_over,
    "frame written": _frame_written,
    "ack": _ack,
    "receipt": _receipt,
    "inbound decrypt": _inbound_decrypt,
    "inbound commit": _inbound_commit,
    "webhook sent": _webhook_sent,
}

# The whole run.


def schedule(strikes: int, randomness: random.Random) -> list[tuple[str, str]]:
    """Pairs of point and victim, each equally often, in random order."""
    pairs: list[tuple[str, str]] = []
    while len(pairs) < strikes:
        round_ = list(product(POINTS, VICTIMS))
        randomness.shuffle(round_)
        pairs += round_
    return pairs[:strikes]


@asynccontextmanager
async def trial(folder: Path, randomness: random.Random, *, companies: int) -> AsyncIterator[Trial]:
    """Linked companies and everything around them."""
    async with (
        killable_wasim(folder / "wasim") as wasim,
        receiving() as receiver,
        served(
            folder,
            wasim=wasim,
            HOLDFAST_WEBHOOK_URL=receiver.url,
            HOLDFAST_WEBHOOK_SECRET=SECRET,
            HOLDFAST_ALLOWED_ADDRESSES="127.0.0.1",
            HOLDFAST_BACKUP_EVERY_H="0",
            HOLDFAST_BACKOFF_BASE_MS="100",  # failures come faster here than the default backoff resets
            HOLDFAST_BACKOFF_CAP_MS="1000",
        ) as gateway,
    ):
        for contact in CONTACTS:
            await wasim.post("/phones", {"number": contact, "autoRead": False})
        names = {f"company-{n}": number_of(n) for n in range(companies)}
        for company, number in names.items():
            await gateway.pair(company, number, wasim)
        yield Trial(gateway=gateway, wasim=wasim, receiver=receiver, randomness=randomness, companies=names)


async def run(
    folder: Path,
    *,
    strikes: int,
    seed: str,
    companies: int = 10,
    per_s: float,
    tell: Callable[[str], None],
    pairs: list[tuple[str, str]] | None = None,
) -> dict[str, object]:
    """Cause that many failures under traffic, let everything arrive, and check the results.

    Raises `AssertionError` with a description of what is wrong.
    """
    randomness = random.Random(seed)
    tell(f"CHAOS_SEED={seed}")
    async with trial(folder, randomness, companies=companies) as tried:
        async with tried.traffic(per_s=per_s):
            for n, (point, victim) in enumerate(pairs or schedule(strikes, randomness), start=1):
                tell(f"{n:4}  {victim} dies at: {point}; {len(tried.sent)} accepted, {len(tried.written)} written")
                await tried.strike(point, victim)
        tell("the traffic has ended; everything is to arrive now")
        await tried.until_calm()
        await tried.until_settled()
        return await tried.check()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strikes", type=int, default=36)
    parser.add_argument("--companies", type=int, default=10)
    parser.add_argument("--per-s", type=float, default=0.5, help="messages of each company a second, each way")
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--only", metavar="POINT:VICTIM", help="only this pair, such as 'ack:host'")
    parser.add_argument("--folder", type=Path, help="kept; otherwise a temporary one is used and removed")
    asked = parser.parse_args()
    pairs = None
    if asked.only:
        point, _, victim = asked.only.partition(":")
        if point not in POINTS or victim not in VICTIMS:
            parser.error(f"--only {asked.only}: points are {', '.join(POINTS)}; victims {', '.join(VICTIMS)}")
        pairs = [(point, victim)] * asked.strikes
    with tempfile.TemporaryDirectory() as temporary:
        figures: Json = asyncio.run(
            run(
                asked.folder or Path(temporary),
                strikes=asked.strikes,
                seed=asked.seed,
                companies=asked.companies,
                per_s=asked.per_s,
                pairs=pairs,
                tell=lambda line: print(line, flush=True),  # noqa: T201 – run by hand
            )
        )
    print(json.dumps(figures))  # noqa: T201 – run by hand


if __name__ == "__main__":
    main()
