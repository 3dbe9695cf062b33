"""Which Host headers are served: those that an attacker's page can't have."""

from __future__ import annotations

import pytest

from holdfast.api.allowed_hosts import AllowedHosts, names_of


async def nothing(*_: object) -> None:
    """An application that does nothing."""


NAMES = names_of(["https://WA.example.org/holdfast", None, "http://box.lan:3000"], "crm.internal, *.example.com")
HOSTS = AllowedHosts(nothing, names=NAMES)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "localhost:3000",
        "LOCALHOST.",
        "holdfast.localhost:3000",
        "127.0.0.1:3000",
        "10.1.2.3",
        "[::1]:3000",
        "[fe80::1]",
        "holdfast:3000",
        "wa.example.org",
        "WA.Example.Org:443",
        "box.lan",
        "crm.internal:8080",
        "a.example.com",
        "a.b.example.com",
    ],
)
def test_own_names_and_addresses_are_served(host: str) -> None:
    """Loopback names, IP addresses, names without a dot, the public URL's host, and those that the setting lists."""
    assert HOSTS.allows(host)


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example",
        "wa.example.org.attacker.example",
        "example.com",
        "notexample.com",
        "xexample.com:3000",
        "127.0.0.1.attacker.example",
        "1.2.3.4.5",
        "localhost.attacker.example:3000",
        "user@wa.example.org",
        "[attacker.example]",
    ],
)
def test_names_of_others_are_refused(host: str) -> None:
    """This includes names that contain one of ours."""
    assert not HOSTS.allows(host)


def test_every_name_can_be_allowed() -> None:
    """For installations where something else checks Host."""
    assert AllowedHosts(nothing, names=names_of([], "*")).allows("attacker.example")
