"""A hostile contact with real Baileys: whatever it sends is stored, and no link and no host is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.fuzz_inbound import MALLORY, FuzzHarness, assault, baileys_encoded, honest_payloads, running_harness
from tests.chaos.hostile import STRINGS, Json, b64, nested, padded, text_message

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

FUZZ_COUNT = 200
MEDIA = {"url": "https://mmg.whatsapp.net/x", "directPath": "/v/x", "mediaKey": {"$b64": "AA=="}}
QUOTE = {"stanzaId": "\0", "participant": "@", "quotedMessage": {"conversation": "\0"}}


def hostile_messages(text: str) -> list[tuple[str, Json]]:
    """A message for every field that can contain a text, with the type under which it must be stored."""
    key = {"remoteJid": text, "id": text, "participant": text}
    return [
        ("text", {"extendedTextMessage": {"text": text, "contextInfo": {"mentionedJid": [text] * 3, **QUOTE}}}),
        ("image", {"imageMessage": {**MEDIA, "mimetype": text, "caption": text, "directPath": text}}),
        ("document", {"documentMessage": {**MEDIA, "mimetype": text, "fileName": text, "title": text}}),
        ("contact", {"contactMessage": {"displayName": text, "vcard": text}}),
        ("location", {"locationMessage": {"degreesLatitude": 1e308, "name": text, "address": text, "url": text}}),
        ("reaction", {"reactionMessage": {"key": key, "text": text}}),
        ("edit", {"protocolMessage": {"key": key, "type": 14, "editedMessage": {"conversation": text}}}),
        ("revoke", {"protocolMessage": {"key": key, "type": 0}}),
        ("poll", {"pollCreationMessageV3": {"name": text, "options": [{"optionName": text}] * 3}}),
        ("group_invite", {"groupInviteMessage": {"groupJid": text, "inviteCode": text, "groupName": text}}),
        ("event", {"eventMessage": {"name": text, "description": text, "startTime": 2**62}}),
    ]


MENTIONS = [f"{n}@lid" for n in range(20_000)]
EXTREMES: list[tuple[str, Json]] = [
    ("text", {"conversation": "\x01" * 400_000}),
    ("text", {"extendedTextMessage": {"text": "x", "contextInfo": {"mentionedJid": MENTIONS}}}),
    ("image", {"imageMessage": {**MEDIA, "mimetype": "image/jpeg", "fileLength": 2**63, "width": 2**32 - 1}}),
    ("audio", {"audioMessage": {**MEDIA, "mimetype": "audio/ogg", "fileLength": 0, "seconds": 2**32 - 1}}),
    ("video", {"videoMessage": {**MEDIA, "mimetype": "video/mp4; a=b, text/html", "fileLength": 1, "seconds": 0}}),
    ("list", {"listMessage": {"title": "t", "sections": [{"rows": [{"rowId": "r", "title": "t"}] * 3000}]}}),
]
NESTED = {9: "text", 90: "unknown", 5000: "undecryptable"}
"""Wrappers around a text, and how they are stored: Baileys itself reads them up to a certain depth."""
UNREADABLE = {"empty": b"", "a padding that lies": b"\x0a\x01a\xff", "no protobuf": padded(b"\xff" * 40)}
HOSTILE_STANZAS: list[Json] = [
    {"tag": "message", "attrs": {"id": "S1"}},
    {"tag": "message", "attrs": {"id": "S2", "t": "9" * 25, "type": "text"}, "content": [{"tag": "enc"}] * 300},
    {"tag": "message", "attrs": {"id": "S3", "type": "media"}, "content": "text"},
    {"tag": "receipt", "attrs": {"id": "S4", "type": "retry"}, "content": [{"tag": "retry", "attrs": {"count": "-1"}}]},
    {"tag": "receipt", "attrs": {"id": "S5"}, "content": [{"tag": "list", "content": [{"tag": "item"}] * 3000}]},
    {"tag": "notification", "attrs": {"id": "S6", "type": "w:gp2"}, "content": [{"tag": "add", "content": []}]},
    {"tag": "notification", "attrs": {"id": "S7", "type": "picture"}},
    {"tag": "notification", "attrs": {"id": "S8", "type": "server_sync"}, "content": [{"tag": "collection"}]},
    {"tag": "notification", "attrs": {"id": "S9", "type": "account_sync"}, "content": [{"tag": "devices"}]},
    {"tag": "presence", "attrs": {"type": "\0", "last": "NaN"}},
    {"tag": "chatstate", "content": [{"tag": "composing", "attrs": {"media": "\0"}}]},
    {"tag": "call", "attrs": {"id": "S10", "t": "NaN"}, "content": [{"tag": "offer", "attrs": {"call-id": "\0"}}]},
    {"tag": "ack", "attrs": {"id": "S11", "class": "message", "error": "\0"}},
]


async def send(harness: FuzzHarness, id_: str, plaintext: bytes) -> str:
    body = {"to": harness.companies[harness.victim], "id": id_, "plaintext": b64(plaintext)}
    await harness.wasim.post(f"/phones/{MALLORY}/send", body)
    return id_


async def test_nothing_that_a_contact_sends_costs_a_link_or_is_lost(tmp_path: Path) -> None:
    """Hostile texts in every field of a message, extreme sizes, invalid bytes, invalid stanzas and some hundred
    mutations: each message is in the inbox, and all companies keep their links.
    """
    async with running_harness(tmp_path, companies=2, seed="1") as harness:
        attacks = await harness.attacks(honest_payloads())
        before, hosts = await harness.logins(), sorted(harness.gateway.hosts())
        known = [each for text in STRINGS for each in hostile_messages(text)] + EXTREMES
        expected: dict[str, str] = {}
        for n, ((type_, _), message) in enumerate(
            zip(known, baileys_encoded([each for _, each in known]), strict=True)
        ):
            expected[await send(harness, f"K{n}", padded(message))] = type_
        for depth, type_ in NESTED.items():
            expected[await send(harness, f"N{depth}", padded(nested(depth)))] = type_
        for name, plaintext in UNREADABLE.items():
            expected[await send(harness, name, plaintext)] = "undecryptable"
        expected[await send(harness, "last", padded(text_message("honest")))] = "text"
        for stanza in HOSTILE_STANZAS:
            stanza["attrs"] = {"from": attacks.from_, **stanza.get("attrs", {})}
        await harness.wasim.post(f"/phones/{harness.companies[harness.victim]}/stanzas", {"stanzas": HOSTILE_STANZAS})
        await assault(harness, [next(attacks) for _ in range(FUZZ_COUNT)], per_s=150)
        await harness.until_drained()
        stored = {item["whatsappId"]: item["type"] for item in await harness.gateway.inbox(harness.victim)}
        wrong = {id_: (type_, stored.get(id_)) for id_, type_ in expected.items() if stored.get(id_) != type_}
        assert not wrong, f"sent, expected and stored: {wrong}"
        assert await harness.logins() == before
        assert sorted(harness.gateway.hosts()) == hosts
        await harness.check_alive()
