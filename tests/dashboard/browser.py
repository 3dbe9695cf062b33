"""A headless client: requests pages from the application, keeps its cookie, fills in forms, reads streams."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlencode

from starlette.types import Message

from holdfast.api.forwarding import Forwarder
from holdfast.dashboard.assets import Assets
from holdfast.dashboard.attention import AttentionList
from holdfast.dashboard.context import AppContext
from holdfast.dashboard.dashboard import add_dashboard
from holdfast.dashboard.fleet import Fleet
from holdfast.dashboard.logins import Logins
from holdfast.dashboard.rendering import Templates
from holdfast.runtime.chat_reading import ChatReading
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.quotas import Quotas
from holdfast.store.lookup import LookupRows
from holdfast.store.search_indexer import SearchIndexer
from holdfast.store.sign_outs import SignOutRows
from holdfast.store.webhooks import WebhookRows
from tests.api.api_client import KEY, Answer, ApiClient, make_client, registry_of
from tests.backup_service import backup_service_of
from tests.gateway_harness import GatewayHarness, JitterFreeRandomSource

ORIGIN = {"Origin": "http://testserver", "Host": "testserver"}


def make_browser(
    harness: GatewayHarness,
    gateway: Gateway,
    *,
    quotas: Quotas | None = None,
    base_path: str = "",
    forwarder: Forwarder | None = None,
) -> Browser:
    registry = registry_of(harness)
    client = make_client(harness, gateway, keys=registry, base_path=base_path, forwarder=forwarder)
    diagnoser = harness.diagnoser()
    lookup = LookupRows(harness.database, SearchIndexer(harness.database, clock=harness.clock))
    assets = Assets()
    add_dashboard(
        client.api,
        AppContext(
            gateway=gateway,
            diagnoser=diagnoser,
            lookup=lookup,
            chats=harness.chats,
            reading=ChatReading(harness.chats, harness.operations),
            logins=Logins(
                registry,
                secret=b"a secret of a test",
                sign_outs=SignOutRows(harness.database),
                clock=harness.clock,
                randomness=JitterFreeRandomSource(),
            ),
            attention=AttentionList(lambda: harness.open_alerts, WebhookRows(harness.database), clock=harness.clock),
            fleet=Fleet(gateway, diagnoser, lookup, clock=harness.clock),
            assets=assets,
            templates=Templates(assets, clock=harness.clock, base_path=base_path),
            sending=harness.messages,
            contacts=harness.contacts,
            events=harness.events,
            files=harness.outbound_media,
            operations=harness.operations,
            webhooks=WebhookRows(harness.database),
            webhook_settings=harness.webhooks,
            limits=harness.limits,
            removal=backup_service_of(
                gateway,
                harness.database,
                harness.spool.folder.parent / "backups",
                clock=harness.clock,
                load_api_keys=registry.reload,
            ),
            media=harness.media_service(),
            key_management=registry,
            quotas=quotas or harness.quotas(),
            shutdown=client.api.state.shutdown,
            clock=harness.clock,
            randomness=JitterFreeRandomSource(),
            base_path=base_path,
        ),
    )
    return Browser(client)


class Browser:
    def __init__(self, client: ApiClient) -> None:
        self.client = client
        self.cookie: str | None = None
        self.token = ""

    async def get(self, path: str, **headers: str) -> Answer:
        answer = await self.client("GET", path, key=None, headers={**self.cookies(), **headers})
        self._store_cookies(answer)
        return answer

    async def post(self, path: str, *, headers: Mapping[str, str] | None = None, **fields: str) -> Answer:
        """Send a form as our own pages do: from our own origin, with the token of the previous page."""
        given = {**ORIGIN, **self.cookies(), "Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        body = urlencode({"token": self.token, **fields}).encode()
        answer = await self.client("POST", path, key=None, headers=given, raw=[body])
        self._store_cookies(answer)
        return answer

    async def sign_in(self, key: str = KEY) -> Answer:
        answer = await self.post("/login", key=key)
        if answer.status == 303:
            await self.get("/")
        return answer

    @contextlib.asynccontextmanager
    async def listening(self, path: str) -> AsyncIterator[Stream]:
        """Read an event stream during the block."""
        stream = Stream()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path.partition("?")[0],
            "raw_path": path.partition("?")[0].encode(),
            "query_string": path.partition("?")[2].encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in self.cookies().items()],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 3000),
        }
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self.client.api(scope, stream.receive, stream.send))
            try:
                yield stream
            finally:
                stream.left.set()
                await asyncio.wait([running])

    def cookies(self) -> dict[str, str]:
        return {} if self.cookie is None else {"Cookie": f"holdfast_session={self.cookie}"}

    def _store_cookies(self, answer: Answer) -> None:
        """Keep what a browser would keep: the cookie, and the token in the forms of the page."""
        if found := re.match(r"holdfast_session=([^;]*)", answer.headers.get("set-cookie", "")):
            self.cookie = found[1].strip('"') or None
        if found := re.search(r'name="token" value="([0-9a-f]+)"', answer.body.decode(errors="replace")):
            self.token = found[1]


class Stream:
    """The data of a stream so far."""

    def __init__(self) -> None:
        self.status = 0
        self.text = ""
        self.has_ended = False
        self.left = asyncio.Event()
        self._asked = False

    async def receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.text += message.get("body", b"").decode()
            self.has_ended = not message.get("more_body", False)

    def forget(self) -> None:
        self.text = ""
