"""The inbox of a company: every kind of message has a readable row, and can be found."""

from __future__ import annotations

import re

import pytest

from holdfast.session.engine import InboundMessage
from tests.dashboard.browser import Browser
from tests.gateway_harness import COMPANY, GatewayHarness

FRIEND = "962790000007@s.whatsapp.net"
GROUP = "120363000000000001@g.us"
PDF = b"%PDF-1.7 an invoice"


async def arrive(harness: GatewayHarness, whatsapp_id: str, **fields: object) -> None:
    message = InboundMessage(whatsapp_id=whatsapp_id, **({"chat": FRIEND, "sender": FRIEND} | fields))  # type: ignore[arg-type]  # of many kinds
    harness.engine.receive(harness.link(), message)
    await harness.until(lambda: whatsapp_id in harness.engine.receipts_sent)


async def test_rows_have_sender_text_and_a_link_to_the_file(browser: Browser, harness: GatewayHarness) -> None:
    """A contact, a location, a file with a working link, and a group."""
    await harness.pair()
    await browser.sign_in()
    harness.engine.media["keys"] = PDF
    media = {"mimetype": "application/pdf", "filename": "invoice <1>.pdf", "sizeBytes": len(PDF)}
    await arrive(harness, "3A01", type="contact", content={"contact": {"name": "Rania", "vcard": "BEGIN:VCARD"}})
    await arrive(harness, "3A02", type="location", content={"location": {"latitude": 32.5, "longitude": 35.8}})
    await arrive(harness, "3A03", type="document", text="for May", media=media, media_keys="keys", push_name="Omar")
    await arrive(harness, "3A04", type="text", text="in a group", chat=GROUP)
    page = (await browser.get(f"/companies/{COMPANY}/inbox")).body.decode()
    rows = page.split("<tr>")[2:]
    assert len(rows) == 4
    assert f'in <span dir="auto">{GROUP}</span>' in rows[0]
    assert all(shown in rows[1] for shown in ("+962790000007", "Omar", "for May", "invoice &lt;1&gt;.pdf, 1 KB"))
    assert "32.5, 35.8" in rows[2]
    assert "Rania" in rows[3]
    link = re.search(r'href="(/v1/media/[^"]+)"', rows[1])
    assert link is not None
    assert (await browser.get(link[1].replace("&amp;", "&"))).body == PDF


async def test_captions_and_names_are_searched(browser: Browser, harness: GatewayHarness) -> None:
    """In addition to ids and numbers."""
    await harness.pair()
    await browser.sign_in()
    media = {"mimetype": "image/jpeg"}
    await arrive(harness, "3A01", type="image", text="the new menu", media=media, media_keys="k", push_name="Omar")
    await arrive(harness, "3A02", type="text", text="something else")
    for words in ("new+MENU", "omar", "3A01"):
        page = (await browser.get(f"/companies/{COMPANY}/inbox?words={words}")).body.decode()
        assert "the new menu" in page
        assert "something else" not in page


HOSTILE = "\u202e<script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u2066 https://evil.example/?a=<b> "
HOSTILE_TAGS = ("<script>alert", "<img src=x")
MAX_PAGE_BYTES = 300_000


async def test_pages_stay_small_and_safe_whatever_a_contact_sends(browser: Browser, harness: GatewayHarness) -> None:
    """Texts of a megabyte, thousands of mentions, markup and direction marks: everything is escaped, the direction of a
    row ends with its own text, and no page is larger than a few hundred kilobytes.
    """
    await harness.pair()
    await browser.sign_in()
    mentions = {"mentions": [f"{HOSTILE}{n}@lid" for n in range(2000)]}
    media = {"mimetype": HOSTILE, "filename": HOSTILE * 100, "sizeBytes": 2**62}
    for n in range(12):
        kinds: list[dict[str, object]] = [
            {"type": "text", "text": HOSTILE * 12_000, "content": mentions, "push_name": HOSTILE * 50},
            {"type": "document", "text": HOSTILE, "media": media, "media_keys": "k", "push_name": HOSTILE},
            {"type": "contact", "content": {"contact": {"name": HOSTILE, "vcard": HOSTILE * 1000}}},
            {"type": "unknown", "content": {"raw": {HOSTILE: HOSTILE * 1000}}},
        ]
        await arrive(harness, f"3A{n:04}{HOSTILE[:40]}", **kinds[n % len(kinds)])
    for path in (
        f"/companies/{COMPANY}/inbox",
        f"/companies/{COMPANY}/inbox?words=script",
        f"/companies/{COMPANY}",
        "/",
    ):
        page = await browser.get(path)
        assert page.status == 200
        text = page.body.decode()
        assert len(page.body) < MAX_PAGE_BYTES, f"{path}: {len(page.body)} bytes"
        assert not [tag for tag in HOSTILE_TAGS if tag in text]
        for mark in re.finditer("\u202e", text):
            tag = text.rindex("<", 0, mark.start())
            shown = text[tag : mark.start()]
            assert ">" not in shown or 'dir="auto">' in shown, f"{path}: {shown[:80]!r} turns what stands beside it"


@pytest.mark.parametrize("name", ["inbox", "chats", "groups", "contacts"])
async def test_each_page_of_a_company_shows_its_label(browser: Browser, harness: GatewayHarness, name: str) -> None:
    """People know a company by its label, not by its id."""
    await harness.pair()
    await harness.now(harness.gateway.set_label(COMPANY, "Bakery Irbid"))
    await browser.sign_in()
    page = (await browser.get(f"/companies/{COMPANY}/{name}")).body.decode()
    assert f'{COMPANY}</a> <span dir="auto">Bakery Irbid</span>' in page
    assert f"<title>{name.capitalize()} of Bakery Irbid" in page
