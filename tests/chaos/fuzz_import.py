"""A fuzzer: imports thousands of damaged devices into a running Holdfast, and starts those that are accepted.

`uv run python -m tests.chaos.fuzz_import --count 5000` mutates credentials and Signal keys of real linked devices,
imports each as a tenant would, waits for its first login, writes to it, and removes it. It fails when an engine host or
the link of another company was lost, or when a refusal has no sentence. The seed is printed and repeats the imports.

It must use Holdfast only from the outside, with what an operator has.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from holdfast.client import Refused
from holdfast.engine.baileys.install import install
from holdfast.engine.node import find_node
from tests.chaos.hostile import Json
from tests.chaos.mutated_json import JsonMutator
from tests.conftest import CACHE
from tests.processes import Wasim, running_wasim
from tests.served import KEY, Served, served

CONTACT, HONEST = "962790009001", "honest"
HONEST_NUMBER = "962790000001"
SETTLES_WITHIN_S = 2.0
"""Seconds to wait for a login or its refusal."""
PROGRESS_S = 5.0
SETTLED = {"connected", "logged_out", "paused", "unpaired", "stopped"}


@dataclass(slots=True)
class Tenant:
    """A company into which a device is imported again and again, each time with different damage."""

    company: str
    number: str
    device: Json

    def damaged(self, randomness: random.Random) -> Json:
        """The body of an import."""
        mutator = JsonMutator(randomness)
        changed: Json = {
            "credentials": self.device["credentials"],
            "keys": [dict(key) for key in self.device["keys"]],
            "inUse": randomness.random() < 0.5,
        }
        if randomness.random() < 0.7 or not changed["keys"]:
            changed["credentials"] = mutator.text(changed["credentials"], changes=2)
        else:
            for key in randomness.sample(changed["keys"], k=min(len(changed["keys"]), 5)):
                name = randomness.choice(("value", "value", "value", "id", "type"))
                key[name] = mutator.text(key["value"]) if name == "value" else str(mutator.value(key[name]))
            if randomness.random() < 0.1:
                changed["keys"].append(dict(randomness.choice(changed["keys"])))
        return changed if randomness.random() < 0.97 else mutator.value(changed)


@dataclass(slots=True)
class Import:
    """The results."""

    gateway: Served
    wasim: Wasim
    http: aiohttp.ClientSession
    randomness: random.Random
    outcomes: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    """The beginnings of sentences."""
    bad: list[str] = field(default_factory=list)
    """Responses without a sentence, or internal errors."""

    async def pair(self, company: str, number: str) -> Tenant:
        await self.gateway.pair(company, number, self.wasim)
        answer = await self.gateway.send(company, CONTACT, "hello")
        await self.gateway.until_message(answer["id"], "delivered", "read", within_s=20)
        await self.gateway.client.post(f"/v1/sessions/{company}/stop")
        await self.gateway.until_state(company, "stopped", within_s=20)
        device = await self.gateway.client.get(f"/v1/sessions/{company}/export")
        await self._clear(company)
        return Tenant(company=company, number=number, device=device)

    async def try_one(self, tenant: Tenant) -> None:
        body = tenant.damaged(self.randomness)
        path = f"/v1/sessions/{tenant.company}/import"
        data = io.BytesIO(json.dumps(body).encode(errors="surrogatepass"))
        async with self.http.post(path, data=data, headers={"Content-Type": "application/json"}) as answer:
            status, text = answer.status, await answer.text()
        self.outcomes[str(status)] += 1
        if status >= 300:
            self._judge(status, text)
            return
        await self.wasim.post(f"/phones/{CONTACT}/send", {"to": tenant.number, "text": "hello"})
        self.outcomes[await self._settled(tenant.company)] += 1
        await self._clear(tenant.company)

    def _judge(self, status: int, text: str) -> None:
        try:
            detail = json.loads(text)["detail"]
        except (ValueError, KeyError, TypeError):
            detail = ""
        if status >= 500 or len(detail.split()) < 3 or len(detail) > 1000:
            self.bad.append(f"{status}: {text[:300]}")
        self.refusals[" ".join(detail.split()[:5])] += 1

    async def _settled(self, company: str) -> str:
        """The state after the first login, or the reason why there is none."""
        until = time.monotonic() + SETTLES_WITHIN_S
        while True:
            session = await self.gateway.session(company)
            if session["state"] in SETTLED or time.monotonic() > until:
                return str(session["state"])
            await asyncio.sleep(0.03)

    async def _clear(self, company: str) -> None:
        try:
            made = await self.gateway.client.post(f"/v1/sessions/{company}/clear")
        except Refused as refused:
            if refused.status != 404:
                self.bad.append(f"clear: {refused}")
            return
        backup = self.gateway.database.parent / "backups" / made["name"]
        await asyncio.to_thread(backup.unlink)  # thousands of them would fill the disk

    async def logins(self) -> int:
        stats = await self.wasim.get("/stats")
        return int(stats["numbers"][HONEST_NUMBER]["logins"])


async def run(folder: Path, *, count: int, tenants: int, seed: str, tell: Callable[[str], None]) -> Json:
    """Import that many damaged devices; returns the figures. Raises AssertionError when a host or another company's
    link was lost."""
    tell(f"seed {seed}")
    settings = {"HOLDFAST_BACKUP_EVERY_H": "0", "HOLDFAST_ENGINE_HOSTS": "2"}
    async with (
        running_wasim(folder / "wasim") as wasim,
        served(folder, wasim=wasim, **settings) as gateway,
        aiohttp.ClientSession(gateway.url, headers={"Authorization": f"Bearer {KEY}"}) as http,
    ):
        await wasim.post("/phones", {"number": CONTACT})
        tried = Import(gateway, wasim, http, random.Random(seed))
        await gateway.pair(HONEST, HONEST_NUMBER, wasim)
        owners = [await tried.pair(f"tenant-{n}", f"9627900001{n:02}") for n in range(tenants)]
        logins, begun = await tried.logins(), time.monotonic()
        left = iter(range(count))
        told_at = begun

        async def work(tenant: Tenant) -> None:
            nonlocal told_at
            for n in left:
                await tried.try_one(tenant)
                if time.monotonic() - told_at > PROGRESS_S:
                    told_at = time.monotonic()
                    tell(f"{n:6} of {count}; {dict(tried.outcomes.most_common())}; {len(tried.bad)} bad answers")

        async with asyncio.TaskGroup() as tasks:
            for owner in owners:
                tasks.create_task(work(owner))
        figures: Json = {
            "imports": count,
            "seconds": round(time.monotonic() - begun, 1),
            "outcomes": dict(tried.outcomes.most_common()),
            "refusals": dict(tried.refusals.most_common(25)),
            "badAnswers": tried.bad[:20],
            "hostsLost": len(gateway.log_lines("Engine host", "lost:")),
            "linksLostOfOthers": await tried.logins() - logins,
            "errorsInTheLog": len([line for line in gateway.log_lines("ERROR") if "stored credentials" not in line]),
        }
        tell(json.dumps(figures, indent=1))
        assert figures["hostsLost"] == 0, f"engine hosts were lost: {gateway.log_tail()}"
        assert figures["linksLostOfOthers"] == 0, "the link of a company that imported nothing was lost"
        assert not tried.bad, f"{len(tried.bad)} responses have no sentence: {tried.bad[0]}"
        assert (await gateway.session(HONEST))["state"] == "connected"
        return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--tenants", type=int, default=6, help="number that import at the same time")
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--folder", type=Path, help="kept; otherwise a temporary one is used and removed")
    asked = parser.parse_args()
    install(CACHE / "engine", node=find_node(), progress=print)
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        told = run(
            folder,
            count=asked.count,
            tenants=asked.tenants,
            seed=asked.seed,
            tell=lambda line: print(line, flush=True),  # noqa: T201 – run by hand
        )
        try:
            asyncio.run(told)
        except AssertionError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
