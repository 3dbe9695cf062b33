"""The dashboard in Chromium, through nginx in front of three nodes that are killed one after the other.

    uv run python -m tests.chaos.dashboard [--rounds 1] [--pictures FOLDER]

One tab stays on the page of a company and is never reloaded; after each kill it must show the next text of the company,
and that it was delivered. Another tab opens the overview and the page of each company again and again. A page is lost
if it is not answered with 200, or is a redirect to the sign-in, which is done once, at the beginning. The command fails
if any is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from playwright.async_api import BrowserContext, Error, Page, async_playwright, expect

from holdfast.engine.baileys.install import install
from holdfast.engine.node import find_node
from tests.chaos.nodes import Cluster, running_cluster
from tests.conftest import CACHE
from tests.served import KEY, eventually

_print = functools.partial(print, flush=True)
_NODES = 3
_COMPANIES = 3
_SHOWN_WITHIN_S = 60
_BETWEEN_S = 0.5


class Person:
    """Looks at the dashboard in two tabs of one browser."""

    def __init__(self, cluster: Cluster, watched: Page, browsing: Page) -> None:
        self._cluster = cluster
        self.watched, self._browsing = watched, browsing
        self.pages: Counter[str] = Counter()
        """Pages that were opened, by what became of them."""

    async def sign_in(self) -> None:
        page = self._browsing
        await page.goto(f"{self._cluster.url}/")
        await page.get_by_label("API key").fill(KEY)
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_url(f"{self._cluster.url}/")

    async def watch(self) -> None:
        await self.watched.goto(f"{self._cluster.url}/companies/co00")

    async def sees(self, text: str) -> None:
        """The watched tab shows the text, and that it was delivered."""
        row = self.watched.locator("#sent_messages").get_by_text(text)
        await expect(row.first).to_be_visible(timeout=_SHOWN_WITHIN_S * 1000)
        chip = self.watched.locator("#sent_messages .chip").first
        await expect(chip).to_have_text(re.compile("Delivered|Read"), timeout=_SHOWN_WITHIN_S * 1000)

    async def browse(self) -> None:
        """Open pages until cancelled."""
        paths = ["/", *(f"/companies/{company.id}" for company in self._cluster.companies)]
        while True:
            for path in paths:
                self.pages[await self._open(path)] += 1
                await asyncio.sleep(_BETWEEN_S)

    async def _open(self, path: str) -> str:
        try:
            response = await self._browsing.goto(f"{self._cluster.url}{path}", wait_until="domcontentloaded")
        except Error as error:
            return error.message.splitlines()[0]
        if response is None or response.status != 200:
            return f"status {response and response.status}"
        return "shown" if self._browsing.url == f"{self._cluster.url}{path}" else f"led to {self._browsing.url}"


@asynccontextmanager
async def _person(cluster: Cluster) -> AsyncIterator[Person]:
    program = shutil.which("chromium")
    assert program, "there is no chromium: apt-get install chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        context: BrowserContext = await browser.new_context(viewport={"width": 1280, "height": 900})
        yield Person(cluster, await context.new_page(), await context.new_page())
        await browser.close()


async def run(folder: Path, *, rounds: int, pictures: Path | None) -> bool:
    """Kill each node so many times; returns whether no page was lost."""
    async with running_cluster(folder, nodes=_NODES) as cluster:
        await cluster.pair(_COMPANIES)
        async with _person(cluster) as person, aiohttp.ClientSession() as http, asyncio.TaskGroup() as tasks:
            http.headers["Authorization"] = f"Bearer {KEY}"
            await person.sign_in()
            await person.watch()
            browsing = tasks.create_task(person.browse())
            for number in range(rounds * _NODES):
                await _kill_one(cluster, person, http, number % _NODES, pictures)
            browsing.cancel()
    _print(f"pages: {', '.join(f'{count} {what}' for what, count in person.pages.most_common())}")
    return set(person.pages) == {"shown"}


async def _kill_one(
    cluster: Cluster, person: Person, http: aiohttp.ClientSession, number: int, pictures: Path | None
) -> None:
    loop, node = asyncio.get_running_loop(), cluster.nodes[number]
    began_at = loop.time()
    await node.kill()
    company = cluster.companies[0]
    await cluster.text(http, company)
    await person.sees(company.sent[-1])
    _print(f"n{number} killed: the page shows the next text, delivered, after {loop.time() - began_at:.1f} s")
    if pictures is not None:
        await person.watched.screenshot(path=pictures / f"killed-n{number}.png")
    await cluster.until_all_open()
    await node.start()

    async def is_ready() -> bool:
        async with http.get(f"{node.url}/readyz") as answer:
            return answer.status == 200

    await eventually(is_ready, within_s=_SHOWN_WITHIN_S, what=f"n{number} is ready")


def main() -> None:
    parser = argparse.ArgumentParser(description="Use the dashboard through nginx while nodes are killed.")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--pictures", type=Path, help="folder for screenshots")
    asked = parser.parse_args()
    if shutil.which("nginx") is None:
        sys.exit("nginx is not installed: apt-get install nginx-light")
    install(CACHE / "engine", node=find_node(), progress=lambda line: _print(line, file=sys.stderr))
    with tempfile.TemporaryDirectory() as folder:
        if not asyncio.run(run(Path(folder), rounds=asked.rounds, pictures=asked.pictures)):
            sys.exit("pages were lost")


if __name__ == "__main__":
    main()
