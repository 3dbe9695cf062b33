"""A fuzzer: one contact sends a company thousands of random and mutated messages, receipts and notifications.

`uv run python -m tests.chaos.fuzz_inbound --count 20000 --companies 10` does so while all companies exchange messages,
and prints the cost: engine hosts and links lost, how long a normal message to another company takes before and during
the attack, what was stored, and memory. It fails when a host or another company's link was lost, or when the attacked
company can't receive and send afterwards. The seed is printed and repeats the attacks.

It must use Holdfast only from the outside, with what an operator has.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import math
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from holdfast.engine.baileys.install import install
from holdfast.engine.node import find_node
from tests.chaos.hostile import NOTIFICATIONS, RECEIPTS, TAGS, TIMES, Json, Mutator, b64, binary, padded
from tests.conftest import CACHE
from tests.integration.test_bridge_inbound_kinds import KEY as QUOTED
from tests.integration.test_bridge_inbound_kinds import MESSAGES, encoded
from tests.processes import Wasim, running_wasim
from tests.served import KEY, Served, served

MALLORY, HONEST = "962790009666", "962790009001"
HONEST_PER_S = 1.0
"""Normal messages a second to each other company, whose time to the inbox is measured."""
BATCH_S = 0.1
PROGRESS_S = 5.0
ARRIVES_WITHIN_S = 60.0
MB = 1024 * 1024
WEIGHTS = {
    "mutated message": 40,
    "random message": 8,
    "random bytes": 6,
    "mutated stanza": 16,
    "receipt": 12,
    "notification": 12,
    "any stanza": 6,
}
"""Kinds of attacks and their frequencies."""
EDITED = {"conversation": "edited"}
MORE_MESSAGES: tuple[Json, ...] = (
    {"conversation": "hello"},
    {"extendedTextMessage": {"text": "hi", "contextInfo": {"stanzaId": "3EB0AAAA", "mentionedJid": ["1@lid"] * 3}}},
    {"imageMessage": {"url": "https://h/x", "directPath": "/v/x", "mimetype": "image/jpeg", "fileLength": 9}},
    {"audioMessage": {"directPath": "/v/x", "mimetype": "audio/ogg; codecs=opus", "seconds": 3, "ptt": True}},
    {"documentMessage": {"directPath": "/v/x", "mimetype": "application/pdf", "fileName": "a.pdf"}},
    {"stickerMessage": {"directPath": "/v/x", "mimetype": "image/webp"}},
    {"contactMessage": {"displayName": "A", "vcard": "BEGIN:VCARD"}},
    {"locationMessage": {"degreesLatitude": 31.9, "degreesLongitude": 35.9, "name": "Amman"}},
    {"reactionMessage": {"key": QUOTED, "text": "+"}},
    {"protocolMessage": {"key": QUOTED, "type": 0}},
    {"protocolMessage": {"type": 3, "ephemeralExpiration": 86_400}},
    {"protocolMessage": {"type": 5, "historySyncNotification": {"syncType": 0, "directPath": "/v/x", "fileLength": 9}}},
    {"protocolMessage": {"type": 6, "appStateSyncKeyShare": {"keys": [{"keyId": {"keyId": {"$b64": "AAAA"}}}]}}},
    {"protocolMessage": {"type": 17, "peerDataOperationRequestResponseMessage": {"stanzaId": "x"}}},
    {"senderKeyDistributionMessage": {"groupId": "1-2@g.us", "axolotlSenderKeyDistributionMessage": {"$b64": "MwgB"}}},
    {"deviceSentMessage": {"destinationJid": "1@s.whatsapp.net", "message": {"conversation": "as if by you"}}},
    {"ephemeralMessage": {"message": {"conversation": "gone soon"}}},
    {"editedMessage": {"message": {"protocolMessage": {"key": QUOTED, "type": 14, "editedMessage": EDITED}}}},
    {"contactsArrayMessage": {"displayName": "two", "contacts": [{"displayName": "A", "vcard": "V"}]}},
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attack:
    """One item that the contact sends: a message to be encrypted, or a stanza to be sent unchanged."""

    kind: str
    id: str = ""
    """The id of a message that can be decrypted."""
    message: Json | None = None
    stanza: Json | None = None


@dataclass(slots=True)
class Attacks:
    """The attacks, drawn from a seed."""

    randomness: random.Random
    payloads: Sequence[bytes]
    recorded: Sequence[Json]
    own_ids: Sequence[str]
    """WhatsApp ids of messages that the company sent to the contact."""
    from_: str
    """The contact's address as the company sees it."""
    group: str
    to: str
    only: str | None = None
    """A key of `WEIGHTS`."""
    _count: int = 0

    def __iter__(self) -> Attacks:
        return self

    def __next__(self) -> Attack:
        self._count += 1
        kinds = {kind: weight for kind, weight in WEIGHTS.items() if self.only in {None, kind}}
        [kind] = self.randomness.choices(list(kinds), weights=list(kinds.values()))
        mutator = Mutator(self.randomness)
        match kind:
            case "mutated message":
                return self._message(kind, padded(mutator.message(self.randomness.choice(self.payloads))), mutator)
            case "random message":
                return self._message(kind, padded(mutator.any_message()), mutator)
            case "random bytes":
                size = self.randomness.choice((0, 1, 2, 16, 17, 400, 70_000))
                return self._message(kind, self.randomness.randbytes(size), mutator)
            case "mutated stanza":
                return Attack(kind, stanza=mutator.stanza(self.randomness.choice(self.recorded)))
            case "receipt":
                return Attack(kind, stanza=self._receipt(mutator))
            case "notification":
                return Attack(kind, stanza=self._notification(mutator))
            case _:
                return Attack(kind, stanza=self._any(mutator))

    def _message(self, kind: str, plaintext: bytes, mutator: Mutator) -> Attack:
        id_ = f"FUZZ{self._count}." + (mutator.text() if self.randomness.random() < 0.1 else "")
        to = self.group if self.randomness.random() < 0.1 else self.to
        return Attack(kind, id=id_, message={"to": to, "id": id_, "plaintext": b64(plaintext)})

    def _receipt(self, mutator: Mutator) -> Json:
        id_ = self.randomness.choice((*self.own_ids, f"3EB0{self._count}", mutator.text()))
        attrs = {"from": self.from_, "id": id_, "t": self.randomness.choice(("1800000000", *TIMES))}
        attrs["type"] = self.randomness.choice(RECEIPTS)
        count = self.randomness.choice((0, 1, 3, 500))
        items = [{"tag": "item", "attrs": {"id": f"3EB0{n}{mutator.text()[:50]}"}} for n in range(count)]
        retry = {
            "tag": "retry",
            "attrs": {"count": self.randomness.choice(("1", "5", "-1", "x", "9" * 30)), "id": id_, "v": "1"},
        }
        content = [retry, {"tag": "registration", "content": binary(self.randomness.randbytes(4))}, mutator.node()]
        if items:
            content.append({"tag": "list", "content": items})
        receipt = {"tag": "receipt", "attrs": attrs, "content": content}
        return mutator.stanza(receipt) if self.randomness.random() < 0.3 else receipt

    def _notification(self, mutator: Mutator) -> Json:
        attrs = {
            "from": self.randomness.choice((self.from_, self.from_, self.group)),
            "id": f"n{self._count}",
            "t": "1800000000",
            "type": self.randomness.choice(NOTIFICATIONS),
            "participant": self.from_,
        }
        return {"tag": "notification", "attrs": attrs, "content": [mutator.node(), mutator.node()]}

    def _any(self, mutator: Mutator) -> Json:
        kind = self.randomness.choice(RECEIPTS)
        attrs = {"from": self.from_, "id": f"a{self._count}", "type": kind, "class": "message"}
        return {"tag": self.randomness.choice(TAGS), "attrs": attrs, "content": [mutator.node()]}


@dataclass(slots=True)
class Watch:
    """What the event stream reports: when each message was in its inbox, and which sessions lost their links."""

    victim: str
    arrived: dict[str, float] = field(default_factory=dict)
    """Arrival times by WhatsApp id."""
    stored: Counter[str] = field(default_factory=Counter)
    """Message types in the attacked company's inbox."""
    stubs: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    """Lost links by company."""

    def has(self, id_: str) -> bool:
        """Whether a message arrived; an id that was truncated keeps its beginning."""
        return id_.partition(".")[0] in self.arrived

    async def run(self, gateway: Served) -> None:
        headers = {"Authorization": f"Bearer {KEY}"}
        timeout = aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession(headers=headers, timeout=timeout, read_bufsize=8 * MB) as http,
            http.get(f"{gateway.url}/v1/events") as answer,
        ):
            async for line in answer.content:
                if line.startswith(b"data:"):
                    self._note(json.loads(line[5:]))

    def _note(self, event: Json) -> None:
        body = event.get("data") or {}
        if event.get("type") == "message.received":
            self.arrived[body["whatsappId"].partition(".")[0]] = time.monotonic()
            if body["companyId"] == self.victim:
                self.stored[body["type"]] += 1
                self.stubs += "notStored" in (body.get("content") or {})
        elif event.get("type") == "session.state" and body["state"] == "reconnecting":
            self.lost[body["companyId"]] += 1


@dataclass(slots=True)
class FuzzHarness:
    gateway: Served
    wasim: Wasim
    companies: dict[str, str]
    watch: Watch
    randomness: random.Random

    @property
    def victim(self) -> str:
        return self.watch.victim

    @property
    def others(self) -> list[str]:
        return [company for company in self.companies if company != self.victim]

    async def write(self, company: str, text: str = "an honest message") -> float:
        """The honest contact writes to a company. Returns the seconds from wasim's sending until the message is in the
        inbox, or infinity if it never arrives.
        """
        id_ = f"3A{secrets.token_hex(9).upper()}"
        await self.wasim.post(f"/phones/{HONEST}/send", {"to": self.companies[company], "text": text, "id": id_})
        begun = time.monotonic()
        try:
            async with asyncio.timeout(ARRIVES_WITHIN_S):
                while id_ not in self.watch.arrived:  # noqa: ASYNC110 – noted by the reader of the event stream
                    await asyncio.sleep(0.005)
        except TimeoutError:
            return math.inf
        return max(self.watch.arrived[id_] - begun, 0.0)

    @asynccontextmanager
    async def talk(self) -> AsyncIterator[list[float]]:
        """All other companies exchange messages; yields the seconds that each honest message took."""
        taken: list[float] = []
        ended = asyncio.Event()

        async def repeat(company: str) -> None:
            await asyncio.sleep(self.randomness.random() / HONEST_PER_S)
            while not ended.is_set():
                taken.append(await self.write(company))
                if self.randomness.random() < 0.3:
                    await self.gateway.send(company, HONEST, "an honest answer")
                await asyncio.sleep(self.randomness.uniform(0.5, 1.5) / HONEST_PER_S)

        async with asyncio.TaskGroup() as tasks:
            for company in self.others:
                tasks.create_task(repeat(company))
            try:
                yield taken
            finally:
                ended.set()

    def memory_mb(self) -> dict[str, int]:
        hosts = [_resident_mb(pid) for pid in self.gateway.hosts()]
        return {"gateway": _resident_mb(self.gateway.pid), "largestHost": max(hosts, default=0)}

    async def record(self) -> list[Json]:
        """Honest stanzas of each kind from the contact, as WhatsApp stores them for a device that is offline."""
        number = self.companies[self.victim]
        await self.wasim.post("/phones", {"number": MALLORY, "autoRead": False})
        sent = await self.gateway.send(self.victim, MALLORY, "hello")
        await self.gateway.until_message(sent["id"], "delivered", within_s=20)
        await self.gateway.client.post(f"/v1/sessions/{self.victim}/stop")
        await self.gateway.until_state(self.victim, "stopped", within_s=20)
        await self.wasim.post(f"/phones/{MALLORY}/read", {"id": sent["whatsappId"]})
        group = await self.wasim.post("/groups", {"subject": "Team", "members": [MALLORY, number]})
        for to in (number, group["id"]):
            for said in ({"text": "hi"}, {"image": {"sizeBytes": 900}}, {"audio": {"sizeBytes": 900, "voice": True}}):
                await self.wasim.post(f"/phones/{MALLORY}/send", {"to": to, **said})
        await self.wasim.patch(f"/groups/{group['id']}", {"subject": "Other", "add": [HONEST], "remove": [HONEST]})
        recorded: list[Json] = await self.wasim.get(f"/phones/{number}/stanzas")
        await self.gateway.client.post(f"/v1/sessions/{self.victim}/start")
        await self.gateway.until_state(self.victim, "connected", within_s=20)
        return recorded

    async def attacks(self, payloads: Sequence[bytes], *, only: str | None = None) -> Attacks:
        recorded = await self.record()
        own = await self.gateway.messages(self.victim)
        [group] = await self.wasim.get("/groups")
        return Attacks(
            randomness=self.randomness,
            payloads=payloads,
            recorded=recorded,
            own_ids=[message["whatsappId"] for message in own],
            from_=next(each["attrs"]["from"] for each in recorded if each["attrs"]["from"].endswith("@lid")),
            group=group["id"],
            to=self.companies[self.victim],
            only=only,
        )

    async def attack(self, attacks: Sequence[Attack]) -> None:
        """Send these one after another."""
        number = self.companies[self.victim]
        for attack in attacks:
            if attack.stanza is not None:
                await self.wasim.post(f"/phones/{number}/stanzas", {"stanzas": [attack.stanza]})
            if attack.message is not None:
                await self.wasim.post(f"/phones/{MALLORY}/send", attack.message)

    async def waiting(self) -> int:
        """Stanzas that the attacked company's device never acknowledged."""
        stanzas: list[Json] = await self.wasim.get(f"/phones/{self.companies[self.victim]}/stanzas")
        return len(stanzas)

    async def logins(self) -> dict[str, int]:
        stats = await self.wasim.get("/stats")
        return {
            company: stats["numbers"].get(number, {}).get("logins", 0) for company, number in self.companies.items()
        }

    async def until_drained(self) -> None:
        """Wait until no more messages arrive in the attacked company's inbox."""
        before = -1
        while before != (before := len(self.watch.arrived)):  # noqa: ASYNC110 – only standing still shows it
            await asyncio.sleep(2)

    async def check_alive(self) -> None:
        """Check that the attacked company receives and sends, also after another login."""
        for _ in range(2):
            took = await self.write(self.victim)
            assert took < ARRIVES_WITHIN_S, "an honest message to the attacked company did not arrive"
            sent = await self.gateway.send(self.victim, HONEST, "still here")
            await self.gateway.until_message(sent["id"], "delivered", "read", within_s=30)
            await self.gateway.client.post(f"/v1/sessions/{self.victim}/reconnect")
            await asyncio.sleep(1)
            await self.gateway.until_state(self.victim, "connected", within_s=30)


def _resident_mb(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 // MB
    except OSError:
        return 0


def percentile_ms(taken: Sequence[float], percent: float) -> float:
    ordered = sorted(taken)
    return round(ordered[math.ceil(percent / 100 * len(ordered)) - 1] * 1000, 1) if ordered else math.nan


def baileys_encoded(messages: Sequence[Json]) -> list[bytes]:
    """Messages of WAProto, encoded by Baileys; bytes in them are given as `{"$b64"}`."""
    node = find_node()
    bridge = install(CACHE / "engine", node=node, progress=print)
    return [base64.b64decode(each) for each in encoded(node.executable, bridge.parent.parent, list(messages))]


def honest_payloads() -> list[bytes]:
    """A message of every kind."""
    return baileys_encoded([message for message, *_ in MESSAGES] + list(MORE_MESSAGES))


@asynccontextmanager
async def running_harness(folder: Path, *, companies: int, seed: str) -> AsyncIterator[FuzzHarness]:
    """Linked companies, an honest and a hostile contact, and a reader of the event stream."""
    async with (
        running_wasim(folder / "wasim") as wasim,
        served(folder, wasim=wasim, HOLDFAST_BACKUP_EVERY_H="0") as gateway,
    ):
        for number in (MALLORY, HONEST):
            await wasim.post("/phones", {"number": number})
        names = {f"company-{n}": f"9627900{n:05}" for n in range(companies)}
        for company, number in names.items():
            await gateway.pair(company, number, wasim)
        watch = Watch(victim="company-0")
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watch.run(gateway))
            try:
                yield FuzzHarness(
                    gateway=gateway, wasim=wasim, companies=names, watch=watch, randomness=random.Random(seed)
                )
            finally:
                watching.cancel()


async def assault(
    harness: FuzzHarness,
    attacks: Sequence[Attack],
    *,
    per_s: float,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Attack]:
    """Send the attacks at that rate; returns what was sent."""
    sent: list[Attack] = []
    begun = told_at = time.monotonic()
    while len(sent) < len(attacks):
        batch = attacks[len(sent) : len(sent) + max(1, int(per_s * BATCH_S))]
        await harness.attack(batch)
        sent += (Attack(attack.kind, id=attack.id) for attack in batch)
        await asyncio.sleep(max(0, begun + len(sent) / per_s - time.monotonic()))
        if time.monotonic() - told_at > PROGRESS_S:
            told_at = time.monotonic()
            progress(len(sent))
    return sent


async def run(
    folder: Path,
    *,
    count: int,
    companies: int,
    seed: str,
    per_s: float,
    baseline_s: float,
    tell: Callable[[str], None],
    only: str | None = None,
) -> Json:
    """Attack one company that often while all exchange messages; returns the figures. Raises AssertionError when others
    were affected."""
    tell(f"seed {seed}")
    async with running_harness(folder, companies=companies, seed=seed) as harness:
        made = await harness.attacks(honest_payloads(), only=only)
        # In advance, so that this program does not slow down the honest messages.
        attacks = [next(made) for _ in range(count)]
        async with harness.talk() as before:
            await asyncio.sleep(baseline_s)
        logins, memory = await harness.logins(), harness.memory_mb()
        harness.watch.stored.clear()
        harness.watch.lost.clear()
        begun = time.monotonic()
        async with harness.talk() as during:
            most = dict(memory)

            def progress(sent: int) -> None:
                most.update({name: max(most[name], now) for name, now in harness.memory_mb().items()})
                tell(_progress(harness, sent, count, time.monotonic() - begun, during, most))

            sent = await assault(harness, attacks, per_s=per_s, progress=progress)
        took_s = time.monotonic() - begun
        await harness.until_drained()
        after = await harness.logins()
        figures = {
            "sent": dict(Counter(attack.kind for attack in sent)),
            "seconds": round(took_s, 1),
            "hostsLost": len(harness.gateway.log_lines("Engine host", "lost:")),
            "linksLostOfOthers": sum(after[company] - logins[company] for company in harness.others),
            "linksLostOfTheAttacked": after[harness.victim] - logins[harness.victim],
            "honestP50Ms": {"before": percentile_ms(before, 50), "during": percentile_ms(during, 50)},
            "honestP95Ms": {"before": percentile_ms(before, 95), "during": percentile_ms(during, 95)},
            "honestMessages": {"before": len(before), "during": len(during), "neverArrived": during.count(math.inf)},
            "stored": dict(harness.watch.stored.most_common()),
            "stubs": harness.watch.stubs,
            "sentAndNotStored": dict(Counter(each.kind for each in sent if each.id and not harness.watch.has(each.id))),
            "neverAcknowledged": await harness.waiting(),
            "memoryMb": {"before": memory, "most": most},
            "errorsInTheLog": len(harness.gateway.log_lines("ERROR")),
        }
        tell(json.dumps(figures, indent=1))
        await harness.check_alive()
        assert figures["hostsLost"] == 0, f"{figures['hostsLost']} engine hosts were lost: {harness.gateway.log_tail()}"
        assert figures["linksLostOfOthers"] == 0, f"links of {dict(harness.watch.lost)} were lost"
        assert not during.count(math.inf), "honest messages never arrived"
        return figures


def _progress(
    harness: FuzzHarness, sent: int, count: int, took_s: float, during: Sequence[float], most: dict[str, int]
) -> str:
    lost, stored, p95 = dict(harness.watch.lost), harness.watch.stored.total(), percentile_ms(during[-200:], 95)
    rate = round(sent / took_s)
    return f"{sent:6} of {count}, {rate}/s; links lost {lost}; stored {stored}; honest p95 {p95} ms; {most} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--companies", type=int, default=10)
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--only", choices=WEIGHTS)
    parser.add_argument("--per-s", type=float, default=100, help="attacks a second")
    parser.add_argument("--baseline-s", type=float, default=30, help="seconds of honest traffic alone")
    parser.add_argument("--folder", type=Path, help="kept; otherwise a temporary one is used and removed")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        try:
            asyncio.run(
                run(
                    asked.folder or Path(temporary),
                    count=asked.count,
                    companies=asked.companies,
                    seed=asked.seed,
                    per_s=asked.per_s,
                    baseline_s=asked.baseline_s,
                    only=asked.only,
                    tell=lambda line: print(line, flush=True),  # noqa: T201 – run by hand
                )
            )
        except AssertionError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
