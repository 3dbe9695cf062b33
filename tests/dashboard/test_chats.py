"""The chats of a company on its pages: the list, one chat in both directions, replies, files, groups."""

from __future__ import annotations

import asyncio
import base64
import re

from sqlalchemy import insert

from holdfast.runtime.session_queries import PACE
from holdfast.session.engine import InboundMessage, QueryAnswered, RunOperation, RunQuery
from holdfast.store.tables import chats
from tests.dashboard.browser import ORIGIN, Browser
from tests.gateway_harness import COMPANY, GatewayHarness

RAMI, GROUP = "962790000007@s.whatsapp.net", "120363000000000001@g.us"
CHATS = f"/companies/{COMPANY}/chats"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000" "1f15c4890000000d49444154789c6360606060000000050001"
    "a5f645400000000049454e44ae426082"
)  # fmt: skip


async def arrive(harness: GatewayHarness, whatsapp_id: str, **fields: object) -> None:
    given = {"chat": RAMI, "sender": RAMI, "type": "text"} | fields
    message = InboundMessage(whatsapp_id=whatsapp_id, **given)  # type: ignore[arg-type]  # of many kinds
    harness.engine.receive(harness.link(), message)
    await harness.until(lambda: whatsapp_id in harness.engine.receipts_sent)


async def read(browser: Browser, path: str, **headers: str) -> str:
    answer = await browser.get(path, **headers)
    assert answer.status == 200, answer.body
    return answer.body.decode()


async def test_a_chat_has_both_directions_and_accepts_a_reply(browser: Browser, harness: GatewayHarness) -> None:
    """With its unread count in the list, the state of the reply, and the reaction to it."""
    await harness.pair()
    await browser.sign_in()
    await arrive(harness, "3A01", text="are you <b>open</b>?")
    assert re.search(r'class="count">1<', await read(browser, CHATS))
    page = await read(browser, f"{CHATS}/{RAMI}")
    assert "are you &lt;b&gt;open&lt;/b&gt;?" in page
    form_id = re.search(r'name="form_id" value="([^"]+)"', page)
    assert form_id is not None
    for _ in range(2):  # a second click
        sent = await browser.post(
            f"{CHATS}/{RAMI}/messages", headers={"HX-Request": "true"}, text="until six", form_id=form_id[1]
        )
        assert sent.status == 200, sent.body
    await harness.until(lambda: len(harness.engine.arrived) == 1)
    await harness.quiet()
    (message,) = await harness.outbox.messages(COMPANY, state=None, after=0, limit=10)
    await arrive(harness, "3A02", type="reaction", target=message.whatsapp_id, content={"reaction": {"emoji": "👍"}})
    page = await read(browser, f"{CHATS}/{RAMI}")
    bubbles = page.split('class="bubble ')[1:]
    assert [bubble.split('"')[0] for bubble in bubbles] == ["came", "sent"]
    assert all(shown in bubbles[1] for shown in ("until six", "👍", ">Sent<"))
    assert "until six" in (await read(browser, CHATS))


async def test_a_chosen_file_is_uploaded_and_sent_with_its_caption(browser: Browser, harness: GatewayHarness) -> None:
    """Only with the token of the page; the image is then shown from our own origin."""
    await harness.pair()
    await browser.sign_in()
    await read(browser, f"{CHATS}/{RAMI}")
    upload = f"{CHATS}/{RAMI}/media"
    headers = {**ORIGIN, "Cookie": f"holdfast_session={browser.cookie}", "Content-Type": "image/png"}
    refused = await browser.client("POST", upload, key=None, headers=headers, raw=[PNG])
    assert refused.status == 403
    stored = await browser.client(
        "POST",
        upload,
        key=None,
        headers={**headers, "X-Form-Token": browser.token, "X-Filename": "a%20b.png"},
        raw=[PNG],
    )
    assert stored.status == 200, stored.body
    sent = await browser.post(
        f"{CHATS}/{RAMI}/messages", text="the menu", media=stored.json["id"], mimetype=stored.json["mimetype"]
    )
    assert sent.status == 303, sent.body
    page = await read(browser, f"{CHATS}/{RAMI}")
    assert "the menu" in page
    found = re.search(r'class="picture" href="([^"]+)"', page)
    assert found is not None
    picture = await browser.get(found[1])
    assert (picture.body, picture.headers["content-type"]) == (PNG, "image/png")
    assert (await browser.get(f"/companies/{COMPANY}/media/med_unknown")).status == 404


async def test_the_list_is_searched_and_has_pages(browser: Browser, harness: GatewayHarness) -> None:
    """By number, by unread messages; forty chats a page."""
    await harness.pair()
    await browser.sign_in()
    for n in range(42):
        number = f"9627900000{n:02}@s.whatsapp.net"
        await arrive(harness, f"3A{n}", chat=number, sender=number, text=f"text {n}")
    page = await read(browser, CHATS)
    assert page.count('class="chat-row"') == 40
    more = re.search(r'hx-get="([^"]+after=[^"]+)"', page)
    assert more is not None
    rest = await read(browser, more[1].replace("&amp;", "&"), **{"HX-Request": "true"})
    assert rest.count('class="chat-row"') == 2
    assert "<html" not in rest
    found = await read(browser, f"{CHATS}?words=962790000017", **{"HX-Request": "true"})
    assert found.count('class="chat-row"') == 1
    assert "No chat matches" in await read(browser, f"{CHATS}?words=nobody")


async def test_a_search_in_very_many_chats_continues_by_itself(browser: Browser, harness: GatewayHarness) -> None:
    """One request compares some thousand names; until a chat is found, the page requests the next ones."""
    await harness.pair()
    await browser.sign_in()
    rows = [
        {
            "company_id": COMPANY,
            "chat": f"9627{n:08}@s.whatsapp.net",
            "last_at": f"2026-01-01T00:00:0{n // 1000}.{n % 1000:03}Z",
        }
        for n in range(5001)
    ]
    await harness.now(harness.database.write(lambda connection: connection.execute(insert(chats), rows).close()))
    page = await read(browser, f"{CHATS}?words=962700000000")
    assert "No matching chat found so far." in page
    assert 'hx-trigger="load, click"' in page
    more = re.search(r'hx-get="([^"]+after=[^"]+)"', page)
    assert more is not None
    rest = await read(browser, more[1].replace("&amp;", "&"), **{"HX-Request": "true"})
    assert (rest.count('class="chat-row"'), "Search older chats" in rest) == (1, False)
    rest = await read(
        browser, more[1].replace("&amp;", "&").replace("962700000000", "nobody"), **{"HX-Request": "true"}
    )
    assert "No more matching chats." in rest


async def test_older_messages_are_loaded_on_request(browser: Browser, harness: GatewayHarness) -> None:
    """A page has forty; the newest page reloads from its first message."""
    await harness.pair()
    await browser.sign_in()
    for n in range(45):
        await arrive(harness, f"3A{n:02}", text=f"text {n:02}")
    page = await read(browser, f"{CHATS}/{RAMI}")
    assert page.count('class="bubble ') == 40
    older = re.search(r'hx-get="([^"]+before=[^"]+)"', page)
    since = re.search(r'hx-get="([^"]+since=[^"]+)"', page)
    assert older is not None
    assert since is not None
    first = await read(browser, older[1].replace("&amp;", "&"), **{"HX-Request": "true"})
    assert re.findall(r"text \d\d", first) == [f"text {n:02}" for n in range(5)]
    await arrive(harness, "3A99", text="text 99")
    newest = await read(browser, since[1].replace("&amp;", "&"), **{"HX-Request": "true"})
    assert newest.count('class="bubble ') == 41
    assert "text 99" in newest


async def test_a_change_is_announced_to_the_open_page(browser: Browser, harness: GatewayHarness) -> None:
    """The list after any message, the chat after one of its own."""
    await harness.pair()
    await browser.sign_in()
    async with browser.listening(f"/companies/{COMPANY}/live-chats?open={RAMI}") as stream:
        await harness.until(lambda: "event: alive" in stream.text)
        await arrive(harness, "3A01", chat=GROUP, text="elsewhere")
        await harness.until(lambda: "event: chats" in stream.text)
        assert "event: timeline" not in stream.text
        await arrive(harness, "3A02", text="here")
        await harness.until(lambda: "event: timeline" in stream.text)


async def test_groups_are_listed_with_their_members(browser: Browser, harness: GatewayHarness) -> None:
    """By subject; the company's own account is marked; without a connection the page says why there are none."""
    await harness.pair()
    await browser.sign_in()
    member, own = {"jid": RAMI, "role": "admin"}, {"jid": "962700000001@s.whatsapp.net", "role": "member"}
    harness.engine.answers = {
        "groups": lambda _: [{"id": GROUP, "subject": "Fl<o>wers", "size": 2}],
        "group": lambda _: {"id": GROUP, "subject": "Flowers", "size": 2, "members": [member, own]},
    }
    page = await read(browser, f"/companies/{COMPANY}/groups")
    assert "Fl&lt;o&gt;wers" in page
    group = await read(browser, f"/companies/{COMPANY}/groups/{GROUP}")
    assert "+962790000007" in group
    assert "Admin" in group
    assert group.count("This account") == 1
    assert (await browser.get(f"/companies/{COMPANY}/groups/{RAMI}")).status == 422
    await browser.post(f"/companies/{COMPANY}/action/stop")
    await harness.until_state("stopped")
    assert "is stopped" in await read(browser, f"/companies/{COMPANY}/groups")


async def test_untrusted_texts_are_escaped(browser: Browser, harness: GatewayHarness) -> None:
    """In names, texts, quotations, reactions and file names."""
    await harness.pair()
    await browser.sign_in()
    hostile = "<script>alert(1)</script>"
    content = {"replyTo": {"whatsappId": "x", "text": hostile}, "mentions": [hostile]}
    await arrive(harness, "3A01", text=hostile, push_name=hostile, content=content, chat=GROUP)
    await arrive(harness, "3A02", type="reaction", target="3A01", chat=GROUP, content={"reaction": {"emoji": hostile}})
    media = {"mimetype": "image/png", "filename": hostile}
    await arrive(harness, "3A03", type="image", media=media, media_keys="k", chat=GROUP)
    page = await read(browser, f"{CHATS}/{GROUP}")
    assert page.count("&lt;script&gt;") >= 4
    assert "<script>alert" not in page


async def test_a_group_is_created_once(browser: Browser, harness: GatewayHarness) -> None:
    """A second click gets the same group; then its page opens. Members are separated by lines or commas, also by those
    of other scripts. Bad input is refused with a sentence."""
    await harness.pair()
    await browser.sign_in()
    harness.engine.answers = {"groups": lambda _: []}
    answer = {"id": GROUP, "subject": "Flowers", "members": [{"jid": RAMI, "code": 200}]}
    harness.engine.operations["create-group"] = lambda command: [] if command.step == "observe" else answer
    path, part = f"/companies/{COMPANY}/groups", {"HX-Request": "true"}
    await read(browser, path)
    twice = "+962 790000007، ٩٦٢٧٩٠٠٠٠٠٠٧"
    for _ in range(2):
        made = await browser.post(path, headers=part, subject="Flowers", members=f"{twice}\n", form_id="f1")
        assert made.headers["hx-redirect"] == f"{path}/{GROUP}"
    runs = [each for each in harness.engine.commands if isinstance(each, RunOperation) and each.step == "run"]
    assert [each.arguments for each in runs] == [{"subject": "Flowers", "members": [RAMI]}]
    for subject, members in (("", "962790000007"), ("x", ""), ("x", "nobody"), ("x", GROUP)):
        refused = await browser.post(path, headers=part, subject=subject, members=members, form_id="f2")
        assert refused.status == 422


async def test_a_chat_is_marked_as_read_and_unread(browser: Browser, harness: GatewayHarness) -> None:
    """By the button in its head; open pages are updated."""
    await harness.pair()
    await browser.sign_in()
    harness.engine.operations["read-chat"] = lambda _: {"messages": 1}
    await arrive(harness, "3A01", text="hello")
    assert ">Mark as read<" in await read(browser, f"{CHATS}/{RAMI}")
    async with browser.listening(f"/companies/{COMPANY}/live-chats?open={RAMI}") as stream:
        await harness.until(lambda: "event: alive" in stream.text)
        done = await browser.post(f"{CHATS}/{RAMI}/read", headers={"HX-Request": "true"})
        assert ">Mark as unread<" in done.body.decode()
        await harness.until(lambda: "event: chats" in stream.text)
    assert 'class="count"' not in await read(browser, CHATS)
    await browser.post(f"{CHATS}/{RAMI}/unread")
    assert "marked as unread" in await read(browser, CHATS)


async def test_the_picture_of_a_chat_is_shown_over_its_initials(browser: Browser, harness: GatewayHarness) -> None:
    """In the list and beside the open chat; browsers cache it for a day, and for an hour when there is none."""
    await harness.pair()
    await browser.sign_in()
    await arrive(harness, "3A01", text="hello")
    picture = f"{CHATS}/{RAMI}/picture"
    assert (await read(browser, f"{CHATS}/{RAMI}")).count(f'<img src="{picture}" alt="" loading="lazy">') == 2
    answer_with(harness, {"mimetype": "image/png", "base64": base64.b64encode(PNG).decode()})
    shown = await browser.get(picture)
    assert (shown.status, shown.body, shown.headers["content-type"]) == (200, PNG, "image/png")
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert shown.headers["cache-control"] == "private, max-age=86400"
    assert [query.arguments for query in queries_in(harness)] == [{"jid": RAMI}]
    html = {"mimetype": "text/html", "base64": base64.b64encode(b"<html>").decode()}
    for none in (fails("not-found"), fails("refused", code=403), fails("engine-error"), html):
        answer_with(harness, none)
        empty = await browser.get(picture)
        assert (empty.status, empty.headers["content-type"]) == (200, "image/svg+xml")
        assert empty.body == b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'
        assert empty.headers["cache-control"] == "private, max-age=3600"


async def test_a_temporarily_unavailable_picture_is_requested_again(browser: Browser, harness: GatewayHarness) -> None:
    """The browser caches nothing when WhatsApp is busy or does not answer within 5 s, without a connection, and when
    half of the company's queries are used: the rest is for callers of the API.
    """
    await harness.pair()
    await browser.sign_in()
    picture = f"{CHATS}/{RAMI}/picture"
    for answer in (fails("rate-limited"), fails("timeout"), fails("link-down")):
        answer_with(harness, answer)
        await without_picture(browser, picture)
    del harness.engine.answers["picture-file"]
    waiting = asyncio.ensure_future(browser.get(picture))
    await harness.until(lambda: len(queries_in(harness)) == 4)
    await harness.wait(5)
    assert ((await waiting).status, waiting.result().headers["cache-control"]) == (204, "no-store")
    answer_with(harness, fails("timeout"))
    harness.engine.answers["picture"] = lambda _: {"url": "https://example.test/"}
    before = len(queries_in(harness))
    for _ in range(PACE.burst):
        await without_picture(browser, picture)
    assert len(queries_in(harness)) - before <= PACE.burst // 2
    asked = await browser.client("GET", f"/v1/sessions/{COMPANY}/contacts/962790000007/picture")
    assert asked.status == 200, asked.body
    await browser.post(f"/companies/{COMPANY}/action/stop")
    await harness.until_state("stopped")
    await without_picture(browser, picture)


def answer_with(harness: GatewayHarness, answer: object) -> None:
    """Set WhatsApp's answer to queries for a picture."""
    harness.engine.answers["picture-file"] = lambda _: answer


def fails(error: str, *, code: int | None = None) -> QueryAnswered:
    return QueryAnswered(link=0, request=0, error=error, detail="because", code=code)


def queries_in(harness: GatewayHarness) -> list[RunQuery]:
    return [each for each in harness.engine.commands if isinstance(each, RunQuery)]


async def without_picture(browser: Browser, path: str) -> None:
    """There is no picture now; the browser requests it again."""
    answer = await browser.get(path)
    assert (answer.status, answer.body, answer.headers["cache-control"]) == (204, b"", "no-store")
