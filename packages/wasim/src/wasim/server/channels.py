"""Channels (newsletters): anybody can follow them; their owner and admins post in them, unencrypted.

Queries are GraphQL over `iq xmlns="w:mex"`, named by numbers (source: Baileys `Types/Mex`, whatsmeow `newsletter.go`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from wasim.server.delivery import Delivery
from wasim.server.directory import Directory
from wasim.server.entropy import Entropy, token_urlsafe
from wasim.server.state import PHONE, Device
from wasim.wire.content import Content
from wasim.wire.errors import WireError
from wasim.wire.jids import NEWSLETTER, Jid, parse_jid
from wasim.wire.nodes import Node
from wasim.wire.protobuf import decode

Role = Literal["OWNER", "ADMIN", "SUBSCRIBER"]
_MAY_POST = ("OWNER", "ADMIN")
_RECORD = "channel"
_JOIN, _LEAVE = "xwa2_newsletter_join_v2", "xwa2_newsletter_leave_v2"
_SUBSCRIBED, _METADATA = "xwa2_newsletter_subscribed", "xwa2_newsletter"
_QUERIES = {
    "24404358912487870": _JOIN,
    "9926858900719341": _JOIN,
    "9767147403369991": _LEAVE,
    "6392786840836363": _LEAVE,
    "6388546374527196": _SUBSCRIBED,
    "6563316087068696": _METADATA,
}
"""Queries about channels, with the path of their answer."""


class ChannelPost(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    server_id: int
    author: str
    """Phone number."""
    at: float
    text: str | None


class Channel(msgspec.Struct, kw_only=True):
    id: str
    name: str
    description: str
    invite: str
    created_at: float
    roles: dict[str, Role]
    """By phone number, of those who follow it."""
    posts: list[ChannelPost] = msgspec.field(default_factory=list)

    @property
    def jid(self) -> Jid:
        return Jid(self.id, NEWSLETTER)


class _Input(msgspec.Struct, frozen=True, kw_only=True):
    key: str = ""
    type: str = "JID"


class _Variables(msgspec.Struct, frozen=True, kw_only=True):
    newsletter_id: str = ""
    input: _Input = _Input()


class _QueryBody(msgspec.Struct, frozen=True, kw_only=True):
    variables: _Variables = _Variables()


class Channels:
    def __init__(self, directory: Directory, entropy: Entropy, delivery: Delivery) -> None:
        self._directory = directory
        self._entropy = entropy
        self._delivery = delivery
        self.all: dict[str, Channel] = {}

    def restore(self, kind: str, key: str, value: bytes) -> None:
        """Restore a stored record; records of other kinds are ignored."""
        if kind == _RECORD:
            self.all[key] = msgspec.json.decode(value, type=Channel)

    def create(self, name: str, description: str, roles: Mapping[str, Role], *, now: float) -> Channel:
        id_ = f"1203{int.from_bytes(self._entropy(6)) % 10**14:014}"
        invite = f"0029{token_urlsafe(self._entropy, 18)}"
        channel = Channel(id=id_, name=name, description=description, invite=invite, created_at=now, roles=dict(roles))
        self.all[id_] = channel
        self._save(channel)
        return channel

    def find(self, jid: Jid | None) -> Channel | None:
        return self.all.get(jid.user) if jid is not None and jid.server == NEWSLETTER else None

    def may_post(self, channel: Channel, number: str) -> bool:
        return channel.roles.get(number) in _MAY_POST

    # Posts

    def post(self, channel: Channel, sender: Device, stanza: Node, now: float) -> None:
        """Store a post, and deliver it to the linked devices of all followers, and to the author's other devices."""
        plaintext = stanza.child("plaintext")
        data = b"" if plaintext is None else plaintext.data
        post = ChannelPost(
            id=stanza.attrs.get("id", ""),
            server_id=100 + len(channel.posts),
            author=sender.number,
            at=now,
            text=_text(data),
        )
        channel.posts.append(post)
        self._save(channel)
        attrs = {"from": str(channel.jid), "id": post.id, "server_id": str(post.server_id), "t": str(int(now))}
        attrs |= {"type": stanza.attrs.get("type", "text")}
        for number in channel.roles:
            own = {"is_sender": "true"} if number == sender.number else {}
            for device in self._directory.devices_of(number):
                if device.device != PHONE and device.address != sender.address:
                    message = Node("message", attrs | own, [Node("plaintext", {}, data)])
                    self._delivery.deliver(device.address, "message", message, now, 0.0)

    # Queries

    def answer(self, query: Node, number: str) -> Mapping[str, Any] | None:
        """The JSON that answers a query; None for one that is not about channels."""
        path = _QUERIES.get(query.attrs.get("query_id", ""))
        if path is None:
            return None
        if path == _SUBSCRIBED:
            return {
                "data": {path: [_metadata_json(each, number) for each in self.all.values() if number in each.roles]}
            }
        channel = self._named(query)
        if channel is None:
            return _graphql_error(404, "Not Found", path)
        if path == _JOIN:
            channel.roles.setdefault(number, "SUBSCRIBER")
        elif path == _LEAVE and channel.roles.get(number) == "OWNER":
            return _graphql_error(403, "Forbidden", path)
        elif path == _LEAVE:
            channel.roles.pop(number, None)
        self._save(channel)
        return {"data": {path: _metadata_json(channel, number)}}

    def _named(self, query: Node) -> Channel | None:
        """By JID, or by the code of its invite link."""
        try:
            variables = msgspec.json.decode(query.data, type=_QueryBody).variables
        except msgspec.DecodeError:
            return None
        key = variables.newsletter_id or variables.input.key
        if variables.input.type == "INVITE":
            return next((each for each in self.all.values() if each.invite == key), None)
        return self.find(parse_jid(key))

    def _save(self, channel: Channel) -> None:
        self._directory.put_record(_RECORD, channel.id, msgspec.json.encode(channel))


def _text(data: bytes) -> str | None:
    try:
        return decode(Content, data).text
    except WireError:
        return None


def _metadata_json(channel: Channel, number: str) -> dict[str, Any]:
    def text(value: str) -> dict[str, str]:
        return {"id": "1", "text": value, "update_time": f"{int(channel.created_at)}000000"}

    return {
        "id": str(channel.jid),
        "state": {"type": "ACTIVE"},
        "thread_metadata": {
            "creation_time": str(int(channel.created_at)),
            "description": text(channel.description),
            "invite": channel.invite,
            "name": text(channel.name),
            "subscribers_count": str(len(channel.roles)),
            "verification": "UNVERIFIED",
        },
        "viewer_metadata": {"mute": "OFF", "role": channel.roles.get(number, "GUEST")},
    }


def _graphql_error(code: int, message: str, path: str) -> dict[str, Any]:
    extensions = {"error_code": code, "is_retryable": False, "severity": "CRITICAL"}
    return {"data": None, "errors": [{"message": message, "path": [path], "extensions": extensions}]}
