"""Example request bodies, for the OpenAPI document and the documents made from it."""

from __future__ import annotations

from collections.abc import Mapping

BODIES: Mapping[str, object] = {
    "PUT /v1/sessions/{company}": {},
    "POST /v1/sessions/{company}/pairing-code": {"phoneNumber": "962790000001"},
    "POST /v1/sessions/{company}/messages": {"to": "962790000099", "text": "Your order is ready"},
    "POST /v1/sessions/{company}/import": {
        "credentials": "{…}",
        "keys": [{"type": "session", "id": "…", "value": "{…}"}],
    },
    "PUT /v1/sessions/{company}/presence": {"available": False},
    "POST /v1/sessions/{company}/contacts/check": {"numbers": ["962790000099", "+962 79 000 0098"]},
    "PUT /v1/sessions/{company}/contacts/{chat}": {"name": "Layla Haddad", "firstName": "Layla"},
    "POST /v1/sessions/{company}/chats/{chat}/typing": {"state": "composing"},
    "PATCH /v1/sessions/{company}/chats/{chat}": {"pinned": True},
    "PUT /v1/sessions/{company}/chats/{chat}/disappearing": {"seconds": 604_800},
    "POST /v1/sessions/{company}/chats/{chat}/history": {"count": 50},
    "POST /v1/sessions/{company}/labels": {"name": "New order", "color": 3},
    "PUT /v1/sessions/{company}/labels/{label}": {"name": "New order", "color": 3},
    "POST /v1/sessions/{company}/passkey/confirm": {"matches": True},
    "POST /v1/sessions/{company}/groups": {"subject": "Order 1234", "members": ["962790000099"]},
    "PATCH /v1/sessions/{company}/groups/{id}": {"subject": "Order 1234, delivered", "announceOnly": True},
    "POST /v1/sessions/{company}/groups/{id}/members": {"add": ["962790000098"], "promote": ["962790000099"]},
    "POST /v1/sessions/{company}/groups/join": {"invite": "https://chat.whatsapp.com/AbCdEfGhIjK"},
    "POST /v1/sessions/{company}/groups/{id}/requests": {"approve": ["962790000098"]},
    "PUT /v1/sessions/{company}/groups/{id}/picture": {"image": {"url": "https://example.com/logo.jpg"}},
    "PATCH /v1/sessions/{company}/profile": {"name": "Bakery Irbid", "about": "Open from 7 to 20"},
    "PATCH /v1/sessions/{company}/privacy": {"lastSeen": "contacts", "groupsAdd": "contacts"},
    "PUT /v1/sessions/{company}/profile/picture": {"image": {"media": "med_0a6b7c1f52d34e8a9b01c2d3"}},
    "POST /v1/keys": {"name": "Bakery CRM", "companies": ["962302", "962303"]},
    "POST /v1/webhooks/replay": {"since": "2026-11-22T00:00:00.000Z"},
}
"""By method and path."""
