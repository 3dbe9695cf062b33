"""Every code of WhatsApp, sent by a server to real Baileys: the reaction, and where it is reported.

All codes are tried side by side, each on a company of its own, at login and on an open link, as tried.toml lists them.
API, history, Redis and log must agree about each.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from holdfast.client import Json, Refused
from tests.acceptance.trials import Trial, trials
from tests.processes import Wasim
from tests.redis_process import RedisProcess, running_redis
from tests.served import Served, eventually, served

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("bridge")]

CONTACT = "962790000900"
SOON_S = 30
QUARREL_S = 80
"""Two attempts after 30 s each, and time for the steps in between."""
PAUSED = {"stop", "probe", "pause-until"}
PLANNED_S: dict[str, tuple[float, float] | None] = {
    "backoff": (0, 60),
    "confirm-logout": (0, 60),
    "long-backoff": (300, 360),
    "probe": (300, 360),
    "pause-until": (690, 690.1),
    "replaced": (30, 30.1),
    "restart": None,
    "logged-out": None,
    "stop": None,
}
"""Seconds from the end of the link to the next attempt; 402 comes with 600 s."""
STATES = {"logged-out": "logged_out"} | dict.fromkeys(PAUSED, "paused")
"""The state after one end of a link, where that is not `reconnecting`."""


@dataclass(slots=True, kw_only=True)
class ReasonsHarness:
    gateway: Served
    wasim: Wasim
    redis: RedisProcess
    numbers: dict[str, str] = field(default_factory=dict)

    async def pair(self, company: str) -> None:
        number = self.numbers.setdefault(company, f"9627900001{len(self.numbers):02}")
        await self.gateway.pair(company, number, self.wasim)

    async def ask(self, company: str, action: str) -> None:
        await self.gateway.client.post(f"/v1/sessions/{company}/{action}")

    async def history(self, company: str) -> list[Json]:
        """Oldest first."""
        found = await self.gateway.client.get(f"/webhook/whatsapp/baileys/diagnostics/{company}")
        return list(reversed(found["history"]))

    async def inject(self, company: str, fault: dict[str, Any]) -> None:
        number = self.numbers[company]
        if fault["kind"] != "unlink":
            await self.wasim.fault(number=number, **fault)
            return
        devices = next(each["devices"] for each in await self.wasim.get("/phones") if each["number"] == number)
        device = next(each["device"] for each in devices if each["connected"])
        await self.wasim.post(f"/phones/{number}/unlink", {"device": device})

    async def turn(self, trial: Trial, *, seen: int, within_s: float = SOON_S, after: str | None = None) -> Json:
        """The first transition after the first `seen` ones that this trial's code caused, to the state `after` if it is
        given.
        """

        async def look() -> Json | None:
            for turn in (await self.history(trial.company))[seen:]:
                if turn["code"] == trial.code and (after is None or turn["after"] == after):
                    return turn
            return None

        return await eventually(look, within_s=within_s, what=f"a turn of {trial.company}")

    async def agreed_everywhere(self, company: str, state: str, reason: str, code: int | None) -> Json:
        """Check that API, Redis and log agree on a session that stays in `state`; return the API's answer."""

        async def look() -> Json | None:
            session = await self.gateway.session(company)
            stored = json.loads(str(await self.redis.do("GET", f"whatsapp:session:{company}")))
            told = session["reason"] or {}
            return session if (
                (session["state"], told.get("code"), told.get("number"))
                == (stored["state"], stored["reason"], stored["code"])
                == (state, reason, code)
                and session["reconnectAttempts"] == stored["reconnectAttempts"]
            ) else None  # fmt: skip

        session = await eventually(look, within_s=5, what=f"{company} {state} ({reason}) in the API and in Redis")
        end = f"→ {state}: {session['reason']['message']}" + (f" ({code})" if code is not None else "")
        assert self.gateway.log_lines(f"Session {company} ", end), f"the log says nothing of {end}"
        return session


@pytest.fixture
async def harness(tmp_path: Path, wasim: Wasim) -> AsyncIterator[ReasonsHarness]:
    async with (
        running_redis(tmp_path) as redis,
        served(tmp_path, wasim=wasim, HOLDFAST_REDIS_URL=redis.url) as gateway,
    ):
        await wasim.post("/phones", {"number": CONTACT})
        yield ReasonsHarness(gateway=gateway, wasim=wasim, redis=redis)


# One code.


def check_turn(turn: Json, trial: Trial, *, after: str, reaction: str) -> None:
    """Check the history's entry about the end of a link."""
    assert (turn["after"], turn["reason"], turn["code"]) == (after, trial.name, trial.code)
    assert turn["event"] == "LinkClosed"
    planned, wanted = turn["nextAttemptAt"], PLANNED_S[reaction]
    if wanted is None:
        assert planned is None
        return
    in_s = _seconds(planned) - _seconds(turn["at"])
    assert wanted[0] - 0.05 <= in_s <= wanted[1], f"planned in {in_s} s"


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


async def come_back(harness: ReasonsHarness, trial: Trial) -> None:
    """Wait until the session reconnects automatically where the table says so, otherwise start or link it as a person
    would.
    """
    company = trial.company
    state = (await harness.gateway.session(company))["state"]
    if state == "paused":
        await harness.ask(company, "start")
    elif state == "logged_out":
        await harness.pair(company)
    elif trial.reaction in {"long-backoff", "replaced"}:
        await harness.ask(company, "reconnect")
    await harness.gateway.until_state(company, "connected", within_s=SOON_S)


async def try_mid_stream(harness: ReasonsHarness, trial: Trial, fault: dict[str, Any]) -> None:
    company = trial.company
    turn = await end_link(harness, company, fault)
    if turn["code"] == 428 != trial.code:  # on a busy machine Baileys may see the end before the error
        await harness.gateway.until_state(company, "connected", within_s=SOON_S)
        turn = await end_link(harness, company, fault)
    check_turn(turn, trial, after=STATES.get(trial.reaction, "reconnecting"), reaction=trial.reaction)
    if trial.reaction not in {"backoff", "restart", "confirm-logout"}:
        await harness.agreed_everywhere(company, turn["after"], trial.name, trial.code)
    await come_back(harness, trial)


async def end_link(harness: ReasonsHarness, company: str, fault: dict[str, Any]) -> Json:
    """The transition that a fault on an open link caused."""
    seen = len(await harness.history(company))
    await harness.inject(company, fault)

    async def look() -> Json | None:
        return next((turn for turn in (await harness.history(company))[seen:] if turn["before"] == "connected"), None)

    return await eventually(look, within_s=SOON_S, what=f"the end of {company}'s link")


async def try_login(harness: ReasonsHarness, trial: Trial, failure: dict[str, Any]) -> None:
    """Every login is refused until all attempts were made. A message waits meanwhile, and is sent afterwards."""
    company = trial.company
    await harness.ask(company, "stop")
    seen = len(await harness.history(company))
    fault = await harness.wasim.fault("failure", number=harness.numbers[company], **failure)
    message = await harness.gateway.send(company, CONTACT, "kept meanwhile")
    await harness.ask(company, "start")
    turn = await harness.turn(trial, seen=seen)
    assert turn["before"] == "connecting"
    again = "backoff" if trial.reaction == "restart" else trial.reaction  # a second 515 within a minute is waited for
    check_turn(turn, trial, after=STATES.get(trial.reaction, "reconnecting"), reaction=again)
    await last_state(harness, trial, seen)
    assert (await harness.gateway.message(message["id"]))["state"] == "queued"
    await harness.wasim.delete(f"/faults/{fault['id']}")
    if trial.reaction != "pause-until":
        await come_back(harness, trial)
        await harness.gateway.until_message(message["id"], "sent", "delivered", "read", within_s=SOON_S)


async def last_state(harness: ReasonsHarness, trial: Trial, seen: int) -> None:
    """The final state after a code that WhatsApp repeats."""
    company, state = trial.company, STATES.get(trial.reaction, "reconnecting")
    if trial.reaction == "confirm-logout":
        state = (await harness.turn(trial, seen=seen, after="logged_out"))["after"]
    elif trial.reaction == "replaced":
        state = (await harness.turn(trial, seen=seen, after="paused", within_s=QUARREL_S))["after"]
        logins = [turn for turn in (await harness.history(company))[seen:] if turn["code"] == 440]
        assert len(logins) == 3, "one login and two tries"
    session = await harness.agreed_everywhere(company, state, trial.name, trial.code)
    if trial.reaction == "pause-until":
        for action in ("reconnect", "start"):
            with pytest.raises(Refused, match="banned this number for a time"):
                await harness.ask(company, action)
        assert (await harness.gateway.session(company))["state"] == "paused", "nobody gets past a ban"
        assert _seconds(session["nextAttemptAt"]) - _seconds(session["since"]) == pytest.approx(690, abs=2)


async def try_code(harness: ReasonsHarness, trial: Trial) -> None:
    try:
        await harness.pair(trial.company)
        for fault in trial.mid_stream:
            await try_mid_stream(harness, trial, fault)
        if trial.login is not None:
            await try_login(harness, trial, trial.login)
    except Exception as error:
        error.add_note(f"while trying {trial.company} ({trial.reaction})")
        error.add_note("\n".join(harness.gateway.log_lines(f"Session {trial.company} ")))
        raise


async def test_each_code_has_its_reaction_and_is_reported_everywhere(harness: ReasonsHarness, tmp_path: Path) -> None:
    """Whatever code ends a link: state, reason, plan, attempts and history are PROTOCOL's and the same in the API, in
    Redis and in the log; no message is lost over it; credentials are quarantined for a logout and for nothing else."""
    ends = await asyncio.gather(*(try_code(harness, trial) for trial in trials()), return_exceptions=True)
    failures = [end for end in ends if isinstance(end, Exception)]
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {len(ends)} codes", failures)
    logouts = [trial.company for trial in trials() if trial.reaction in {"logged-out", "confirm-logout"}]
    assert {company for company, _ in quarantined(tmp_path)} == set(logouts)
    assert all(reason in {"logged-out", "unlinked"} for _, reason in quarantined(tmp_path))


def quarantined(folder: Path) -> list[tuple[str, str]]:
    """Company and reason of all credentials in quarantine."""
    with closing(sqlite3.connect(folder / "data" / "holdfast.db")) as database:
        return database.execute("SELECT company_id, reason FROM quarantine").fetchall()


# The network on the way.


UPGRADES_REFUSED: list[tuple[dict[str, int], str, int]] = [
    ({"status": 407}, "connect-failed", 407),
    ({"status": 401}, "connect-failed", 401),
    ({"status": 403}, "connect-failed", 403),
    ({"status": 503}, "server-unavailable", 503),
    ({}, "link-lost", 408),
]
"""What answers instead of WhatsApp, and the expected reason."""


async def test_answers_of_proxies_and_portals_are_not_mistaken_for_whatsapps(harness: ReasonsHarness) -> None:
    """A proxy or portal that answers the upgrade with its own 401 or 403 costs attempts, never the credentials."""
    await harness.pair("962302")
    for status, reason, code in UPGRADES_REFUSED:
        fault = await harness.wasim.fault("refuse", **status)
        await harness.wasim.fault("cut")
        await eventually(lambda: _has_tried_twice(harness), within_s=SOON_S, what="a second attempt")
        await harness.agreed_everywhere("962302", "reconnecting", reason, code)
        await harness.wasim.delete(f"/faults/{fault['id']}")
        await harness.ask("962302", "stop")  # and the attempts are counted from the beginning
        await harness.ask("962302", "start")
        await harness.gateway.until_state("962302", "connected", within_s=SOON_S)


async def _has_tried_twice(harness: ReasonsHarness) -> bool:
    attempts: int = (await harness.gateway.session("962302"))["reconnectAttempts"]
    return attempts >= 2
