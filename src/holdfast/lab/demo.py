"""The demo: the whole system against wasim, without a phone, with messages both ways and faults on purpose.

It works from the outside, by the HTTP interfaces that any user has: Holdfast's for sessions and messages, wasim's for
phones and faults. What counts as up or delivered is what the server and the receiver say, not what Holdfast claims.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from holdfast.base.clock import Clock, SystemClock
from holdfast.base.errors import HoldfastError
from holdfast.client import Client, Json, Refused, connect
from holdfast.health.success import MOST_RECONNECT_S
from holdfast.lab.children import child
from holdfast.lab.screen import Screen
from holdfast.lab.tally import ARRIVED, Fault, Result, Sent, Tally, Uptime

COMPANIES = {"962302": "962790000002", "962303": "962790000003"}
"""The demo's companies and the numbers of their phones."""
CONTACT = "962790000099"
"""Somebody with a phone and no Holdfast."""

_RATE = 2.5
"""Messages a second from each company."""
_SAMPLE_S = 0.1
_PAIR_S = 60
_SETTLE_S = 45
"""How long after the last send everything may take to arrive."""
_SERVER_DOWN_S = 2.0

_PLAN = (
    (0.06, "restart", None),
    (0.18, "cut", "962302"),
    (0.27, "cut", "962303"),
    (0.36, "freeze", "962302"),
    (0.50, "freeze", "962303"),
    (0.65, "cut", "962302"),
    (0.74, "cut", "962303"),
)
"""What is broken when, as a share of the whole time; None: everybody."""


class DemoFailed(HoldfastError):
    """The demo could not be set up, or did not end."""

    code = "demo-failed"


@dataclass(slots=True, kw_only=True)
class Stage:
    """The demo while it runs: who is asked, what was seen."""

    holdfast: Client
    wasim: Client
    clock: Clock
    tally: Tally = field(default_factory=Tally)
    states: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    """The open, unfrozen link of each company, by the server's number."""
    fault: str = ""
    began_at: float = 0
    elapsed_s: float = 0


async def run_demo(*, seconds: int, environment: Mapping[str, str], screen: Screen) -> Result:
    """Run it in a temporary folder and give the verdict. Nothing is left behind, also after Ctrl-C."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="holdfast-demo-") as folder:
        async with _stage(Path(folder), environment, clock, screen) as stage:
            await _pair_all(stage, screen)
            await _play(stage, seconds, screen)
            receivers = {number: company for company, number in COMPANIES.items()} | {CONTACT: CONTACT}
            return stage.tally.result(receivers, seconds=seconds)


@contextlib.asynccontextmanager
async def _stage(folder: Path, environment: Mapping[str, str], clock: Clock, screen: Screen) -> AsyncIterator[Stage]:
    key = "hf_demo_key_of_a_temporary_folder"
    wasim_arguments = ["serve", "--port", "0", "--control-port", "0", "--state-dir", str(folder / "wasim")]
    async with contextlib.AsyncExitStack() as stack:
        screen.say("Starting a simulated WhatsApp")
        line = await stack.enter_async_context(
            child("wasim", [*wasim_arguments, "--until-stdin-closes"], env=environment, log=folder / "wasim.log")
        )
        places = json.loads(line)
        screen.say("Starting Holdfast")
        gateway_environment = {
            **{name: value for name, value in environment.items() if not name.startswith("HOLDFAST_")},
            **{name: environment[name] for name in _KEPT_SETTINGS if name in environment},
            "HOLDFAST_PORT": "0",
            "HOLDFAST_DATA_DIR": str(folder / "data"),
            "HOLDFAST_API_KEY": key,
            "HOLDFAST_WHATSAPP_URL": places["url"],
        }
        line = await stack.enter_async_context(
            child("holdfast", ["serve", "--until-stdin-closes"], env=gateway_environment, log=folder / "holdfast.log")
        )
        url = re.search(r"http://\S+", line)
        if url is None:
            raise DemoFailed(f'Holdfast said "{line}" where its address was expected')
        holdfast = await stack.enter_async_context(connect(url[0], key))
        wasim = await stack.enter_async_context(connect(places["control"], None))
        yield Stage(holdfast=holdfast, wasim=wasim, clock=clock)


_KEPT_SETTINGS = ("HOLDFAST_CACHE_DIR", "HOLDFAST_NODE_BIN", "HOLDFAST_NPM_CACHE")


# Pairing.


async def _pair_all(stage: Stage, screen: Screen) -> None:
    await stage.wasim.post("/phones", {"number": CONTACT})
    for company, number in COMPANIES.items():
        screen.say(f"Linking company {company}: its phone scans the QR code")
        await stage.holdfast.put(f"/v1/sessions/{company}")
        code = (await stage.holdfast.get(f"/v1/sessions/{company}/qr"))["qr"]
        await stage.wasim.post(f"/phones/{number}/scan", {"qr": code})
    async with asyncio.timeout(_PAIR_S):
        while True:
            await _look_at_sessions(stage)
            await _look_at_links(stage)
            if len(stage.links) == len(COMPANIES) and set(stage.states.values()) == {"connected"}:
                return
            await stage.clock.sleep(_SAMPLE_S)


# Playing.


async def _play(stage: Stage, seconds: int, screen: Screen) -> None:
    stage.began_at = stage.clock.monotonic()
    stage.tally.uptime = {company: Uptime() for company in COMPANIES}
    with screen.live(stage):
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(_watch(stage, screen))
            async with asyncio.TaskGroup() as work:
                for company in COMPANIES:
                    work.create_task(_send(stage, company, seconds))
                work.create_task(_break(stage, seconds))
            stage.fault = "none; waiting for the rest to arrive"
            await _settle(stage)
            watching.cancel()
    await _count(stage)


async def _send(stage: Stage, company: str, seconds: int) -> None:
    """A message every 0.4 s, in turn to the other company and to the contact, whatever the link is doing."""
    other = next(number for name, number in COMPANIES.items() if name != company)
    for n in range(int(seconds * _RATE)):
        await stage.clock.sleep(stage.began_at + n / _RATE - stage.clock.monotonic())
        to = CONTACT if n % 3 == 2 else other
        text = f"{company} message {n + 1}"
        headers = {"Idempotency-Key": f"demo-{company}-{n}"}
        answer = await stage.holdfast.post(f"/v1/sessions/{company}/messages", {"to": to, "text": text}, headers)
        stage.tally.sent[answer["id"]] = Sent(id=answer["id"], text=text, company=company, to=to)


async def _break(stage: Stage, seconds: int) -> None:
    for share, kind, company in _PLAN:
        await stage.clock.sleep(stage.began_at + share * seconds - stage.clock.monotonic())
        await _inject(stage, kind, [company] if company else list(COMPANIES))
        stage.fault = ""


async def _inject(stage: Stage, kind: str, companies: list[str]) -> None:
    """Break the links of `companies` and wait until they are back, or have had their ten seconds."""
    stage.fault = f"{kind} ({', '.join(companies)})"
    body: Json = {"kind": kind}
    if kind == "restart":
        body["downS"] = _SERVER_DOWN_S
    else:
        body["number"] = COMPANIES[companies[0]]
    now = stage.clock.monotonic()
    reachable_at = now + _SERVER_DOWN_S if kind == "restart" else now
    faults = [Fault(kind=kind, company=company, at=now, reachable_at=reachable_at) for company in companies]
    for company in companies:
        stage.links.pop(company, None)
    stage.tally.faults += faults
    started = await stage.wasim.post("/faults", body)
    until = reachable_at + MOST_RECONNECT_S + 5
    while any(fault.back_at is None for fault in faults) and stage.clock.monotonic() < until:
        await stage.clock.sleep(_SAMPLE_S)
    with contextlib.suppress(Refused):  # it may have ended by itself
        await stage.wasim.delete(f"/faults/{started['id']}")


# Watching.


async def _watch(stage: Stage, screen: Screen) -> None:
    """Sample the links ten times a second, Holdfast's own view once a second."""
    last = stage.clock.monotonic()
    n = 0
    while True:
        await _look_at_links(stage)
        now = stage.clock.monotonic()
        for company, uptime in stage.tally.uptime.items():
            uptime.add(now - last, up=company in stage.links, excused=_is_excused(stage, company, now))
        last = now
        stage.elapsed_s = now - stage.began_at
        if n % 10 == 0:
            await _look_at_sessions(stage)
            await _look_at_messages(stage)
        screen.refresh(stage)
        n += 1
        await stage.clock.sleep(_SAMPLE_S)


def _is_excused(stage: Stage, company: str, now: float) -> bool:
    return any(
        fault.company == company and fault.at <= now < fault.reachable_at + MOST_RECONNECT_S
        for fault in stage.tally.faults
    )


async def _look_at_links(stage: Stage) -> None:
    """What the server holds for open and not frozen, whatever Holdfast believes."""
    now = stage.clock.monotonic()
    companies = {number: company for company, number in COMPANIES.items()}
    up = {
        companies[link["number"]]: link["id"]
        for link in await stage.wasim.get("/links")
        if link["number"] in companies and link["state"] == "open" and not link["frozen"]
    }
    for company, link in stage.links.items():
        if up.get(company) != link:
            stage.tally.unprovoked += 1
    for fault in stage.tally.faults:
        if fault.back_at is None and fault.company in up:
            fault.back_at = now
    stage.links = up


async def _look_at_sessions(stage: Stage) -> None:
    page = await stage.holdfast.get("/v1/sessions")
    stage.states = {session["companyId"]: session["state"] for session in page["items"]}


async def _look_at_messages(stage: Stage) -> None:
    for company in COMPANIES:
        async for message in stage.holdfast.items(f"/v1/sessions/{company}/messages"):
            if sent := stage.tally.sent.get(message["id"]):
                sent.state = message["state"]


async def _settle(stage: Stage) -> None:
    """Wait until every message has arrived, or the time for it is over."""
    until = stage.clock.monotonic() + _SETTLE_S
    while stage.clock.monotonic() < until:
        if all(sent.state in ARRIVED for sent in stage.tally.sent.values()):
            return
        await stage.clock.sleep(_SAMPLE_S)


async def _count(stage: Stage) -> None:
    """What the receivers were shown."""
    await _look_at_messages(stage)
    for company in COMPANIES:
        async for item in stage.holdfast.items(f"/v1/sessions/{company}/inbox"):
            stage.tally.received[company, item["text"]] += 1
    for item in await stage.wasim.get(f"/phones/{CONTACT}/inbox"):
        stage.tally.received[CONTACT, item["text"]] += 1
