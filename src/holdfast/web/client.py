"""An HTTP client for URLs that users gave.

URLs are sent byte for byte as given (`urls.py`), because servers sign them: nothing is decoded, re-encoded or
normalised. The guard checks the address when a socket is created, after each name resolution, so a name that starts to
resolve to 127.0.0.1 is refused like 127.0.0.1 itself. Proxies from the environment are ignored, because the guard would
only see the proxy.
Errors and logs contain only scheme, host and port of a URL: paths, queries and user names may be secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from holdfast.base.errors import BadInput, Fault, HoldfastError
from holdfast.web.addresses import NOTHING_PRIVATE, SETTING, Allowed
from holdfast.web.encodings import CannotDecode, Decoder, TooLong, has_coding
from holdfast.web.resolving import Lookup, Resolver, look_up
from holdfast.web.urls import checked_url, place

CONNECT_S = 10
_CHUNK = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = {"User-Agent": "Holdfast", "Accept-Encoding": "identity"}
RESOLVE_S = 5
_CHECKS_AT_ONCE = 8
"""URLs whose names are being checked. Each may leave a thread behind that waits for its name."""


class NotReached(HoldfastError):
    """A request without a complete response. A retry may succeed."""

    code = "not-reached"
    fault = Fault.CALLER


class AddressNotAllowed(NotReached):
    """Connecting to this address is forbidden. A retry fails as well."""

    code = "address-not-allowed"


class PrivateAddress(AddressNotAllowed):
    """A private address that the operator did not allow."""


class Unreachable(NotReached):
    """No connection: the name is unknown, nothing listens there, or the certificate is invalid."""


class TooLarge(NotReached):
    """A response is larger than allowed."""

    code = "too-large"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebResponse:
    """Response to a POST request."""

    status: int
    headers: Mapping[str, str]
    """Names are case-insensitive."""
    body: bytes
    """The beginning of the body, for error messages."""


class WebDownload:
    """A response whose body is being received."""

    def __init__(self, response: aiohttp.ClientResponse, *, asked: URL) -> None:
        """`asked` is the URL before redirects."""
        self._response = response
        self.paths = (response.url.raw_path, asked.raw_path)
        """Percent-encoded paths of the final URL and of the requested one."""
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.place = place(response.url)

    def values(self, header: str) -> Sequence[str]:
        """The values of a header that may occur several times."""
        return self._response.headers.getall(header, ())

    @property
    def is_encoded(self) -> bool:
        """Whether `chunks` decodes a `Content-Encoding`."""
        return has_coding(self._codings, mimetype=self.mimetype)

    @property
    def _codings(self) -> str:
        return ",".join(self.values("Content-Encoding"))

    @property
    def mimetype(self) -> str | None:
        """Content-Type in lower case without parameters; None when the header is missing."""
        return self._response.content_type.lower() if "Content-Type" in self.headers else None

    async def chunks(self, *, max_bytes: int) -> AsyncIterator[bytes]:
        """The body in chunks, with its `Content-Encoding` decoded.

        Raises `TooLarge` as soon as the limit is exceeded, and `NotReached`.
        """
        announced = self._response.content_length
        if announced is not None and announced > max_bytes:
            raise _too_large(self.place, max_bytes)
        try:
            decoder = self._decoder(max_bytes)
            async for chunk in self._raw(max_bytes):
                async for piece in _fed(decoder, chunk):
                    yield piece
            decoder.end()
        except TooLong as error:
            raise _too_large(self.place, max_bytes) from error
        except CannotDecode as error:
            raise NotReached(f"what {self.place} gives {error}") from error

    def _decoder(self, max_bytes: int) -> Decoder:
        return Decoder(self._codings, mimetype=self.mimetype, max_bytes=max_bytes)

    async def _raw(self, max_bytes: int) -> AsyncIterator[bytes]:
        taken = 0
        stream = self._response.content.iter_chunked(_CHUNK)
        while True:
            with _translated(self.place):
                chunk = await anext(stream, b"")
            if not chunk:
                return
            taken += len(chunk)
            if taken > max_bytes:
                raise _too_large(self.place, max_bytes)
            yield chunk


Resolve = Callable[[URL], Awaitable[Sequence[str]]]
"""Resolves the host of a URL to its IP addresses; an empty result means that it can't be resolved."""


class WebClient:
    """Use as `async with WebClient(allowed) as web:`. Keeps connections open until the end of the block.

    The number of connections is not limited: a request that waited for those of others would time out. Callers limit
    how many requests they have open.
    """

    def __init__(
        self,
        allowed: Allowed = NOTHING_PRIVATE,
        *,
        resolve: Resolve | None = None,
        lookup: Lookup = socket.getaddrinfo,
        resolve_s: float = RESOLVE_S,
    ) -> None:
        """`resolve` and `resolve_s`, how long a name may take, are used only by `check_reachable` and `addresses`."""
        self._allowed = allowed
        self._resolve_s = resolve_s
        self._lookup = lookup
        self._resolve = resolve or self._addresses_of
        self._checks = asyncio.Semaphore(_CHECKS_AT_ONCE)

    async def __aenter__(self) -> WebClient:
        self._guarded = _session(self._guarded_socket, self._lookup)
        self._trusted = _session(None, self._lookup)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._guarded.close()
        await self._trusted.close()

    @contextlib.asynccontextmanager
    async def get(self, url: str, *, within_s: float, redirects: int = 0) -> AsyncIterator[WebDownload]:
        """Send a GET request. Each hop must answer within `within_s` seconds; at most `redirects` are followed.

        Raises `BadInput` for an invalid URL, `AddressNotAllowed`, `NotReached`. Any status is a response.
        """
        address = asked = checked_url(url)
        async with contextlib.AsyncExitStack() as stack:
            for _hop in range(redirects + 1):
                response = await self._ask(stack, "GET", address, within_s=within_s)
                if response.status not in _REDIRECTS:
                    yield WebDownload(response, asked=asked)
                    return
                address = _next(address, response)
                response.release()
        raise AddressNotAllowed(
            f"{place(address)} is the result of more than {redirects} redirects: give the final URL"
        )

    async def post(
        self,
        url: str,
        *,
        body: bytes,
        headers: Mapping[str, str],
        within_s: float,
        max_bytes: int = 4096,
        is_trusted: bool = False,
    ) -> WebResponse:
        """Send a POST request. Any status is a response; redirects are not followed.

        `max_bytes`: how much of the response body is read. `is_trusted`: the operator configured this URL, so it may
        be private. Raises `BadInput` for an invalid URL, `AddressNotAllowed`, `NotReached`.
        """
        address = checked_url(url)
        async with contextlib.AsyncExitStack() as stack:
            response = await self._ask(
                stack, "POST", address, within_s=within_s, is_trusted=is_trusted, data=body, headers=headers
            )
            with _translated(place(address)):
                return WebResponse(
                    status=response.status, headers=response.headers, body=await _read_prefix(response, max_bytes)
                )

    async def check_reachable(self, url: str, *, field: str) -> None:
        """Raise `BadInput` with `field` for a URL that requests would never be sent to.

        Its name is resolved; a name that is unknown now is accepted, because it may be known later.
        """
        address = checked_url(url, field=field)
        try:
            async with asyncio.timeout(self._resolve_s), self._checks:
                await self._permitted(address)
        except TimeoutError:
            return  # too many checks wait for names
        except PrivateAddress as error:
            raise BadInput(f"{field}: {error}", field=field) from error

    async def addresses(self, url: str) -> Sequence[str] | None:
        """The IP addresses of a URL's host that are allowed now; None for a trusted name, which may resolve to any.

        Raises `PrivateAddress` when all are forbidden, and `Unreachable` when the name is unknown.
        """
        address = checked_url(url)
        permitted = await self._permitted(address)
        if permitted is not None and not permitted:
            raise Unreachable(f"can't connect to {place(address)} (the name is unknown)")
        return permitted

    async def _permitted(self, address: URL) -> Sequence[str] | None:
        if self._allowed.trusts(address.host or "", address.port):
            return None
        found = await self._resolve(address)
        permitted = [each for each in found if self._allowed.permits(each, address.port)]
        if found and not permitted:
            raise PrivateAddress(_private(place(address)))
        return permitted

    async def _addresses_of(self, url: URL) -> list[str]:
        """IP addresses of a host; empty when it can't be resolved within a few seconds."""
        try:
            async with asyncio.timeout(self._resolve_s):
                found = await look_up(url.host or "", url.port, lookup=self._lookup)
        except (OSError, UnicodeError):  # a TimeoutError is an OSError
            return []
        return [str(address[0]) for *_, address in found]

    async def _ask(
        self,
        stack: contextlib.AsyncExitStack,
        method: str,
        url: URL,
        *,
        within_s: float,
        is_trusted: bool = False,
        **options: Any,
    ) -> aiohttp.ClientResponse:
        is_trusted = is_trusted or self._allowed.trusts(url.host or "", url.port)
        session = self._trusted if is_trusted else self._guarded
        timeout = aiohttp.ClientTimeout(total=within_s, sock_connect=CONNECT_S)
        with _translated(place(url)):
            return await stack.enter_async_context(
                session.request(method, url, allow_redirects=False, timeout=timeout, **options)
            )

    def _guarded_socket(self, address_info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = address_info
        if not self._allowed.permits(str(address[0]), int(address[1])):
            raise _PrivateAddress
        return socket.socket(family, kind, protocol)


class _PrivateAddress(OSError):
    """Raised when a socket is created, and reported as `PrivateAddress`."""


def _session(socket_factory: Any, lookup: Lookup) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(socket_factory=socket_factory, resolver=Resolver(lookup), limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=_HEADERS,
        auto_decompress=False,  # the decoder limits the size of what is decoded
        trust_env=False,
    )


def _next(address: URL, response: aiohttp.ClientResponse) -> URL:
    nowhere = NotReached(f"{place(address)} redirects without a valid target (HTTP {response.status})")
    target = response.headers.get("Location")
    if not target:
        raise nowhere
    try:
        return checked_url(_joined(address, target.strip()))
    except (BadInput, ValueError) as error:
        raise nowhere from error


def _joined(address: URL, target: str) -> str:
    """Like `urljoin`, but keeps `..` and `.` in an absolute path, which may be signed."""
    if target.startswith("/") and not target.startswith("//"):
        return f"{address.scheme}://{address.raw_authority}{target}"
    return urljoin(str(address), target)


async def _fed(decoder: Decoder, chunk: bytes) -> AsyncIterator[bytes]:
    """What `decoder` makes of a chunk. It runs in a thread: 64 kB can be seconds of work."""
    if not decoder.is_needed:
        yield chunk
        return
    pieces = decoder.feed(chunk)
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        if piece:
            yield piece


async def _read_prefix(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    body = bytearray()
    while len(body) < max_bytes and (chunk := await response.content.read(max_bytes - len(body))):
        body += chunk
    return bytes(body)


@contextlib.contextmanager
def _translated(address: str) -> Iterator[None]:
    """Translate errors into messages that contain only the public part of the URL."""
    try:
        yield
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, _PrivateAddress):
            raise PrivateAddress(_private(address)) from error
        raise Unreachable(f"can't connect to {address} ({connect_failure(error)})") from error
    except aiohttp.InvalidURL:
        # Without the cause, which contains the whole URL.
        raise AddressNotAllowed(f"{address} is not a URL that can be requested") from None
    except TimeoutError as error:
        raise NotReached(f"{address} did not answer in time") from error
    except UnicodeError as error:  # a label of a host name is empty, or longer than DNS allows
        raise Unreachable(f"can't connect to {address} (no host can have this name)") from error
    except aiohttp.ClientResponseError as error:  # whose text may quote the response
        raise NotReached(f"{address} answered with something that is not valid HTTP") from error
    except (aiohttp.ClientError, ValueError) as error:
        raise NotReached(f"{address} ended the connection early ({type(error).__name__})") from error


def connect_failure(error: aiohttp.ClientConnectorError) -> str:
    """Why a connection to a host failed, without Python's terms."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the name is unknown"
    if isinstance(error, aiohttp.ClientSSLError):
        return "its certificate is invalid"
    code = error.os_error.errno  # asyncio's own text names the address as Python writes it
    return os.strerror(code) if code else error.os_error.strerror or type(error.os_error).__name__


def _private(address: str) -> str:
    return (
        f"{address} is at a private address, which Holdfast does not connect to: "
        f"give a public one, or allow it with {SETTING}"
    )


def _too_large(address: str, max_bytes: int) -> TooLarge:
    return TooLarge(f"the response of {address} is larger than {max_bytes // 1_000_000} MB")
