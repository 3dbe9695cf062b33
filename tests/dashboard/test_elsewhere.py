"""A company that another process runs: shown from its record, without actions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import cast

from holdfast.dashboard.context import AppContext
from holdfast.dashboard.fleet import Fleet
from holdfast.delivery.stores import Backlog
from holdfast.runtime.diagnosis import Diagnoser, Diagnosis
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.ownership import RunsElsewhere
from holdfast.runtime.view import View
from holdfast.session.stores import Transition
from tests.dashboard.browser import Browser
from tests.gateway_harness import COMPANY, GatewayHarness


class Neighbour:
    """A second process: it shares the database with the one that runs the sessions, and runs none of them."""

    is_ready = True
    running: Collection[str] = ()
    connected: Collection[str] = ()

    def __init__(self, context: AppContext) -> None:
        self._dashboard = context

    async def cluster_view(self, company: str) -> View:
        return replace(await self._dashboard.gateway.cluster_view(company), node="other:3000")

    async def require_here(self, company: str) -> None:
        """The node that runs the session did not answer."""

    async def labels(self) -> Mapping[str, str]:
        return await self._dashboard.gateway.labels()

    async def backlogs(self) -> Mapping[str, Backlog]:
        return await self._dashboard.diagnoser.backlogs()

    async def transitions(self, company: str, *, seconds: int) -> list[Transition]:
        return await self._dashboard.diagnoser.transitions(company, seconds=seconds)

    async def diagnose(self, company: str) -> Diagnosis:
        raise RunsElsewhere(company, "other:3000")


async def test_a_company_of_another_process_is_shown_without_buttons(browser: Browser, harness: GatewayHarness) -> None:
    """With its record, its history and its messages; its stability is measured by its own process."""
    await harness.pair()
    await harness.send("find me")
    await browser.sign_in()
    context: AppContext = browser.client.api.state.context
    neighbour = Neighbour(context)
    gateway, diagnoser = cast("Gateway", neighbour), cast("Diagnoser", neighbour)
    fleet = Fleet(gateway, diagnoser, context.lookup, clock=context.clock)
    browser.client.api.state.context = replace(context, gateway=gateway, diagnoser=diagnoser, fleet=fleet)
    page = (await browser.get(f"/companies/{COMPANY}")).body.decode()
    assert "This session runs on other:3000, which does not respond" in page
    assert "Measured by the node that runs this session." in page
    assert "find me" in page
    assert "Phone linked" in page
    assert 'id="do-' not in page
