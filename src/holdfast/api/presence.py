"""Presence: whether contacts are online and write, and whether the account is shown as online itself."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from holdfast.api.deferred import deferred
from holdfast.api.queries import ChatJid
from holdfast.api.routing import CompanyPath, LoadedGateway, keyed_router
from holdfast.api.schemas import ApiModel
from holdfast.runtime.actor import SessionActor


class SeenModel(ApiModel):
    sender: Annotated[str, Field(description="the person; in a group one of its members")]
    state: Annotated[str, Field(description="available, unavailable, composing, recording or paused")]
    at: Annotated[str, Field(description="when WhatsApp reported it")]
    last_seen_at: Annotated[str | None, Field(description="when the person was last online, where they show it")]


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


async def _actor(company: CompanyPath, gateway: LoadedGateway) -> SessionActor:
    return await gateway.actor(company)


Actor = Annotated[SessionActor, deferred(_actor)]
router = keyed_router("presence")


@router.post("/v1/sessions/{company}/contacts/{chat}/presence", status_code=202)
async def subscribe_presence(actor: Actor, jid: ChatJid) -> PresenceModel:
    """Report when a contact comes online, leaves, writes or speaks: event `presence.updated`.

    WhatsApp reports it while this account is available itself, and as far as the contact's privacy settings
    allow. The subscription is made again on each connection, until it is removed or Holdfast restarts.
    """
    actor.work.contacts.subscribe(jid)
    return _presence(actor, jid)


@router.get("/v1/sessions/{company}/contacts/{chat}/presence")
async def get_presence(actor: Actor, jid: ChatJid) -> PresenceModel:
    """What WhatsApp last reported about a contact, or about the people in a group."""
    return _presence(actor, jid)


@router.delete("/v1/sessions/{company}/contacts/{chat}/presence")
async def unsubscribe_presence(actor: Actor, jid: ChatJid) -> PresenceModel:
    """Ask WhatsApp no more from the next connection on."""
    actor.work.contacts.unsubscribe(jid)
    return _presence(actor, jid)


@router.put("/v1/sessions/{company}/presence")
async def set_presence(company: CompanyPath, body: OwnPresenceRequest, gateway: LoadedGateway) -> OwnPresenceModel:
    """Show the account as online or not, from now on. Before WhatsApp gave the account's name, nothing is sent."""
    shown = None if body.available is None else ("yes" if body.available else "no")
    await gateway.set_connection(company, {"shown_available": shown})
    return OwnPresenceModel(available=body.available)


def _presence(actor: SessionActor, chat: str) -> PresenceModel:
    seen = [SeenModel.from_fields(each) for each in actor.work.contacts.seen(chat)]
    return PresenceModel(chat=chat, subscribed=chat in actor.work.contacts.subscribed, presences=seen)
