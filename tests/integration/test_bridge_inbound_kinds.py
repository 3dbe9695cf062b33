"""Kinds of messages that only other programs send, from a simulated phone through real Baileys."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tests.integration.conftest import Party
from tests.processes import Wasim

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("encode_messages.mjs")
PHONE = "962788888888"
KEY = {"remoteJid": f"{PHONE}@s.whatsapp.net", "fromMe": False, "id": "3EB0AAAA"}
IMAGE = {"url": "https://mmg.whatsapp.net/x", "directPath": "/v/x", "mimetype": "image/jpeg", "caption": "cap"}
MESSAGES: list[tuple[dict[str, Any], str, str | None, str | None]] = [
    ({"templateMessage": {"hydratedTemplate": {"hydratedContentText": "Code 1"}}}, "template", "Code 1", "choices"),
    ({"listMessage": {"title": "T", "description": "Pick"}}, "list", "T\nPick", "choices"),
    ({"buttonsMessage": {"contentText": "Choose"}}, "buttons", "Choose", "choices"),
    ({"interactiveMessage": {"body": {"text": "Body"}}}, "interactive", "Body", "choices"),
    ({"listResponseMessage": {"title": "R", "singleSelectReply": {"selectedRowId": "r"}}}, "text", "R", "selected"),
    ({"buttonsResponseMessage": {"selectedButtonId": "b", "selectedDisplayText": "Y"}}, "text", "Y", "selected"),
    ({"templateButtonReplyMessage": {"selectedId": "o", "selectedDisplayText": "OK"}}, "text", "OK", "selected"),
    ({"pollCreationMessageV3": {"name": "Lunch?", "options": [{"optionName": "A"}]}}, "poll", "Lunch?", "poll"),
    ({"pollUpdateMessage": {"pollCreationMessageKey": KEY}}, "poll_vote", None, "encrypted"),
    ({"orderMessage": {"orderId": "1", "message": "2 items"}}, "order", "2 items", "order"),
    ({"productMessage": {"product": {"title": "Shoe"}}}, "product", "Shoe", "product"),
    ({"groupInviteMessage": {"groupJid": "1-2@g.us", "caption": "join"}}, "group_invite", "join", "invite"),
    ({"eventMessage": {"name": "Party", "startTime": 1800000000}}, "event", "Party", "event"),
    ({"viewOnceMessageV2": {"message": {"imageMessage": IMAGE}}}, "image", "cap", "viewOnce"),
    ({"ptvMessage": {"mimetype": "video/mp4", "seconds": 3}}, "video", None, "videoNote"),
    ({"liveLocationMessage": {"degreesLatitude": 31.9, "caption": "here"}}, "location", "here", "location"),
    ({"protocolMessage": {"key": KEY, "type": 14, "editedMessage": {"imageMessage": IMAGE}}}, "edit", "cap", None),
    ({"pinInChatMessage": {"key": KEY, "type": 1}}, "pin", None, "pin"),
    ({"botInvokeMessage": {"message": {"conversation": "to bot"}}}, "text", "to bot", None),
    ({"placeholderMessage": {"type": 0}}, "unknown", None, "raw"),
]  # fmt: skip


def encoded(node_bin: Path, baileys_dir: Path, messages: list[dict[str, Any]]) -> list[str]:
    """The messages, encoded with Baileys' own protobuf definition, in base64."""
    with tempfile.TemporaryDirectory(dir=baileys_dir) as folder:
        script = Path(folder) / SCRIPT.name
        script.write_bytes(SCRIPT.read_bytes())
        done = subprocess.run(
            [node_bin, script], input=json.dumps(messages), capture_output=True, text=True, check=True
        )
    found: list[str] = json.loads(done.stdout)
    return found


async def test_every_kind_of_message_from_a_phone_is_stored(
    ours: Party, wasim: Wasim, node_bin: Path, baileys_dir: Path
) -> None:
    """Each kind is stored with its type, text and details; unknown fields are `unknown`."""
    await wasim.post("/phones", {"number": PHONE, "name": "Amal"})
    payloads = encoded(node_bin, baileys_dir, [message for message, *_ in MESSAGES])
    newer = "qh8CCAE="  # field 501
    for n, payload in enumerate([*payloads, newer]):
        body = {"to": ours.number, "id": f"3EB0B06{n:04}", "payload": payload}
        await wasim.post(f"/phones/{PHONE}/send", body)
    await ours.shown(len(payloads) + 1)
    came = ours.store.inbox[: len(payloads)]
    assert [(message.type, message.text) for message in came] == [(type_, text) for _, type_, text, _ in MESSAGES]
    beside = zip(came, (name for *_, name in MESSAGES), strict=True)
    assert [name for message, name in beside if name is not None and name not in message.content] == []
    unknown = ours.store.inbox[-1]
    assert (unknown.type, unknown.content) == ("unknown", {"raw": {"fieldNumbers": [501]}})
    assert {message.push_name for message in ours.store.inbox} == {"Amal"}
    assert all((message.sender_lid or "").endswith("@lid") for message in ours.store.inbox)


def sealed(use: str, plaintext: bytes, secret: bytes, *, target: str, creator: str, sender: str) -> dict[str, Any]:
    """An answer as WhatsApp's clients encrypt it with the secret of the message that it answers."""
    info = f"{target}{creator}{sender}{use}".encode()
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(secret)
    additional = f"{target}\0{sender}".encode() if use == "Poll Vote" else b""
    payload = AESGCM(key).encrypt(bytes(12), plaintext, additional)
    return {"encPayload": _b64(payload), "encIv": _b64(bytes(12))}


def _b64(value: bytes) -> dict[str, str]:
    return {"$b64": base64.b64encode(value).decode()}


def vote(*options: str) -> bytes:
    """`PollVoteMessage`: field 1, a hash of 32 bytes, for each option."""
    return b"".join(b"\x0a\x20" + hashlib.sha256(option.encode()).digest() for option in options)


async def test_a_vote_names_the_chosen_options(ours: Party, wasim: Wasim, node_bin: Path, baileys_dir: Path) -> None:
    """In a poll of theirs and in one from the company's own phone, voters named by number or hidden id; a reaction in
    a community to a message that Holdfast sent; a vote in a poll that is not stored says so."""
    await wasim.post("/phones", {"number": PHONE})
    await wasim.post(f"/phones/{PHONE}/send", {"to": ours.number, "text": "hello"})
    await ours.shown(1)
    lid = ours.store.inbox[0].sender_lid
    assert lid is not None
    jid, secret = f"{PHONE}@s.whatsapp.net", bytes(range(32))
    ours.send("3EB0AA01", jid)
    await ours.acked("3EB0AA01")
    adv_secret = json.loads(ours.store.credentials or "")["advSecretKey"].encode()
    own_secret = hmac.digest(adv_secret, b"message secret of 3EB0AA01", "sha256")
    poll = {"pollCreationMessageV3": {"name": "Lunch?", "options": [{"optionName": name} for name in "ABC"]}}

    def vote_in(target: str, creator: str, sender: str, *options: str) -> dict[str, Any]:
        answer = sealed("Poll Vote", vote(*options), secret, target=target, creator=creator, sender=sender)
        return {"pollUpdateMessage": {"pollCreationMessageKey": KEY | {"id": target}, "vote": answer}}

    reaction = sealed(
        "Enc Reaction", b"\x12\x04\xf0\x9f\x91\x8d", own_secret, target="3EB0AA01", creator=ours.jid, sender=lid
    )
    sends: list[tuple[str, str, dict[str, Any]]] = [
        (PHONE, "POLL1", poll | {"messageContextInfo": {"messageSecret": _b64(secret)}}),
        (ours.number, "POLL2", poll | {"messageContextInfo": {"messageSecret": _b64(secret)}}),
        (PHONE, "VOTE1", vote_in("POLL1", jid, jid, "B")),
        (PHONE, "VOTE2", vote_in("POLL2", ours.jid, lid, "A", "C")),
        (PHONE, "VOTE3", vote_in("POLL0", jid, jid, "B")),
        (PHONE, "REACT", {"encReactionMessage": {"targetMessageKey": KEY | {"id": "3EB0AA01"}, **reaction}}),
    ]  # fmt: skip
    payloads = encoded(node_bin, baileys_dir, [message for *_, message in sends])
    for n, ((sender, id_, _), payload) in enumerate(zip(sends, payloads, strict=True)):
        to = PHONE if sender == ours.number else ours.number
        await wasim.post(f"/phones/{sender}/send", {"to": to, "id": id_, "payload": payload})
        await ours.shown(n + 2)
    votes = {message.whatsapp_id: (message.type, message.text, message.content) for message in ours.store.inbox[3:]}
    options = ["A", "B", "C"]
    assert votes == {
        "VOTE1": ("poll_vote", "B", {"poll": {"options": options, "votes": ["B"]}}),
        "VOTE2": ("poll_vote", "A, C", {"poll": {"options": options, "votes": ["A", "C"]}}),
        "VOTE3": ("poll_vote", None, {"encrypted": True, "unreadable": "message-unknown"}),
        "REACT": ("reaction", None, {"reaction": {"emoji": "👍"}}),
    }


async def test_the_subject_of_a_group_is_learned_at_its_first_message(ours: Party, wasim: Wasim) -> None:
    """And again when the subject changes."""
    await wasim.post("/phones", {"number": PHONE})
    group = await wasim.post("/groups", {"subject": "Flowers", "members": [PHONE, ours.number]})
    await wasim.post(f"/phones/{PHONE}/send", {"to": group["id"], "text": "hello"})
    await ours.recorder.until(lambda: ours.store.groups == {group["id"]: "Flowers"}, what="a subject", seconds=20)
    await wasim.patch(f"/groups/{group['id']}", {"subject": "Roses"})
    await ours.recorder.until(lambda: ours.store.groups == {group["id"]: "Roses"}, what="a new subject", seconds=20)
