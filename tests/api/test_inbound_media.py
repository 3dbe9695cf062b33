"""Inbound media by HTTP: downloaded once, served safely, with a key or by a signed URL."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from holdfast.session.engine import Download, InboundMessage, QueryAnswered, RunQuery
from tests.api.api_client import KEY_OF_ONE, OTHER, Answer, ApiClient
from tests.gateway_harness import COMPANY

SESSION = f"/v1/sessions/{COMPANY}"
FRIEND = "962799999999@s.whatsapp.net"
PICTURE = b"picture" * 100_000
JPEG: dict[str, object] = {"mimetype": "image/jpeg"}


async def came(
    client: ApiClient, *, media: dict[str, Any] | None = None, held: bytes | None = PICTURE, keys: str = "keys"
) -> Any:
    """Receive an image whose bytes WhatsApp stores; returns the inbox item."""
    if held is not None:
        client.harness.engine.media[keys] = held
    message = InboundMessage(
        whatsapp_id="3A0001",
        chat=FRIEND,
        sender=FRIEND,
        type="image",
        text="look",
        media=media or {"mimetype": "image/jpeg", "sizeBytes": len(PICTURE), "filename": "a b.jpg"},
        media_keys=keys,
    )
    client.harness.engine.receive(client.harness.link(), message)
    await client.harness.until(lambda: "3A0001" in client.harness.engine.receipts_sent)
    return (await client("GET", f"{SESSION}/inbox")).json["items"][0]


def link(item: Any) -> str:
    """The path of a file's signed URL."""
    url: str = item["media"]["url"]
    assert url.startswith("http://holdfast.test/v1/media/")
    return url.removeprefix("http://holdfast.test")


async def get(client: ApiClient, item: Any, **options: Any) -> Answer:
    return await client("GET", f"{SESSION}/inbox/{item['id']}/media", **options)


async def test_an_inbox_item_shows_its_file_and_no_media_keys(client: ApiClient) -> None:
    """In the list and as a single item."""
    await client.harness.pair()
    item = await came(client)
    assert {name: value for name, value in item["media"].items() if name != "url"} == {
        "mimetype": "image/jpeg",
        "sizeBytes": len(PICTURE),
        "filename": "a b.jpg",
        "seconds": None,
        "voice": False,
    }
    answer = await client("GET", f"{SESSION}/inbox/{item['id']}")
    assert answer.json == item
    assert b"keys" not in answer.body


async def test_a_file_is_downloaded_once(client: ApiClient) -> None:
    """Concurrent requests share one download, and later ones get the stored file, also without a connection."""
    await client.harness.pair()
    item = await came(client)
    answers = await asyncio.gather(*(get(client, item) for _ in range(3)))
    assert {(answer.status, answer.body) for answer in answers} == {(200, PICTURE)}
    await client("POST", f"{SESSION}/stop")
    assert (await get(client, item)).body == PICTURE
    assert len(client.harness.commands(Download)) == 1
    assert [path.name for path in client.harness.spool.folder.iterdir()] == []


async def test_the_log_says_why_a_file_was_not_downloaded(client: ApiClient, caplog: pytest.LogCaptureFixture) -> None:
    """An operator's proxy or certificate may be the reason; nothing else shows it."""
    await client.harness.pair()
    item = await came(client)
    client.harness.engine.download_failure = "unable to get local issuer certificate"
    sentence = (await get(client, item)).problem(503, "media-not-fetched")
    assert sentence == "it could not be fetched from WhatsApp (engine-error); the log says why: try again shortly"
    assert (
        f"Session {COMPANY}: the media file of {item['id']} was not fetched: unable to get local issuer" in caplog.text
    )


async def test_a_file_has_a_signed_url(client: ApiClient) -> None:
    """It works without a key until it expires; a changed URL is invalid."""
    await client.harness.pair()
    item = await came(client)
    path = link(item)
    answer = await client("GET", path, key=None)
    assert (answer.status, answer.body) == (200, PICTURE)
    (await client("GET", path + "x", key=None)).problem(404, "not-found", field="id")
    (await client("GET", path.replace("/msg_", "/msg_0"), key=None)).problem(404, "not-found", field="id")
    (await client("GET", path.replace("&token", "0&token"), key=None)).problem(404, "not-found", field="id")
    client.harness.clock.advance_to(client.harness.clock.monotonic() + 7 * 24 * 3600 + 1)
    over = (await client("GET", path, key=None)).problem(404, "not-found", field="id")
    assert over == "this media address has expired or is not valid: the inbox has a new one, `media.url`"


async def test_signed_urls_can_be_revoked(client: ApiClient) -> None:
    """A key of the company revokes all that were issued so far; the inbox has new ones."""
    await client.harness.pair()
    old = link(await came(client))
    (await client("DELETE", f"/v1/sessions/{OTHER}/media-links", key=KEY_OF_ONE)).problem(
        403, "forbidden", field="company"
    )
    (await client("DELETE", f"{SESSION}/media-links", key=None)).problem(401, "unauthorized")
    assert (await client("GET", old, key=None)).status == 200
    assert (await client("DELETE", f"{SESSION}/media-links", key=KEY_OF_ONE)).status == 204
    gone = (await client("GET", old, key=None)).problem(404, "not-found", field="id")
    assert gone == "this media address has expired or is not valid: the inbox has a new one, `media.url`"
    new = link((await client("GET", f"{SESSION}/inbox")).json["items"][0])
    assert new != old
    assert (await client("GET", new, key=None)).body == PICTURE
    assert (await client("GET", old, key=None)).status == 404


@pytest.mark.parametrize(
    ("mimetype", "given", "shown"),
    [
        ("image/jpeg", "image/jpeg", "inline"),
        ("audio/ogg; codecs=opus", "audio/ogg; codecs=opus", "inline"),
        ("video/mp4", "video/mp4", "inline"),
        ("video/mp4; a=b, text/html", "video/mp4", "inline"),
        ("image/svg+xml", "image/svg+xml", "attachment"),
        ("text/html", "text/html; charset=utf-8", "attachment"),
        ("application/pdf", "application/pdf", "attachment"),
        ("a/b\r\nSet-Cookie: x", "application/octet-stream", "attachment"),
    ],
)
async def test_received_files_are_never_executed_by_browsers(
    client: ApiClient, mimetype: str, given: str, shown: str
) -> None:
    """It is served in a sandbox, and as a download unless it is an image, audio or video. File names are sanitised."""
    await client.harness.pair()
    item = await came(client, media={"mimetype": mimetype, "filename": 'a"\r\nb/ü.html'})
    answer = await get(client, item)
    assert (answer.status, answer.headers["content-type"]) == (200, given)
    assert answer.headers["content-disposition"] == f"{shown}; filename*=UTF-8''a%22%0D%0Ab%2F%C3%BC.html"
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert answer.headers["content-length"] == str(len(PICTURE))


async def test_the_error_says_why_a_file_is_unavailable(client: ApiClient) -> None:
    """Gone permanently, too large, and temporarily unavailable are different errors."""
    link_ = await client.harness.pair()
    item = await came(client, held=None)
    assert (await get(client, item)).problem(410, "media-gone") == (
        "WhatsApp no longer has this file: ask the sender to send it again"
    )
    client.harness.engine.media["keys"] = b"x"
    client.harness.outbound_media.limit_bytes = 0
    assert (await get(client, item)).problem(413, "too-large").startswith("the file is larger than 0 MB")
    client.harness.outbound_media.limit_bytes = 9
    client.harness.engine.refuses = 503  # or the session may be connected again before the request is answered
    client.harness.engine.drop(link_, code=428)
    asked = await get(client, item)
    assert asked.problem(503, "not-connected").endswith("this request needs a connection to WhatsApp")
    assert asked.headers["retry-after"] == "2"


async def test_a_link_that_ends_meanwhile_is_reported_at_once(client: ApiClient) -> None:
    """Waiting callers get an error at once; the next request succeeds."""
    await client.harness.pair()
    item = await came(client)
    client.harness.engine.freeze(client.harness.link())
    asking = asyncio.ensure_future(get(client, item))
    await asyncio.sleep(0)
    sentence = (await asking).problem(503, "media-not-fetched")
    assert sentence == "the connection to WhatsApp ended during the download: try again shortly"
    await client.harness.until_state("connected")
    assert (await get(client, item)).body == PICTURE


async def test_downloads_that_hang_delay_no_other_company(client: ApiClient) -> None:
    """A contact can send any number of files that WhatsApp does not have, so that the phone is asked for each."""
    harness = client.harness
    links = {company: await harness.pair(company) for company in (COMPANY, OTHER)}
    harness.engine.media["keys"] = PICTURE
    for company, link_ in links.items():
        for n in range(6):
            message = InboundMessage(
                whatsapp_id=f"3A{company}{n}", chat=FRIEND, sender=FRIEND, type="image", media=JPEG, media_keys="keys"
            )
            harness.engine.receive(link_, message)
    await harness.until(lambda: len(harness.engine.receipts_sent) == 12)
    files = {}
    for company in links:
        inbox = (await client("GET", f"/v1/sessions/{company}/inbox")).json["items"]
        files[company] = [f"/v1/sessions/{company}/inbox/{item['id']}/media" for item in inbox]
    client.leaps = False
    harness.engine.freeze(links[COMPANY])
    hanging = [asyncio.create_task(client("GET", path)) for path in files[COMPANY]]
    await asyncio.sleep(0.1)
    async with asyncio.timeout(5):
        assert [(await client("GET", path)).status for path in files[OTHER]] == [200] * 6
    assert not any(each.done() for each in hanging)
    for each in hanging:
        each.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


async def test_other_messages_have_no_file(client: ApiClient) -> None:
    """Neither messages of another company, nor texts, nor unknown messages have one."""
    await client.harness.pair()
    item = await came(client)
    await client("PUT", f"/v1/sessions/{OTHER}")
    for path in (f"/v1/sessions/{OTHER}/inbox/{item['id']}", f"/v1/sessions/{OTHER}/inbox/{item['id']}/media"):
        (await client("GET", path)).problem(404, "not-found", field="id")
        (await client("GET", path, key=KEY_OF_ONE)).problem(403, "forbidden", field="company")
    (await client("GET", f"{SESSION}/inbox/msg_0/media")).problem(404, "not-found", field="id")
    client.harness.engine.receive(client.harness.link(), text="hi", whatsapp_id="3A0002")
    await client.harness.until(lambda: "3A0002" in client.harness.engine.receipts_sent)
    text = (await client("GET", f"{SESSION}/inbox")).json["items"][1]
    assert text["media"] is None
    sentence = (await get(client, text)).problem(404, "not-found", field="id")
    assert sentence == "this message has no media: `media` is null in the inbox"


OLD, NEW = (json.dumps({"type": "image", "mediaKey": "a2V5", "directPath": path}) for path in ("/old", "/new"))


async def test_a_file_that_whatsapp_no_longer_has_is_requested_from_the_phone(client: ApiClient) -> None:
    """Once for that message; the file is downloaded from its new URL."""
    await client.harness.pair()
    item = await came(client, held=None, keys=OLD)
    client.harness.engine.media[NEW] = PICTURE
    client.harness.engine.answers["media-again"] = lambda _: {"directPath": "/new"}
    answers = await asyncio.gather(*(get(client, item) for _ in range(2)))
    assert {(answer.status, answer.body) for answer in answers} == {(200, PICTURE)}
    assert [json.loads(each.media_keys)["directPath"] for each in client.harness.commands(Download)] == ["/old", "/new"]
    (asked,) = client.harness.commands(RunQuery)
    message = {"id": "3A0001", "chat": FRIEND, "fromMe": False, "sender": FRIEND, "senderLid": None}
    assert (asked.name, asked.arguments) == ("media-again", {"message": message, "mediaKey": "a2V5"})


@pytest.mark.parametrize(
    ("answer", "status", "code", "words"),
    [
        ({"error": "not-found"}, 410, "media-gone", "neither WhatsApp nor the account's phone has this file"),
        ({"error": "phone-timeout"}, 503, "media-not-fetched", "try again when the phone is online"),
        ({"result": {"directPath": "/nowhere"}}, 410, "media-gone", "ask the sender to send it again"),
        ({"result": {"directPath": "https://elsewhere"}}, 502, "query-failed", "can't be read"),
        ({"error": "rate-limited", "detail": "429", "retry_after_s": 5}, 503, "whatsapp-busy", "try again in 5 s"),
    ],
)
async def test_a_file_that_the_phone_does_not_upload(
    client: ApiClient, answer: dict[str, Any], status: int, code: str, words: str
) -> None:
    """The error says whether a later request can help. The phone gets one request."""
    await client.harness.pair()
    item = await came(client, held=None, keys=OLD)
    client.harness.engine.answers["media-again"] = lambda _: QueryAnswered(link=0, request=0, **answer)
    assert words in (await get(client, item)).problem(status, code)
    assert len(client.harness.commands(RunQuery)) == 1
