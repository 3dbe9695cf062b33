"""Serves inbound media: from the store, or fetched from WhatsApp through the session's link at the first request.

WhatsApp's media servers keep files for some weeks. The account's phone is asked to upload older ones again.

A fetched file is stored for some days, so that later requests need no link. Only one chunk is in memory at a time.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

from holdfast.base.clock import iso
from holdfast.base.errors import Fault, HoldfastError, NotFound
from holdfast.base.ids import may_be_id
from holdfast.delivery.media import MB
from holdfast.delivery.media_stores import InboundMedia, InboundMediaStore, MediaStore
from holdfast.runtime.company_slots import CompanySlots
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.outbound_media import CHUNK_BYTES, OpenedMedia, OutboundMediaService
from holdfast.runtime.session_queries import PhoneTimedOut
from holdfast.session.engine import Downloaded
from holdfast.session.queries import uploaded_again

log = logging.getLogger(__name__)

DOWNLOAD_S = 120
"""Timeout of a download from WhatsApp."""
MAX_AT_ONCE = 12
"""Downloads at the same time."""
MAX_OF_A_COMPANY = 4
"""Downloads of one company at the same time. Each can take minutes: the company's proxy may be slow, or its phone is
asked for the file and is offline. The downloads of others must not wait for them."""
_REASONS = {
    "damaged": "the file from WhatsApp is damaged: try again, or ask the sender to send it again",
    "timeout": "the download from WhatsApp timed out: try again shortly",
    "link-down": "the connection to WhatsApp ended during the download: try again shortly",
}


class MediaExpired(HoldfastError):
    """WhatsApp no longer has the file, and neither has Holdfast."""

    code = "media-gone"
    fault = Fault.WHATSAPP


class TooLargeMedia(HoldfastError):
    """The file is larger than this installation allows."""

    code = "too-large"
    fault = Fault.OPERATOR


class NotFetched(HoldfastError):
    """The file can't be fetched at the moment."""

    code = "media-not-fetched"
    fault = Fault.WHATSAPP


class Store(MediaStore, InboundMediaStore, Protocol):
    pass


class InboundMediaService:
    def __init__(self, store: Store, *, outbound_media: OutboundMediaService, gateway: Gateway, folder: Path) -> None:
        """`folder` holds files while they are being downloaded."""
        self._store = store
        self._outbound_media = outbound_media
        self._gateway = gateway
        self._folder = folder
        self._slots = CompanySlots(max_at_once=MAX_AT_ONCE, max_of_a_company=MAX_OF_A_COMPANY)
        self._fetching: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """By inbox id: concurrent requests for one file share one download."""

    async def open(self, inbox_id: str, *, may_touch: Callable[[str], bool] = lambda company: True) -> OpenedMedia:
        """Open the media file of an inbound message, downloading it if necessary.

        Raises `NotFound` (also for companies for which `may_touch` is false), `MediaExpired`, `TooLargeMedia`,
        `NotFetched`, and the errors of a session without a link.
        """
        known = await self._known(inbox_id, may_touch)
        media_id = known.media_id
        if media_id is None:
            async with self._fetching.setdefault(inbox_id, asyncio.Lock()):
                known = await self._known(inbox_id, may_touch)
                media_id = known.media_id or await self._fetch(known)
        opened = await self._outbound_media.open(known.company, media_id)
        if opened is None:
            raise NotFetched("the file was removed a moment ago: try again")
        return opened

    async def links_revoked_at(self, inbox_id: str) -> datetime | None:
        """When the URLs of media of the message's company were last revoked."""
        at = await self._store.links_revoked_at(inbox_id)
        return None if at is None else datetime.fromisoformat(at)

    async def revoke_links(self, company: str, *, now: datetime) -> None:
        await self._store.revoke_links(company, at=iso(now))

    async def _known(self, inbox_id: str, may_touch: Callable[[str], bool]) -> InboundMedia:
        known = await self._store.inbound(inbox_id) if may_be_id(inbox_id) else None
        if known is None or not may_touch(known.company):
            raise unknown_inbound(inbox_id)
        if known.description is None or known.keys is None:
            raise NotFound("this message has no media: `media` is null in the inbox", field="id")
        return known

    async def _fetch(self, known: InboundMedia) -> str:
        assert known.keys is not None
        file = self._folder / f"in-{known.inbox_id}"
        try:
            async with self._slots.slot(known.company):
                answer = await self._download(known, known.keys, file)
                if answer.error == "gone" and (keys := await self._keys_again(known, known.keys)) is not None:
                    answer = await self._download(known, keys, file)
            if answer.error is not None:
                words = answer.detail or answer.error
                log.warning(
                    "Session %s: the media file of %s was not fetched: %s", known.company, known.inbox_id, words
                )
                raise self._failure(answer.error)
            media = await self._outbound_media.keep(known.company, _pieces_of(file), described=known.description or {})
        finally:
            file.unlink(missing_ok=True)
        await self._store.keep(known.inbox_id, media.id)
        return media.id

    async def _download(self, known: InboundMedia, keys: str, file: Path) -> Downloaded:
        actor = await self._gateway.actor(known.company)
        max_bytes = self._outbound_media.limit_bytes
        return await actor.work.download(keys, file, max_bytes=max_bytes, within_s=DOWNLOAD_S)

    async def _keys_again(self, known: InboundMedia, keys: str) -> str | None:
        """Ask the phone to upload the file again; returns the keys with its new place. None: nobody can decrypt it."""
        given = _fields(keys)
        if "mediaKey" not in given:
            return None  # the files of channels have no key
        actor = await self._gateway.actor(known.company)
        try:
            found = await actor.work.queries.ask(uploaded_again(known.message, media_key=given["mediaKey"]))
        except NotFound as error:
            raise MediaExpired(
                "neither WhatsApp nor the account's phone has this file: ask the sender to send it again"
            ) from error
        except PhoneTimedOut as error:
            raise NotFetched(
                "WhatsApp no longer has this file, and the account's phone, which could upload it again, did not "
                "answer: try again when the phone is online"
            ) from error
        return json.dumps(given | {"directPath": found.direct_path})

    def _failure(self, error: str) -> HoldfastError:
        match error:
            case "gone":
                return MediaExpired("WhatsApp no longer has this file: ask the sender to send it again")
            case "too-large":
                limit = self._outbound_media.limit_bytes // MB
                return TooLargeMedia(f"the file is larger than {limit} MB: HOLDFAST_MEDIA_MAX_MB allows no more")
        return NotFetched(
            _REASONS.get(error, f"it could not be fetched from WhatsApp ({error}); the log says why: try again shortly")
        )


def _fields(keys: str) -> dict[str, Any]:
    """The engine's keys of a media file, as it reported them."""
    with suppress(ValueError):
        found = json.loads(keys)
        if isinstance(found, dict):
            return found
    return {}


async def _pieces_of(file: Path) -> AsyncIterator[bytes]:
    at = 0
    while piece := _piece(file, at):
        yield piece
        at += len(piece)


def _piece(file: Path, at: int) -> bytes:
    """The file was just written, so it is in the page cache: reading it does not block."""
    with file.open("rb") as opened:
        opened.seek(at)
        return opened.read(CHUNK_BYTES)


def unknown_inbound(inbox_id: str) -> NotFound:
    """Also raised for a message that the caller's key does not cover."""
    return NotFound(f'inbound message "{inbox_id[:80]}" is unknown: its id is in the inbox', field="id")
