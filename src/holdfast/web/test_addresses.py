"""Which addresses may be connected to."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from holdfast.base.errors import Misconfigured
from holdfast.web.addresses import NOTHING_PRIVATE, Allowed, is_public, parse_allowed

INSIDE = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",  # carrier-grade NAT
    "100.100.100.200",  # Alibaba's metadata
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",  # Azure's inside
    "169.254.169.254",  # metadata of most clouds
    "172.16.0.1",
    "172.31.255.255",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.1.2.3",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
OUTSIDE = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_that_only_insiders_reach_is_not_public(address: str) -> None:
    """Also where it is written or wrapped otherwise."""
    assert not is_public(ip_address(address))
    assert not NOTHING_PRIVATE.permits(address)


@pytest.mark.parametrize("address", OUTSIDE)
def test_what_the_whole_internet_reaches_is_public(address: str) -> None:
    """An IPv4 address within an IPv6 one is judged by itself."""
    assert is_public(ip_address(address))
    assert NOTHING_PRIVATE.permits(address)


def test_a_network_that_is_allowed_opens_nothing_else() -> None:
    """One receiver in the house is no door to the metadata service."""
    allowed = parse_allowed("10.1.0.0/16, 192.168.1.7 fd00::/8")
    assert all(allowed.permits(address) for address in ("10.1.2.3", "192.168.1.7", "fd00::1", "::ffff:10.1.2.3"))
    assert not any(allowed.permits(address) for address in ("10.2.0.1", "192.168.1.8", "169.254.169.254", "127.0.0.1"))
    assert not allowed.trusts("crm.internal")


def test_names_are_allowed_as_a_whole() -> None:
    """Whatever case and dot they come with, and no name within or around them."""
    allowed = parse_allowed("CRM.internal,localhost")
    assert allowed == Allowed(hosts=frozenset({"crm.internal", "localhost"}))
    assert all(allowed.trusts(host) for host in ("crm.internal", "crm.INTERNAL.", "localhost"))
    assert not any(allowed.trusts(host) for host in ("internal", "crm.internal.example.com", "x.crm.internal"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "10.1.0.1/16",
            (
                'HOLDFAST_ALLOWED_ADDRESSES has "10.1.0.1/16", which is no network, address or host name (its last '
                "bits must be 0): write it such as 10.1.0.0/16, 192.168.1.7, crm.internal"
            ),
        ),
        ("https://crm.internal", 'HOLDFAST_ALLOWED_ADDRESSES has "https://crm.internal", which is no network'),
        ("10.1.0", 'HOLDFAST_ALLOWED_ADDRESSES has "10.1.0", which is no network'),
        ("*", 'HOLDFAST_ALLOWED_ADDRESSES has "*", which is no network'),
    ],
)
def test_an_allowance_that_makes_no_sense_is_refused(text: str, sentence: str) -> None:
    """Naming the setting, the value and the form."""
    with pytest.raises(Misconfigured) as refused:
        parse_allowed(text)
    assert str(refused.value).startswith(sentence)
    assert refused.value.field == "HOLDFAST_ALLOWED_ADDRESSES"
