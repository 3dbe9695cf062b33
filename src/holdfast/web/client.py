"""An HTTP client for addresses that people gave.

URLs are sent byte for byte as they were given, for servers sign them: nothing is decoded, encoded again or normalised.

The guard stands where a socket is made, behind every resolution: a name that was harmless a moment ago and now resolves
to 127.0.0.1 is refused like 127.0.0.1 itself. Proxies from the environment are not used, for behind one the guard would
see the proxy alone. Of an address only scheme, host and port get into errors and logs: paths, queries and users may be
secrets.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import aiohttp
from yarl import URL

from holdfast.base.errors import BadInput, Fault, HoldfastError
from holdfast.web.addresses import NOTHING_PRIVATE, SETTING, Allowed
from holdfast.web.encodings import CannotDecode, Decoder, TooLong, has_coding

CONNECT_S = 10
LONGEST_URL = 2048
_CHUNK = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = {"User-Agent": "Holdfast", "Accept-Encoding": "identity"}
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_RESOLVE_S = 5


class NotReached(HoldfastError):
    """An address gave no whole answer. It may the next time."""

    code = "not-reached"
    fault = Fault.CALLER


class AddressNotAllowed(NotReached):
    """An address that is not to be connected to: trying again changes nothing."""

    code = "address-not-allowed"


class PrivateAddress(AddressNotAllowed):
    """A private address that the operator did not allow."""


class Unreachable(NotReached):
    """No connection was made: the name is unknown, nothing listens there, or the certificate is not good."""


class TooLarge(NotReached):
    """An answer is larger than it may be."""

    code = "too-large"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebResponse:
    """What came of a post."""

    status: int
    headers: Mapping[str, str]
    """Case does not matter in their names."""
    body: bytes
    """The beginning of it, for people."""


class WebDownload:
    """A body that is on its way."""

    def __init__(self, response: aiohttp.ClientResponse, *, asked: URL) -> None:
        """`asked` is the address before any redirect."""
        self._response = response
        self.paths = (response.url.raw_path, asked.raw_path)
        """Of the address that answered and of the one that was asked, still percent-encoded."""
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.place = place(response.url)

    def values(self, header: str) -> Sequence[str]:
        """The values of a header that may occur several times."""
        return self._response.headers.getall(header, ())

    @property
    def is_encoded(self) -> bool:
        """Does `chunks` undo a `Content-Encoding`?"""
        return has_coding(self._codings, mimetype=self.mimetype)

    @property
    def _codings(self) -> str:
        return ",".join(self.values("Content-Encoding"))

    @property
    def mimetype(self) -> str | None:
        """As the server says, without parameters, lower case; None where it says nothing."""
        return self._response.content_type.lower() if "Content-Type" in self.headers else None

    async def chunks(self, *, most_bytes: int) -> AsyncIterator[bytes]:
        """The body, a piece at a time, with its `Content-Encoding` undone.

        Raises `TooLarge` as soon as that is known, and `NotReached`.
        """
        announced = self._response.content_length
        if announced is not None and announced > most_bytes:
            raise _too_large(self.place, most_bytes)
        try:
            decoder = self._decoder(most_bytes)
            async for chunk in self._raw(most_bytes):
                for piece in decoder.feed(chunk):
                    yield piece
            decoder.end()
        except TooLong as error:
            raise _too_large(self.place, most_bytes) from error
        except CannotDecode as error:
            raise NotReached(f"what {self.place} gives {error}") from error

    def _decoder(self, most_bytes: int) -> Decoder:
        return Decoder(self._codings, mimetype=self.mimetype, most_bytes=most_bytes)

    async def _raw(self, most_bytes: int) -> AsyncIterator[bytes]:
        taken = 0
        stream = self._response.content.iter_chunked(_CHUNK)
        while True:
            with _told(self.place):
                chunk = await anext(stream, b"")
            if not chunk:
                return
            taken += len(chunk)
            if taken > most_bytes:
                raise _too_large(self.place, most_bytes)
            yield chunk


Resolve = Callable[[URL], Awaitable[Sequence[str]]]
"""The IP addresses that a URL's host has now; none when they can't be found out."""


class WebClient:
    """`async with WebClient(allowed) as web:` – connections are kept and ended with it."""

    def __init__(self, allowed: Allowed = NOTHING_PRIVATE, *, resolve: Resolve | None = None) -> None:
        """`resolve` is used only by `check_reachable`."""
        self._allowed = allowed
        self._resolve = resolve or addresses_of

    async def __aenter__(self) -> WebClient:
        self._guarded = _session(self._guarded_socket)
        self._trusted = _session(None)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._guarded.close()
        await self._trusted.close()

    @contextlib.asynccontextmanager
    async def get(self, url: str, *, within_s: float, redirects: int = 0) -> AsyncIterator[WebDownload]:
        """Ask for what is there; each address answers within `within_s` in all. At most `redirects` are followed.

        Raises `BadInput` for an unusable URL, `AddressNotAllowed`, `NotReached`. Any status is an answer.
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
            f"{place(address)} is redirected to more than {redirects} times: give the address at the end"
        )

    async def post(
        self,
        url: str,
        *,
        body: bytes,
        headers: Mapping[str, str],
        within_s: float,
        most_bytes: int = 4096,
        is_trusted: bool = False,
    ) -> WebResponse:
        """Any status is an answer, redirects too: they are not followed. The answer's body is read up to `most_bytes`.

        `is_trusted`: the operator gave this address, which may be private. Raises `BadInput` for an unusable URL,
        `AddressNotAllowed`, `NotReached`.
        """
        address = checked_url(url)
        async with contextlib.AsyncExitStack() as stack:
            response = await self._ask(
                stack, "POST", address, within_s=within_s, is_trusted=is_trusted, data=body, headers=headers
            )
            with _told(place(address)):
                return WebResponse(
                    status=response.status, headers=response.headers, body=await _beginning(response, most_bytes)
                )

    async def check_reachable(self, url: str, *, field: str) -> None:
        """Raises `BadInput`, naming `field`, for an address that no request would be sent to.

        A name is looked up; one that is unknown just now is let through, for it may be known later.
        """
        address = checked_url(url, field=field)
        try:
            await self._permitted(address)
        except PrivateAddress as error:
            raise BadInput(f"{field}: {error}", field=field) from error

    async def addresses(self, url: str) -> Sequence[str] | None:
        """The IP addresses at which this host may be connected to now; None: whatever its trusted name resolves to.

        Raises `PrivateAddress` when all are forbidden, and `Unreachable` when the name is unknown.
        """
        address = checked_url(url)
        permitted = await self._permitted(address)
        if permitted is not None and not permitted:
            raise Unreachable(f"{place(address)} can't be connected to (the name is unknown)")
        return permitted

    async def _permitted(self, address: URL) -> Sequence[str] | None:
        if self._allowed.trusts(address.host or "", address.port):
            return None
        found = await self._resolve(address)
        permitted = [each for each in found if self._allowed.permits(each, address.port)]
        if found and not permitted:
            raise PrivateAddress(_private(place(address)))
        return permitted

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
        with _told(place(url)):
            return await stack.enter_async_context(
                session.request(method, url, allow_redirects=False, timeout=timeout, **options)
            )

    def _guarded_socket(self, found: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = found
        if not self._allowed.permits(str(address[0]), int(address[1])):
            raise _PrivateAddress
        return socket.socket(family, kind, protocol)


class _PrivateAddress(OSError):
    """Made where connections fail, and told as `AddressNotAllowed`."""


def checked_url(url: str, *, field: str | None = None) -> URL:
    """An address that can be asked by HTTP. Raises `BadInput`, naming `field`."""
    name = field or "the address"
    try:
        address = _as_given(url)
        host, _ = address.host, address.port
    except ValueError as error:
        raise BadInput(f"{name} is not a URL: give one such as https://example.com/file", field=field) from error
    is_http = address.scheme in {"http", "https"}
    if is_http and not host:
        raise BadInput(f"{name} names no host: give one such as https://example.com/file", field=field)
    if not is_http:
        what = f'begins with "{address.scheme[:20]}:"' if address.scheme else "does not begin with http:// or https://"
        raise BadInput(f"{name} {what}: give one such as https://example.com/file", field=field)
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in url.strip()):
        raise BadInput(f"{name} holds a line end or another control character: leave it out", field=field)
    if len(url) > LONGEST_URL:
        raise BadInput(f"{name} has {len(url)} characters: give at most {LONGEST_URL}", field=field)
    return address


def _as_given(url: str) -> URL:
    """Only what may not stand in a URL at all is encoded: spaces and other scripts."""
    raw = quote(url.strip(), safe=_PRINTABLE, errors="surrogateescape")
    split = urlsplit(url.strip())
    if split.netloc.isascii():
        return URL(raw, encoded=True)
    origin = URL(f"{split.scheme}://{split.netloc}")  # which encodes the name of the host for DNS
    behind = quote(split._replace(scheme="", netloc="").geturl(), safe=_PRINTABLE, errors="surrogateescape")
    return URL(f"{origin.scheme}://{origin.raw_authority}{behind}", encoded=True)


async def addresses_of(url: URL) -> list[str]:
    """Those that a host has now; none when they can't be found out within a few seconds."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_RESOLVE_S):
            found = await loop.getaddrinfo(url.host or "", url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return []
    return [str(address[0]) for *_, address in found]


def place(url: URL | str) -> str:
    """What of an address may be shown to anybody: `https://example.com:8443`."""
    return str(URL(url).origin())


def _session(socket_factory: Any) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(socket_factory=socket_factory),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=_HEADERS,
        auto_decompress=False,  # a few bytes can unfold into gigabytes
        trust_env=False,
    )


def _next(address: URL, response: aiohttp.ClientResponse) -> URL:
    nowhere = NotReached(f"{place(address)} redirects to nowhere (HTTP {response.status})")
    target = response.headers.get("Location")
    if not target:
        raise nowhere
    try:
        return checked_url(_joined(address, target.strip()))
    except (BadInput, ValueError) as error:
        raise nowhere from error


def _joined(address: URL, target: str) -> str:
    """`urljoin` would take `..` and `.` out of an absolute path, which may be signed."""
    if target.startswith("/") and not target.startswith("//"):
        return f"{address.scheme}://{address.raw_authority}{target}"
    return urljoin(str(address), target)


async def _beginning(response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    body = bytearray()
    while len(body) < most_bytes and (chunk := await response.content.read(most_bytes - len(body))):
        body += chunk
    return bytes(body)


@contextlib.contextmanager
def _told(where: str) -> Iterator[None]:
    """What goes wrong with an address, as sentences that hold no more of it than may be shown."""
    try:
        yield
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, _PrivateAddress):
            raise PrivateAddress(_private(where)) from error
        raise Unreachable(f"{where} can't be connected to ({_why(error)})") from error
    except aiohttp.InvalidURL:
        raise AddressNotAllowed(f"{where} is not an address that can be asked") from None  # the error has all of it
    except TimeoutError as error:
        raise NotReached(f"{where} did not answer in time") from error
    except UnicodeError as error:  # a label of a host name is empty, or longer than DNS allows
        raise Unreachable(f"{where} can't be connected to (no host can have this name)") from error
    except aiohttp.ClientResponseError as error:  # whose text may quote the response
        raise NotReached(f"{where} answered with something that is not valid HTTP") from error
    except (aiohttp.ClientError, ValueError) as error:
        raise NotReached(f"{where} broke off ({type(error).__name__})") from error


def _why(error: aiohttp.ClientConnectorError) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the name is unknown"
    if isinstance(error, aiohttp.ClientSSLError):
        return "its certificate is not good"
    return error.os_error.strerror or type(error.os_error).__name__


def _private(where: str) -> str:
    return (
        f"{where} is at a private address, which Holdfast does not connect to: "
        f"give a public one, or allow it with {SETTING}"
    )


def _too_large(where: str, most_bytes: int) -> TooLarge:
    return TooLarge(f"what {where} gives is larger than {most_bytes // 1_000_000} MB")
