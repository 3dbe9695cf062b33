"""Channels: followed by anybody, written by their owner and admins."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from wasim.wire.content import Content, ExtendedText
from wasim.wire.nodes import Node
from wasim.wire.protobuf import encode

if TYPE_CHECKING:
    from wasim.server.channels import Channel
    from wasim.server.conftest import Client, ServerHarness

ALICE, BOB = "962302", "962303"
FOLLOW, LEAVE, SUBSCRIBED, METADATA = "24404358912487870", "9767147403369991", "6388546374527196", "6563316087068696"


@pytest.fixture
def channel(harness: ServerHarness) -> Channel:
    """Alice owns it."""
    harness.phone(ALICE)
    return harness.server.channels.create("Roses", "Every day", {ALICE: "OWNER"}, now=harness.now)


def mex(harness: ServerHarness, client: Client, query: str, variables: object) -> Any:
    body = json.dumps({"variables": variables}).encode()
    (result,) = harness.ask(client, "w:mex", "get", Node("query", {"query_id": query}, body)).children
    return json.loads(result.data)


def post(harness: ServerHarness, client: Client, channel: str, text: str) -> Node:
    plaintext = encode(Content(extended_text=ExtendedText(text=text)))
    node = Node("message", {"to": channel, "id": "3EB0A", "type": "text"}, [Node("plaintext", {}, plaintext)])
    harness.send(client, node)
    return client.all("ack")[-1]


def test_a_channel_is_found_followed_listed_and_left(harness: ServerHarness, channel: Channel) -> None:
    """By JID or invite code; the role of each account is its own. It survives a restart."""
    _, bob = harness.online(BOB)
    jid = {"newsletter_id": str(channel.jid)}
    assert mex(harness, bob, SUBSCRIBED, {}) == {"data": {"xwa2_newsletter_subscribed": []}}
    found = mex(harness, bob, METADATA, {"input": {"key": channel.invite, "type": "INVITE"}})["data"]["xwa2_newsletter"]
    assert (found["id"], found["viewer_metadata"]["role"]) == (str(channel.jid), "GUEST")
    mex(harness, bob, FOLLOW, jid)
    harness.restart()
    _, bob = harness.online(BOB)
    (listed,) = mex(harness, bob, SUBSCRIBED, {})["data"]["xwa2_newsletter_subscribed"]
    assert (listed["thread_metadata"]["name"]["text"], listed["viewer_metadata"]["role"]) == ("Roses", "SUBSCRIBER")
    mex(harness, bob, LEAVE, jid)
    assert mex(harness, bob, SUBSCRIBED, {})["data"]["xwa2_newsletter_subscribed"] == []


def test_an_unknown_channel_and_the_owners_departure_are_errors(harness: ServerHarness, channel: Channel) -> None:
    """GraphQL errors with a code, in a result."""
    _, alice = harness.online(ALICE)

    def code(query: str, variables: object) -> int:
        return int(mex(harness, alice, query, variables)["errors"][0]["extensions"]["error_code"])

    assert code(FOLLOW, {"newsletter_id": "1@newsletter"}) == 404
    assert code(FOLLOW, "nonsense") == 404
    assert code(LEAVE, {"newsletter_id": str(channel.jid)}) == 403


def test_a_post_reaches_the_followers_devices(harness: ServerHarness, channel: Channel) -> None:
    """With its number, unencrypted. Only the owner and admins may post."""
    _, alice = harness.online(ALICE)
    _, bob = harness.online(BOB)
    assert post(harness, bob, str(channel.jid), "hello").attrs["error"] == "403"
    mex(harness, bob, FOLLOW, {"newsletter_id": str(channel.jid)})
    assert post(harness, bob, str(channel.jid), "hello").attrs["error"] == "403"
    assert "error" not in post(harness, alice, str(channel.jid), "new roses").attrs
    (message,) = bob.all("message")
    assert (message.attrs["from"], message.attrs["server_id"]) == (str(channel.jid), "100")
    assert [(each.author, each.text) for each in channel.posts] == [(ALICE, "new roses")]
    assert post(harness, alice, "1@newsletter", "x").attrs["error"] == "404"
