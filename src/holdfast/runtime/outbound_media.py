"""Stores media from callers, or from URLs that callers give.

Only one chunk of a file is in memory at a time. Its size and type are checked before it is accepted: it must be
something that phones show for the kind of message that it is for.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus

from holdfast.base.errors import BadInput
from holdfast.base.ids import RandomSource, may_be_id
from holdfast.delivery.content import Content, MediaBody, MediaKind, StoredMedia
from holdfast.delivery.filenames import from_dispositions, from_paths, with_suffix, without_coding
from holdfast.delivery.media import (
    HEAD_BYTES,
    TAIL_BYTES,
    Evidence,
    check_size,
    checked_mimetype,
    max_bytes,
    resolved_mimetype,
    too_large,
)
from holdfast.delivery.media_stores import MediaStore
from holdfast.runtime.company_slots import CompanySlots
from holdfast.web.addresses import SETTING
from holdfast.web.client import NotReached, PrivateAddress, TooLarge, Unreachable, WebClient, WebDownload
from holdfast.web.urls import place

log = logging.getLogger(__name__)

CHUNK_BYTES = 512 * 1024
"""Bytes of one write."""
FETCH_S = 60
REDIRECTS = 3
MAX_AT_ONCE = 64
"""Files that are being fetched at the same time."""
MAX_OF_A_COMPANY = 8
"""The same for one company, because a server that the caller names may take as long as `FETCH_S`."""
_BASE64_STEP = CHUNK_BYTES // 3 * 4


def _not_connected(url: str, *, field: str) -> BadInput:
    """One sentence for unknown names, closed ports and private addresses, so that nobody can scan the internal
    network."""
    return BadInput(
        f"{field} can't be fetched: there was no connection to {place(url)}, or to where it redirects. Either the name "
        f"is unknown, nothing answers there, or the address is private and not in {SETTING}; the log says which",
        field=field,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedMedia:
    """A file that can be read."""

    mimetype: str
    filename: str | None
    size_bytes: int
    pieces: AsyncIterator[bytes]


class OutboundMediaService:
    """Stores outbound media."""

    def __init__(self, store: MediaStore, *, web: WebClient, randomness: RandomSource, limit_bytes: int) -> None:
        self._store = store
        self._web = web
        self._randomness = randomness
        self._slots = CompanySlots(max_at_once=MAX_AT_ONCE, max_of_a_company=MAX_OF_A_COMPANY)
        self.limit_bytes = limit_bytes
        """The size of the largest file that is accepted; WhatsApp's own limits for a kind may be lower."""

    async def put(
        self, company: str, pieces: AsyncIterator[bytes], *, mimetype: str | None, filename: str | None
    ) -> StoredMedia:
        """Store a file that a caller uploads for later messages. Raises `BadInput`."""
        declared = None if mimetype is None else checked_mimetype(mimetype, field="Content-Type")
        return await self._store_as(
            company, MediaKind.DOCUMENT, pieces, declared=declared, filename=filename, field="body"
        )

    async def open(self, company: str, media_id: str) -> OpenedMedia | None:
        """A stored file of this company; None when it is unknown or no longer stored."""
        media = await self._store.find(media_id) if may_be_id(media_id) else None
        if media is None or media.company != company:
            return None
        return OpenedMedia(
            mimetype=media.mimetype,
            filename=media.filename,
            size_bytes=media.size_bytes,
            pieces=self._pieces(media_id),
        )

    async def _pieces(self, media_id: str) -> AsyncIterator[bytes]:
        n = 0
        while piece := await self._store.piece(media_id, n):
            yield piece
            n += 1

    async def take(self, company: str, part: MediaBody) -> StoredMedia:
        """Store the media file of a message body: by id, by URL or inline. Raises `BadInput`, naming the field."""
        declared = None if part.mimetype is None else checked_mimetype(part.mimetype, field=f"{part.kind}.mimetype")
        if part.media is not None:
            return await self._stored(company, part, part.media, declared)
        if part.url is not None:
            return await self._fetched(company, part, part.url, declared)
        field = f"{part.kind}.base64"
        pieces = _decoded(part.base64 or "", field=field)
        return await self._store_as(company, part.kind, pieces, declared=declared, filename=part.filename, field=field)

    async def keep(self, company: str, pieces: AsyncIterator[bytes], *, described: Content) -> StoredMedia:
        """Store an inbound file under its sender's description, without checking it."""
        filename, mimetype = described.get("filename"), described.get("mimetype")
        return await self._store_as(
            company,
            MediaKind.DOCUMENT,
            pieces,
            declared=_usable(mimetype),
            filename=filename.replace("\0", "") if isinstance(filename, str) else None,
            field="media",
            is_inbound=True,
        )

    async def _stored(self, company: str, part: MediaBody, media_id: str, declared: str | None) -> StoredMedia:
        field = f"{part.kind}.media"
        media = await self._store.take(company, media_id) if may_be_id(media_id) else None
        if media is None:
            raise BadInput(
                f'{field} "{media_id[:80]}" is unknown: store one with POST /v1/sessions/{company}/media; '
                "it is kept for a day, and for as long as messages need it",
                field=field,
            )
        check_size(part.kind, media.size_bytes, limit_bytes=self.limit_bytes, field=field)
        evidence = await self._evidence(media, part.filename or media.filename)
        mimetype = resolved_mimetype(
            part.kind, declared or media.mimetype, evidence, field=field, is_callers=declared is not None
        )
        return replace(media, mimetype=mimetype)

    async def _evidence(self, media: StoredMedia, filename: str | None) -> Evidence:
        last = max(media.size_bytes - 1, 0) // CHUNK_BYTES
        pieces = {n: await self._store.piece(media.id, n) or b"" for n in {0, max(last - 1, 0), last}}
        tail = b"".join(pieces[n] for n in sorted(pieces) if n)[-TAIL_BYTES:]
        return Evidence(head=pieces[0][:HEAD_BYTES], tail=tail, is_whole=last == 0, filename=filename)

    async def _fetched(self, company: str, part: MediaBody, url: str, declared: str | None) -> StoredMedia:
        field = f"{part.kind}.url"
        limit = max_bytes(part.kind, limit_bytes=self.limit_bytes)
        try:
            async with (
                self._slots.slot(company),
                self._web.get(url, within_s=FETCH_S, redirects=REDIRECTS) as download,
            ):
                _check_status(download, field=field)
                from_path = from_paths(download.paths)
                filename = part.filename or from_dispositions(download.values("Content-Disposition"))
                return await self._store_as(
                    company,
                    part.kind,
                    download.chunks(max_bytes=limit),
                    declared=declared or _usable(download.mimetype),
                    filename=filename or from_path,
                    field=field,
                    is_callers=declared is not None,
                    completes_name=filename is None,
                    was_encoded=download.is_encoded and part.filename is None,
                )
        except TooLarge as error:
            raise too_large(part.kind, limit_bytes=self.limit_bytes, field=field) from error
        except (PrivateAddress, Unreachable) as error:
            log.info("A media file of company %s was not fetched: %s", company, error.sentence)
            raise _not_connected(url, field=field) from None
        except NotReached as error:
            raise BadInput(f"{field} can't be fetched: {error.sentence}", field=field) from error
        except BadInput as error:
            raise (error if error.field else BadInput(f"{field}: {error.sentence}", field=field)) from error

    async def _store_as(
        self,
        company: str,
        kind: MediaKind,
        pieces: AsyncIterator[bytes],
        *,
        declared: str | None,
        filename: str | None,
        field: str,
        is_callers: bool = True,
        completes_name: bool = False,
        was_encoded: bool = False,
        is_inbound: bool = False,
    ) -> StoredMedia:
        """Write a file into the store.

        `is_callers`: the caller declared the type. `completes_name`: the name gets the suffix of the type.
        `was_encoded`: a `Content-Encoding` was decoded, so the suffix `.gz` no longer applies. `is_inbound`: the type
        is neither checked nor derived from the name that the sender chose.
        """
        media = StoredMedia(
            id=self._randomness.media_id(), company=company, mimetype="", filename=filename, size_bytes=0, sha256=""
        )
        await self._store.begin(media)
        try:
            filled, evidence = await self._fill(media, kind, pieces, field=field)
            check_size(kind, filled.size_bytes, limit_bytes=self.limit_bytes, field=field)
            if was_encoded and filename is not None:
                filename = without_coding(filename, evidence.head)
                evidence = replace(evidence, filename=filename)
            if is_inbound:
                mimetype = declared or "application/octet-stream"
            else:
                mimetype = resolved_mimetype(kind, declared, evidence, field=field, is_callers=is_callers)
            if completes_name and filename is not None:
                filename = with_suffix(filename, mimetype)
            filled = replace(filled, mimetype=mimetype, filename=filename)
            await self._store.finish(filled)
        except BaseException:
            await asyncio.shield(self._store.discard(media.id))
            raise
        return filled

    async def _fill(
        self, media: StoredMedia, kind: MediaKind, pieces: AsyncIterator[bytes], *, field: str
    ) -> tuple[StoredMedia, Evidence]:
        """Write it in chunks; returns the bytes from which its type is derived. Stops when it is too large."""
        digest, size, head, tail, n = hashlib.sha256(), 0, b"", b"", 0
        async for piece in _even(pieces):
            digest.update(piece)
            size += len(piece)
            head = head or piece[:HEAD_BYTES]
            tail = (tail + piece)[-TAIL_BYTES:] if n else b""
            check_size(kind, size, limit_bytes=self.limit_bytes, field=field)
            await self._store.add(media.id, n, piece)
            n += 1
        evidence = Evidence(head=head, tail=tail, is_whole=n <= 1, filename=media.filename)
        return replace(media, size_bytes=size, sha256=digest.hexdigest()), evidence


def _check_status(download: WebDownload, *, field: str) -> None:
    if download.status not in {HTTPStatus.OK, HTTPStatus.NON_AUTHORITATIVE_INFORMATION}:
        raise BadInput(f"{field} can't be fetched: {download.place} answers with HTTP {download.status}", field=field)


def _usable(mimetype: object) -> str | None:
    """The type from an untrusted source, if it is valid."""
    try:
        return checked_mimetype(mimetype, field="mimetype") if isinstance(mimetype, str) else None
    except BadInput:
        return None


async def _even(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of one size, the last one smaller."""
    gathered = bytearray()
    async for piece in pieces:
        gathered += piece
        while len(gathered) >= CHUNK_BYTES:
            yield bytes(gathered[:CHUNK_BYTES])
            del gathered[:CHUNK_BYTES]
    if gathered:
        yield bytes(gathered)


async def _decoded(text: str, *, field: str) -> AsyncIterator[bytes]:
    """Accepts line breaks, and a `data:` prefix."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    if not text.isascii():
        raise _not_base64(field)
    try:
        for step in _steps(text):
            yield base64.b64decode(step, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _not_base64(field) from error


def _steps(text: str) -> Iterator[str]:
    """Parts that can be decoded separately; only the last one may be padded."""
    if any(space in text for space in "\r\n \t"):
        text = "".join(text.split())
    for at in range(0, len(text), _BASE64_STEP):
        step = text[at : at + _BASE64_STEP]
        if "=" in step and at + _BASE64_STEP < len(text):
            raise ValueError("padding in the middle")
        yield step


def _not_base64(field: str) -> BadInput:
    return BadInput(f"{field} is not base64: give the file's bytes in standard base64, padded with =", field=field)
