"""A person with a browser, who signs in, looks and clicks. Errors that the browser reports are recorded."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.async_api import Browser, ConsoleMessage, Page

from tests.served import Served

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
_SERIOUS = {"serious", "critical"}
_OUTSIDE = """() => {
  const edge = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= edge) return [];
  const isOut = (element) => element.getBoundingClientRect().right > edge + 1;
  return [...document.querySelectorAll("body *")].filter(isOut).map((element) => element.outerHTML.slice(0, 120));
}"""
_BROKEN_WORDS = """() => {
  const broken = [];
  for (const cell of document.querySelectorAll("td, th, .timeline .when")) {
    const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const node = texts.currentNode;
      if (node.parentElement.closest(".mono, .id, .text, code, [hidden], .unseen, thead")) continue;
      for (const word of node.data.matchAll(/[^\\s-]+/g)) {
        const range = document.createRange();
        range.setStart(node, word.index);
        range.setEnd(node, word.index + word[0].length);
        const lines = new Set([...range.getClientRects()].map((box) => Math.round(box.top)));
        if (lines.size > 1 && word[0].length < 25) broken.push(word[0]);
      }
    }
  }
  return broken;
}"""
_BROKEN_IDS = """() => innerWidth < 1200 ? [] : [...document.querySelectorAll(".id.mono")].filter((id) => {
  const text = document.createRange();
  text.selectNodeContents(id);
  return new Set([...text.getClientRects()].map((box) => Math.round(box.top))).size > 1;
}).map((id) => id.innerText)"""
_OVERLAPPING = """() => [...document.querySelectorAll(".timeline li")].filter((entry) => {
  const [when, what] = [...entry.children].map((child) => child.getBoundingClientRect());
  const text = document.createRange();
  text.selectNodeContents(entry.children[0]);
  return text.getBoundingClientRect().right > what.left && what.top < when.bottom - 1;
}).map((entry) => entry.innerText)"""
_OUTSIDE_CARD = """() => [...document.querySelectorAll(".card:not([hidden])")].flatMap((card) => {
  const edge = card.getBoundingClientRect().right - parseFloat(getComputedStyle(card).paddingRight);
  const mayScroll = (element) => element.closest(".scroll, pre, .unseen, svg, canvas, thead");
  const isOut = (element) => element.getBoundingClientRect().right > edge + 1 && !mayScroll(element);
  return [...card.querySelectorAll("*")].filter(isOut).map((element) => element.outerHTML.slice(0, 120));
})"""
PATIENCE_MS = 20_000


class Visitor:
    def __init__(self, page: Page, url: str, key: str) -> None:
        self.page = page
        self._url = url
        self._key = key
        self.complaints: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    async def go(self, path: str) -> None:
        await self.page.goto(self._url + path)

    async def sign_in(self) -> None:
        await self.go("/")
        await self.page.get_by_label("API key").fill(self._key)
        await self.page.get_by_role("button", name="Sign in").click()
        await self.page.wait_for_url(self._url + "/")

    async def go_to_tomorrow(self) -> None:
        """Load the page as if it were a day later: what has just happened was yesterday."""
        await self.stay_until_tomorrow()
        await self.page.reload()

    async def go_to_next_year(self) -> None:
        """Load the page as if it were a year later: dates, which then have their year, are as long as they can be."""
        await self.page.clock.set_fixed_time(datetime.now(UTC) + timedelta(days=366))
        await self.page.reload()

    async def stay_until_tomorrow(self) -> None:
        """Keep the page open for a day, as its own clock shows it."""
        await self.page.clock.set_fixed_time(datetime.now(UTC) + timedelta(days=1))

    async def check_page(self) -> None:
        """Check that axe finds nothing serious, the browser logs no error, nothing is wider than the page or its card,
        no word in a table and on a wide screen no id is broken, and no time overlaps its entry.
        """
        found = json.loads(await self.page.evaluate("async () => JSON.stringify((await axe.run()).violations)"))
        serious = [
            f"{rule['id']}: {rule['help']}: {[node['html'] for node in rule['nodes']][:3]}"
            for rule in found
            if rule["impact"] in _SERIOUS
        ]
        assert not serious, "\n".join(serious)
        outside = await self.page.evaluate(_OUTSIDE)
        assert not outside, f"these stick out at the side: {outside}"
        outside = await self.page.evaluate(_OUTSIDE_CARD)
        assert not outside, f"these stick out of their card: {outside}"
        broken = await self.page.evaluate(_BROKEN_WORDS)
        assert not broken, f"these words are broken in two: {broken}"
        broken = await self.page.evaluate(_BROKEN_IDS)
        assert not broken, f"these ids are broken in two on a wide screen: {broken}"
        overlapping = await self.page.evaluate(_OVERLAPPING)
        assert not overlapping, f"times run under these entries: {overlapping}"
        assert not self.complaints, self.complaints

    async def check_page_on_narrower_screens(self) -> None:
        """Check the page on this screen and on those between it and a phone's."""
        screen = self.page.viewport_size
        assert screen is not None
        await self.check_page()
        for width in (1100, 1024, 768, 640):
            if width < screen["width"]:
                await self.page.set_viewport_size({"width": width, "height": screen["height"]})
                await self.check_page()
        await self.page.set_viewport_size(screen)


@asynccontextmanager
async def visiting(browser: Browser, gateway: Served, *, width: int, dark: bool = False) -> AsyncIterator[Visitor]:
    """Open a browser with a screen of that width."""
    scheme = gateway.settings_of_commands
    context = await browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", timezone_id="UTC"
    )
    context.set_default_timeout(PATIENCE_MS)
    await context.add_init_script(path=AXE)
    try:
        yield Visitor(await context.new_page(), scheme["HOLDFAST_URL"], scheme["HOLDFAST_API_KEY"])
    finally:
        await context.close()
