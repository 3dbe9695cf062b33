"""The media host: files are stored under their hash for authorised clients, and served completely or in part."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from wasim.clock import Clock
from wasim.faults import Faults, parse_fault
from wasim.media import MAX_BYTES, MediaFolder, MediaHost
from wasim.wire.blobs import name_of

Client = TestClient[web.Request, web.Application]
BYTES = bytes(range(256)) * 1000
NAME = name_of(hashlib.sha256(BYTES).digest())


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
async def client(tmp_path: Path, faults: Faults) -> AsyncIterator[Client]:
    def authorize(auth: str) -> str | None:
        return "962302" if auth == "good" else None

    host = MediaHost(MediaFolder(tmp_path), clock=Clock(), authorize=authorize, fault_hook=faults.on_media)
    async with TestClient(TestServer(host.app())) as client:
        yield client


async def put(client: Client, name: str = NAME, *, auth: str = "good", kind: str = "image") -> tuple[int, str]:
    """The status of an upload, and the direct path or the error."""
    async with client.post(f"/mms/{kind}/{name}", params={"auth": auth, "token": name}, data=BYTES) as answer:
        body = await answer.json()
        return answer.status, body.get("direct_path") or body["error"]


async def test_an_upload_can_be_downloaded(client: Client) -> None:
    """The whole file or the requested range is returned, also when the client appends parameters with `&`."""
    status, path = await put(client)
    assert (status, path.partition("?")[0]) == (200, f"/v/image/{NAME}")
    for url in (path, f"{path}&hash={NAME}&mms-type=image&__wa-mms="):
        async with client.get(url) as answer:
            assert (answer.status, await answer.read()) == (200, BYTES)
    async with client.get(f"/v/image/{NAME}", headers={"Range": "bytes=100-199"}) as answer:
        assert (answer.status, await answer.read()) == (206, BYTES[100:200])
        assert answer.headers["Content-Range"] == f"bytes 100-199/{len(BYTES)}"


async def test_uploads_are_checked(client: Client, tmp_path: Path) -> None:
    """A wrong authorisation, a wrong hash and an unknown kind are refused with a sentence, and nothing is stored."""
    assert (await put(client, auth="bad"))[0] == 401
    assert (await put(client, "A" * 43))[0] == 400
    assert (await put(client, kind="newsletter"))[0] == 404
    assert (await put(client, "part-1"))[0] == 404
    assert not os.listdir(tmp_path)


async def test_profile_pictures_are_served_but_not_uploaded(client: Client, tmp_path: Path) -> None:
    """Everybody who knows the address gets the picture as a JPEG; uploads of this kind are refused."""
    MediaFolder(tmp_path).write(BYTES, NAME)
    async with client.get(f"/v/picture/{NAME}?ccb=11-4") as answer:
        assert (answer.status, answer.content_type, await answer.read()) == (200, "image/jpeg", BYTES)
    assert (await put(client, kind="picture"))[0] == 404


async def test_unknown_media_is_not_found(client: Client, tmp_path: Path) -> None:
    """It gets 404, also for an unfinished file of that name: only hashes are valid names."""
    (tmp_path / "part-1").write_bytes(b"secret")
    for name in (NAME, "part-1"):
        async with client.get(f"/v/image/{name}") as answer:
            assert answer.status == 404


async def test_media_refuse_is_limited_by_direction_and_count(client: Client, faults: Faults) -> None:
    """After `count` refused uploads the next one succeeds."""
    request = parse_fault({"kind": "media-refuse", "direction": "up", "status": 507, "count": 1})
    fault = faults.start(request, now=0)
    assert (await put(client))[0] == 507
    assert (await put(client))[0] == 200
    assert fault.hits == 1


async def test_a_client_can_detect_a_cut_download(client: Client, faults: Faults) -> None:
    """It gets fewer bytes than announced."""
    await put(client)
    faults.start(parse_fault({"kind": "media-cut", "direction": "down", "afterBytes": 70_000}), now=0)
    async with client.get(f"/v/image/{NAME}") as answer:
        with pytest.raises(aiohttp.ClientError):
            await answer.read()


async def test_a_cut_upload_is_not_stored(client: Client, faults: Faults, tmp_path: Path) -> None:
    """No file is left, not even an unfinished one."""
    faults.start(parse_fault({"kind": "media-cut", "direction": "up", "afterBytes": 70_000}), now=0)
    with pytest.raises(aiohttp.ClientError):
        await put(client)
    assert not os.listdir(tmp_path)


async def test_media_slow_limits_the_rate(client: Client, faults: Faults) -> None:
    """All bytes arrive at the requested rate."""
    await put(client)
    faults.start(parse_fault({"kind": "media-slow", "direction": "down", "bytesPerS": 1_000_000}), now=0)
    clock = Clock()
    began = clock.now()
    async with client.get(f"/v/image/{NAME}") as answer:
        assert await answer.read() == BYTES
    assert clock.now() - began > len(BYTES) / 1_000_000 * 0.9


async def test_uploads_over_the_limit_are_refused(client: Client) -> None:
    """It is refused by its announced length, before any byte is read."""
    headers = {"Content-Length": str(MAX_BYTES + 1)}
    async with client.post(f"/mms/image/{NAME}", params={"auth": "good"}, headers=headers, data=b"x") as answer:
        assert answer.status == 413


def test_unfinished_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    """Finished files are kept."""
    folder = MediaFolder(tmp_path)
    folder.scratch().write_bytes(b"half")
    folder.path(NAME).write_bytes(b"whole")
    MediaFolder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
