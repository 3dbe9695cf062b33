"""Chats in a real browser, on a wide screen and on a phone: read, reply, send a picture, create a group."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, FilePayload, Locator, expect

from tests.browser.visitor import Visitor, visiting
from tests.processes import Wasim
from tests.served import Served, eventually

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

FRIEND = "962790000098"
LONG_WORD = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAGUlEQVR4nGNgmPKJJDSqYVTDqIZRDYNVAwAtvX6QtBY7BQAAAABJRU5ErkJggg=="
)
expect.set_options(timeout=20_000)


@pytest.mark.parametrize(
    ("width", "company", "number"), [(1280, "962312", "962790000012"), (390, "962313", "962790000013")]
)
async def test_a_person_serves_a_customer(
    browser: Browser, gateway: Served, whatsapp: Wasim, width: int, company: str, number: str
) -> None:
    """A message appears without a reload, is marked as read, and is answered with a text and a picture; a group is
    created, and contacts are listed, each with its picture from WhatsApp. axe finds nothing serious on any of the
    pages, and nothing is wider than the screen.
    """
    await whatsapp.post("/phones", {"number": FRIEND, "name": "Rania Haddad", "picture": True})
    await gateway.pair(company, number, whatsapp)
    async with visiting(browser, gateway, width=width) as visitor:
        page = visitor.page
        await visitor.sign_in()
        await visitor.go(f"/companies/{company}/chats")
        await expect(page.get_by_text("Nobody has written yet")).to_be_visible()
        await visitor.check_page()
        await whatsapp.post(f"/phones/{FRIEND}/send", {"to": number, "text": "Are you open on Friday?"})
        row = page.locator(".chat-row")
        await expect(row).to_contain_text("Are you open on Friday?")
        await expect(row.locator(".count")).to_contain_text("1")
        await _has_picture(row)
        await visitor.check_page()
        await row.click()
        await expect(page.locator(".bubble.came")).to_contain_text("Are you open on Friday?")
        await page.get_by_role("button", name="Mark as read").click()
        await expect(page.get_by_role("button", name="Mark as unread")).to_be_visible()
        await _answer(visitor, whatsapp)
        await _send_picture(visitor)
        await whatsapp.post(f"/phones/{FRIEND}/send", {"to": number, "text": "That looks good, thank you!"})
        await expect(page.locator(".bubble.came")).to_have_count(2)
        await visitor.check_page()
        await _show(visitor, f"chat-{width}")
        group = await _create_group(visitor, whatsapp, f"Orders {width}")
        await gateway.client.post(f"/v1/sessions/{company}/messages", {"to": group, "text": f"{LONG_WORD} مرحبا"})
        await _look_at_people(visitor, company)


async def _has_picture(row: Locator) -> None:
    """A picture covers the initials: one that wasim made, fetched by the real engine."""
    picture = row.locator(".avatar img")
    assert await picture.evaluate("async image => { await image.decode(); return image.naturalWidth }") == 64
    assert await picture.evaluate("image => image.offsetWidth === image.parentElement.clientWidth")


async def _answer(visitor: Visitor, whatsapp: Wasim) -> None:
    page = visitor.page
    box = page.get_by_label("Message to")
    await box.fill("Yes, from ten to six.")
    await box.press("Enter")
    await expect(page.locator(".bubble.sent")).to_contain_text("Yes, from ten to six.")
    await expect(page.locator(".bubble.sent .state")).to_have_text(re.compile("Delivered|Read"))
    await expect(box).to_have_value("")

    async def is_read() -> bool:
        inbox = await whatsapp.get(f"/phones/{FRIEND}/inbox")
        return any(message["text"] == "Yes, from ten to six." for message in inbox)

    await eventually(is_read, within_s=10, what="the answer on the customer's phone")


async def _send_picture(visitor: Visitor) -> None:
    page = visitor.page
    file = FilePayload(name="menu.png", mimeType="image/png", buffer=PICTURE)
    await page.locator("#answer-file").set_input_files(file)
    await expect(page.locator(".attached")).to_contain_text("menu.png")
    await expect(page.locator(".attached")).not_to_contain_text("Uploading")
    await visitor.check_page()
    await page.get_by_label("Message to").fill("Our menu")
    await page.get_by_role("button", name="Send", exact=True).click()
    picture = page.locator(".bubble.sent .picture img")
    await expect(picture).to_be_visible()
    assert await picture.evaluate("async image => { await image.decode(); return image.naturalWidth }") == 16
    await expect(page.locator(".attached")).to_be_hidden()


async def _create_group(visitor: Visitor, whatsapp: Wasim, subject: str) -> str:
    """The group's page opens, and the customer's phone shows the group, whose JID is returned."""
    page = visitor.page
    await page.get_by_role("link", name="Groups", exact=True).click()
    await page.get_by_text("Create a group").click()
    await visitor.check_page()
    await page.get_by_label("Name", exact=True).fill(subject)
    await page.get_by_label("Members").fill(f"+{FRIEND}")
    await page.get_by_role("button", name="Create", exact=True).click()
    await expect(page.get_by_role("heading", name=subject)).to_be_visible()
    await expect(page.locator("tbody tr")).to_have_count(2)
    await visitor.check_page()
    (group,) = [group for group in await whatsapp.get("/groups") if group["subject"] == subject]
    jid: str = group["id"]
    return jid


async def _look_at_people(visitor: Visitor, company: str) -> None:
    """Contacts, and the history of the company, which has the new group."""
    page = visitor.page
    await visitor.go(f"/companies/{company}/contacts")
    await expect(page.locator(".person")).not_to_have_count(0)
    await _has_picture(page.locator(".person", has_text="Rania Haddad"))
    await visitor.check_page()
    await visitor.go(f"/companies/{company}")
    await expect(page.locator("#history")).to_contain_text("Create a group")
    await expect(page.locator("#sent_messages")).to_contain_text(LONG_WORD)
    await visitor.check_page()
    await visitor.go_to_next_year()
    await expect(page.locator("#sent_messages time").first).to_have_text(re.compile(r"^\w+\xa0\d+,\xa0\d{4}, [\d:]+$"))
    await visitor.check_page_on_narrower_screens()


async def _show(visitor: Visitor, name: str) -> None:
    """Store a screenshot in the folder named by HOLDFAST_TEST_PICTURES, if it is set."""
    if folder := os.environ.get("HOLDFAST_TEST_PICTURES"):
        await visitor.page.screenshot(path=Path(folder) / f"{name}.png")
