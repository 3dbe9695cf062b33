"""Presence: whether contacts are online and write, and whether the account is shown as online itself."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from pydantic import Field

from holdfast.api.queries import ChatPath, Company, chat_of
from holdfast.api.schemas import ApiModel
from holdfast.http.startup import until_loaded
from holdfast.runtime.actor import SessionActor
from holdfast.runtime.contact_presence import SeenPresence
from holdfast.runtime.gateway import Gateway


class SeenModel(ApiModel):
    sender: Annotated[str, Field(description="the person; in a group one of its members")]
    state: Annotated[str, Field(description="available, unavailable, composing, recording or paused")]
    at: Annotated[str, Field(description="when WhatsApp reported it")]
    last_seen_at: Annotated[str | None, Field(description="when the person was last online, where they show it")]

    @classmethod
    def of(cls, seen: SeenPresence) -> SeenModel:
        return cls(sender=seen.sender, state=seen.state, at=seen.at, last_seen_at=seen.last_seen_at)


class PresenceModel(ApiModel):
    chat: str
    subscribed: Annotated[bool, Field(description="whether WhatsApp is asked to report changes")]
    presences: Annotated[list[SeenModel], Field(description="what was reported on the present connection")]


class OwnPresenceRequest(ApiModel):
    available: Annotated[
        bool | None,
        Field(
            description="true: shown as online while connected; the phone then gets no push notifications. "
            "null: as the setting keepalive_presence says"
        ),
    ]


class OwnPresenceModel(ApiModel):
    available: Annotated[bool | None, Field(description="null: as the setting keepalive_presence says")]


def make_router(route_class: type[APIRoute], *, dependencies: Any, responses: Any) -> APIRouter:
    """The routes about presence; all need a key."""
    router = APIRouter(tags=["presence"], route_class=route_class, dependencies=dependencies, responses=responses)

    @router.post("/v1/sessions/{company}/contacts/{chat}/presence", status_code=202)
    async def subscribe_presence(company: Company, chat: ChatPath, request: Request) -> PresenceModel:
        """Report when a contact comes online, leaves, writes or speaks: event `presence.updated`.

        WhatsApp reports it while this account is available itself, and as far as the contact's privacy settings
        allow. The subscription is made again on each connection, until it is removed or Holdfast restarts.
        """
        actor = await _actor(request, company)
        jid = await chat_of(request, company, chat)
        actor.work.contacts.subscribe(jid)
        return _presence(actor, jid)

    @router.get("/v1/sessions/{company}/contacts/{chat}/presence")
    async def get_presence(company: Company, chat: ChatPath, request: Request) -> PresenceModel:
        """What WhatsApp last reported about a contact, or about the people in a group."""
        jid = await chat_of(request, company, chat)
        return _presence(await _actor(request, company), jid)

    @router.delete("/v1/sessions/{company}/contacts/{chat}/presence")
    async def unsubscribe_presence(company: Company, chat: ChatPath, request: Request) -> PresenceModel:
        """Ask WhatsApp no more from the next connection on."""
        actor = await _actor(request, company)
        jid = await chat_of(request, company, chat)
        actor.work.contacts.unsubscribe(jid)
        return _presence(actor, jid)

    @router.put("/v1/sessions/{company}/presence")
    async def set_presence(company: Company, body: OwnPresenceRequest, request: Request) -> OwnPresenceModel:
        """Show the account as online or not, from now on. Before WhatsApp gave the account's name, nothing is sent."""
        gateway: Gateway = request.app.state.gateway
        await until_loaded(request, gateway)
        shown = None if body.available is None else ("yes" if body.available else "no")
        await gateway.set_connection(company, {"shown_available": shown})
        return OwnPresenceModel(available=body.available)

    return router


async def _actor(request: Request, company: str) -> SessionActor:
    gateway: Gateway = request.app.state.gateway
    await until_loaded(request, gateway)
    return await gateway.actor(company)


def _presence(actor: SessionActor, chat: str) -> PresenceModel:
    seen = [SeenModel.of(each) for each in actor.work.contacts.seen(chat)]
    return PresenceModel(chat=chat, subscribed=chat in actor.work.contacts.subscribed, presences=seen)
