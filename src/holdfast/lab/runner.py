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
class ScenarioRun:
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
        async with _scenario_run(Path(folder), {**environment, **scenario.settings}, clock, screen, seconds) as run:
            await _pair_all(run, screen)
            await _play(run, scenario, seconds, screen)
            receivers = {number: company for company, number in COMPANIES.items()} | {CONTACT: CONTACT}
            return run.tally.result(receivers, seconds=seconds)


@contextlib.asynccontextmanager
async def _scenario_run(
    folder: Path, environment: Mapping[str, str], clock: Clock, screen: Screen, seconds: int
) -> AsyncIterator[ScenarioRun]:
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
        yield ScenarioRun(holdfast=holdfast, wasim=wasim, clock=clock, seconds=seconds)


_KEPT_SETTINGS = ("HOLDFAST_CACHE_DIR", "HOLDFAST_NODE_BIN", "HOLDFAST_NPM_CACHE", "HOLDFAST_REDIS_URL")


# Pairing.


async def _pair_all(run: ScenarioRun, screen: Screen) -> None:
    await run.wasim.post("/phones", {"number": CONTACT})
    for company, number in COMPANIES.items():
        screen.print_line(f"Linking company {company}: its phone scans the QR code")
        await run.holdfast.put(f"/v1/sessions/{company}")
        code = (await run.holdfast.get(f"/v1/sessions/{company}/qr"))["qr"]
        await run.wasim.post(f"/phones/{number}/scan", {"qr": code})
    async with asyncio.timeout(_PAIR_S):
        while True:
            await _record_sessions(run)
            await _record_links(run)
            if len(run.links) == len(COMPANIES) and set(run.states.values()) == {"connected"}:
                return
            await run.clock.sleep(_SAMPLE_S)


# Playing.


async def _play(run: ScenarioRun, scenario: Scenario, seconds: int, screen: Screen) -> None:
    run.began_at = run.clock.monotonic()
    run.tally.uptime = {company: Uptime() for company in COMPANIES}
    with screen.live(run):
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(_watch(run, screen))
            async with asyncio.TaskGroup() as work:
                for company in COMPANIES:
                    work.create_task(_send(run, company, seconds))
                work.create_task(_break(run, scenario.steps, seconds))
            run.fault = "none; waiting for the rest to arrive"
            await _settle(run)
            watching.cancel()
    await _count(run)


async def _send(run: ScenarioRun, company: str, seconds: int) -> None:
    """Send a message every 0.4 s, alternately to the other company and to the contact, whatever the link does."""
    other = next(number for name, number in COMPANIES.items() if name != company)
    for n in range(int(seconds * _RATE)):
        await run.clock.sleep(run.began_at + n / _RATE - run.clock.monotonic())
        to = CONTACT if n % 3 == 2 else other
        text = f"{company} message {n + 1}"
        headers = {"Idempotency-Key": f"lab-{company}-{n}"}
        answer = await run.holdfast.post(f"/v1/sessions/{company}/messages", {"to": to, "text": text}, headers)
        run.tally.sent[answer["id"]] = Sent(id=answer["id"], text=text, company=company, to=to)


async def _break(run: ScenarioRun, steps: Sequence[Step], seconds: int) -> None:
    """Run the steps one after the other. A step that is late because of the one before starts at once."""
    for step in steps:
        await run.clock.sleep(run.began_at + step.at_s * seconds / USUAL_S - run.clock.monotonic())
        run.fault = f"{step.kind} ({', '.join(step.targets)})"
        await (_sever if step.severs else _disturb)(run, step)
        run.fault = ""


async def _sever(run: ScenarioRun, step: Step) -> None:
    """Break links, and wait until they are back or ten seconds have passed."""
    now = run.clock.monotonic()
    faults = [
        InjectedFault(kind=step.kind, company=name, at=now, reachable_at=now + step.lasts_s) for name in step.targets
    ]
    for company in step.targets:
        run.links.pop(company, None)
    run.tally.faults += faults
    started = await _begin(run, step)
    if step.kind in _ONLY_NEW_LINKS:
        await _begin(run, replace(step, kind="cut", details={}))
    await run.clock.sleep(now + step.lasts_s - run.clock.monotonic())
    if step.kind in _HELD:
        await _end(run, started)
    until = now + step.lasts_s + MAX_RECONNECT_S + 5
    while any(fault.back_at is None for fault in faults) and run.clock.monotonic() < until:
        await run.clock.sleep(_SAMPLE_S)
    await _end(run, started)


async def _disturb(run: ScenarioRun, step: Step) -> None:
    """Inject a fault that must not end any link."""
    started = await _begin(run, step)
    await run.clock.sleep(step.lasts_s)
    await _end(run, started)


_ONLY_NEW_LINKS = {"failure", "flap", "refuse"}
"""These faults do not affect open links, so open links are cut as well."""
_HELD = {"flap", "refuse"}
"""These faults last until they are ended, at the end of the step."""
_WHOLE_SERVER = {"restart", "refuse"}


async def _begin(run: ScenarioRun, step: Step) -> Json:
    """Start the fault at wasim; a `cut` of several companies is one fault for each."""
    begun: Json = {}
    for company in step.targets if step.kind not in _WHOLE_SERVER else step.targets[:1]:
        number = {} if step.kind in _WHOLE_SERVER else {"number": COMPANIES[company]}
        begun = await run.wasim.post("/faults", {"kind": step.kind, **number, **step.details})
    return begun


async def _end(run: ScenarioRun, started: Json) -> None:
    with contextlib.suppress(Refused):  # it may have ended already
        await run.wasim.delete(f"/faults/{started['id']}")


# Watching.


async def _watch(run: ScenarioRun, screen: Screen) -> None:
    """Sample the links ten times a second, Holdfast's own view once a second."""
    last = run.clock.monotonic()
    n = 0
    while True:
        await _record_links(run)
        now = run.clock.monotonic()
        for company, uptime in run.tally.uptime.items():
            uptime.add(now - last, up=company in run.links, excused=_is_excused(run, company, now))
        last = now
        run.elapsed_s = now - run.began_at
        if n % 10 == 0:
            await _record_sessions(run)
            await _record_messages(run)
        screen.refresh(run)
        n += 1
        await run.clock.sleep(_SAMPLE_S)


def _is_excused(run: ScenarioRun, company: str, now: float) -> bool:
    return any(
        fault.company == company and fault.at <= now < fault.reachable_at + MAX_RECONNECT_S
        for fault in run.tally.faults
    )


def _is_on(run: ScenarioRun, company: str, now: float) -> bool:
    """Whether an injected fault that no link can survive is active now."""
    return any(fault.company == company and fault.back_at is None for fault in run.tally.faults)


async def _record_links(run: ScenarioRun) -> None:
    """The links that the server considers open and not frozen."""
    now = run.clock.monotonic()
    companies = {number: company for company, number in COMPANIES.items()}
    up = {
        companies[link["number"]]: link["id"]
        for link in await run.wasim.get("/links")
        if link["number"] in companies and link["state"] == "open" and not link["frozen"]
    }
    for company, link in run.links.items():
        if up.get(company) != link and not _is_on(run, company, now):
            run.tally.unprovoked += 1
    for fault in run.tally.faults:
        if fault.back_at is None and now >= fault.reachable_at and fault.company in up:
            fault.back_at = now
    run.links = up


async def _record_sessions(run: ScenarioRun) -> None:
    page = await run.holdfast.get("/v1/sessions")
    run.states = {session["companyId"]: session["state"] for session in page["items"]}


async def _record_messages(run: ScenarioRun) -> None:
    for company in COMPANIES:
        async for message in run.holdfast.items(f"/v1/sessions/{company}/messages"):
            if sent := run.tally.sent.get(message["id"]):
                sent.state = message["state"]


async def _settle(run: ScenarioRun) -> None:
    """Wait until every message has arrived, or until the timeout."""
    until = run.clock.monotonic() + _SETTLE_S
    while run.clock.monotonic() < until:
        if all(sent.state in ARRIVED for sent in run.tally.sent.values()):
            return
        await run.clock.sleep(_SAMPLE_S)


async def _count(run: ScenarioRun) -> None:
    """Count what the receivers were shown."""
    await _record_messages(run)
    for company in COMPANIES:
        async for item in run.holdfast.items(f"/v1/sessions/{company}/inbox"):
            run.tally.received[company, item["text"]] += 1
    for item in await run.wasim.get(f"/phones/{CONTACT}/inbox"):
        run.tally.received[CONTACT, item["text"]] += 1
