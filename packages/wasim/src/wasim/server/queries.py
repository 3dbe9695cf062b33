"""Answers to the queries (`iq`) of a logged-in device. An unknown query gets an error 501, never no answer.

Every answer is a pure function of the query and the directory; notifications for other devices are part of the result.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from wasim.server import group_requests, keys, notices, privacy, profiles, usync
from wasim.server.app_state import AppState
from wasim.server.channels import Channels
from wasim.server.directory import Directory
from wasim.server.groups import Groups
from wasim.server.picture_files import PictureFiles
from wasim.server.quota import NewChatQuota, quota_state
from wasim.server.state import Address, Device
from wasim.wire.jids import SERVER, parse_jid
from wasim.wire.nodes import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaEndpoint:
    """Where media are uploaded, and the account's authorisation there."""

    host: str
    auth: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """An `iq` with type get or set."""

    node: Node
    device: Device
    directory: Directory
    app_state: AppState
    groups: Groups
    channels: Channels
    pictures: PictureFiles
    now: float
    media: MediaEndpoint | None = None
    reach_out_lock: float | None = None
    """Until when the account may not write to new contacts."""
    new_chat_quota: NewChatQuota | None = None
    """The account's quota of new chats; None: no limit."""

    @property
    def body(self) -> Node:
        """The first child; an empty node when there is none."""
        return self.node.children[0] if self.node.children else Node("")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryAnswer:
    content: list[Node] | None = None
    error: tuple[int, str] | None = None
    """Code and text of the error, if the query failed."""
    activated: bool | None = None
    """The device requested to become active (True) or passive (False)."""
    unlinked: Address | None = None
    """A device to remove from its account."""
    refill: list[str] = field(default_factory=list)
    """Accounts whose phone must upload new prekeys."""
    low_on_prekeys: list[Address] = field(default_factory=list)
    """Linked devices whose one-time prekeys are running out."""
    synced: dict[str, int] = field(default_factory=dict)
    """New versions of the account's settings, by collection."""
    unknown: bool = False


Handler = Callable[[Query], QueryAnswer]

NOT_IMPLEMENTED = (501, "feature-not-implemented")
NOT_FOUND = (404, "item-not-found")
FORBIDDEN = (403, "forbidden")
BAD_REQUEST = (400, "bad-request")
NOT_AUTHORIZED = (401, "not-authorized")


def answer(query: Query) -> QueryAnswer:
    """The answer to any query."""
    xmlns = query.node.attrs.get("xmlns", "")
    handler = _HANDLERS.get((xmlns, query.body.tag)) or _HANDLERS.get((xmlns, "*"))
    if handler is None:
        return QueryAnswer(error=NOT_IMPLEMENTED, unknown=True)
    return handler(query)


def reply(query: Node, result: QueryAnswer) -> Node:
    """The `iq` that carries an answer."""
    to = parse_jid(query.attrs.get("to", ""))
    attrs = {"from": str(to) if to and to.user else SERVER, "id": query.attrs.get("id", "")}
    if result.error is not None:
        code, text = result.error
        return Node("iq", attrs | {"type": "error"}, [Node("error", {"code": str(code), "text": text})])
    return Node("iq", attrs | {"type": "result"}, result.content)


def _empty(query: Query) -> QueryAnswer:
    return QueryAnswer()


def _activate(query: Query) -> QueryAnswer:
    return QueryAnswer(activated=query.body.tag == "active")


def _count(query: Query) -> QueryAnswer:
    left = len(query.directory.prekeys(query.device.address))
    return QueryAnswer(content=[Node("count", {"value": str(left)})])


def _upload(query: Query) -> QueryAnswer:
    try:
        keys.store_upload(query.directory, query.device, query.node)
    except keys.BadKeys as error:
        return QueryAnswer(error=(BAD_REQUEST[0], str(error)))
    return QueryAnswer()


def _rotate(query: Query) -> QueryAnswer:
    try:
        query.device.signed_prekey = keys.signed_prekey(query.device, query.body)
    except keys.BadKeys as error:
        return QueryAnswer(error=(BAD_REQUEST[0], str(error)))
    query.directory.touch(query.device)
    return QueryAnswer()


def _digest(query: Query) -> QueryAnswer:
    return QueryAnswer(content=[keys.digest(query.device)])


def _bundles(query: Query) -> QueryAnswer:
    fetched = keys.fetch(query.directory, query.body)
    return QueryAnswer(content=[fetched.listing], refill=fetched.refill, low_on_prekeys=fetched.low_on_prekeys)


def _usync(query: Query) -> QueryAnswer:
    return QueryAnswer(content=[usync.answer(query.directory, query.body, by=query.device.number)])


def _props(query: Query) -> QueryAnswer:
    return QueryAnswer(content=[Node("props", {"protocol": "1", "hash": "wasim", "refresh": "86400"}, [])])


def _privacy(query: Query) -> QueryAnswer:
    account = query.directory.accounts[query.device.number]
    if query.node.attrs.get("type") == "get":
        return QueryAnswer(content=[privacy.listing(account)])
    if not privacy.change(account, query.body):
        return QueryAnswer(error=BAD_REQUEST)
    query.directory.touch(account)
    return QueryAnswer()


def _tokens(query: Query) -> QueryAnswer:
    return QueryAnswer(content=[Node("tokens")])


def _blocklist(query: Query) -> QueryAnswer:
    account = query.directory.accounts[query.device.number]
    for item in query.node.all("item"):
        other = query.directory.find(parse_jid(item.attrs.get("jid", "")))
        if other is None:
            return QueryAnswer(error=NOT_FOUND)
        change = account.blocked.add if item.attrs.get("action") == "block" else account.blocked.discard
        change(other.number)
        query.directory.touch(account)
    lids = sorted(query.directory.accounts[number].lid for number in account.blocked)
    return QueryAnswer(content=[Node("list", {}, [Node("item", {"jid": f"{lid}@lid"}) for lid in lids])])


def _media_conn(query: Query) -> QueryAnswer:
    """Without a media host the name in the answer does not resolve, so that nothing is sent to the real one."""
    endpoint = query.media or MediaEndpoint(host="media.wasim.invalid", auth="wasim")
    host = Node("host", {"hostname": endpoint.host, "type": "primary", "maxContentLengthBytes": "104857600"})
    attrs = {"auth": endpoint.auth, "ttl": "3600", "auth_ttl": "21600", "max_buckets": "12"}
    return QueryAnswer(content=[Node("media_conn", attrs, [host])])


def _app_state(query: Query) -> QueryAnswer:
    synced = query.app_state.sync(query.device.number, query.body)
    return QueryAnswer(content=[Node("sync", {}, synced.nodes)], synced=synced.changed)


def _picture(query: Query) -> QueryAnswer:
    """Without a media host the name in the answer does not resolve."""
    request = profiles.PictureRequest(
        node=query.node,
        number=query.device.number,
        directory=query.directory,
        groups=query.groups,
        files=query.pictures,
        host="pps.wasim.invalid" if query.media is None else query.media.host,
        now=query.now,
    )
    return _to_query_answer(profiles.picture(request))


def _about(query: Query) -> QueryAnswer:
    """A device sets the about text of its account."""
    if query.node.attrs.get("type") == "set":
        account = query.directory.accounts[query.device.number]
        account.about = query.body.data.decode(errors="replace")
        account.about_changes += 1
        query.directory.touch(account)
    return QueryAnswer()


def _business_profile(query: Query) -> QueryAnswer:
    return QueryAnswer(content=[profiles.business(query.body, query.directory)])


def _groups(query: Query) -> QueryAnswer:
    request = group_requests.AccountRequest(
        node=query.node,
        number=query.device.number,
        directory=query.directory,
        groups=query.groups,
        now=query.now,
    )
    return _to_query_answer(group_requests.answer(request))


def _to_query_answer(found: group_requests.Answer) -> QueryAnswer:
    if isinstance(found, tuple):
        return QueryAnswer(error=found, unknown=found == NOT_IMPLEMENTED)
    return QueryAnswer(content=found or None)


def _mex(query: Query) -> QueryAnswer:
    """GraphQL over iq. Queries are named by numbers. Some change, so every answer to a query that is not about channels
    contains everything that is known."""
    about_channels = query.channels.answer(query.body, query.device.number)
    if about_channels is not None:
        return QueryAnswer(content=[Node("result", {}, json.dumps(about_channels).encode())])
    lock = notices.lock_state(query.reach_out_lock)
    quota = quota_state(query.new_chat_quota, now=query.now)
    known = {"xwa2_fetch_account_reachout_timelock": lock, "xwa2_message_capping_info": quota}
    return QueryAnswer(content=[Node("result", {}, json.dumps({"data": known}).encode())])


def _remove_companion(query: Query) -> QueryAnswer:
    jid = parse_jid(query.body.attrs.get("jid", ""))
    account = query.directory.find(jid)
    if jid is None or account is None or account.number != query.device.number:
        return QueryAnswer(error=NOT_FOUND)
    target = Address(account.number, jid.device)
    if jid.device == 0 or query.directory.device(target) is None:
        return QueryAnswer(error=NOT_FOUND)
    return QueryAnswer(unlinked=target)


_HANDLERS: dict[tuple[str, str], Handler] = {
    ("w:p", "*"): _empty,
    ("urn:xmpp:ping", "*"): _empty,
    ("passive", "active"): _activate,
    ("passive", "passive"): _activate,
    ("encrypt", "count"): _count,
    ("encrypt", "registration"): _upload,
    ("encrypt", "rotate"): _rotate,
    ("encrypt", "digest"): _digest,
    ("encrypt", "key"): _bundles,
    ("usync", "usync"): _usync,
    ("abt", "props"): _props,
    ("w", "props"): _props,
    ("privacy", "privacy"): _privacy,
    ("privacy", "tokens"): _tokens,
    ("blocklist", "*"): _blocklist,
    ("w:m", "media_conn"): _media_conn,
    ("w:sync:app:state", "sync"): _app_state,
    ("urn:xmpp:whatsapp:dirty", "clean"): _empty,
    ("urn:xmpp:whatsapp:push", "*"): _empty,
    ("w:stats", "*"): _empty,
    ("disappearing_mode", "*"): _empty,
    ("status", "*"): _about,
    ("w:profile:picture", "*"): _picture,
    ("w:biz", "*"): _business_profile,
    ("w:g2", "*"): _groups,
    ("w:mex", "query"): _mex,
    ("md", "remove-companion-device"): _remove_companion,
}
