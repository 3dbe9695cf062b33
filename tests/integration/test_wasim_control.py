"""The control interface of wasim: what it accepts, shows and refuses."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.processes import Wasim, running_wasim

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wasim(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wasim]:
    """One wasim for all of these tests, with two phones."""
    async with running_wasim(tmp_path_factory.mktemp("wasim")) as running:
        for number in ("962302", "962303"):
            await running.post("/phones", {"number": number})
        yield running


async def say(wasim: Wasim, **body: Any) -> tuple[str, dict[str, Any]]:
    """The id of what the phone 962302 sent, and how 962303 shows it."""
    sent = await wasim.post("/phones/962302/send", {"to": "962303", **body})
    messages = {message["id"]: message for message in await wasim.get("/phones/962303/inbox")}
    return sent["id"], messages[sent["id"]]


async def test_a_phone_is_created_once(wasim: Wasim) -> None:
    """Creating it again returns the same phone; its settings can be changed."""
    first = await wasim.post("/phones", {"number": "962310", "name": "Shop"})
    second = await wasim.post("/phones", {"number": "962310", "autoRead": False, "addressing": "pn"})
    assert first["lid"] == second["lid"]
    assert (second["autoRead"], second["addressing"], second["name"]) == (False, "pn", "Shop")


async def test_media_from_a_file_and_from_base64(wasim: Wasim, tmp_path: Path) -> None:
    """The phone shows the same bytes."""
    content = bytes(range(256)) * 400
    (tmp_path / "a.pdf").write_bytes(content)
    given = ({"base64": base64.b64encode(content).decode()}, {"file": str(tmp_path / "a.pdf")})
    for source in given:
        id_, message = await say(wasim, document={**source, "filename": "a.pdf", "caption": "read this"})
        assert (message["kind"], message["text"], message["media"]["filename"]) == ("document", "read this", "a.pdf")
        path = f"/phones/962303/inbox/{id_}/media"
        opened = await wasim.get(path)
        digest = hashlib.sha256(content).hexdigest()
        assert (opened["sizeBytes"], opened["sha256"], opened["genuine"]) == (len(content), digest, True)
        async with wasim.http.get(wasim.control + path, params={"content": "true"}) as answer:
            assert await answer.read() == content


async def test_long_texts_and_the_end_of_the_inbox(wasim: Wasim) -> None:
    """Texts may be as long as at WhatsApp: 65,536 characters. A listing of an inbox can begin after the entries that
    were seen.
    """
    before = len(await wasim.get("/phones/962303/inbox"))
    _, message = await say(wasim, text="ä" * 65_536)
    assert len(message["text"]) == 65_536
    assert await wasim.get("/phones/962303/inbox", after=str(before)) == [message]


async def test_groups_are_created_and_changed(wasim: Wasim) -> None:
    """Name and members change, and all groups are listed."""
    group = await wasim.post("/groups", {"subject": "Team", "members": ["962302"], "addressing": "pn"})
    assert [(member["number"], member["admin"]) for member in group["members"]] == [("962302", True)]
    async with wasim.http.patch(
        f"{wasim.control}/groups/{group['id']}", json={"subject": "Crew", "add": ["962303"], "remove": ["962302"]}
    ) as answer:
        changed = await answer.json()
    assert (changed["subject"], [member["number"] for member in changed["members"]]) == ("Crew", ["962303"])
    assert changed in await wasim.get("/groups")
    async with wasim.http.patch(f"{wasim.control}/groups/{group['id']}", json={"name": "x"}) as answer:
        assert (answer.status, "give subject, add, remove or requests" in (await answer.json())["error"]) == (400, True)


async def test_typing_is_shown(wasim: Wasim) -> None:
    """The recipient's phone shows it; the newest state counts."""
    for state in ("composing", "recording", "paused"):
        await wasim.post("/phones/962302/typing", {"to": "962303", "state": state})
        (phone,) = [phone for phone in await wasim.get("/phones") if phone["number"] == "962303"]
        assert (phone["typing"]["from"], phone["typing"]["state"]) == ("962302", state)


async def test_the_certificate_authority_can_be_downloaded(wasim: Wasim) -> None:
    """It is the certificate in the file that the first output line names."""
    named = await asyncio.to_thread(Path(wasim.ca).read_bytes)
    async with wasim.http.get(wasim.control + "/ca.pem") as answer:
        assert await answer.read() == named


async def test_unlinking_needs_a_device(wasim: Wasim) -> None:
    """A device that does not exist is answered with 404, a request without a device with 400."""
    await wasim.post("/phones", {"number": "962302"})
    for body, status in (({"device": 3}, 404), ({"device": "one"}, 400)):
        async with wasim.http.post(wasim.control + "/phones/962302/unlink", json=body) as answer:
            assert answer.status == status


BAD: list[tuple[str, str, Any, int, str]] = [
    ("POST", "/phones", {"number": "12"}, 400, "3 to 15 digits"),
    ("POST", "/phones", {"number": "0962302"}, 400, "3 to 15 digits"),
    ("POST", "/phones", {}, 400, "phone number None"),
    ("POST", "/phones", [], 400, "JSON object"),
    ("POST", "/phones", b"{", 400, "not JSON"),
    ("POST", "/phones", {"number": "962302", "addressing": "x"}, 400, "'lid' or 'pn'"),
    ("POST", "/phones/962302/scan", {"qr": "hello"}, 400, "not a WhatsApp QR code"),
    ("POST", "/phones/962302/scan", {}, 400, "'qr' must be"),
    ("POST", "/phones/962302/scan", {"qr": ",".join(["2@x", *["A" * 43 + "="] * 3])}, 404, "no device shows"),
    ("POST", "/phones/962399/unlink", {"device": 1}, 404, "no phone 962399"),
    ("POST", "/phones/962302/send", {"text": "x"}, 400, "phone number None"),
    ("POST", "/phones/962302/send", {"to": "962388", "text": "x"}, 404, "no phone 962388"),
    ("POST", "/phones/962302/send", {"to": "1@g.us", "text": "x"}, 404, "no group 1@g.us"),
    ("POST", "/phones/962302/send", {"to": "962302"}, 400, "has nothing"),
    ("POST", "/phones/962302/send", {"to": "962302", "txt": "x"}, 400, "txt"),
    ("POST", "/phones/962302/send", {"to": "962302", "image": {}, "video": {}}, 400, "not image and video"),
    ("POST", "/phones/962302/send", {"to": "962302", "image": {}}, 400, "not by 0 of them"),
    ("POST", "/phones/962302/send", {"to": "962302", "image": {"base64": "?"}}, 400, "base64 can't be read"),
    ("POST", "/phones/962302/send", {"to": "962302", "image": {"file": "/nowhere"}}, 400, "does not exist"),
    ("POST", "/phones/962302/send", {"to": "962302", "image": {"sizeBytes": -1}}, 400, "0 to 104857600 bytes"),
    ("POST", "/phones/962302/send", {"to": "962302", "sticker": {"sizeBytes": 1, "caption": "x"}}, 400, "no caption"),
    ("POST", "/phones/962302/typing", {"to": "962302", "state": "asleep"}, 400, "composing, recording, paused"),
    ("GET", "/phones/962302/inbox/X1/media", None, 404, "no message X1 with media"),
    ("GET", "/phones/962302/inbox?after=x", None, 400, "must be a number"),
    ("POST", "/groups", {"subject": "x", "members": []}, 400, "at least one member"),
    ("POST", "/groups", {"subject": "x", "members": ["962388"]}, 400, "no phone 962388"),
    ("POST", "/groups", {"subject": "x", "members": "962302"}, 400, "list of numbers"),
    ("POST", "/groups", {"members": ["962302"]}, 400, "'subject' must be"),
    ("POST", "/groups", {"subject": "x", "members": ["962302"], "addressing": "x"}, 400, "'lid' or 'pn'"),
    ("PATCH", "/groups/1@g.us", {}, 404, "no group 1@g.us"),
    ("POST", "/faults", {"kind": "earthquake"}, 400, "not known"),
    ("DELETE", "/faults/77", None, 404, "fault 77 is not active"),
    ("DELETE", "/faults/x", None, 404, "fault x is not active"),
    ("GET", "/nowhere", None, 404, "GET / lists"),
    ("PUT", "/phones", None, 405, "GET / lists"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "sentence"), BAD)
async def test_bad_requests_get_an_explanation(
    wasim: Wasim, method: str, path: str, body: Any, status: int, sentence: str
) -> None:
    """Every refusal is `{"error": explanation}` with a fitting status."""
    content = {"data": body} if isinstance(body, bytes) else {"json": body}
    async with wasim.http.request(method, wasim.control + path, **content) as answer:
        assert answer.status == status
        assert sentence in (await answer.json())["error"]


@pytest.mark.parametrize(
    "stanza",
    [
        {"tag": ""},
        {"tag": "message", "attrs": {"id": 1}},
        {"tag": "message", "attrs": {"id": "\ud800"}},
        {"tag": "message", "content": {"base64": "!"}},
        {"tag": "message", "content": {"bytes": ""}},
        {"tag": "message", "attrs": {str(n): "" for n in range(40_000)}},
        "message",
    ],
)
async def test_invalid_stanzas_are_refused(wasim: Wasim, stanza: Any) -> None:
    """Each is answered with 400 and an explanation; everything that the binary format can encode is delivered
    unchanged.
    """
    async with wasim.http.post(f"{wasim.control}/phones/962302/stanzas", json={"stanzas": [stanza]}) as answer:
        assert answer.status == 400, await answer.text()
    odd = {"tag": "presence", "attrs": {"": "\x00", "from": "@"}, "content": [{"tag": "a", "content": {"base64": ""}}]}
    brought = await wasim.post("/phones/962302/stanzas", {"stanzas": [odd, {"base64": "AAEC"}]})
    assert brought == {"devices": 0}


async def test_stanzas_for_offline_devices_are_stored(wasim: Wasim) -> None:
    """No device of this account waits for anything."""
    assert await wasim.get("/phones/962302/stanzas") == []
