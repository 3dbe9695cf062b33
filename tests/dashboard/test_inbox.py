"""The inbox of a company: every kind of message has a row that says something, and is found."""

from __future__ import annotations

import re

from holdfast.session.engine import InboundMessage
from tests.dashboard.browser import Browser
from tests.world import COMPANY, World

FRIEND = "962790000007@s.whatsapp.net"
GROUP = "120363000000000001@g.us"
PDF = b"%PDF-1.7 an invoice"


async def arrive(world: World, whatsapp_id: str, **fields: object) -> None:
    message = InboundMessage(whatsapp_id=whatsapp_id, **({"chat": FRIEND, "sender": FRIEND} | fields))  # type: ignore[arg-type]  # of many kinds
    world.engine.receive(world.link(), message)
    await world.until(lambda: whatsapp_id in world.engine.receipts_sent)


async def test_rows_say_who_wrote_what_and_link_to_the_file(browser: Browser, world: World) -> None:
    """A contact, a place, a file that can be fetched by the link, and a group."""
    await world.pair()
    await browser.sign_in()
    world.engine.media["keys"] = PDF
    media = {"mimetype": "application/pdf", "filename": "invoice <1>.pdf", "sizeBytes": len(PDF)}
    await arrive(world, "3A01", type="contact", content={"contact": {"name": "Rania", "vcard": "BEGIN:VCARD"}})
    await arrive(world, "3A02", type="location", content={"location": {"latitude": 32.5, "longitude": 35.8}})
    await arrive(world, "3A03", type="document", text="for May", media=media, media_keys="keys", push_name="Omar")
    await arrive(world, "3A04", type="text", text="in a group", chat=GROUP)
    page = (await browser.get(f"/companies/{COMPANY}/inbox")).body.decode()
    rows = page.split("<tr>")[2:]
    assert len(rows) == 4
    assert f"in {GROUP}" in rows[0]
    assert all(shown in rows[1] for shown in ("+962790000007", "Omar", "for May", "invoice &lt;1&gt;.pdf, 1 KB"))
    assert "32.5, 35.8" in rows[2]
    assert "Rania" in rows[3]
    link = re.search(r'href="(/v1/media/[^"]+)"', rows[1])
    assert link is not None
    assert (await browser.get(link[1].replace("&amp;", "&"))).body == PDF


async def test_captions_and_names_are_searched(browser: Browser, world: World) -> None:
    """As well as ids and numbers."""
    await world.pair()
    await browser.sign_in()
    media = {"mimetype": "image/jpeg"}
    await arrive(world, "3A01", type="image", text="the new menu", media=media, media_keys="k", push_name="Omar")
    await arrive(world, "3A02", type="text", text="something else")
    for words in ("new+MENU", "omar", "3A01"):
        page = (await browser.get(f"/companies/{COMPANY}/inbox?words={words}")).body.decode()
        assert "the new menu" in page
        assert "something else" not in page
