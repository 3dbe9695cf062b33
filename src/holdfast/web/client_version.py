"""Downloads the service worker script of WhatsApp Web, which contains the current client revision."""

from __future__ import annotations

import asyncio

import aiohttp

from holdfast.web.client import connect_failure
from holdfast.web.encodings import CannotDecode, Decoder, TooLong
from holdfast.web.proxies import PROXY_ERRORS, connector, failure

_HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/131.0.0.0 Safari/537.36",
    "Accept": "*/*",
    "sec-fetch-site": "none",
}
_DEADLINE_S = 5
_MAX_BYTES = 4 * 1024 * 1024


class CannotRead(Exception):
    """The script could not be downloaded; the message says why."""


async def read_script(web_url: str, *, proxy_url: str | None = None) -> str:
    """Download `/sw.js`, at most 4 MB within five seconds. Raises `CannotRead`.

    Redirects are not followed, because they may lead to other hosts, also private ones. With `proxy_url`, the request
    is sent through the proxy only.
    """
    url = f"{web_url.rstrip('/')}/sw.js"
    timeout = aiohttp.ClientTimeout(total=_DEADLINE_S)
    try:
        async with (
            aiohttp.ClientSession(
                connector=None if proxy_url is None else connector(proxy_url),
                timeout=timeout,
                auto_decompress=False,  # protects against decompression bombs
                cookie_jar=aiohttp.DummyCookieJar(),
            ) as session,
            session.get(url, headers=_HEADERS, allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                raise CannotRead(f"{url} answered {answer.status}")
            body = await _body(answer)
    except (TooLong, CannotDecode) as error:
        raise CannotRead(f"{url} is too large or damaged ({error})") from error
    except (TimeoutError, aiohttp.ClientError, ValueError, *PROXY_ERRORS) as error:
        raise CannotRead(_cause(url, proxy_url, error)) from error
    return body.decode(errors="replace")


def _cause(url: str, proxy_url: str | None, error: Exception) -> str:
    """aiohttp wraps some errors of a proxy in its own."""
    for each in (error, error.__cause__):
        if proxy_url is not None and isinstance(each, PROXY_ERRORS):
            return failure(proxy_url, each).sentence
    match error:
        case aiohttp.ClientConnectorError():
            return f"can't connect to {url} ({connect_failure(error)})"
        case TimeoutError():
            return f"{url} did not answer within {_DEADLINE_S} s"
        case _:
            return f"{url} could not be read ({type(error).__name__})"


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    """Raises `TooLong` and `CannotDecode`."""
    codings = ",".join(answer.headers.getall("Content-Encoding", ()))
    decoder = Decoder(codings, mimetype=answer.content_type, max_bytes=_MAX_BYTES)
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += await asyncio.to_thread(b"".join, decoder.feed(chunk))
        if len(body) > _MAX_BYTES:
            raise TooLong
    decoder.end()
    return bytes(body)
