"""Decides which addresses may be connected to: public ones, and those that the operator allowed.

What is public is decided by the table below and not by `ipaddress.is_global`, whose answers differ between patch
releases of Python.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from holdfast.base.errors import BadSetting

SETTING = "HOLDFAST_ALLOWED_ADDRESSES"

IpAddress = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_SPECIAL: tuple[tuple[str, bool], ...] = (
    # IANA IPv4 Special-Purpose Address Registry: network, globally reachable.
    ("0.0.0.0/8", False),  # "this network"
    ("10.0.0.0/8", False),  # private use
    ("100.64.0.0/10", False),  # carrier-grade NAT
    ("127.0.0.0/8", False),  # loopback
    ("169.254.0.0/16", False),  # link-local; metadata of most clouds
    ("172.16.0.0/12", False),  # private use
    ("192.0.0.0/24", False),  # IETF protocol assignments; 192.0.0.192 is Oracle Cloud's metadata
    ("192.0.0.9/32", True),  # Port Control Protocol anycast
    ("192.0.0.10/32", True),  # TURN anycast
    ("192.0.2.0/24", False),  # documentation
    ("192.31.196.0/24", True),  # AS112-v4
    ("192.52.193.0/24", True),  # AMT
    ("192.88.99.0/24", False),  # 6to4 relay anycast, deprecated
    ("192.168.0.0/16", False),  # private use
    ("192.175.48.0/24", True),  # direct delegation AS112 service
    ("198.18.0.0/15", False),  # benchmarking
    ("198.51.100.0/24", False),  # documentation
    ("203.0.113.0/24", False),  # documentation
    ("224.0.0.0/4", False),  # multicast, from a registry of its own
    ("240.0.0.0/4", False),  # reserved, limited broadcast
    # Public by its number, but only the inside of Azure answers there.
    ("168.63.129.16/32", False),
    # IANA IPv6 Special-Purpose Address Registry. Nothing outside 2000::/3 is public.
    ("64:ff9b::/96", True),  # NAT64; the IPv4 address in its last four bytes decides
    ("64:ff9b:1::/48", False),  # NAT64 for local use
    ("2001::/23", False),  # IETF protocol assignments; 2001::/32 is Teredo, which reaches any IPv4 address
    ("2001:1::1/128", True),  # Port Control Protocol anycast
    ("2001:1::2/128", True),  # TURN anycast
    ("2001:1::3/128", True),  # DNS-SD service registration anycast
    ("2001:2::/48", False),  # benchmarking
    ("2001:3::/32", True),  # AMT
    ("2001:4:112::/48", True),  # AS112-v6
    ("2001:10::/28", False),  # ORCHID, deprecated
    ("2001:20::/28", True),  # ORCHIDv2
    ("2001:30::/28", True),  # drone remote identification
    ("2001:db8::/32", False),  # documentation
    ("2002::/16", False),  # 6to4, which reaches any IPv4 address
    ("2620:4f:8000::/48", True),  # direct delegation AS112 service
    ("3fff::/20", False),  # documentation
)
"""Of several networks that contain an address, the narrowest decides (source: the registries, as of October 2025)."""
_TABLE = sorted(
    ((ip_network(network), is_public) for network, is_public in _SPECIAL),
    key=lambda row: row[0].prefixlen,
    reverse=True,
)
_UNICAST = IPv6Network("2000::/3")
"""The only part of IPv6 that is assigned as global unicast."""
_NAT64 = IPv6Network("64:ff9b::/96")
"""The last four bytes are the IPv4 address of the destination (RFC 6052)."""

_NAME = re.compile(r"(?=.*[a-z])[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
_WITH_PORT = re.compile(r"(?P<place>\[[^\]]+\](/\d{1,3})?|[^:\[\]]+)(:(?P<port>\d{1,5}))?")


def is_public(address: IpAddress) -> bool:
    """Whether an address is globally reachable. An IPv4 address embedded in an IPv6 one decides for it."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    is_unicast = isinstance(address, IPv4Address) or address in _UNICAST
    return next((public for network, public in _TABLE if address in network), is_unicast)


@dataclass(frozen=True, slots=True)
class Allowed:
    """Private destinations that are allowed, each with its port, or None for all ports."""

    networks: frozenset[tuple[Network, int | None]] = frozenset()
    hosts: frozenset[tuple[str, int | None]] = frozenset()
    """Host names in lower case. They are allowed whatever they resolve to."""

    def permits(self, address: str, port: int | None = None) -> bool:
        """Whether connecting to this address is allowed. `address` may have a zone, as in a socket name."""
        found = ip_address(address)
        if isinstance(found, IPv6Address):
            found = found.ipv4_mapped or found
        return is_public(found) or any(
            found in network for network, its_port in self.networks if its_port in {None, port}
        )

    def trusts(self, host: str, port: int | None = None) -> bool:
        name = host.lower().rstrip(".")
        return (name, None) in self.hosts or (port is not None and (name, port) in self.hosts)


NOTHING_PRIVATE = Allowed()


def parse_allowed(text: str) -> Allowed:
    """Parse the setting: `10.1.0.0/16, 192.168.1.7:8080, [fd00::7]:80, crm.internal`. Raises `BadSetting`."""
    networks, hosts = set(), set()
    for word in filter(None, re.split(r"[,\s]+", text.lower())):
        place, port = _parted(word)
        try:
            networks.add((ip_network(place), port))
        except ValueError as error:
            if not _NAME.fullmatch(place):
                raise _refusal(word, _cure(error)) from error
            hosts.add((place.rstrip("."), port))
    return Allowed(networks=frozenset(networks), hosts=frozenset(hosts))


def _parted(word: str) -> tuple[str, int | None]:
    """Host and port of an entry. An IPv6 address needs brackets only before a port."""
    found = _WITH_PORT.fullmatch(word)
    if found is None or (found["port"] is None and not word.startswith("[")):
        return word, None
    port = None if found["port"] is None else int(found["port"])
    if port is not None and not 1 <= port <= 65535:
        raise _refusal(word, " (a port is a number from 1 to 65535)")
    return found["place"].replace("[", "").replace("]", ""), port


def _refusal(word: str, cure: str) -> BadSetting:
    return BadSetting(
        f'{SETTING} has "{word[:80]}", which is not a network, an address or a host name{cure}: '
        "write for example 10.1.0.0/16, 192.168.1.7:8080, crm.internal",
        field=SETTING,
    )


def _cure(error: ValueError) -> str:
    return " (its last bits must be 0)" if "host bits" in str(error) else ""
