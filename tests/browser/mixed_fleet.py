"""Sixty companies in every state that a page can show, for looking at all pages at once.

States that take hours or a fault inside Holdfast are written into the stopped gateway's database; all others are caused
by answers of the simulated WhatsApp and the webhook receivers.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta

from aiohttp import web

from tests.doubles.authenticator import Authenticator
from tests.processes import Wasim
from tests.served import Served

FRIEND = "962790000099"
STRANGER = "962790000098"
NUMBERS = {f"9624{n:02}": f"9627900004{n:02}" for n in range(58)}
COMPANIES = list(NUMBERS)
LABELS = {
    "962400": "Bakery Irbid",
    "962401": "مخبز الزرقاء",
    "962402": "Al-Quds Car Rental & Driving School, Amman branch",
    "962405": "<b>Fish & Chips</b>",
    "962411": "Pharmacy Aqaba",
}
RECONNECTING, FAILED_LOGIN, BANNED, BANNED_FOR_A_TIME, LOCKED, UNLINKED = COMPANIES[1:7]
REPLACED, OUTDATED, REACH_OUT, LATE, STOPPED, WEBHOOK_FAILS, WEBHOOK_OFF, WEBHOOK_SUSPENDED = COMPANIES[7:15]
QUARANTINED, STALE, FLAPPING, QUOTA = COMPANIES[15:19]
PAIRING, PASSKEY = "new-company", "passkey-company"
PASSKEY_NUMBER = "962790000497"
OWNER = Authenticator()
"""Signs for the account with a passkey."""
_AT_ONCE = 4


@asynccontextmanager
async def receivers() -> AsyncIterator[dict[int, str]]:
    """Webhook receivers that always answer with one status, by that status."""
    app = web.Application()

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=int(request.match_info["status"]))

    app.router.add_post("/{status}/whatsapp", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    yield {status: f"http://127.0.0.1:{port}/{status}/whatsapp" for status in (200, 410, 500, 503)}
    await runner.cleanup()


async def make_mixed_fleet(gateway: Served, wasim: Wasim, hooks: dict[int, str]) -> None:
    """Create the fleet. Takes three minutes: a message is late after two."""
    await wasim.post("/phones", {"number": FRIEND, "name": "Rania Haddad"})
    await wasim.post("/phones", {"number": STRANGER, "name": "Omar"})
    await _at_once(_pair(gateway, wasim, company) for company in COMPANIES)
    await gateway.client.put(f"/v1/sessions/{LATE}", {"pacing": {"perMinute": 0.05, "burst": 1}})
    await _write(gateway, wasim)
    await _break_webhooks(gateway, hooks)
    await _stop_and_edit(gateway)
    await _break_links(gateway, wasim)
    for company, label in LABELS.items():
        await gateway.client.put(f"/v1/sessions/{company}", {"label": label})
    await gateway.client.post(f"/v1/sessions/{STOPPED}/stop")
    await gateway.client.put(f"/v1/sessions/{PAIRING}")
    await wasim.post("/phones", {"number": PASSKEY_NUMBER, "name": "Layla's Flowers"})
    await wasim.post(f"/phones/{PASSKEY_NUMBER}/passkey", OWNER.passkey)
    await ask_for_passkey(gateway, wasim)
    await asyncio.sleep(150)  # messages are late after two minutes, and counted as delivered after one


async def _at_once(works: Iterable[Awaitable[None]]) -> None:
    free = asyncio.Semaphore(_AT_ONCE)

    async def run(work: Awaitable[None]) -> None:
        async with free:
            await work

    await asyncio.gather(*(run(work) for work in works))


async def _pair(gateway: Served, wasim: Wasim, company: str) -> None:
    await gateway.pair(company, NUMBERS[company], wasim)


async def _write(gateway: Served, wasim: Wasim) -> None:
    """Exchange messages of many kinds in both directions."""
    first = COMPANIES[0]
    for text in ("Your order 1042 is on its way.", "It arrives tomorrow between 9 and 11.", "Thank you!"):
        await gateway.until_message((await gateway.send(first, FRIEND, text))["id"], "read", within_s=20)
    for company in COMPANIES[:40:3]:
        await gateway.send(company, FRIEND, f"Good morning from {company}")
    for _ in range(3):
        await gateway.send(LATE, FRIEND, "This one has to wait")
    contents: list[dict[str, object]] = [
        {"text": "Good morning! Do you have " + "fresh bread and " * 30 + "cake?"},
        {"contact": {"name": "Rania", "vcard": "BEGIN:VCARD\nVERSION:3.0\nFN:Rania\nEND:VCARD"}},
        {"location": {"latitude": 32.5, "longitude": 35.8, "name": "Bakery", "address": "University Street, Irbid"}},
        {"document": {"sizeBytes": 240_000, "filename": "invoice-2026-11-with-a-rather-long-name.pdf"}},
        {"audio": {"sizeBytes": 48_000, "seconds": 21, "voice": True}},
        {"image": {"sizeBytes": 90_000, "caption": "Is this the right one?"}},
        {"text": "https://example.org/" + "a-very-long-address/" * 12},
    ]
    for content in contents:
        await wasim.post(f"/phones/{FRIEND}/send", {"to": NUMBERS[first], **content})
    group = await wasim.post("/groups", {"subject": "Suppliers of Irbid", "members": [FRIEND, NUMBERS[first]]})
    await wasim.post(f"/phones/{FRIEND}/send", {"to": group["id"], "text": "Flour comes on Monday."})
    await wasim.post(f"/phones/{FRIEND}/calls", {"to": NUMBERS[first]})
    groups = f"/v1/sessions/{first}/groups"
    await gateway.client.post(groups, {"subject": "Order 1042", "members": [FRIEND]})
    await gateway.client.post(f"{groups}/{group['id']}/members", {"remove": [FRIEND]})  # only an admin may
    await gateway.client.post("/v1/keys", {"name": "The bakery's own shop system", "companies": COMPANIES[:12]})


async def _break_webhooks(gateway: Served, hooks: dict[int, str]) -> None:
    for company, status in ((WEBHOOK_FAILS, 500), (WEBHOOK_OFF, 410), (WEBHOOK_SUSPENDED, 503), (COMPANIES[0], 200)):
        await gateway.client.put(f"/v1/sessions/{company}", {"webhookUrl": hooks[status]})
    for company in (WEBHOOK_FAILS, WEBHOOK_OFF, WEBHOOK_SUSPENDED):
        await gateway.send(company, FRIEND, "whose webhook fails")
    await asyncio.sleep(5)


async def _stop_and_edit(gateway: Served) -> None:
    """Write states that take hours or a broken engine into the database while the gateway is stopped."""
    await gateway.stop()
    since = datetime.now(UTC) - timedelta(minutes=40)
    ago = since.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    with closing(sqlite3.connect(gateway.database)) as database, database:
        for company, reason in ((QUARANTINED, "engine-quarantined"), (STALE, "restored-stale")):
            database.execute(
                "UPDATE sessions SET state = 'paused', reason = ?, since = ? WHERE company_id = ?",
                (reason, ago, company),
            )
        database.execute(
            "UPDATE webhook_endpoints SET state = 'aside', failures = 12, failing_since = ?, probes = 3, probe_at = "
            "'2999-01-01T00:00:00.000Z' WHERE company_id = ?",
            (ago, WEBHOOK_SUSPENDED),
        )
    await gateway.start()


async def _break_links(gateway: Served, wasim: Wasim) -> None:
    for company in COMPANIES:
        if company not in {QUARANTINED, STALE}:
            await gateway.until_state(company, "connected", within_s=60)
    for _ in range(4):
        await wasim.fault("cut", number=NUMBERS[FLAPPING])
        await asyncio.sleep(1)
        await gateway.until_state(FLAPPING, "connected", within_s=60)
    failures: dict[str, dict[str, object]] = {
        RECONNECTING: {"reason": 503},
        FAILED_LOGIN: {"reason": 500},
        BANNED: {"reason": 406},
        BANNED_FOR_A_TIME: {"reason": 402, "attrs": {"code": "101", "expire": "7200"}},
        LOCKED: {"reason": 403},
        OUTDATED: {"reason": 409},
    }
    for company, failure in failures.items():
        await wasim.fault("failure", number=NUMBERS[company], **failure)
        await wasim.fault("cut", number=NUMBERS[company])
    await wasim.post(f"/phones/{NUMBERS[UNLINKED]}/unlink", {"device": 1})
    await wasim.fault("stream-error", number=NUMBERS[REPLACED], reason="conflict", attrs={"type": "replaced"})
    await wasim.fault("reach-out-lock", number=NUMBERS[REACH_OUT], seconds=86_400)
    await wasim.fault("new-chat-quota", number=NUMBERS[QUOTA], seconds=7_200)
    for company in (REACH_OUT, QUOTA):
        await gateway.send(company, STRANGER, "Hello, we have not met")


async def ask_for_passkey(gateway: Served, wasim: Wasim) -> None:
    """A phone of an account with a passkey scans, and WhatsApp waits ten minutes for its owner."""
    await gateway.client.put(f"/v1/sessions/{PASSKEY}")
    for action in ("stop", "start"):
        await gateway.client.post(f"/v1/sessions/{PASSKEY}/{action}")
    code = (await gateway.client.get(f"/v1/sessions/{PASSKEY}/qr"))["qr"]
    await wasim.post(f"/phones/{PASSKEY_NUMBER}/scan", {"qr": code})
