"""The media host: stores files that clients have encrypted and uploaded, and serves them by their direct paths. It also
serves profile pictures, which are not encrypted.

Files are stored under the hash of their bytes and streamed, never held in memory as a whole. Nothing is decrypted here:
the keys are in the messages. Speaks HTTPS, as clients expect of WhatsApp's hosts.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO

from aiohttp import web

from wasim.clock import Clock
from wasim.faults import Direction, MediaVerdict
from wasim.wire.blobs import PATH_QUERY, PICTURE_FOLDER, name_of

MAX_BYTES = 100 * 1024 * 1024
"""The limit that `media_conn` announces."""
CHUNK_BYTES = 64 * 1024
KINDS = ("image", "video", "audio", "document", "md-app-state")
_SCRATCH = "part-"
_HASH = re.compile(r"[A-Za-z0-9_-]{43}")

Authorize = Callable[[str], str | None]
"""Returns the account that an `auth` from media_conn belongs to; None for one that was never issued."""
FaultHook = Callable[[Direction], MediaVerdict]
"""Called for each upload and download; returns the effect of faults on it."""


class _ConnectionCut(Exception):
    """A fault ended the connection."""


class MediaFolder:
    """Encrypted files, named by the SHA-256 of their bytes in the form that URLs use."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for unfinished in directory.glob(f"{_SCRATCH}*"):  # left by a process that was killed
            unfinished.unlink()
        self._directory = directory

    def path(self, name: str) -> Path:
        return self._directory / name

    def scratch(self) -> Path:
        """A path for an unfinished file, on the same disk."""
        return self._directory / f"{_SCRATCH}{secrets.token_hex(8)}"

    def write(self, content: bytes, name: str) -> None:
        """Store a small file."""
        scratch = self.scratch()
        scratch.write_bytes(content)
        os.replace(scratch, self.path(name))

    def finish(self, scratch: Path, digest: bytes) -> str:
        """Rename a finished file to its hash; returns its name."""
        name = name_of(digest)
        os.replace(scratch, self.path(name))
        return name


def direct_path(kind: str, name: str) -> str:
    return f"/v/{kind}/{name}{PATH_QUERY}"


class MediaHost:
    def __init__(self, folder: MediaFolder, *, clock: Clock, authorize: Authorize, fault_hook: FaultHook) -> None:
        self._folder = folder
        self._clock = clock
        self._authorize = authorize
        self._fault_hook = fault_hook

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/mms/{kind}/{hash}", self._upload)
        app.router.add_get("/v/{kind}/{hash}", self._download)
        return app

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        kind, name = request.match_info["kind"], request.match_info["hash"].rstrip("=")
        if kind not in KINDS or not _HASH.fullmatch(name):
            return _error(404, f"nothing is uploaded to /mms/{kind}; kinds are {', '.join(KINDS)}")
        if self._authorize(request.query.get("auth", "")) is None:
            return _error(401, "auth was not issued by media_conn: query media_conn again")
        verdict = self._fault_hook("up")
        if verdict.status is not None:
            return _error(verdict.status, "refused by a fault")
        if (request.content_length or 0) > MAX_BYTES:
            return _error(413, f"media has at most {MAX_BYTES} bytes, this has {request.content_length}")
        return await self._store_upload(request, kind, name, verdict)

    async def _store_upload(
        self, request: web.Request, kind: str, name: str, verdict: MediaVerdict
    ) -> web.StreamResponse:
        scratch = self._folder.scratch()
        try:
            digest = await self._receive(request, scratch, verdict)
            if digest is None:
                return _error(413, f"media has at most {MAX_BYTES} bytes")
            if name_of(digest) != name:
                return _error(400, "the SHA-256 of the bytes is not the one in the address")
            self._folder.finish(scratch, digest)
        except _ConnectionCut:
            return web.Response()  # the connection is closed already
        finally:
            scratch.unlink(missing_ok=True)
        path = direct_path(kind, name)
        return web.json_response({"url": f"https://{request.host}{path}", "direct_path": path})

    async def _receive(self, request: web.Request, scratch: Path, verdict: MediaVerdict) -> bytes | None:
        """Write the body to disk as it arrives; returns its digest, or None when it is too long."""
        digest, received = hashlib.sha256(), 0
        with scratch.open("wb") as file:
            async for chunk in self._throttled(request.content.iter_chunked(CHUNK_BYTES), request, verdict):
                received += len(chunk)
                if received > MAX_BYTES:
                    return None
                digest.update(chunk)
                file.write(chunk)
        return digest.digest()

    async def _download(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["hash"]
        path = self._folder.path(name)
        if not _HASH.fullmatch(name) or not path.exists():
            return _error(404, "there is no such media")
        verdict = self._fault_hook("down")
        if verdict.status is not None:
            return _error(verdict.status, "refused by a fault")
        with path.open("rb") as file:
            return await self._serve(request, file, path.stat().st_size, verdict)

    async def _serve(
        self, request: web.Request, file: IO[bytes], size: int, verdict: MediaVerdict
    ) -> web.StreamResponse:
        try:
            start, stop, _ = request.http_range.indices(size)
        except ValueError:
            return _error(416, "the range can't be read")
        response = web.StreamResponse(status=206 if "Range" in request.headers else 200)
        is_picture = request.path.startswith(PICTURE_FOLDER)
        response.content_type = "image/jpeg" if is_picture else "application/octet-stream"
        response.content_length = max(0, stop - start)
        response.headers["Accept-Ranges"] = "bytes"
        if response.status == 206:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        await response.prepare(request)
        file.seek(start)
        with contextlib.suppress(_ConnectionCut):
            async for chunk in self._throttled(_chunks(file, stop - start), request, verdict):
                await response.write(chunk)
            await response.write_eof()
        return response

    async def _throttled(
        self, chunks: AsyncIterator[bytes], request: web.Request, verdict: MediaVerdict
    ) -> AsyncIterator[bytes]:
        """The chunks, slowed down and cut off as faults demand."""
        total = 0
        async for chunk in chunks:
            total += len(chunk)
            if verdict.cut_after is not None and total > verdict.cut_after and request.transport is not None:
                request.transport.abort()
                raise _ConnectionCut
            if verdict.bytes_per_s is not None:
                await self._clock.sleep(len(chunk) / verdict.bytes_per_s)
            yield chunk


async def _chunks(file: IO[bytes], length: int) -> AsyncIterator[bytes]:
    while length > 0 and (chunk := file.read(min(CHUNK_BYTES, length))):
        length -= len(chunk)
        yield chunk


def _error(status: int, detail: str) -> web.Response:
    return web.json_response({"error": detail}, status=status)
