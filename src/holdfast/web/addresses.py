"""Which addresses may be connected to: public ones, and what the operator allowed besides."""

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

from holdfast.base.errors import Misconfigured

SETTING = "HOLDFAST_ALLOWED_ADDRESSES"

_NAME = re.compile(r"(?=.*[a-z])[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
_CARRIES_IPV4 = IPv6Network("64:ff9b::/96")
"""NAT64: its last four bytes are the IPv4 address that is reached in the end (RFC 6052)."""
_TUNNELS = (IPv6Network("2002::/16"), IPv6Network("2001::/32"))
"""6to4 and Teredo: out of use, and able to reach any IPv4 address."""
_SERVES_INSTANCES = frozenset({IPv4Address("168.63.129.16")})
"""Public by number, and yet the cloud's own inside: what Azure tells its machines comes from there."""

Address = IPv4Address | IPv6Address


def is_public(address: Address) -> bool:
    """Is it one that anybody on the internet reaches as well?"""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _CARRIES_IPV4:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        if address.is_site_local or any(address in tunnel for tunnel in _TUNNELS):
            return False
    elif address in _SERVES_INSTANCES:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


@dataclass(frozen=True, slots=True)
class Allowed:
    """What may be reached although it is not public."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    hosts: frozenset[str] = frozenset()
    """Names, lower case: whatever they resolve to."""

    def permits(self, address: str) -> bool:
        """May this address be connected to? It stands as a socket has it, perhaps with a zone."""
        found = ip_address(address)
        if isinstance(found, IPv6Address):
            found = found.ipv4_mapped or found
        return is_public(found) or any(found in network for network in self.networks)

    def trusts(self, host: str) -> bool:
        return host.lower().rstrip(".") in self.hosts


NOTHING_PRIVATE = Allowed()


def parse_allowed(text: str) -> Allowed:
    """`10.1.0.0/16, 192.168.1.7, crm.internal` as the setting has it. Raises `Misconfigured`."""
    networks, hosts = [], set()
    for word in filter(None, re.split(r"[,\s]+", text.lower())):
        try:
            networks.append(ip_network(word))
        except ValueError as error:
            if not _NAME.fullmatch(word):
                raise Misconfigured(
                    f'{SETTING} has "{word[:80]}", which is no network, address or host name'
                    f"{_cure(error)}: write it such as 10.1.0.0/16, 192.168.1.7, crm.internal",
                    field=SETTING,
                ) from error
            hosts.add(word)
    return Allowed(networks=tuple(networks), hosts=frozenset(hosts))


def _cure(error: ValueError) -> str:
    return " (its last bits must be 0)" if "host bits" in str(error) else ""
