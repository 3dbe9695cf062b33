"""Status posts, channels and other things around messages, on real Baileys against wasim."""

from __future__ import annotations

import base64

import pytest

from tests.integration.conftest import Party
from tests.processes import Wasim

pytestmark = pytest.mark.slow

THIRD = "962788888888"
CHANNEL = "120363170000000001@newsletter"


async def post_in_channel(wasim: Wasim, to: str, text: str, *, id_: str) -> None:
    """A post arrives as channels write them: unencrypted, as `Message {conversation}`."""
    message = b"\x0a" + bytes([len(text)]) + text.encode()
    content = [{"tag": "plaintext", "content": {"base64": base64.b64encode(message).decode()}}]
    attrs = {"from": CHANNEL, "id": id_, "server_id": "117", "t": "1700000000", "type": "text"}
    stanza = {"tag": "message", "attrs": attrs, "content": content}
    await wasim.post(f"/phones/{to}/stanzas", {"stanzas": [stanza]})


async def test_posts_of_people_and_channels_are_kept_and_acknowledged(ours: Party, wasim: Wasim) -> None:
    """A status keeps its author, a channel's post its number; WhatsApp delivers neither again."""
    await wasim.post("/phones", {"number": THIRD})
    await wasim.post(f"/phones/{THIRD}/send", {"to": "status@broadcast", "text": "roses", "audience": [ours.number]})
    assert await ours.shown(1) == ["roses"]
    await post_in_channel(wasim, ours.number, "tulips", id_="3AFE01")
    assert await ours.shown(2) == ["roses", "tulips"]
    status, post = ours.store.inbox
    assert (status.chat, status.sender, status.from_me) == ("status@broadcast", f"{THIRD}@s.whatsapp.net", False)
    assert (post.chat, post.sender, post.content) == (CHANNEL, CHANNEL, {"serverId": "117"})
    await ours.settled()
