"""Runs a scenario: the whole system against wasim, without a phone, with messages both ways and injected faults.

It works from the outside, by the HTTP interfaces that any user has: Holdfast's for sessions and messages, wasim's for
phones and faults. Uptime and delivery are taken from the server and the receivers, not from Holdfast's own reports.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from holdfast.base.clock import Clock, SystemClock
from holdfast.base.errors import HoldfastError
from holdfast.client import Client, Json, Refused, connect
from holdfast.health.goals import MAX_RECONNECT_S
from holdfast.lab.children import child
from holdfast.lab.scenarios import USUAL_S, Scenario, Step
from holdfast.lab.screen import Screen
from holdfast.lab.tally import ARRIVED, InjectedFault, Result, RunTally, Sent, Uptime

COMPANIES = {"962302": "962790000002", "962303": "962790000003"}
"""The companies and the numbers of their phones."""
CONTACT = "962790000099"
"""A contact with a phone and no Holdfast."""

_RATE = 2.5
"""Messages a second from each company."""
_SAMPLE_S = 0.1
_PAIR_S = 60
_SETTLE_S = 45
"""How long after the last send everything may take to arrive."""


class LabFailed(HoldfastError):
    """A scenario could not be set up, or did not end."""

    code = "lab-failed"


@dataclass(slots=True, kw_only=True)
class Stage:
    """A running scenario: its clients, and what was observed."""

    holdfast: Client
    wasim: Client
    clock: Clock
    seconds: int
    tally: RunTally = field(default_factory=RunTally)
    states: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    """The open, unfrozen link of each company, by the server's number."""
    fault: str = ""
    began_at: float = 0
    elapsed_s: float = 0


async def play(scenario: Scenario, *, seconds: int, environment: Mapping[str, str], screen: Screen) -> Result:
    """Run it in a temporary folder and return the result. The folder is removed, also after Ctrl-C."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="holdfast-lab-") as folder:
        async with _stage(Path(folder), {**environment, **scenario.settings}, clock, screen, seconds) as stage:
            await _pair_all(stage, screen)
            await _play(stage, scenario, seconds, screen)
            receivers = {number: company for company, number in COMPANIES.items()} | {CONTACT: CONTACT}
            return stage.tally.result(receivers, seconds=seconds)


@contextlib.asynccontextmanager
async def _stage(
    folder: Path, environment: Mapping[str, str], clock: Clock, screen: Screen, seconds: int
) -> AsyncIterator[Stage]:
    key = "hf_lab_key_of_a_temporary_folder"
    wasim_arguments = ["serve", "--port", "0", "--control-port", "0", "--state-dir", str(folder / "wasim")]
    async with contextlib.AsyncExitStack() as stack:
        screen.print_line("Starting a simulated WhatsApp")
        line = await stack.enter_async_context(
            child("wasim", [*wasim_arguments, "--until-stdin-closes"], env=environment, log=folder / "wasim.log")
        )
        places = json.loads(line)
        screen.print_line("Starting Holdfast")
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
            raise LabFailed(f'Holdfast printed "{line}" instead of its address')
        holdfast = await stack.enter_async_context(connect(url[0], key))
        wasim = await stack.enter_async_context(connect(places["control"], None))
        yield Stage(holdfast=holdfast, wasim=wasim, clock=clock, seconds=seconds)


_KEPT_SETTINGS = ("HOLDFAST_CACHE_DIR", "HOLDFAST_NODE_BIN", "HOLDFAST_NPM_CACHE", "HOLDFAST_REDIS_URL")


# Pairing.


async def _pair_all(stage: Stage, screen: Screen) -> None:
    await stage.wasim.post("/phones", {"number": CONTACT})
    for company, number in COMPANIES.items():
        screen.print_line(f"Linking company {company}: its phone scans the QR code")
        await stage.holdfast.put(f"/v1/sessions/{company}")
        code = (await stage.holdfast.get(f"/v1/sessions/{company}/qr"))["qr"]
        await stage.wasim.post(f"/phones/{number}/scan", {"qr": code})
    async with asyncio.timeout(_PAIR_S):
        while True:
            await _record_sessions(stage)
            await _record_links(stage)
            if len(stage.links) == len(COMPANIES) and set(stage.states.values()) == {"connected"}:
                return
            await stage.clock.sleep(_SAMPLE_S)


# Playing.


async def _play(stage: Stage, scenario: Scenario, seconds: int, screen: Screen) -> None:
    stage.began_at = stage.clock.monotonic()
    stage.tally.uptime = {company: Uptime() for company in COMPANIES}
    with screen.live(stage):
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(_watch(stage, screen))
            async with asyncio.TaskGroup() as work:
                for company in COMPANIES:
                    work.create_task(_send(stage, company, seconds))
                work.create_task(_break(stage, scenario.steps, seconds))
            stage.fault = "none; waiting for the rest to arrive"
            await _settle(stage)
            watching.cancel()
    await _count(stage)


async def _send(stage: Stage, company: str, seconds: int) -> None:
    """Send a message every 0.4 s, alternately to the other company and to the contact, whatever the link does."""
    other = next(number for name, number in COMPANIES.items() if name != company)
    for n in range(int(seconds * _RATE)):
        await stage.clock.sleep(stage.began_at + n / _RATE - stage.clock.monotonic())
        to = CONTACT if n % 3 == 2 else other
        text = f"{company} message {n + 1}"
        headers = {"Idempotency-Key": f"lab-{company}-{n}"}
        answer = await stage.holdfast.post(f"/v1/sessions/{company}/messages", {"to": to, "text": text}, headers)
        stage.tally.sent[answer["id"]] = Sent(id=answer["id"], text=text, company=company, to=to)


async def _break(stage: Stage, steps: Sequence[Step], seconds: int) -> None:
    """Run the steps one after the other. A step that is late because of the one before starts at once."""
    for step in steps:
        await stage.clock.sleep(stage.began_at + step.at_s * seconds / USUAL_S - stage.clock.monotonic())
        stage.fault = f"{step.kind} ({', '.join(step.whom)})"
        await (_sever if step.severs else _disturb)(stage, step)
        stage.fault = ""


async def _sever(stage: Stage, step: Step) -> None:
    """Break links, and wait until they are back or ten seconds have passed."""
    now = stage.clock.monotonic()
    faults = [
        InjectedFault(kind=step.kind, company=name, at=now, reachable_at=now + step.lasts_s) for name in step.whom
    ]
    for company in step.whom:
        stage.links.pop(company, None)
    stage.tally.faults += faults
    started = await _begin(stage, step)
    if step.kind in _ONLY_NEW_LINKS:
        await _begin(stage, replace(step, kind="cut", details={}))
    await stage.clock.sleep(now + step.lasts_s - stage.clock.monotonic())
    if step.kind in _HELD:
        await _end(stage, started)
    until = now + step.lasts_s + MAX_RECONNECT_S + 5
    while any(fault.back_at is None for fault in faults) and stage.clock.monotonic() < until:
        await stage.clock.sleep(_SAMPLE_S)
    await _end(stage, started)


async def _disturb(stage: Stage, step: Step) -> None:
    """Inject a fault that must not end any link."""
    started = await _begin(stage, step)
    await stage.clock.sleep(step.lasts_s)
    await _end(stage, started)


_ONLY_NEW_LINKS = {"failure", "flap", "refuse"}
"""These faults do not affect open links, so open links are cut as well."""
_HELD = {"flap", "refuse"}
"""These faults last until they are ended, at the end of the step."""
_WHOLE_SERVER = {"restart", "refuse"}


async def _begin(stage: Stage, step: Step) -> Json:
    """Start the fault at wasim; a `cut` of several companies is one fault for each."""
    begun: Json = {}
    for company in step.whom if step.kind not in _WHOLE_SERVER else step.whom[:1]:
        number = {} if step.kind in _WHOLE_SERVER else {"number": COMPANIES[company]}
        begun = await stage.wasim.post("/faults", {"kind": step.kind, **number, **step.details})
    return begun


async def _end(stage: Stage, started: Json) -> None:
    with contextlib.suppress(Refused):  # it may have ended already
        await stage.wasim.delete(f"/faults/{started['id']}")


# Watching.


async def _watch(stage: Stage, screen: Screen) -> None:
    """Sample the links ten times a second, Holdfast's own view once a second."""
    last = stage.clock.monotonic()
    n = 0
    while True:
        await _record_links(stage)
        now = stage.clock.monotonic()
        for company, uptime in stage.tally.uptime.items():
            uptime.add(now - last, up=company in stage.links, excused=_is_excused(stage, company, now))
        last = now
        stage.elapsed_s = now - stage.began_at
        if n % 10 == 0:
            await _record_sessions(stage)
            await _record_messages(stage)
        screen.refresh(stage)
        n += 1
        await stage.clock.sleep(_SAMPLE_S)


def _is_excused(stage: Stage, company: str, now: float) -> bool:
    return any(
        fault.company == company and fault.at <= now < fault.reachable_at + MAX_RECONNECT_S
        for fault in stage.tally.faults
    )


def _is_on(stage: Stage, company: str, now: float) -> bool:
    """Whether an injected fault that no link can survive is active now."""
    return any(fault.company == company and fault.back_at is None for fault in stage.tally.faults)


async def _record_links(stage: Stage) -> None:
    """The links that the server considers open and not frozen."""
    now = stage.clock.monotonic()
    companies = {number: company for company, number in COMPANIES.items()}
    up = {
        companies[link["number"]]: link["id"]
        for link in await stage.wasim.get("/links")
        if link["number"] in companies and link["state"] == "open" and not link["frozen"]
    }
    for company, link in stage.links.items():
        if up.get(company) != link and not _is_on(stage, company, now):
            stage.tally.unprovoked += 1
    for fault in stage.tally.faults:
        if fault.back_at is None and now >= fault.reachable_at and fault.company in up:
            fault.back_at = now
    stage.links = up


async def _record_sessions(stage: Stage) -> None:
    page = await stage.holdfast.get("/v1/sessions")
    stage.states = {session["companyId"]: session["state"] for session in page["items"]}


async def _record_messages(stage: Stage) -> None:
    for company in COMPANIES:
        async for message in stage.holdfast.items(f"/v1/sessions/{company}/messages"):
            if sent := stage.tally.sent.get(message["id"]):
                sent.state = message["state"]


async def _settle(stage: Stage) -> None:
    """Wait until every message has arrived, or until the timeout."""
    until = stage.clock.monotonic() + _SETTLE_S
    while stage.clock.monotonic() < until:
        if all(sent.state in ARRIVED for sent in stage.tally.sent.values()):
            return
        await stage.clock.sleep(_SAMPLE_S)


async def _count(stage: Stage) -> None:
    """Count what the receivers were shown."""
    await _record_messages(stage)
    for company in COMPANIES:
        async for item in stage.holdfast.items(f"/v1/sessions/{company}/inbox"):
            stage.tally.received[company, item["text"]] += 1
    for item in await stage.wasim.get(f"/phones/{CONTACT}/inbox"):
        stage.tally.received[CONTACT, item["text"]] += 1
