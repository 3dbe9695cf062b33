"""Authentication and quotas of callers: API keys, limits, and the log of refused keys.

A caller is a tenant when its API key is limited to companies. A key for all companies is the operator's: no quota
applies to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from weakref import WeakValueDictionary

from fastapi import Request

from holdfast.api.keys import KeyGrant, KnownKeys, NoKey
from holdfast.base.limited_log import LimitedLog
from holdfast.delivery.content import MediaBody, MessageBody
from holdfast.http.callers import mark_keyed
from holdfast.http.forwarded import FORWARDED, Hop
from holdfast.http.open_requests import hold
from holdfast.runtime.quotas import Quotas

log = logging.getLogger(__name__)

LARGE_BODY = 1024 * 1024
"""Bytes. A tenant's larger bodies are read one at a time, because each is held in memory as a whole."""
PAGES_AT_ONCE = 16
"""Pages of messages or events that a tenant's key has open: each may have some megabytes, which are held in memory
until the caller has read them."""
_READS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
"""Methods that a tenant may use when the disk is nearly full: they store nothing, or remove something."""


class Access:
    """One for each HTTP application."""

    def __init__(self, keys: KnownKeys, quotas: Quotas) -> None:
        self.keys = keys
        self.quotas = quotas
        self._refusals = LimitedLog(log, monotonic=lambda: self.quotas.clock.monotonic())
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._page_slots: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def authenticate(self, request: Request) -> KeyGrant:
        """Raises `NoKey`, `QuotaExceeded` and `DiskFull`.

        A request that another node forwarded has been checked there, and counts towards the quota of requests there.
        """
        hop: Hop | None = request.scope.get(FORWARDED)
        if hop is not None and hop.key_id is not None:
            mark_keyed(request.scope)
            grant = KeyGrant(None if hop.companies is None else frozenset(hop.companies))
            request.state.grant, request.state.key_id = grant, hop.key_id
            return grant
        key = _key(request)
        try:
            digest, grant = self.keys.entry(key)
        except NoKey:
            if key is not None:
                address = request.client.host if request.client else "an unknown address"
                self._refusals.warning("API key refused from %s: unknown key at the API", address)
            raise
        mark_keyed(request.scope)
        request.state.grant, request.state.key_id = grant, digest.hex()
        if grant.companies is not None:
            self.quotas.check_request(request.state.key_id, writes=request.method not in _READS)
            hold(request, self.quotas.request(request.state.key_id))
        return grant

    def is_valid(self, request: Request) -> bool:
        """Whether the key of an authenticated request has not been revoked since."""
        return self.keys.knows(bytes.fromhex(request.state.key_id))

    def body_lock(self, key_id: str) -> asyncio.Lock:
        return self._locks.setdefault(key_id, asyncio.Lock())

    def page_slots(self, key_id: str) -> asyncio.Semaphore:
        return self._page_slots.setdefault(key_id, asyncio.Semaphore(PAGES_AT_ONCE))


def authenticate(request: Request) -> KeyGrant:
    """Check the request's API key and store in the request what it allows. Raises `NoKey`, `QuotaExceeded`,
    `DiskFull`."""
    return access_of(request).authenticate(request)


def access_of(request: Request) -> Access:
    access: Access = request.app.state.access
    return access


def is_tenant(request: Request) -> bool:
    grant: KeyGrant = request.state.grant
    return grant.companies is not None


def large_body(request: Request) -> AbstractAsyncContextManager[object]:
    """Read a body that is held in memory inside this block: a tenant's large bodies are read one at a time."""
    if not is_tenant(request):
        return contextlib.nullcontext()
    length = request.headers.get("Content-Length", "")
    is_small = length.isdigit() and int(length) <= LARGE_BODY
    has_body = bool(length) or "Transfer-Encoding" in request.headers
    if is_small or not has_body or request.url.path.endswith("/media"):
        return contextlib.nullcontext()  # media are read piece by piece
    return access_of(request).body_lock(request.state.key_id)


async def wait_for_page(request: Request) -> None:
    """Called before a page of messages or events is read. A tenant's request waits while its key has `PAGES_AT_ONCE`
    pages open."""
    if is_tenant(request):
        slots = access_of(request).page_slots(request.state.key_id)
        await slots.acquire()
        hold(request, _released(slots))


@contextlib.contextmanager
def _released(slots: asyncio.Semaphore) -> Iterator[None]:
    try:
        yield
    finally:
        slots.release()


def message_quota(
    request: Request, company: str, body: MessageBody, *, body_bytes: int
) -> AbstractAsyncContextManager[object]:
    """Wraps the acceptance of a message. Raises `QuotaExceeded` for a tenant whose outbox or media quota is used up."""
    if not is_tenant(request):
        return contextlib.nullcontext()
    return _message_quota(request, company, body, body_bytes=body_bytes)


@contextlib.asynccontextmanager
async def _message_quota(request: Request, company: str, body: MessageBody, *, body_bytes: int) -> AsyncIterator[None]:
    quotas, media_bytes = access_of(request).quotas, 0
    if isinstance(body, MediaBody):
        encoded = len(body.base64 or "")
        body_bytes -= encoded
        media_bytes = encoded * 3 // 4 if body.url is None else request.app.state.media.limit_bytes
    async with contextlib.AsyncExitStack() as held:
        await held.enter_async_context(quotas.message(company, body_bytes))
        if media_bytes:
            await held.enter_async_context(quotas.media(company, media_bytes))
        yield


@contextlib.asynccontextmanager
async def media_quota(request: Request, company: str) -> AsyncIterator[None]:
    """Wraps the upload of a media file. Raises `QuotaExceeded` for a tenant whose media quota is used up."""
    if not is_tenant(request):
        yield
        return
    length = request.headers.get("Content-Length", "")
    limit = int(length) if length.isdigit() else request.app.state.media.limit_bytes
    async with access_of(request).quotas.media(company, limit):
        yield


@contextlib.contextmanager
def stream_quota(request: Request) -> Iterator[None]:
    """Wraps an open event stream. Raises `QuotaExceeded` for a tenant who has too many."""
    with access_of(request).quotas.stream(request.state.key_id) if is_tenant(request) else contextlib.nullcontext():
        yield


def _key(request: Request) -> str | None:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else request.headers.get("X-API-Key")
