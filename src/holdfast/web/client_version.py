"""Asks WhatsApp Web's service worker for the current client revision, as a browser does."""

from __future__ import annotations

import aiohttp

from holdfast.web.proxies import PROXY_ERRORS, connector, failure

_HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/131.0.0.0 Safari/537.36",
    "Accept": "*/*",
    "sec-fetch-site": "none",
}
_DEADLINE_S = 5
_MOST_BYTES = 4 * 1024 * 1024


class CannotRead(Exception):
    """The script could not be had; the sentence says why."""


async def read_script(web_url: str, *, proxy_url: str | None = None) -> str:
    """The text of `/sw.js`: at most 4 MB within five seconds, no redirects. Raises `CannotRead`.

    `proxy_url`: through which alone it is asked for.
    """
    url = f"{web_url.rstrip('/')}/sw.js"
    timeout = aiohttp.ClientTimeout(total=_DEADLINE_S)
    try:
        async with (
            aiohttp.ClientSession(
                connector=None if proxy_url is None else connector(proxy_url),
                timeout=timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
            ) as session,
            session.get(url, headers=_HEADERS, allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                raise CannotRead(f"{url} answered {answer.status}")
            body = await answer.content.read(_MOST_BYTES)
    except PROXY_ERRORS as error:
        assert proxy_url is not None
        raise CannotRead(failure(proxy_url, error).sentence) from error
    except (TimeoutError, aiohttp.ClientError, ValueError) as error:
        raise CannotRead(f"{url} could not be read: {type(error).__name__}") from error
    return body.decode(errors="replace")
