"""Sessions through proxies that count connections: all traffic passes through them, nothing bypasses them, and sessions
recover when a proxy returns.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlsplit

import aiohttp
import pytest

from holdfast.base.clock import SystemClock
from holdfast.client import Json, Refused
from tests.doubles.proxy import TestProxy, running_proxy
from tests.processes import Wasim, running_wasim
from tests.served import Served, eventually, served
from wasim.authority import open_authority

pytestmark = pytest.mark.slow

CONTACT, NUMBERS = "962790000099", ("962790000001", "962790000002", "962790000003")
NAME, MEDIA_NAME = "whatsapp.test", "media.whatsapp.test"
NAMES = {NAME: "127.0.0.1", MEDIA_NAME: "127.0.0.1"}
"""Only the proxies can resolve these names: a connection that bypasses them fails."""
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 2000
JPEG = b"\xff\xd8\xff"
INBOUND_BYTES = 300_000


def settings_of(wasim: Wasim) -> dict[str, str]:
    return {
        "HOLDFAST_WHATSAPP_URL": wasim.url.replace("127.0.0.1", NAME),
        "NODE_EXTRA_CA_CERTS": wasim.ca,
        "HOLDFAST_ALLOWED_ADDRESSES": "127.0.0.1",
    }


async def until_reason(gateway: Served, company: str, code: str) -> Json:
    async def look() -> Json | None:
        reason: Json | None = (await gateway.session(company))["reason"]
        return reason if reason is not None and reason["code"] == code else None

    return await eventually(look, within_s=30, what=f"{company} {code}")


async def link(gateway: Served, wasim: Wasim, company: str, number: str, **body: object) -> None:
    await gateway.client.put(f"/v1/sessions/{company}", body)
    shown = await gateway.client.get(f"/v1/sessions/{company}/qr")
    await wasim.post(f"/phones/{number}/scan", {"qr": shown["qr"]})
    await gateway.until_state(company, "connected", within_s=30)


async def send_image(gateway: Served, company: str) -> None:
    image = {"base64": base64.b64encode(PNG).decode(), "mimetype": "image/png"}
    message = await gateway.client.post(f"/v1/sessions/{company}/messages", {"to": CONTACT, "image": image})
    await gateway.until_message(message["id"], "delivered", "read", within_s=30)


async def receive_document(gateway: Served, wasim: Wasim, company: str, number: str) -> None:
    document = {"sizeBytes": INBOUND_BYTES, "filename": "order.bin"}
    written = await wasim.post(f"/phones/{CONTACT}/send", {"to": number, "document": document})

    async def arrived() -> Json | None:
        return next((item for item in await gateway.inbox(company) if item["whatsappId"] == written["id"]), None)

    item = await eventually(arrived, within_s=30, what="the document")
    async with wasim.http.get(item["media"]["url"]) as given:
        assert (given.status, len(await given.read())) == (200, INBOUND_BYTES)


async def sign_in(gateway: Served, browser: aiohttp.ClientSession) -> None:
    given = gateway.settings_of_commands
    url, key = given["HOLDFAST_URL"], given["HOLDFAST_API_KEY"]
    async with browser.post(f"{url}/login", data={"key": key}, headers={"Origin": url}) as answer:
        assert answer.ok


async def show_picture(gateway: Served, browser: aiohttp.ClientSession, company: str) -> None:
    """The contact's profile picture on a page of the dashboard."""
    url = gateway.settings_of_commands["HOLDFAST_URL"]
    async with browser.get(f"{url}/companies/{company}/chats/{CONTACT}/picture") as answer:
        assert (answer.status, answer.content_type, (await answer.read())[:3]) == (200, "image/jpeg", JPEG)


async def test_all_traffic_of_a_session_takes_its_own_proxy(bridge: Path, tmp_path: Path) -> None:
    """One session uses the HTTPS proxy of the settings, two others a SOCKS and an HTTP proxy of their own, all with
    credentials.

    Sockets, media in both directions, profile pictures and the client version pass through them; every connection that
    WhatsApp's server took came through a proxy. The phone lists each device under its name.
    """
    async with (
        running_wasim(tmp_path / "wasim", "--media-name", MEDIA_NAME) as wasim,
        running_proxy(user="bü", password="p€", names=NAMES, tls=trusted_tls(wasim, tmp_path)) as common,
        running_proxy(user="us er", password="p@ss", names=NAMES) as socks,
        running_proxy(user="u", password="p", names=NAMES) as plain,
        served(tmp_path, wasim=wasim, **settings_of(wasim), **settings_of_tls(common, wasim)) as gateway,
        aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser,
    ):
        await sign_in(gateway, browser)
        await wasim.post("/phones", {"number": CONTACT, "picture": True})
        assert len(tunnels(common, NAME)) == 1, "the client version was not read through the proxy"
        socks_url = f"socks5h://us%20er:p%40ss@127.0.0.1:{socks.port}"
        proxies = {"c1": common, "c2": socks, "c3": plain}
        await link(gateway, wasim, "c1", NUMBERS[0])
        await link(gateway, wasim, "c2", NUMBERS[1], proxyUrl=socks_url, deviceName="Shop 2")
        await link(gateway, wasim, "c3", NUMBERS[2], proxyUrl=plain.url())
        for (company, used), number in zip(proxies.items(), NUMBERS, strict=True):
            before = {proxy.port: media_bytes(proxy) for proxy in proxies.values()}
            await send_image(gateway, company)
            await receive_document(gateway, wasim, company, number)
            up, down = media_bytes(used)
            assert (up > len(PNG), down > INBOUND_BYTES) == (True, True)
            await show_picture(gateway, browser, company)
            assert media_bytes(used)[1] > down
            await until_media_tunnels_ended(used)
            assert all(media_bytes(each) == before[each.port] for each in proxies.values() if each is not used)
        shown = await gateway.session("c2")
        devices = {phone["number"]: phone["devices"] for phone in await wasim.get("/phones")}
        connects = (await wasim.get("/stats"))["connects"]
    assert sum(len(tunnels(proxy, NAME)) for proxy in proxies.values()) == connects + 1
    assert shown["proxyUrl"] == f"socks5://us%20er:***@127.0.0.1:{socks.port}"
    assert [devices[number][0]["name"] for number in NUMBERS[:2]] == [
        "Google Chrome (Ubuntu)",
        "Google Chrome (Shop 2)",
    ]


def trusted_tls(wasim: Wasim, folder: Path) -> ssl.SSLContext:
    """A certificate for localhost, signed by the authority of wasim's media host."""
    now = SystemClock().now().timestamp()
    authority = open_authority(Path(wasim.ca).parent, now=now)
    return replace(authority, directory=folder).server_context("localhost", now=now)


def settings_of_tls(proxy: TestProxy, wasim: Wasim) -> dict[str, str]:
    """An HTTPS proxy for all sessions, whose authority Holdfast trusts as the engine does."""
    login = f"{quote(proxy.user or '')}:{quote(proxy.password)}"
    return {"HOLDFAST_PROXY_URL": f"https://{login}@localhost:{proxy.port}", "SSL_CERT_FILE": wasim.ca}


def tunnels(proxy: TestProxy, host: str) -> list[str]:
    return [tunnel.host for tunnel in proxy.tunnels if tunnel.host == host]


async def until_media_tunnels_ended(proxy: TestProxy) -> None:
    """The end of a TLS connection, 24 bytes, may arrive after everything that it carried."""
    async with asyncio.timeout(30):
        for tunnel in proxy.tunnels:
            if tunnel.host == MEDIA_NAME:
                await tunnel.ended.wait()


def media_bytes(proxy: TestProxy) -> tuple[int, int]:
    """Bytes to the media host and from it."""
    media = [tunnel for tunnel in proxy.tunnels if tunnel.host == MEDIA_NAME]
    return sum(tunnel.up for tunnel in media), sum(tunnel.down for tunnel in media)


async def test_a_proxy_problem_is_named_and_ends_when_the_proxy_returns(wasim: Wasim, tmp_path: Path) -> None:
    """Nothing bypasses it in the meantime. Wrong credentials are named too, and never shown. A session whose proxy is
    changed connects through the new one at once.
    """
    async with (
        running_proxy(user="u", password="secret", names=NAMES) as first,
        running_proxy(names=NAMES) as second,
        served(tmp_path, wasim=wasim, **settings_of(wasim)) as gateway,
    ):
        await link(gateway, wasim, "c1", NUMBERS[0], proxyUrl=first.url())
        await first.stop()
        reason = await until_reason(gateway, "c1", "proxy-unreachable")
        assert reason["action"] == "check-network"
        await first.start()
        await gateway.until_state("c1", "connected", within_s=30)
        await gateway.client.put("/v1/sessions/c1", {"proxyUrl": first.url("socks5", password="wrong-secret")})
        await until_reason(gateway, "c1", "proxy-login-refused")
        shown = await gateway.session("c1")
        diagnostics = await gateway.client.get("/webhook/whatsapp/baileys/diagnostics/c1")
        assert shown["proxyUrl"] == f"socks5://u:***@127.0.0.1:{first.port}"
        assert "secret" not in str(diagnostics)
        await gateway.client.put("/v1/sessions/c1", {"proxyUrl": second.url("socks5")})
        await gateway.until_state("c1", "connected", within_s=30)
        assert second.tunnels
        with pytest.raises(Refused, match="can't be reached by"):
            await gateway.client.put("/v1/sessions/c1", {"proxyUrl": "ftp://u:secret@proxy:21"})
        assert gateway.log_lines("secret") == []
    assert urlsplit(wasim.url).port in {tunnel.port for tunnel in second.tunnels}
