"""An account's privacy settings (`iq xmlns="privacy"`).

Categories and values are those of Baileys (`Types/Chat`) and whatsmeow (`types.PrivacySettings`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from wasim.server.state import Account
from wasim.wire.nodes import Node

_AUDIENCES = frozenset({"all", "contacts", "contact_blacklist", "none"})
GROUP_ADD, PICTURE, ABOUT = "groupadd", "profile", "status"
VALUES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "last": _AUDIENCES,
        "online": frozenset({"all", "match_last_seen"}),
        PICTURE: _AUDIENCES,
        ABOUT: _AUDIENCES,
        GROUP_ADD: _AUDIENCES,
        "readreceipts": frozenset({"all", "none"}),
        "calladd": frozenset({"all", "known"}),
        "messages": frozenset({"all", "contacts"}),
    }
)
"""Allowed values by category."""


def settings(account: Account) -> dict[str, str]:
    """Every category with its value."""
    return dict.fromkeys(VALUES, "all") | account.privacy


def allows(account: Account, category: str, *, by: str) -> bool:
    """Whether the account allows this to another one. Its contacts are those it has exchanged messages with, without
    exceptions."""
    value = settings(account)[category]
    return value == "all" or (value != "none" and by in account.contacts)


def listing(account: Account) -> Node:
    listed = [Node("category", {"name": name, "value": value}) for name, value in settings(account).items()]
    return Node("privacy", {}, listed)


def change(account: Account, body: Node) -> bool:
    """Set the categories in `body`; False, and nothing is changed, if one of them or its value does not exist."""
    requested = {node.attrs.get("name", ""): node.attrs.get("value", "") for node in body.all("category")}
    if not requested or any(value not in VALUES.get(name, ()) for name, value in requested.items()):
        return False
    account.privacy |= requested
    return True
