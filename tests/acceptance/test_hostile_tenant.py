"""The holder of one company's key can't stop, slow down or read any other company."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import logging
import re
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from holdfast.base.clock import SystemClock
from holdfast.client import Json
from tests.mail import COMPANIES, CONTACT
from tests.processes import Wasim
from tests.served import KEY, Served, served

log = logging.getLogger(__name__)
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("bridge")]

VICTIM, TENANT = COMPANIES
TENANT_KEY = "hf_key_of_a_tenant"
MB = 1024 * 1024
LOOK_S = 0.02
JSON = {"Content-Type": "application/json"}
KEYLESS = {"/healthz", "/readyz", "/openapi.json", "/v1/media/{id}", "/webhook/whatsapp/baileys/health/{company}"}
QUOTAS = {"HOLDFAST_QUOTA_OUTBOX_MESSAGES": "40", "HOLDFAST_QUOTA_STREAMS": "8"}


@pytest.fixture
async def gateway(tmp_path: Path, wasim: Wasim) -> AsyncIterator[Served]:
    """Two companies with linked phones; the tenant's key is for the second."""
    await wasim.post("/phones", {"number": CONTACT})
    keys = f"{KEY},{TENANT_KEY}={TENANT}"
    async with served(tmp_path, wasim=wasim, HOLDFAST_API_KEY=keys, **QUOTAS) as gateway:
        for company, number in COMPANIES.items():
            await gateway.pair(company, number, wasim)
        yield gateway


@pytest.fixture
async def tenant(gateway: Served) -> AsyncIterator[aiohttp.ClientSession]:
    """The tenant's HTTP client, with as many connections as it likes."""
    headers = {"Authorization": f"Bearer {TENANT_KEY}"}
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(gateway.url, headers=headers, connector=connector, timeout=timeout) as session:
        yield session


class Watch:
    """What another caller experiences meanwhile: the longest answer time of a route without a key, and the memory. It
    runs in a thread, because the test's event loop is busy with the attack.
    """

    def __init__(self, gateway: Served) -> None:
        self._gateway = gateway
        self._clock = SystemClock()
        self._ends = threading.Event()
        self.longest_s = 0.0
        self.memory_before = self.memory_most = resident_bytes(gateway.pid)

    def end(self) -> None:
        self._ends.set()

    def run(self) -> None:
        connection = http.client.HTTPConnection(self._gateway.url.removeprefix("http://"), timeout=20)
        with contextlib.closing(connection):
            while not self._ends.wait(LOOK_S):  # real time, between two checks of another process
                before = self._clock.monotonic()
                connection.request("GET", "/healthz")
                with connection.getresponse() as answer:
                    answer.read()
                    assert answer.status == HTTPStatus.OK
                self.longest_s = max(self.longest_s, self._clock.monotonic() - before)
                self.memory_most = max(self.memory_most, resident_bytes(self._gateway.pid))

    @property
    def grown_mb(self) -> float:
        return (self.memory_most - self.memory_before) / MB


@contextlib.asynccontextmanager
async def watched(gateway: Served, record: Callable[[str, object], None]) -> AsyncIterator[Watch]:
    """During the block no link may be lost and no engine host replaced; the figures go into the report of the test."""
    before = {company: await gateway.session(company) for company in COMPANIES}
    hosts = sorted(gateway.hosts())
    watch = Watch(gateway)
    watching = asyncio.create_task(asyncio.to_thread(watch.run))
    try:
        yield watch
    finally:
        watch.end()
        await asyncio.wait([watching])
        record("longest_answer_ms", round(watch.longest_s * 1000))
        record("memory_grown_mb", round(watch.grown_mb))
        log.info("Longest answer %.0f ms, memory grew by %.0f MB", watch.longest_s * 1000, watch.grown_mb)
    await watching  # fails if the gateway stopped answering
    for company in COMPANIES:
        after = await gateway.session(company)
        assert (after["state"], after["connectedAt"]) == ("connected", before[company]["connectedAt"])
    assert sorted(gateway.hosts()) == hosts


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


async def test_huge_bodies_do_not_affect_other_companies(
    gateway: Served, tenant: aiohttp.ClientSession, record_property: Callable[[str, object], None]
) -> None:
    """22 MB of unknown members, four at once: refused at the first member, with little memory, and all links
    stay open.
    """
    members = b",".join(b'"k%07d":0' % n for n in range(22 * MB // 13))
    unknown = b"{" + members + b"}"
    nested = b'{"to":' + b"[" * (2 * MB) + b"}"
    async with watched(gateway, record_property) as watch:
        for body in (unknown, nested):
            statuses = await asyncio.gather(*(_post(tenant, f"/v1/sessions/{TENANT}/messages", body) for _ in range(4)))
            assert set(statuses) <= {400, 422}
        statuses = await asyncio.gather(*(_post(tenant, f"/v1/sessions/{TENANT}/import", unknown) for _ in range(4)))
        assert set(statuses) == {422}
    assert watch.grown_mb < 100


async def _post(session: aiohttp.ClientSession, path: str, body: bytes) -> int:
    async with session.post(path, data=io.BytesIO(body), headers=JSON) as answer:
        await answer.read()
        return answer.status


async def test_a_flood_of_messages_is_refused_and_others_can_send(
    gateway: Served, tenant: aiohttp.ClientSession, record_property: Callable[[str, object], None]
) -> None:
    """To a stopped company: beyond the quota 429 with `Retry-After`. What another company sends is delivered."""
    await gateway.client.post(f"/v1/sessions/{TENANT}/stop")
    statuses: list[int] = []
    for n in range(60):
        body = {"to": CONTACT, "text": f"{n} " + "x" * 60_000}
        async with tenant.post(f"/v1/sessions/{TENANT}/messages", json=body) as answer:
            statuses.append(answer.status)
            if answer.status == 429:
                assert int(answer.headers["Retry-After"]) >= 1
                assert (await answer.json())["code"] == "quota-exceeded"
    assert statuses == [202] * 40 + [429] * 20
    sent = await gateway.send(VICTIM, CONTACT, "an honest message")
    await gateway.until_message(sent["id"], "delivered", "read", within_s=20)
    await gateway.client.post(f"/v1/sessions/{TENANT}/start")


async def test_streams_beyond_the_quota_are_refused(
    gateway: Served, tenant: aiohttp.ClientSession, record_property: Callable[[str, object], None]
) -> None:
    """3,000 streams with one key: the first eight are served, all others get 429; closing one frees its place."""
    async with watched(gateway, record_property), contextlib.AsyncExitStack() as opened:
        statuses: list[int] = []
        for _ in range(30):
            answers = await asyncio.gather(*(tenant.get("/v1/events") for _ in range(100)))
            for answer in answers:
                statuses.append(answer.status)
                if answer.status == 200:
                    opened.callback(answer.close)
                else:
                    assert int(answer.headers["Retry-After"]) >= 1
                    await answer.read()
        assert (statuses.count(200), statuses.count(429)) == (8, 2992)
        sent = await gateway.send(VICTIM, CONTACT, "an honest message")
        await gateway.until_message(sent["id"], "delivered", "read", within_s=20)


async def test_imported_credentials_that_would_hang_a_host_are_refused(
    gateway: Served, tenant: aiohttp.ClientSession, record_property: Callable[[str, object], None]
) -> None:
    """Numbers that make Baileys generate a billion keys, and 15 MB of routing information."""
    async with tenant.post(f"/v1/sessions/{TENANT}/stop") as answer:  # the keys of a session in use can't be exported
        assert answer.ok, await answer.text()
    await gateway.until_state(TENANT, "stopped", within_s=20)
    async with tenant.get(f"/v1/sessions/{TENANT}/export") as answer:
        device: Json = await answer.json()
    async with tenant.post(f"/v1/sessions/{TENANT}/start") as answer:
        assert answer.ok, await answer.text()
    await gateway.until_state(TENANT, "connected", within_s=20)
    credentials = json.loads(device["credentials"])
    async with watched(gateway, record_property):
        for change in (
            {"nextPreKeyId": 900_001, "firstUnuploadedPreKeyId": 1_000_000_000},
            {"routingInfo": {"type": "Buffer", "data": "A" * (15 * MB)}},
        ):
            hostile = {**device, "credentials": json.dumps({**credentials, **change})}
            async with tenant.post(
                f"/v1/sessions/{TENANT}/import", data=io.BytesIO(json.dumps(hostile).encode()), headers=JSON
            ) as answer:
                assert answer.status == 422, await answer.text()


async def test_no_route_reveals_anything_to_a_foreign_key(gateway: Served, tenant: aiohttp.ClientSession) -> None:
    """Every route of the API, with the ids of another company and of its messages, answers 403 or 404."""
    sent = await gateway.send(VICTIM, CONTACT, "an honest message")
    document = await gateway.client.get("/openapi.json")
    made = await gateway.client.post(f"/v1/sessions/{VICTIM}/contacts/{CONTACT}/block")
    routes = [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]
    assert len(routes) > 30
    for method, path in routes:
        ids = {"id": made["id"] if path.startswith("/v1/operations") else sent["id"]}
        url = _filled(path, {"company": VICTIM, "chat": CONTACT, **ids})
        async with aiohttp.ClientSession(gateway.url) as nobody, nobody.request(method, url, **_body(method)) as answer:
            assert answer.status == 401 or path in KEYLESS, f"{method} {path} without a key: {answer.status}"
        if path in KEYLESS or path == "/v1/events":
            continue
        async with tenant.request(method, url, **_body(method)) as answer:
            text = await answer.text()
            assert VICTIM not in text.replace(url, "") or answer.status == 403, f"{method} {path}: {text[:300]}"
            if "{" in path:
                assert answer.status in {403, 404}, f"{method} {path}: {answer.status} {text[:300]}"
    async with tenant.get("/v1/events", params={"company": VICTIM}) as answer:
        assert answer.status == 403
    assert (await gateway.session(VICTIM))["state"] == "connected"
    assert (await gateway.message(sent["id"]))["state"] != "cancelled"


def _filled(path: str, values: Mapping[str, str]) -> str:
    """The path with these values; any other parameter is "some"."""
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], "some"), path)


def _body(method: str) -> dict[str, Any]:
    return {} if method in {"GET", "DELETE"} else {"json": {}}
