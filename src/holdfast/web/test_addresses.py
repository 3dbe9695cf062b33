"""Which addresses may be connected to."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from holdfast.base.errors import Misconfigured
from holdfast.web.addresses import NOTHING_PRIVATE, Allowed, is_public, parse_allowed

REGISTRY = [
    # first address, last address, globally reachable: the rows of both IANA registries, and what lies beside them
    ("0.0.0.0", "0.255.255.255", False),
    ("1.0.0.0", "9.255.255.255", True),
    ("10.0.0.0", "10.255.255.255", False),
    ("11.0.0.0", "100.63.255.255", True),
    ("100.64.0.0", "100.127.255.255", False),
    ("100.128.0.0", "126.255.255.255", True),
    ("127.0.0.0", "127.255.255.255", False),
    ("128.0.0.0", "168.63.129.15", True),
    ("168.63.129.16", "168.63.129.16", False),
    ("168.63.129.17", "169.253.255.255", True),
    ("169.254.0.0", "169.254.255.255", False),
    ("169.255.0.0", "172.15.255.255", True),
    ("172.16.0.0", "172.31.255.255", False),
    ("172.32.0.0", "191.255.255.255", True),
    ("192.0.0.0", "192.0.0.7", False),
    ("192.0.0.8", "192.0.0.8", False),
    ("192.0.0.9", "192.0.0.10", True),
    ("192.0.0.11", "192.0.0.169", False),
    ("192.0.0.170", "192.0.0.171", False),
    ("192.0.0.172", "192.0.0.192", False),
    ("192.0.0.193", "192.0.0.255", False),
    ("192.0.1.0", "192.0.1.255", True),
    ("192.0.2.0", "192.0.2.255", False),
    ("192.0.3.0", "192.31.195.255", True),
    ("192.31.196.0", "192.31.196.255", True),
    ("192.52.193.0", "192.52.193.255", True),
    ("192.88.98.0", "192.88.98.255", True),
    ("192.88.99.0", "192.88.99.255", False),
    ("192.88.100.0", "192.167.255.255", True),
    ("192.168.0.0", "192.168.255.255", False),
    ("192.169.0.0", "198.17.255.255", True),
    ("192.175.48.0", "192.175.48.255", True),
    ("198.18.0.0", "198.19.255.255", False),
    ("198.20.0.0", "198.51.99.255", True),
    ("198.51.100.0", "198.51.100.255", False),
    ("198.51.101.0", "203.0.112.255", True),
    ("203.0.113.0", "203.0.113.255", False),
    ("203.0.114.0", "223.255.255.255", True),
    ("224.0.0.0", "239.255.255.255", False),
    ("240.0.0.0", "255.255.255.254", False),
    ("255.255.255.255", "255.255.255.255", False),
    ("::", "::1", False),
    ("::7f00:1", "::ffff:ffff", False),  # IPv4-compatible
    ("::ffff:0.0.0.0", "::ffff:0.255.255.255", False),
    ("::ffff:8.8.8.8", "::ffff:8.8.8.8", True),
    ("::ffff:169.254.169.254", "::ffff:192.0.0.192", False),
    ("::ffff:0:7f00:1", "::ffff:0:7f00:1", False),  # IPv4-translated, RFC 2765
    ("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", False),
    ("64:ff9b::808:808", "64:ff9b::808:808", True),
    ("64:ff9b::c000:c0", "64:ff9b::c000:c0", False),
    ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", False),
    ("100::", "100::ffff:ffff:ffff:ffff", False),
    ("100:0:0:1::", "100:0:0:1:ffff:ffff:ffff:ffff", False),
    ("1fff:ffff::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", False),
    ("2000::", "2000:ffff::", True),
    ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", False),
    ("2001:1::", "2001:1::", False),
    ("2001:1::1", "2001:1::3", True),
    ("2001:1::4", "2001:1:ffff::", False),
    ("2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", False),
    ("2001:3::", "2001:3:ffff:ffff:ffff:ffff:ffff:ffff", True),
    ("2001:4:112::", "2001:4:112:ffff:ffff:ffff:ffff:ffff", True),
    ("2001:10::", "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff", False),
    ("2001:20::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff", True),
    ("2001:30::", "2001:3f:ffff:ffff:ffff:ffff:ffff:ffff", True),
    ("2001:40::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", False),
    ("2001:200::", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", True),
    ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", False),
    ("2001:db9::", "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", True),
    ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", False),
    ("2003::", "2606:4700::1111", True),
    ("2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff", True),
    ("3ffe:ffff::", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", True),
    ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", False),
    ("3fff:1000::", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", True),
    ("4000::", "4000::1", False),
    ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", False),
    ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", False),
    ("fd00:ec2::254", "fd00:ec2::254", False),
    ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", False),
    ("fe80::1%eth0", "fe80::1%eth0", False),
    ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", False),
    ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", False),
]


@pytest.mark.parametrize(("first", "last", "reachable"), REGISTRY)
def test_addresses_are_public_as_in_the_registries(first: str, last: str, reachable: bool) -> None:
    """At both ends of each row, on every release of Python; an IPv4 address within an IPv6 one decides."""
    for address in (first, last):
        assert is_public(ip_address(address)) is reachable
        assert NOTHING_PRIVATE.permits(address, 443) is reachable


def test_a_network_that_is_allowed_opens_nothing_else() -> None:
    """An allowed receiver on a private network does not make the metadata service reachable."""
    allowed = parse_allowed("10.1.0.0/16, 192.168.1.7 fd00::/8")
    assert all(allowed.permits(address) for address in ("10.1.2.3", "192.168.1.7", "fd00::1", "::ffff:10.1.2.3"))
    assert not any(allowed.permits(address) for address in ("10.2.0.1", "192.168.1.8", "169.254.169.254", "127.0.0.1"))
    assert not allowed.trusts("crm.internal")


def test_names_are_allowed_as_a_whole() -> None:
    """In any case and with a final dot, but without their subdomains and parent domains."""
    allowed = parse_allowed("CRM.internal,localhost")
    assert allowed == Allowed(hosts=frozenset({("crm.internal", None), ("localhost", None)}))
    assert all(allowed.trusts(host) for host in ("crm.internal", "crm.INTERNAL.", "localhost"))
    assert not any(allowed.trusts(host) for host in ("internal", "crm.internal.example.com", "x.crm.internal"))


def test_a_port_opens_that_port_alone() -> None:
    """Of an address, a network, an IPv6 address in brackets or a name; other ports stay forbidden."""
    allowed = parse_allowed(
        "127.0.0.1:8080, 10.0.0.0/8:80, [fd00::7]:443, [fd01::]/32:1, ::1, [fe80::1], crm.internal:81"
    )
    for address, port in (("127.0.0.1", 8080), ("10.9.9.9", 80), ("fd00::7", 443), ("::1", 5), ("fe80::1", 6)):
        assert allowed.permits(address, port)
    for address, port in (
        ("127.0.0.1", 3000),
        ("10.9.9.9", 8080),
        ("fd00::7", 80),
        ("::2", 5),
        ("::ffff:127.0.0.1", 1),
    ):
        assert not allowed.permits(address, port)
    assert allowed.permits("::ffff:127.0.0.1", 8080)
    assert (allowed.trusts("CRM.internal.", 81), allowed.trusts("crm.internal", 80)) == (True, False)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "10.1.0.1/16",
            (
                'HOLDFAST_ALLOWED_ADDRESSES has "10.1.0.1/16", which is not a network, an address or a host name (its '
                "last bits must be 0): write for example 10.1.0.0/16, 192.168.1.7:8080, crm.internal"
            ),
        ),
        ("https://crm.internal", 'HOLDFAST_ALLOWED_ADDRESSES has "https://crm.internal", which is not a network'),
        ("10.1.0", 'HOLDFAST_ALLOWED_ADDRESSES has "10.1.0", which is not a network'),
        (
            "10.1.0.1:99999",
            'HOLDFAST_ALLOWED_ADDRESSES has "10.1.0.1:99999", which is not a network, an address or a host name',
        ),
        ("crm.internal:http", 'HOLDFAST_ALLOWED_ADDRESSES has "crm.internal:http", which is not a network'),
        ("*", 'HOLDFAST_ALLOWED_ADDRESSES has "*", which is not a network'),
    ],
)
def test_an_invalid_allowance_is_refused(text: str, sentence: str) -> None:
    """Naming the setting, the value and the form."""
    with pytest.raises(Misconfigured) as refused:
        parse_allowed(text)
    assert str(refused.value).startswith(sentence)
    assert refused.value.field == "HOLDFAST_ALLOWED_ADDRESSES"
