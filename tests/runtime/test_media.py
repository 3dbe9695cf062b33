"""Outbound and inbound media: downloaded from URLs, written to files, removed when no longer needed."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from holdfast.base.errors import BadInput
from holdfast.base.ids import SystemRandomSource
from holdfast.delivery.content import MediaBody
from holdfast.delivery.kinds import Document, Image
from holdfast.runtime.media_spool import FIRST_SWEEP_S, SPOOL_KEPT_S, MediaGone, MediaSweeper, Spool
from holdfast.runtime.outbound_media import CHUNK_BYTES, OutboundMediaService
from holdfast.store.database import Database
from holdfast.store.media import MediaRows
from holdfast.web.addresses import parse_allowed
from holdfast.web.client import WebClient
from holdfast.web.urls import place
from tests.databases import migrated
from tests.doubles.fake_clock import FakeClock
from tests.gateway_harness import COMPANY
from tests.web.site import Site

MB = 1024 * 1024
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 5000


class SlowRows(MediaRows):
    """Copies one file only when the test allows it."""

    held: str | None = None

    def __init__(self, database: Database) -> None:
        super().__init__(database, clock=FakeClock())
        self.go = asyncio.Event()

    async def copy(self, media_id: str, file: Path) -> bool:
        if media_id == self.held:
            await self.go.wait()
        return await super().copy(media_id, file)


@pytest.fixture
async def rows(tmp_path: Path) -> AsyncIterator[SlowRows]:
    path = tmp_path / "holdfast.db"
    path.write_bytes(migrated())
    database = Database(path)
    yield SlowRows(database)
    database.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with Site().open() as opened:
        yield opened


@contextlib.asynccontextmanager
async def outbound_media(
    rows: MediaRows, *, allowed: str = "127.0.0.0/8", limit_mb: int = 64
) -> AsyncIterator[OutboundMediaService]:
    async with WebClient(parse_allowed(allowed)) as web:
        yield OutboundMediaService(rows, web=web, randomness=SystemRandomSource(), limit_bytes=limit_mb * MB)


async def one(content: bytes) -> AsyncIterator[bytes]:
    yield content


def image(url: str) -> MediaBody:
    return Image(url=url)


# From URLs.


async def test_an_image_is_downloaded_from_its_url(rows: MediaRows, site: Site) -> None:
    """Through redirects; completely, in chunks of one size, with the type detected from its bytes."""
    site.redirects("/a", site.gives("/b", PNG, None))
    async with outbound_media(rows) as taking:
        media = await taking.take(COMPANY, image(site.url("/a")))
    assert (media.mimetype, media.size_bytes, media.sha256) == ("image/png", len(PNG), hashlib.sha256(PNG).hexdigest())
    pieces = [await rows.piece(media.id, n) for n in range(4)]
    assert pieces == [PNG[:CHUNK_BYTES], PNG[CHUNK_BYTES : 2 * CHUNK_BYTES], PNG[2 * CHUNK_BYTES :], None]


async def test_downloads_of_one_company_keep_no_other_waiting(rows: MediaRows, site: Site) -> None:
    """From servers that don't answer, it gets eight at once; what another company sends is fetched at once."""
    async with outbound_media(rows) as service, asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(service.take("962302", image(site.url("/hangs")))) for _ in range(70)]
        async with asyncio.timeout(5):
            while len(site.asked) < 8:  # noqa: ASYNC110 – of another server; nothing here could set an event
                await asyncio.sleep(0.01)
            media = await service.take("962303", image(site.gives("/a.png", PNG, None)))
        assert media.size_bytes == len(PNG)
        assert [path for _, path, *_ in site.asked].count("/hangs") == 8
        for each in waiting:
            each.cancel()


async def test_nothing_is_downloaded_from_a_private_address(rows: MediaRows, site: Site) -> None:
    """Neither directly nor after a redirect from another host."""
    site.redirects("/a", site.gives("/b", PNG))
    async with outbound_media(rows, allowed="localhost") as taking:
        for url in (site.url("/b"), site.url("/a", host="localhost")):
            with pytest.raises(BadInput) as refused:
                await taking.take(COMPANY, image(url))
            assert str(refused.value).startswith("image.url can't be fetched: there was no connection to http://")
            assert refused.value.field == "image.url"
    assert [path for _, path, _, _ in site.asked] == ["/a"]


async def test_an_error_does_not_distinguish_private_addresses_from_unknown_names(
    rows: MediaRows, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise a caller could scan the internal network. The log has the details for the operator."""
    caplog.set_level(logging.INFO)
    async with outbound_media(rows, allowed="127.0.0.1:9") as taking:
        sentences = set()
        for url in ("http://10.0.0.1/x", "http://nobody.invalid/x", "http://127.0.0.1:9/x"):
            with pytest.raises(BadInput) as refused:
                await taking.take(COMPANY, image(url))
            sentences.add(str(refused.value).replace(place(url), "…"))
    [sentence] = sentences
    assert "not in HOLDFAST_ALLOWED_ADDRESSES" in sentence
    assert [word in caplog.text for word in ("is at a private address", "the name is unknown")] == [True, True]


async def test_a_compressed_document_is_stored_decompressed(rows: MediaRows, site: Site) -> None:
    """With matching name and type, unless the caller gave the name; other 2xx statuses are as good as 200."""
    plain = b"name;total\n" * 100
    for path in ("/a.csv.gz", "/b.csv.gz"):
        site.pages[path] = web.Response(status=203, body=gzip.compress(plain), headers={"Content-Encoding": "gzip"})
    async with outbound_media(rows) as taking:
        media = await taking.take(COMPANY, Document(url=site.url("/a.csv.gz")))
        named = await taking.take(COMPANY, Document(url=site.url("/b.csv.gz"), filename="b.csv.gz"))
    assert (media.filename, media.mimetype) == ("a.csv", "text/csv")
    assert media.sha256 == named.sha256 == hashlib.sha256(plain).hexdigest()
    assert named.filename == "b.csv.gz"


async def test_a_failed_download_is_reported_with_the_field(rows: MediaRows, site: Site, unused_tcp_port: int) -> None:
    """Not found, a page instead of an image, too large, truncated, and no connection are reported."""
    site.gives("/page", b"<html>", "text/html")
    site.gives("/belied", b"<html>", "image/jpeg")
    site.gives("/large", PNG + bytes(MB), "image/png")
    where = f"http://127.0.0.1:{site.port}"
    async with outbound_media(rows, limit_mb=1) as taking:
        for url, sentence in (
            (site.url("/nothing"), f"image.url can't be fetched: {where} answers with HTTP 404"),
            (site.url("/page"), "image.url is text/html: an image must be JPEG or PNG, or send it as a document"),
            (site.url("/belied"), "image.url is declared as image/jpeg, but is a type that WhatsApp does not accept"),
            (site.url("/large"), "image.url has more than 1 MB: HOLDFAST_MEDIA_MAX_MB allows no larger image"),
            (site.url("/endless"), "image.url has more than 1 MB"),
            (site.url("/breaks"), f"image.url can't be fetched: {where} ended the connection early"),
            (f"http://127.0.0.1:{unused_tcp_port}/x", "image.url can't be fetched: there was no connection to http://"),
        ):
            with pytest.raises(BadInput) as refused:
                await taking.take(COMPANY, image(url))
            assert str(refused.value).startswith(sentence)
            assert refused.value.field == "image.url"
    assert await rows.sweep(unused_since="9", settled_since="0") == 0


# Files for the engine.


async def test_a_file_is_written_once_and_again_after_its_removal(rows: MediaRows, tmp_path: Path) -> None:
    """Concurrent requests get the same file, and its content is complete."""
    clock = FakeClock()
    spool = Spool(rows, folder=tmp_path / "spool", clock=clock)
    async with outbound_media(rows) as taking:
        media = await taking.put(COMPANY, one(PNG), mimetype="image/png", filename=None)
    content: dict[str, object] = {"image": {"media": media.id, "caption": "x"}, "mentions": ["1@lid"], "typing": True}
    laid = [await spool.content_for_engine(content) for _ in range(2)]
    file = spool.folder / media.id
    assert laid[0] == laid[1] == content | {"image": {"file": str(file), "caption": "x"}}
    assert read(file) == PNG
    remove(file)
    await spool.content_for_engine(content)
    assert read(file) == PNG
    with pytest.raises(MediaGone, match="the file of the message is no longer stored: send the message again"):
        await spool.path("med_0")


async def test_unused_files_are_removed(rows: MediaRows, tmp_path: Path) -> None:
    """After a while, at the next start, and when space is short; the newest is kept."""
    clock = FakeClock()
    spool = Spool(rows, folder=tmp_path / "spool", clock=clock, max_bytes=2 * len(PNG))
    async with outbound_media(rows) as taking:
        ids = [(await taking.put(COMPANY, one(PNG), mimetype=None, filename=None)).id for _ in range(3)]
    for media_id in ids:
        await spool.path(media_id)
    assert names(spool.folder) == set(ids[1:])
    running = asyncio.ensure_future(spool.run())
    for _ in range(4):
        await asyncio.sleep(0)
        clock.advance_to(clock.monotonic() + SPOOL_KEPT_S / 3)
    await asyncio.sleep(0)
    assert names(spool.folder) == set()
    running.cancel()
    await spool.path(ids[0])
    assert names(Spool(rows, folder=tmp_path / "spool", clock=clock).folder) == set()


async def test_a_file_that_is_being_written_is_not_evicted(rows: SlowRows, tmp_path: Path) -> None:
    """While a slow file is being written, faster ones need its space; it is removed later like any other."""
    clock = FakeClock()
    spool = Spool(rows, folder=tmp_path / "spool", clock=clock, max_bytes=2 * len(PNG))
    async with outbound_media(rows) as taking:
        ids = [(await taking.put(COMPANY, one(PNG), mimetype=None, filename=None)).id for _ in range(4)]
    rows.held = ids[0]
    making = asyncio.ensure_future(spool.path(ids[0]))
    for media_id in ids[1:]:
        await spool.path(media_id)
    rows.go.set()
    assert (await making).exists()
    assert len(names(spool.folder)) == 2
    running = asyncio.ensure_future(spool.run())
    for _ in range(4):
        await asyncio.sleep(0)
        clock.advance_to(clock.monotonic() + SPOOL_KEPT_S / 3)
    await asyncio.sleep(0)
    assert names(spool.folder) == set()
    running.cancel()


async def test_a_file_that_cannot_be_removed_does_not_end_the_cleanup(
    rows: MediaRows, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged and tried again, and the other files are removed."""
    clock = FakeClock()
    spool = Spool(rows, folder=tmp_path / "spool", clock=clock)
    async with outbound_media(rows) as taking:
        ids = [(await taking.put(COMPANY, one(PNG), mimetype=None, filename=None)).id for _ in range(2)]
    files = [await spool.path(media_id) for media_id in ids]
    remove(files[0])
    files[0].mkdir()
    running = asyncio.ensure_future(spool.run())
    for _ in range(5):
        await asyncio.sleep(0)
        clock.advance_to(clock.monotonic() + SPOOL_KEPT_S / 3)
    await asyncio.sleep(0)
    assert not running.done()
    assert names(spool.folder) == {ids[0]}
    assert f"{files[0]} can't be removed" in caplog.text
    files[0].rmdir()
    running.cancel()


async def test_a_failed_sweep_is_retried(caplog: pytest.LogCaptureFixture) -> None:
    """A database failure ends neither Holdfast nor the periodic removal of media."""

    class Failing(MediaRows):
        def __init__(self) -> None:
            self.asked = 0

        async def sweep(self, *, unused_since: str, settled_since: str) -> int:
            self.asked += 1
            assert unused_since > settled_since
            raise OSError("away")

    clock, failing = FakeClock(), Failing()
    sweeper = MediaSweeper(failing, clock=clock, keep_days=7)
    running = asyncio.ensure_future(sweeper.run())
    for pause_s in (FIRST_SWEEP_S, 6 * 3600):
        await asyncio.sleep(0)
        clock.advance_to(clock.monotonic() + pause_s)
    for _ in range(5):
        await asyncio.sleep(0)
    assert (failing.asked, running.done()) == (2, False)
    assert "Unused media could not be removed; this will be retried later" in caplog.text
    running.cancel()


def read(file: Path) -> bytes:
    return file.read_bytes()


def remove(file: Path) -> None:
    file.unlink()


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}
