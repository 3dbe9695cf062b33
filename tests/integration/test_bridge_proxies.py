"""Links of real Baileys through real proxies."""

from __future__ import annotations

import pytest

from holdfast.session.engine import LinkClosed, OpenLink, QrShown
from tests.doubles.proxy import running_proxy
from tests.integration.conftest import Party
from tests.processes import Wasim

pytestmark = pytest.mark.slow

NAME = "whatsapp.test"
"""Only the proxy knows its address: what goes beside the proxy arrives nowhere."""


def named(wasim: Wasim) -> str:
    return wasim.url.replace("127.0.0.1", NAME)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_link_opens_through_the_proxy_that_resolves_the_name(ours: Party, wasim: Wasim, scheme: str) -> None:
    """With credentials; the name of WhatsApp's server is looked up by the proxy."""
    async with running_proxy(user="us er", password="p@ss", names={NAME: "127.0.0.1"}) as proxy:
        url = f"{scheme}://us%20er:p%40ss@127.0.0.1:{proxy.port}"
        ours.host.command(OpenLink(link=70, company="1", credentials=None, url=named(wasim), proxy_url=url))
        await ours.recorder.wait(QrShown, 70)
        assert [tunnel.host for tunnel in proxy.tunnels] == [NAME]


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_what_is_wrong_with_a_proxy_is_named(ours: Party, wasim: Wasim, scheme: str) -> None:
    """Wrong credentials, a target that it does not reach, a proxy that is down: each ends the link with a code of its
    own, and no detail tells the password."""

    async def close_of(link: int, url: str) -> LinkClosed:
        ours.host.command(OpenLink(link=link, company="1", credentials=None, url=named(wasim), proxy_url=url))
        return await ours.recorder.wait(LinkClosed, link)

    async with running_proxy(user="user", password="secret", names={NAME: "127.0.0.1"}) as proxy:
        wrong = await close_of(71, proxy.url(scheme, password="wrong-secret"))
        none = await close_of(72, f"{scheme}://127.0.0.1:{proxy.port}")
        proxy.refuses = True
        refused = await close_of(73, proxy.url(scheme))
    down = await close_of(74, proxy.url(scheme))
    assert [closed.code for closed in (wrong, none, refused, down)] == [-3, -3, -4, -2]
    assert all(f"proxy 127.0.0.1:{proxy.port}" in closed.detail for closed in (wrong, none, refused, down))
    assert not any("secret" in closed.detail for closed in (wrong, none, refused, down))
