"""The dashboard in a real browser, on a wide screen and on a phone, from an empty installation to a working company."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.browser.conftest import Receiver
from tests.browser.visitor import Visitor, visiting
from tests.processes import Wasim
from tests.served import Served, eventually, served

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

FRIEND = "962790000099"
NOBODY = "962790000555"
"""Has no account."""
_RECORD_TIMES = """() => {
  window.recordedTimes = [];
  const record = () => {
    for (const time of document.querySelectorAll("#sent_messages time")) recordedTimes.push(time.textContent);
  };
  new MutationObserver(record).observe(document.body, { childList: true, subtree: true });
}"""
"""Record the times of sent messages after each change of the page."""
_LONG_RECONNECTIONS = """() => {
  const card = document.querySelector("#stability");
  const copy = card.cloneNode(true);
  for (const element of [copy, ...copy.querySelectorAll("[id]")]) element.removeAttribute("id");
  const row = [...copy.querySelectorAll("tr")].find((row) => row.textContent.trim().startsWith("Reconnection"));
  const figures = [...row.querySelectorAll("td")];
  if (figures.length !== 3) throw new Error(`${figures.length} figures`);
  for (const figure of figures) {
    figure.className = "figure misses";
    figure.textContent = "1\\u00a0h 40\\u00a0min";
  }
  card.after(copy);
}"""
"""Show a copy of the table of stability with reconnections that lasted long. The page replaces only the original."""
expect.set_options(timeout=20_000)


@pytest.mark.parametrize(
    ("width", "company", "number"), [(1280, "962302", "962790000002"), (390, "962303", "962790000003")]
)
async def test_a_company_from_its_first_code_to_a_reconnection(
    browser: Browser,
    gateway: Served,
    whatsapp: Wasim,
    receiver: Receiver,
    width: int,
    company: str,
    number: str,
) -> None:
    """A company linked by QR is shown as connected without a reload; a message is shown as delivered; a cut is
    explained; a person reconnects, replays a failed webhook delivery, creates a key and revokes it. axe finds nothing
    serious on any of the pages, nothing is wider than the screen, and no script fails or is stopped by the content
    security policy.
    """
    await whatsapp.post("/phones", {"number": FRIEND})
    async with visiting(browser, gateway, width=width) as visitor:
        await visitor.go("/")
        await visitor.check_page()
        await visitor.sign_in()
        await _add(visitor, company)
        await _link(visitor, gateway, whatsapp, company, number)
        await visitor.check_page()
        await _send(visitor)
        receiver.answers = 500
        await whatsapp.post(f"/phones/{FRIEND}/send", {"to": number, "text": "are you there?"})
        await _lose_link(visitor, whatsapp, number)
        await _reconnect(visitor)
        await visitor.check_page()
        await _replay_webhook(visitor, receiver)
        await visitor.check_page()
        await _see_fleet(visitor, company)
        await visitor.check_page()
        await _manage_keys(visitor, gateway, company)
        await _read_inbox(visitor, gateway, whatsapp, company, number)
        await visitor.go(f"/companies/{company}")
        await visitor.go_to_tomorrow()
        await expect(visitor.page.locator("#history time").first).to_contain_text(",")
        await visitor.check_page()
        await visitor.go_to_next_year()
        await visitor.page.evaluate(_LONG_RECONNECTIONS)
        await visitor.check_page_on_narrower_screens()


async def _read_inbox(visitor: Visitor, gateway: Served, whatsapp: Wasim, company: str, number: str) -> None:
    """A contact, a location and a document, also with times of another day, which are longer."""
    for content in (
        {"contact": {"name": "Rania", "vcard": "BEGIN:VCARD\nVERSION:3.0\nFN:Rania\nEND:VCARD"}},
        {"location": {"latitude": 32.5, "longitude": 35.8, "name": "Bakery"}},
        {"document": {"base64": "JVBERi0xLjc=", "filename": "invoice.pdf", "mimetype": "application/pdf"}},
    ):
        await whatsapp.post(f"/phones/{FRIEND}/send", {"to": number, **content})
    await eventually(lambda: _count(gateway, company, 4), within_s=30, what="four inbound messages")
    await visitor.go(f"/companies/{company}/inbox")
    await expect(visitor.page.locator("tbody tr")).to_have_count(4)
    await expect(visitor.page.get_by_role("link", name="invoice.pdf")).to_be_visible()
    await visitor.check_page()
    await visitor.go_to_tomorrow()
    await visitor.check_page()
    await visitor.go_to_next_year()
    await visitor.check_page_on_narrower_screens()


async def _count(gateway: Served, company: str, wanted: int) -> bool:
    return len(await gateway.inbox(company)) == wanted


async def _add(visitor: Visitor, company: str) -> None:
    page = visitor.page
    await page.get_by_role("button", name="Add a company").first.click()
    await page.get_by_label("Company id").fill(company)
    await page.get_by_role("button", name="Add and link").click()
    await expect(page.get_by_role("heading", name=company)).to_be_visible()


async def _link(visitor: Visitor, gateway: Served, whatsapp: Wasim, company: str, number: str) -> None:
    page = visitor.page
    await expect(page.get_by_role("img", name="QR code")).to_be_visible()
    await expect(page.locator("#qr-box .countdown")).to_have_text(re.compile(r"^\d+ s$"))
    await visitor.check_page()
    await page.evaluate("window.isTheSamePage = true")
    code = (await gateway.client.get(f"/v1/sessions/{company}/qr"))["qr"]
    await whatsapp.post(f"/phones/{number}/scan", {"qr": code})
    await expect(page.locator("#head")).to_contain_text("Connected")
    await expect(page.locator("#link")).to_be_hidden()
    await expect(page.locator("#facts")).to_contain_text(f"+{number}")
    await expect(page.locator("#history")).to_contain_text("Phone linked")
    assert await page.evaluate("window.isTheSamePage")


async def _send(visitor: Visitor) -> None:
    """Times in what the page replaces are those of the reader from the beginning: never, for a moment, those in UTC."""
    page = visitor.page
    await page.evaluate(_RECORD_TIMES)
    await page.get_by_label("To", exact=True).fill(f"+{FRIEND}")
    await page.get_by_label("Text", exact=True).fill("a <b>test</b> & more")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("#sent .steps li.done", has_text="Delivered")).to_be_visible()
    await expect(page.locator("#sent_messages")).to_contain_text("a <b>test</b> & more")
    await expect(page.locator("#sent_messages .chip").first).to_have_text(re.compile("Delivered|Read"))
    await page.get_by_label("To", exact=True).fill(NOBODY)
    await page.get_by_label("Text", exact=True).fill("Are you there?")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("#sent_messages")).to_contain_text("This number is not on WhatsApp.")
    times = await page.evaluate("window.recordedTimes")
    assert times
    assert not [time for time in times if not re.fullmatch(r"\d\d:\d\d:\d\d", time)]
    await visitor.check_page()


async def _lose_link(visitor: Visitor, whatsapp: Wasim, number: str) -> None:
    """Cut the link and refuse logins for a while: the page shows this, the cause and the next attempt, and then that it
    has reconnected.
    """
    page = visitor.page
    refusal = await whatsapp.fault("refuse")
    await whatsapp.fault("cut", number=number)
    newest = page.locator("#history li").first
    await expect(newest).to_contain_text("Not connected")
    await expect(newest).to_contain_text("The connection was closed (428). Cause: the network.")
    await expect(page.locator("#head")).to_contain_text("Reconnecting")
    await whatsapp.delete(f"/faults/{refusal['id']}")
    await expect(newest).to_contain_text("Connection lost")
    await expect(newest).to_contain_text("Holdfast reconnected at")
    await expect(page.locator("#head")).to_contain_text("Connected")


async def _reconnect(visitor: Visitor) -> None:
    page = visitor.page
    await page.get_by_role("button", name="Reconnect").click()
    asked = page.get_by_role("dialog")
    await expect(asked).to_contain_text("none is lost")
    await asked.get_by_role("button", name="Reconnect").click()
    await expect(page.locator("#notice")).to_contain_text("Reconnecting.")
    await expect(page.locator("#history li").first).to_contain_text("Reconnected")
    assert await page.evaluate("window.isTheSamePage")


async def _replay_webhook(visitor: Visitor, receiver: Receiver) -> None:
    """A delivery that the receiver refused twice waits for half a minute or longer; a replay sends it at once."""
    page = visitor.page
    await page.get_by_role("link", name="Webhooks").click()
    # Whichever event came first; those behind it wait for the receiver without an attempt of their own.
    tried = page.locator("tr", has_text=re.compile(r"Will be retried\s+[2-9] attempts")).first
    event = re.search(r"evt_\w+", await tried.inner_text())
    assert event is not None
    failed = page.locator("tr", has_text=event.group())
    await visitor.check_page()
    receiver.answers = 200
    before = len(receiver.taken)
    await failed.get_by_role("button", name="Replay").click()
    await expect(page.locator("#notice")).to_contain_text("The delivery is being sent again.")
    await expect(failed).to_be_hidden()
    assert len(receiver.taken) > before


async def _see_fleet(visitor: Visitor, company: str) -> None:
    page = visitor.page
    await page.get_by_role("link", name="Companies").first.click()
    row = page.locator(f"#c-{company}")
    await expect(row).to_contain_text("Connected")
    await page.keyboard.press("/")
    await page.keyboard.type("no-such-company")
    await expect(row).to_be_hidden()
    await expect(page.get_by_text("No company matches.")).to_be_visible()
    await page.get_by_role("button", name="Show all").click()
    await expect(row).to_be_visible()


async def _manage_keys(visitor: Visitor, gateway: Served, company: str) -> None:
    """A created key is shown once; when it is revoked, its row disappears."""
    page = visitor.page
    await page.get_by_role("link", name="Keys").click()
    await page.get_by_label("Name").fill(f"Shop of {company}")
    await page.get_by_label("Companies", exact=True).fill(company)
    await page.get_by_role("button", name="Create").click()
    await expect(page.locator("#key-result .secret")).to_have_text(re.compile(r"^hf_[\w-]{43}$"))
    await expect(page.locator("#keys")).to_contain_text(f"Shop of {company}")
    await visitor.check_page()
    await page.get_by_role("button", name=f"Revoke Shop of {company}").click()
    await visitor.check_page()
    await page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    await expect(page.locator("#key-result")).to_contain_text("is revoked.")
    await expect(page.locator("#keys")).not_to_contain_text(f"Shop of {company}")
    assert len((await gateway.client.get("/v1/keys"))["items"]) == 1


async def test_changes_by_others_and_a_stopped_gateway_are_shown(
    browser: Browser, whatsapp: Wasim, bridge: Path, tmp_path: Path
) -> None:
    """A company that others add, and its changes, appear without a reload; when Holdfast stops, the page says so and
    since when, with the date from the next day on, also behind a proxy that answers with an error page of its own.
    """
    async with (
        served(tmp_path, wasim=whatsapp) as gateway,  # of its own, because it is stopped
        visiting(browser, gateway, width=1280, dark=True) as visitor,
    ):
        await gateway.pair("962304", "962790000004", whatsapp)
        await visitor.sign_in()
        await gateway.client.put("/v1/sessions/a-new-one")
        row = visitor.page.locator("#c-a-new-one")
        await expect(row).to_contain_text("Linking")
        await expect(visitor.page.locator("#c-a-new-one ~ tr").last).to_be_visible()  # before those that are well
        await gateway.client.post("/v1/sessions/a-new-one/stop")
        await expect(row).to_contain_text("Stopped")
        await expect(visitor.page.locator("#fleet-rows tr").last).to_have_id("c-a-new-one")
        await expect(visitor.page.locator("#count-neutral")).to_have_text("1")
        await visitor.check_page()
        await visitor.go("/companies/a-new-one")
        await visitor.page.get_by_label("To", exact=True).fill(FRIEND)
        sent, send = visitor.page.locator("#sent"), visitor.page.get_by_role("button", name="Send")
        unsent = "Holdfast can't be reached, so this was not done."
        await visitor.page.route("**/messages", lambda route: route.fulfill(status=502, body="<h1>nginx</h1>"))
        await send.click()
        await expect(sent).to_have_text(f"{unsent} Try again when the connection is back.")
        await visitor.page.unroute("**/messages")
        await send.click()
        await expect(sent).not_to_contain_text(unsent)
        visitor.complaints.clear()  # the browser reports the status 502
        await gateway.stop()
        await expect(visitor.page.get_by_text("The connection to Holdfast is lost.")).to_be_visible()
        await send.click()
        await expect(sent).to_contain_text(unsent)
        since = visitor.page.locator("#lost-since")
        await expect(since).to_have_text(re.compile(r"^\d\d:\d\d:\d\d$"))
        await visitor.stay_until_tomorrow()
        await expect(since).to_have_text(re.compile(r"^\w+\xa0\d+, \d\d:\d\d:\d\d$"))
