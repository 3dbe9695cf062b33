"""Two nodes behind a round-robin proxy, as one service: a part of the command `tests.chaos.cluster`."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from tests.chaos.nodes import Cluster, running_cluster
from tests.served import KEY

pytestmark = pytest.mark.slow

TEXTS = 10
ROUNDS = 2


@pytest.mark.timeout(180)
async def test_two_nodes_behind_a_round_robin_proxy_act_as_one_service(tmp_path: Path) -> None:
    """Texts that both nodes accept in turn arrive in order; requests that only an owner can answer work at any node;
    the dashboard keeps its sign-in. A request for an owner that was killed is answered by the next owner: it waits for
    that, or gets a 503 that says when to repeat it.
    """
    async with running_cluster(tmp_path, nodes=2, use_nginx=False) as cluster:
        await cluster.pair(2)
        connector = aiohttp.TCPConnector(force_close=True)  # the proxy sends requests to both nodes in turn
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(connector=connector, cookie_jar=jar) as http:
            http.headers["Authorization"] = f"Bearer {KEY}"
            await asyncio.gather(*(_texts(cluster, http, n) for n in range(2)))
            await cluster.until_arrived()
            sent, _ = await cluster.outcome()
            assert sent == {"lost": 0, "doubled": 0, "disorder": 0}
            await _owners(cluster, http)
            await _dashboard(cluster, http)
            await cluster.nodes[0].kill()
            while (await _reconnect(cluster, http)) != 202:
                pass


async def _reconnect(cluster: Cluster, http: aiohttp.ClientSession) -> int:
    """The status, which is 202 or a 503 that says when to repeat the request."""
    async with http.post(f"{cluster.url}/v1/sessions/co00/reconnect") as answer:
        if answer.status != 202:
            problem = await answer.json(content_type=None)
            assert (answer.status, problem["code"], problem["retryAfterS"]) == (503, "owner-unreachable", 5)
        return answer.status


async def _texts(cluster: Cluster, http: aiohttp.ClientSession, company: int) -> None:
    for _ in range(TEXTS):
        await cluster.text(http, cluster.companies[company])


async def _owners(cluster: Cluster, http: aiohttp.ClientSession) -> None:
    """Health, diagnostics and settings of both companies, several times: half of the requests reach the node that is
    not the owner.
    """
    statuses: Counter[int] = Counter()
    for _ in range(ROUNDS):
        for company in ("co00", "co01"):
            for kind in ("health", "diagnostics"):
                async with http.get(f"{cluster.url}/webhook/whatsapp/baileys/{kind}/{company}") as answer:
                    statuses[answer.status] += 1
            async with http.put(f"{cluster.url}/v1/sessions/{company}", json={"label": "x"}) as answer:
                statuses[answer.status] += 1
    assert statuses == {200: ROUNDS * 6}


async def _dashboard(cluster: Cluster, http: aiohttp.ClientSession) -> None:
    """No page fails or is redirected, actions work, and a company's page comes from its owner."""
    origin = {"Origin": cluster.url}
    async with http.post(f"{cluster.url}/login", data={"key": KEY}, headers=origin):
        pass
    for _ in range(ROUNDS):
        for company in ("co00", "co01"):
            async with http.get(f"{cluster.url}/companies/{company}", allow_redirects=False) as page:
                html = await page.text()
                assert page.status == 200
            assert 'id="do-' in html, "the page of another node has no buttons"
            token = re.search(r'name="token" value="([0-9a-f]+)"', html)
            assert token is not None
            action = f"{cluster.url}/companies/{company}/action/reconnect"
            async with http.post(action, data={"token": token[1]}, headers=origin) as done:
                assert done.status == 200
        async with http.get(f"{cluster.url}/", allow_redirects=False) as page:
            fleet = await page.text()
        assert "co00" in fleet
        assert "co01" in fleet
