"""Routes of the control interface for groups and channels."""

from __future__ import annotations

from aiohttp import web

from wasim.clock import iso
from wasim.requests import SIMULATOR, ControlError, Json, body_of, number_of, numbers_of, text_of
from wasim.server.channels import Channel, Role
from wasim.server.directory import Directory
from wasim.server.state import PHONE, Address, Group
from wasim.wire.jids import parse_jid


def add_routes(app: web.Application) -> None:
    app.router.add_get("/groups", _groups)
    app.router.add_post("/groups", _add_group)
    app.router.add_patch("/groups/{id}", _change_group)
    app.router.add_get("/channels", _channels)
    app.router.add_post("/channels", _add_channel)


# Groups


async def _groups(request: web.Request) -> web.Response:
    directory = request.app[SIMULATOR].server.directory
    return web.json_response([_group(directory, group) for group in directory.groups.values()])


def _group(directory: Directory, group: Group) -> Json:
    members = [
        {"number": number, "admin": admin, "lid": str(directory.jid(Address(number, PHONE), "lid"))}
        for number, admin in group.members.items()
    ]
    return {
        "id": str(group.jid),
        "subject": group.subject,
        "addressing": group.addressing,
        "createdAt": iso(group.created_at),
        "members": members,
        "description": group.description or None,
        "announce": group.announce,
        "locked": group.locked,
        "disappearingS": group.ephemeral_s,
        "joinApproval": group.join_approval,
        "membersAdd": group.members_add,
        "inviteCode": group.invite_code or None,
        "requests": list(group.requests),
        "picture": group.picture_id or None,
    }


async def _add_group(request: web.Request) -> web.Response:
    simulator, body = request.app[SIMULATOR], await body_of(request)
    addressing = body.get("addressing", "lid")
    if addressing not in ("lid", "pn"):
        raise ControlError(400, f"addressing {addressing!r}: give 'lid' or 'pn'")
    subject, members = text_of(body, "subject"), numbers_of(body, "members")
    with simulator.update() as (server, now):
        group = server.groups.create(subject, members, addressing=addressing, now=now)
    return web.json_response(_group(server.directory, group), status=201)


async def _change_group(request: web.Request) -> web.Response:
    simulator, body = request.app[SIMULATOR], await body_of(request)
    group = simulator.server.directory.group(parse_jid(request.match_info["id"]))
    if group is None:
        raise ControlError(404, f"there is no group {request.match_info['id']}; GET /groups lists them")
    for name in body.keys() - {"subject", "add", "remove", "requests"}:
        raise ControlError(400, f"{name!r} of a group can't be changed; give subject, add, remove or requests")
    subject = text_of(body, "subject") if "subject" in body else None
    added, removed, requesting = (numbers_of(body, name) for name in ("add", "remove", "requests"))
    with simulator.update() as (server, now):
        if subject is not None:
            server.groups.set_subject(group, subject, now=now)
        server.groups.add(group, added, now=now)
        server.groups.remove(group, removed, now=now)
        server.groups.request_to_join(group, requesting, now=now)
    return web.json_response(_group(simulator.server.directory, group))


# Channels


async def _channels(request: web.Request) -> web.Response:
    channels = request.app[SIMULATOR].server.channels
    return web.json_response([_channel(channel) for channel in channels.all.values()])


def _channel(channel: Channel) -> Json:
    posts = [
        {"id": post.id, "serverId": post.server_id, "from": post.author, "text": post.text, "at": iso(post.at)}
        for post in channel.posts
    ]
    return {
        "id": str(channel.jid),
        "name": channel.name,
        "description": channel.description or None,
        "invite": channel.invite,
        "roles": {number: role.lower() for number, role in channel.roles.items()},
        "posts": posts,
    }


async def _add_channel(request: web.Request) -> web.Response:
    simulator, body = request.app[SIMULATOR], await body_of(request)
    roles: dict[str, Role] = {number_of(body.get("owner")): "OWNER"}
    roles |= dict.fromkeys(numbers_of(body, "admins") if "admins" in body else [], "ADMIN")
    description = text_of(body, "description") if "description" in body else ""
    name = text_of(body, "name")
    with simulator.update() as (server, now):
        channel = server.channels.create(name, description, roles, now=now)
    return web.json_response(_channel(channel), status=201)
