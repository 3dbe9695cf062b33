"""Adds the dashboard to an HTTP application."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import FastAPI

from holdfast.base.clock import Clock
from holdfast.base.ids import RandomSource
from holdfast.dashboard import (
    chat_pages,
    company_pages,
    fleet_pages,
    key_pages,
    login_pages,
    passkey_pages,
    people_pages,
    picture_pages,
    settings_pages,
    webhook_pages,
)
from holdfast.dashboard.assets import Assets
from holdfast.dashboard.attention import AttentionList
from holdfast.dashboard.context import AppContext
from holdfast.dashboard.fleet import Fleet
from holdfast.dashboard.logins import Logins
from holdfast.dashboard.ports import (
    CompanyRemoval,
    Files,
    KeyLookup,
    KeyManagement,
    MediaAddresses,
    SignOuts,
    WebhookSettings,
)
from holdfast.dashboard.rendering import Templates
from holdfast.dashboard.unknown_pages import show_unknown_pages
from holdfast.delivery.chats import Chats
from holdfast.delivery.events import Events
from holdfast.delivery.lookup import Lookup
from holdfast.delivery.webhooks import Webhooks
from holdfast.health.conditions import Condition
from holdfast.http.shutdown import ShutdownScope
from holdfast.runtime.account_limits import AccountLimits
from holdfast.runtime.chat_reading import ChatReading
from holdfast.runtime.diagnosis import Diagnoser
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.messages import Messages
from holdfast.runtime.operations import OperationService
from holdfast.runtime.quotas import Quotas
from holdfast.session.contacts import Contacts


def add_dashboard(
    api: FastAPI,
    gateway: Gateway,
    diagnoser: Diagnoser,
    *,
    sending: Messages,
    lookup: Lookup,
    chats: Chats,
    contacts: Contacts,
    events: Events,
    files: Files,
    operations: OperationService,
    webhooks: Webhooks,
    webhook_settings: WebhookSettings,
    limits: AccountLimits,
    removal: CompanyRemoval,
    media: MediaAddresses,
    keys: KeyLookup,
    key_management: KeyManagement,
    shutdown: ShutdownScope,
    secret: bytes,
    sign_outs: SignOuts,
    open_alerts: Callable[[], Sequence[Condition]],
    quotas: Quotas,
    clock: Clock,
    randomness: RandomSource,
    base_path: str = "",
) -> None:
    """Add the pages to the routes of `api`.

    secret: signs the session cookies.
    open_alerts: the alerts that were sent and are not over yet.
    base_path: prefix of all links, such as `/holdfast`.
    """
    assets = Assets()
    api.state.context = AppContext(
        gateway=gateway,
        sending=sending,
        diagnoser=diagnoser,
        lookup=lookup,
        chats=chats,
        contacts=contacts,
        events=events,
        files=files,
        reading=ChatReading(chats, operations),
        operations=operations,
        webhooks=webhooks,
        webhook_settings=webhook_settings,
        limits=limits,
        removal=removal,
        media=media,
        logins=Logins(keys, secret=secret, sign_outs=sign_outs, clock=clock, randomness=randomness),
        key_management=key_management,
        quotas=quotas,
        shutdown=shutdown,
        clock=clock,
        randomness=randomness,
        attention=AttentionList(open_alerts, webhooks, clock=clock),
        fleet=Fleet(gateway, diagnoser, lookup, clock=clock),
        assets=assets,
        templates=Templates(assets, clock=clock, base_path=base_path),
        base_path=base_path,
    )
    for router in (
        login_pages.open_pages,
        login_pages.pages,
        fleet_pages.pages,
        company_pages.pages,
        people_pages.pages,
        chat_pages.pages,
        chat_pages.uploads,
        picture_pages.pages,
        passkey_pages.open_pages,
        passkey_pages.pages,
        settings_pages.pages,
        webhook_pages.pages,
        key_pages.pages,
    ):
        api.include_router(router)
    show_unknown_pages(api)
