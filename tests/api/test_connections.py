"""How a session connects: its own proxy and the name of its device."""

from __future__ import annotations

import pytest

from holdfast.session.engine import OpenLink
from tests.api.api_client import ApiClient
from tests.gateway_harness import COMPANY, GatewayHarness

SESSION = f"/v1/sessions/{COMPANY}"
PROXY = "http://user:secret@proxy.example:3128"


def opened(harness: GatewayHarness) -> OpenLink:
    return harness.commands(OpenLink)[-1]


async def test_a_session_connects_with_its_own_settings(client: ApiClient) -> None:
    """Through its proxy, at the checked address, under its device name. The password is never shown."""
    client.harness.names["proxy.example"] = ["1.1.1.1", "10.0.0.1"]
    shown = await client("PUT", SESSION, {"proxyUrl": PROXY, "deviceName": " Shop "})
    assert (shown.json["proxyUrl"], shown.json["deviceName"]) == ("http://user:***@proxy.example:3128", "Shop")
    link = opened(client.harness)
    assert (link.proxy_url, link.proxy_addresses, link.device_name) == (PROXY, ["1.1.1.1"], "Shop")
    assert "secret" not in repr(client.harness.gateway.view(COMPANY))


async def test_another_proxy_replaces_the_link_at_once(client: ApiClient) -> None:
    """Setting the same proxy again changes nothing; null returns to the operator's settings."""
    await client("PUT", SESSION)
    await client.harness.pair()
    links = len(client.harness.commands(OpenLink))
    client.harness.names["proxy.example"] = ["1.1.1.1"]
    for proxy, more in ((PROXY, 1), (PROXY, 1), (None, 2)):
        await client("PUT", SESSION, {"proxyUrl": proxy})
        await client.harness.quiet()
        assert len(client.harness.commands(OpenLink)) == links + more
        assert opened(client.harness).proxy_url == proxy
        assert (await client("GET", SESSION)).json["state"] == "connected"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("proxyUrl", "http://user:secret@127.0.0.1:3128"),
        ("proxyUrl", "socks5://user:secret@[::1]:1080"),
        ("proxyUrl", "https://user:secret@169.254.169.254:443"),
        ("proxyUrl", "http://user:secret@inside.example:3128"),
        ("proxyUrl", "ftp://user:secret@1.1.1.1:21"),
        ("proxyUrl", "http://user:secret@1.1.1.1"),
        ("deviceName", "a\nb"),
        ("deviceName", "x" * 51),
        ("deviceName", ""),
    ],
)
async def test_invalid_connection_settings_are_refused(client: ApiClient, field: str, value: str) -> None:
    """Private addresses, also behind a name; invalid proxy URLs; names that no phone could show. Nothing is created."""
    client.harness.names["inside.example"] = ["10.0.0.1"]
    refused = await client("PUT", SESSION, {field: value})
    assert (refused.status, refused.json["field"]) == (422, field)
    assert "secret" not in str(refused.json)
    assert (await client("GET", SESSION)).status == 404


async def test_a_proxy_whose_name_changes_to_a_private_address_is_not_used(client: ApiClient) -> None:
    """It was public when it was set. The session says so, and connects when the name is public again."""
    client.harness.names["proxy.example"] = ["1.1.1.1"]
    await client("PUT", SESSION, {"proxyUrl": PROXY})
    await client.harness.pair()
    client.harness.names["proxy.example"] = ["127.0.0.1"]
    links = len(client.harness.commands(OpenLink))
    await client("POST", f"{SESSION}/reconnect")
    await client.harness.wait(10)
    shown = (await client("GET", SESSION)).json
    assert shown["reason"]["code"] == "proxy-not-allowed"
    assert len(client.harness.commands(OpenLink)) == links
    del client.harness.names["proxy.example"]
    await client.harness.wait(70)
    assert (await client("GET", SESSION)).json["reason"]["code"] == "proxy-unreachable"
    client.harness.names["proxy.example"] = ["1.1.1.1"]
    await client.harness.until(lambda: client.harness.gateway.view(COMPANY).session.state == "connected")
