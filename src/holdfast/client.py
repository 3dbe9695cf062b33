"""Talks to a running Holdfast by HTTP: what commands and the demo use, and nothing that a user's program could not.

aiohttp takes a fourth of the time that a command needs to start, and `--help` needs none of it: functions import it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.base.errors import Fault, HoldfastError

if TYPE_CHECKING:
    import aiohttp

Json = dict[str, Any]


class NoServer(HoldfastError):
    """Nothing answers at the address, or something that is not Holdfast."""

    code = "no-server"
    fault = Fault.OPERATOR


class Refused(HoldfastError):
    """Holdfast answered with an error; the sentence is its own."""

    code = "refused"
    fault = Fault.CALLER

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def may_pass(error: NoServer | Refused) -> bool:
    """Whether the error is one of a server that is restarting, so that the same request may succeed soon."""
    return isinstance(error, NoServer) or error.status == HTTPStatus.SERVICE_UNAVAILABLE


class CantWrite(HoldfastError):
    """A file of the caller's choice."""

    code = "write-failed"
    fault = Fault.CALLER


class Client:
    """`async with connect(url, key) as client:` – one method for each verb; answers are decoded JSON."""

    def __init__(self, session: aiohttp.ClientSession, url: str, *, only_holdfast: bool) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._only_holdfast = only_holdfast

    async def get(self, path: str, **query: str) -> Any:
        return await self._ask("GET", path, params=query)

    async def put(self, path: str, body: Json | None = None) -> Any:
        return await self._ask("PUT", path, json=body or {})

    async def patch(self, path: str, body: Json, headers: Mapping[str, str] | None = None) -> Any:
        return await self._ask("PATCH", path, json=body, headers=headers)

    async def delete(self, path: str) -> Any:
        return await self._ask("DELETE", path)

    async def post(self, path: str, body: Json | None = None, headers: Mapping[str, str] | None = None) -> Any:
        return await self._ask("POST", path, json=body, headers=headers)

    async def upload(self, path: str, file: Path, *, mimetype: str) -> Any:
        """The file's bytes as the body."""
        try:
            with file.open("rb") as source:
                return await self._ask("POST", path, data=source, headers={"Content-Type": mimetype})
        except OSError as error:
            raise CantWrite(f'"{file}" can\'t be read: {error.strerror}') from error

    async def download(self, path: str, file: Path) -> None:
        """Into a new file, for its owner alone."""
        import aiohttp

        try:
            async with self._session.get(self._url + path, allow_redirects=False) as response:
                if response.status != HTTPStatus.OK:
                    await self._read(response)
                with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
                    async for chunk in response.content.iter_chunked(1 << 18):
                        target.write(chunk)
        except (aiohttp.ClientError, TimeoutError) as error:
            file.unlink(missing_ok=True)  # noqa: ASYNC240 – a file of ours that nobody waits for
            raise NoServer(f"the download of {path} from {self._url} was interrupted: try again") from error
        except OSError as error:
            raise CantWrite(f'"{file}" can\'t be written: {error.strerror}') from error

    async def items(self, path: str) -> AsyncIterator[Json]:
        """All items of a list, part by part."""
        after: dict[str, str] = {}
        while True:
            page = await self.get(path, limit="500", **after)
            for item in page["items"]:
                yield item
            if page["next"] is None:
                return
            after = {"after": page["next"]}

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        import aiohttp

        try:
            # Redirects are not followed: the key would be sent to another server.
            async with self._session.request(method, self._url + path, allow_redirects=False, **options) as response:
                return await self._read(response)
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            raise NoServer(
                f"no Holdfast answers at {self._url}: start it with `holdfast serve`, or set HOLDFAST_URL"
            ) from error
        except (aiohttp.ClientError, ValueError) as error:
            raise self._not_holdfast("") from error

    async def _read(self, response: aiohttp.ClientResponse) -> Any:
        if self._only_holdfast and "Holdfast-API" not in response.headers:
            raise self._not_holdfast(f" (HTTP {response.status})")
        answer = await response.json(content_type=None)
        if response.status >= 400:
            raise Refused(response.status, str(answer.get("detail") or answer.get("error") or answer))
        return answer

    def _not_holdfast(self, reason: str) -> NoServer:
        return NoServer(f"the server at {self._url}{reason} is not Holdfast: set HOLDFAST_URL to its address")


@asynccontextmanager
async def connect(
    url: str, key: str | None, *, timeout_s: float = 60, only_holdfast: bool = False
) -> AsyncIterator[Client]:
    """`key` None: for services that need none. `only_holdfast`: whatever else answers there is refused."""
    import aiohttp

    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        yield Client(session, url, only_holdfast=only_holdfast)
