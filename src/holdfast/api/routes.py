"""The HTTP application, assembled. Every route that changes or reveals something needs a key."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from fastapi import FastAPI, Request, Response

from holdfast.api import (
    about,
    access,
    calls,
    channels,
    chat_settings,
    chats,
    contacts,
    description,
    diagnosis,
    forwarding,
    groups,
    invitations,
    messages,
    nodes,
    passkeys,
    presence,
    privacy,
    problems,
    profile,
    sessions,
)
from holdfast.api import events as streams
from holdfast.api import media as media_routes
from holdfast.api import operations as operation_routes
from holdfast.api import webhooks as webhook_routes
from holdfast.api.access import authenticate
from holdfast.api.allowed_hosts import AllowedHosts
from holdfast.api.base_path import BasePath
from holdfast.api.body_limit import BodyLimit
from holdfast.api.fast_send import FastSend
from holdfast.api.forwarding import Forwarder
from holdfast.api.keys import KnownKeys
from holdfast.api.media import MediaService
from holdfast.api.routing import keyless_router
from holdfast.api.stopped_requests import StoppedRequests
from holdfast.api.webhooks import WebhookService
from holdfast.delivery.calls import Calls
from holdfast.delivery.chats import Chats
from holdfast.delivery.events import Events
from holdfast.delivery.labels import Labels
from holdfast.delivery.stores import Inbox, Outbox
from holdfast.http.body_pieces import BodyPieces
from holdfast.http.encoded_slashes import EncodedSlashes
from holdfast.http.head_requests import HeadRequests
from holdfast.http.open_requests import OpenRequests
from holdfast.http.shutdown import ShutdownScope
from holdfast.runtime.account_limits import AccountLimits
from holdfast.runtime.diagnosis import Diagnoser
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.messages import Messages
from holdfast.runtime.operations import OperationService
from holdfast.runtime.people import People
from holdfast.runtime.quotas import Quotas
from holdfast.session.contacts import Contacts

service = keyless_router("service")


@service.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process is alive."""
    return {"status": "alive"}


@service.get("/readyz", responses={503: {"description": "starting, drained, or the database accepts no writes"}})
async def readyz(request: Request, response: Response) -> dict[str, str]:
    """Ready to work: an engine host runs, the sessions are loaded, the database stored the last write; otherwise
    503."""
    gateway, is_writable = request.app.state.gateway, request.app.state.is_writable
    found = {"status": "ready"}
    if not gateway.is_ready:
        found = {"status": "starting"}
    elif gateway.engine_failure is not None:
        found = {"status": "engine-unavailable", "detail": gateway.engine_failure}
    elif gateway.is_draining and not gateway.running:
        found = {"status": "drained", "detail": "other nodes run the sessions of this one: it can be stopped"}
    elif not is_writable():
        found = {"status": "database-failed", "detail": "the last write failed: Holdfast's log says why"}
    response.status_code = 200 if found["status"] == "ready" else 503
    return found


ROUTERS = (
    sessions.router,
    passkeys.router,
    messages.router,
    operation_routes.router,
    chats.router,
    contacts.router,
    groups.router,
    invitations.router,
    profile.router,
    privacy.router,
    channels.router,
    calls.router,
    presence.router,
    chat_settings.router,
    media_routes.router,
    media_routes.open_router,
    streams.router,
    webhook_routes.router,
    diagnosis.open_router,
    diagnosis.router,
    service,
    about.router,
    nodes.router,
)


def make_api(
    gateway: Gateway,
    keys: KnownKeys,
    diagnoser: Diagnoser,
    *,
    sending: Messages,
    people: People,
    operations: OperationService,
    outbox: Outbox,
    inbox: Inbox,
    call_rows: Calls,
    chat_rows: Chats,
    contact_rows: Contacts,
    labels: Labels,
    limits: AccountLimits,
    events: Events,
    webhooks: WebhookService,
    media: MediaService,
    quotas: Quotas,
    settings: Mapping[str, object],
    is_writable: Callable[[], bool],
    base_path: str = "",
    allowed_hosts: Collection[str] = (),
    forwarder: Forwarder | None = None,
) -> FastAPI:
    """Build the HTTP application. `settings` are the settings in force, without secrets; diagnostics show them.

    is_writable: whether the last write to the database succeeded.
    base_path: the path under which the application is served, such as `/holdfast`; empty for the root.
    allowed_hosts: names in the Host header that are served, in the form that `AllowedHosts` takes.
    forwarder: forwards requests to other nodes; None: there are none.
    """
    api = FastAPI(
        title="Holdfast",
        summary="Keeps WhatsApp sessions connected and delivers every accepted message, exactly once.",
        version="1",
        generate_unique_id_function=description.operation_id,
        servers=[{"url": base_path}] if base_path else None,
        docs_url=None,  # FastAPI's page loads scripts from a CDN
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # it is looked up at every request
        redirect_slashes=False,  # a redirect would take the host from the caller's own header
    )
    api.state.gateway = gateway
    api.state.sending = sending
    api.state.people = people
    api.state.operations = operations
    api.state.outbox = outbox
    api.state.inbox = inbox
    api.state.chats = chat_rows
    api.state.contacts = contact_rows
    api.state.labels = labels
    api.state.calls = call_rows
    api.state.limits = limits
    api.state.access = access.Access(keys, quotas)
    api.state.diagnoser = diagnoser
    api.state.events = events
    api.state.webhooks = webhooks
    api.state.media = media
    api.state.settings_in_force = dict(settings)
    api.state.shutdown = ShutdownScope()
    api.add_middleware(
        FastSend,
        path=messages.MESSAGES,
        accept=messages.accept,
        authenticate=authenticate,
        handlers=api.exception_handlers,
    )
    api.add_middleware(BodyLimit, shutdown=api.state.shutdown)
    api.add_middleware(HeadRequests)
    api.add_middleware(OpenRequests)
    api.state.is_writable = is_writable
    if base_path:
        api.add_middleware(BasePath, base_path=base_path)
    api.add_middleware(AllowedHosts, names=allowed_hosts)
    api.add_middleware(EncodedSlashes)
    problems.install(api)
    forwarding.install(api, forwarder)
    api.add_middleware(StoppedRequests, shutdown=api.state.shutdown)
    api.add_middleware(BodyPieces)
    # The routers are not included: FastAPI would build each route a second time, for each application.
    api.router.routes.extend(route for router in ROUTERS for route in router.routes)
    description.install(api)
    return api
