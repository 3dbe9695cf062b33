"""The services that pages use; one `AppContext` per HTTP application."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from holdfast.base.clock import Clock
from holdfast.base.errors import HoldfastError
from holdfast.base.ids import RandomSource
from holdfast.dashboard.assets import Assets
from holdfast.dashboard.attention import AttentionList
from holdfast.dashboard.fleet import Fleet
from holdfast.dashboard.logins import Login, Logins
from holdfast.dashboard.ports import CompanyRemoval, KeyManagement, MediaAddresses, WebhookSettings
from holdfast.dashboard.rendering import Templates
from holdfast.delivery.chats import Chats
from holdfast.delivery.events import Events
from holdfast.delivery.lookup import Lookup
from holdfast.delivery.webhooks import Webhooks
from holdfast.http.shutdown import ShutdownScope
from holdfast.runtime.account_limits import AccountLimits
from holdfast.runtime.chat_reading import ChatReading
from holdfast.runtime.diagnosis import Diagnoser
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.messages import Messages
from holdfast.runtime.operations import OperationService
from holdfast.runtime.outbound_media import OutboundMediaService
from holdfast.runtime.quotas import Quotas
from holdfast.session.contacts import Contacts


class CompanyForbidden(HoldfastError):
    """The signed-in key does not cover this company."""

    code = "forbidden"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppContext:
    gateway: Gateway
    sending: Messages
    diagnoser: Diagnoser
    lookup: Lookup
    chats: Chats
    contacts: Contacts
    events: Events
    files: OutboundMediaService
    reading: ChatReading
    operations: OperationService
    webhooks: Webhooks
    webhook_settings: WebhookSettings
    limits: AccountLimits
    removal: CompanyRemoval
    media: MediaAddresses
    logins: Logins
    key_management: KeyManagement
    quotas: Quotas
    shutdown: ShutdownScope
    clock: Clock
    randomness: RandomSource
    fleet: Fleet
    attention: AttentionList
    assets: Assets
    templates: Templates
    base_path: str
    """Path prefix behind a reverse proxy: empty, or such as `/holdfast`."""


def context_of(request: Request) -> AppContext:
    context: AppContext = request.app.state.context
    return context


def login_of(request: Request) -> Login:
    login: Login = request.state.login
    return login


async def label_of(request: Request, company: str) -> str | None:
    """What people call the company. Raises `NotFound`."""
    return (await context_of(request).fleet.row(company)).label


def check_company(request: Request, company: str) -> None:
    """Raise `CompanyForbidden` unless the signed-in key covers the company, whether or not the company exists."""
    if not login_of(request).grant.covers(company):
        raise CompanyForbidden(
            f'the API key that you signed in with has no access to company "{company[:80]}"', field="company"
        )
