"""The routes of INTERFACE. Every one that changes or reveals something needs a key."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Annotated, Any, Protocol, TypeVar

import segno
from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer

from holdfast.api import access, chats, contacts, description, diagnosis, groups, message_context, problems
from holdfast.api import events as streams
from holdfast.api import media as media_routes
from holdfast.api import passkeys as passkey_routes
from holdfast.api import webhooks as webhook_routes
from holdfast.api.access import authenticate
from holdfast.api.account_limits import LimitsModel
from holdfast.api.allowed_hosts import AllowedHosts
from holdfast.api.base_path import BasePath
from holdfast.api.bodies import read_message
from holdfast.api.body_limit import BodyLimit
from holdfast.api.fast_send import LONGEST_KEY, FastSendRoute
from holdfast.api.keys import ApiKeys, KeyGrant
from holdfast.api.media import MediaService
from holdfast.api.schemas import (
    AcceptedModel,
    ListPage,
    MessageModel,
    PairingCodeModel,
    PairingRequest,
    QrModel,
    ReceivedModel,
    SessionModel,
    SessionRequest,
    cursor,
)
from holdfast.api.webhooks import WebhookService
from holdfast.delivery.events import Events
from holdfast.delivery.message import MessageState
from holdfast.delivery.recipient import parse_recipient
from holdfast.delivery.requests import MessageOptions, MessageRequest, body_of
from holdfast.delivery.stores import Inbox, Message, Outbox
from holdfast.http.shutdown import ShutdownScope
from holdfast.http.startup import until_loaded
from holdfast.runtime.account_limits import AccountLimits, Restrictions
from holdfast.runtime.composer import SendRequest
from holdfast.runtime.diagnosis import Diagnoser
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.holds import hold_notice
from holdfast.runtime.messages import Messages, unknown_message
from holdfast.runtime.pairing import pairing_code, qr_code
from holdfast.runtime.quotas import Quotas
from holdfast.runtime.view import View
from holdfast.session import events as asked
from holdfast.session.labels import checked_label

N = TypeVar("N", bound="_Numbered")

_QR_WAIT_S = 15


class KeyedRoute(APIRoute):
    """Checks the API key, and whether it covers the company of the path, before anything else of a request is read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def keyed(request: Request) -> Response:
            grant = authenticate(request)
            if (company := request.path_params.get("company")) is not None:
                grant.check(company)
            async with access.large_body(request):
                await self.check_body(request)
                return await answer(request)

        return keyed

    async def check_body(self, request: Request) -> None:
        """Refuses a body before the framework parses it: that takes time and memory on the event loop."""


described = (  # the routes ask for the key by themselves; these two tell the OpenAPI document of it
    Depends(HTTPBearer(auto_error=False, description="the API key")),
    Depends(APIKeyHeader(name="X-API-Key", auto_error=False, description="the API key")),
)

sessions = APIRouter(tags=["sessions"], route_class=KeyedRoute, dependencies=described, responses=description.KEYED)
messages = APIRouter(tags=["messages"], route_class=KeyedRoute, dependencies=described, responses=description.KEYED)
service = APIRouter(tags=["service"])


async def _grant(request: Request) -> KeyGrant:
    grant: KeyGrant = request.state.grant
    return grant


async def _gateway(request: Request) -> Gateway:
    """With its sessions loaded: before that, it would call each of them unknown."""
    gateway: Gateway = request.app.state.gateway
    await until_loaded(request, gateway)
    return gateway


async def _desk(request: Request) -> WebhookService:
    desk: WebhookService = request.app.state.webhooks
    return desk


async def _shape(desk: WebhookService, gateway: Gateway, view: View) -> SessionModel:
    company = view.record.company
    return SessionModel.of(view, await desk.rows.endpoint(company), label=(await gateway.labels()).get(company))


async def _waits(request: Request) -> ShutdownScope:
    shutdown: ShutdownScope = request.app.state.shutdown
    return shutdown


async def _outbox(request: Request) -> Outbox:
    outbox: Outbox = request.app.state.outbox
    return outbox


async def _sending(request: Request) -> Messages:
    sending: Messages = request.app.state.sending
    return sending


async def _account_limits(request: Request) -> AccountLimits:
    limits: AccountLimits = request.app.state.limits
    return limits


KeyDependency = Annotated[KeyGrant, Depends(_grant)]
Holdfast = Annotated[Gateway, Depends(_gateway)]
GatewayDependency = Annotated[WebhookService, Depends(_desk)]
StoredMessages = Annotated[Outbox, Depends(_outbox)]
Sending = Annotated[Messages, Depends(_sending)]
Limits = Annotated[AccountLimits, Depends(_account_limits)]
Waiting = Annotated[ShutdownScope, Depends(_waits)]


async def _company(company: Annotated[str, Path(description="the company id")], grant: KeyDependency) -> str:
    grant.check(company)
    return company


CompanyPath = Annotated[str, Depends(_company)]
After = Annotated[str | None, Query(description="`next` of the part before")]
_ChatText = Annotated[str | None, Query(description="only of this chat: a phone number or a JID", max_length=100)]


async def _chat(chat: _ChatText = None) -> str | None:
    return None if chat is None else parse_recipient(chat, field="chat")[1]


Chat = Annotated[str | None, Depends(_chat)]
Limit = Annotated[int, Query(ge=1, le=500, description="rows in a part")]


@sessions.put("/v1/sessions/{company}")
async def put_session(
    company: CompanyPath,
    grant: KeyDependency,
    gateway: Holdfast,
    limits: Limits,
    desk: GatewayDependency,
    body: SessionRequest | None = None,
) -> SessionModel:
    """Create the session of a company, or find it, set what is given, and start it."""
    body = body or SessionRequest()
    await desk.check(company, body)
    if body.label is not None:
        checked_label(body.label)
    pacing = None if body.pacing is None else body.pacing.changes()
    if grant.companies is not None and "pacing" in body.model_fields_set:
        pacing = await limits.tenant_pacing(company, pacing or {})
    actor = await gateway.put(company, body.connection())
    if "pacing" in body.model_fields_set:
        await limits.set_pacing(company, pacing)
    if "label" in body.model_fields_set:
        await gateway.set_label(company, body.label)
    endpoint, secret = await desk.set(company, body)
    label = (await gateway.labels()).get(company)
    return SessionModel.of(actor.view, endpoint, label=label, secret=secret)


@sessions.get("/v1/sessions")
async def list_sessions(grant: KeyDependency, gateway: Holdfast, desk: GatewayDependency) -> ListPage[SessionModel]:
    """All sessions that the key may see."""
    views = [view for view in await gateway.looks() if grant.covers(view.record.company)]
    own, labels = await desk.own(), await gateway.labels()
    items = [
        SessionModel.of(view, own.get(view.record.company), label=labels.get(view.record.company)) for view in views
    ]
    return ListPage(items=items, next=None)


@sessions.get("/v1/sessions/{company}")
async def get_session(company: CompanyPath, gateway: Holdfast, desk: GatewayDependency) -> SessionModel:
    """One session as it is now."""
    return await _shape(desk, gateway, await gateway.look(company))


@sessions.get("/v1/sessions/{company}/limits")
async def get_limits(company: CompanyPath, _: Holdfast, limits: Limits) -> LimitsModel:
    """How fast and to whom the company may write now, and what WhatsApp restricts."""
    return LimitsModel.of(await limits.restrictions(company))


@sessions.delete("/v1/sessions/{company}")
async def delete_session(company: CompanyPath, gateway: Holdfast, desk: GatewayDependency) -> SessionModel:
    """Log the device out at WhatsApp and put its credentials in quarantine."""
    return await _shape(desk, gateway, await gateway.ask(company, asked.LogoutAsked()))


@sessions.post("/v1/sessions/{company}/start")
async def start_session(company: CompanyPath, gateway: Holdfast, desk: GatewayDependency) -> SessionModel:
    """Connect, and stay connected."""
    return await _shape(desk, gateway, await gateway.ask(company, asked.StartAsked()))


@sessions.post("/v1/sessions/{company}/stop")
async def stop_session(company: CompanyPath, gateway: Holdfast, desk: GatewayDependency) -> SessionModel:
    """Disconnect until started again; credentials and messages are kept."""
    return await _shape(desk, gateway, await gateway.ask(company, asked.StopAsked()))


@sessions.post("/v1/sessions/{company}/logout")
async def log_out_session(company: CompanyPath, gateway: Holdfast, desk: GatewayDependency) -> SessionModel:
    """Log the device out at WhatsApp and put its credentials in quarantine."""
    return await _shape(desk, gateway, await gateway.ask(company, asked.LogoutAsked()))


@sessions.post("/v1/sessions/{company}/reconnect", status_code=202)
@sessions.post("/webhook/whatsapp/baileys/reconnect/{company}", status_code=202)
async def reconnect_session(company: CompanyPath, gateway: Holdfast, desk: GatewayDependency) -> SessionModel:
    """Cut the link and connect at once, past any backoff; not past a ban or a logout (409)."""
    return await _shape(desk, gateway, await gateway.ask(company, asked.ReconnectAsked()))


@sessions.get("/v1/sessions/{company}/qr")
async def get_qr(company: CompanyPath, gateway: Holdfast, shutdown: Waiting, response: Response) -> QrModel:
    """The QR code that links a phone; waits for it for up to 15 s. It changes: ask again when it has expired."""
    response.headers.update(_NO_STORE)
    async with shutdown.until_stopping():
        return QrModel.of(await qr_code(await gateway.actor(company), at_most_s=_QR_WAIT_S))


@sessions.get("/v1/sessions/{company}/qr.svg", response_class=Response, responses=description.picture("image/svg+xml"))
async def get_qr_svg(company: CompanyPath, gateway: Holdfast, shutdown: Waiting) -> Response:
    """The same as a picture."""
    return await _picture(gateway, shutdown, company, kind="svg", media_type="image/svg+xml")


@sessions.get("/v1/sessions/{company}/qr.png", response_class=Response, responses=description.picture("image/png"))
async def get_qr_png(company: CompanyPath, gateway: Holdfast, shutdown: Waiting) -> Response:
    """The same as a picture."""
    return await _picture(gateway, shutdown, company, kind="png", media_type="image/png")


async def _picture(gateway: Gateway, shutdown: ShutdownScope, company: str, *, kind: str, media_type: str) -> Response:
    async with shutdown.until_stopping():
        code = await qr_code(await gateway.actor(company), at_most_s=_QR_WAIT_S)
    out = io.BytesIO()
    segno.make_qr(code.text).save(out, kind=kind, scale=6, border=4, dark="#000", light="#fff")
    return Response(out.getvalue(), media_type=media_type, headers=_NO_STORE)


@sessions.post(
    "/v1/sessions/{company}/pairing-code",
    responses={502: description.problem("WhatsApp refused to give a pairing code; the sentence says why")},
)
async def make_pairing_code(
    company: CompanyPath, body: PairingRequest, gateway: Holdfast, shutdown: Waiting, response: Response
) -> PairingCodeModel:
    """A code to be typed on the phone, for those who can't scan."""
    response.headers.update(_NO_STORE)
    async with shutdown.until_stopping():
        code = await pairing_code(await gateway.actor(company), body.phone_number, at_most_s=_QR_WAIT_S)
    return PairingCodeModel(code=code)


_NO_STORE = {"Cache-Control": "no-store"}
_MESSAGES = "/v1/sessions/{company}/messages"


@messages.post(_MESSAGES, status_code=202, openapi_extra=description.body(MessageRequest.__name__))
async def send_message(
    request: Request,
    company: CompanyPath,
    idempotency_key: Annotated[str | None, Header(max_length=LONGEST_KEY, min_length=1)] = None,
) -> AcceptedModel:
    """Accept a message: 202 means that it is on the disk and will be sent, whatever happens."""
    body = await request.body()
    message = await read_message(body, content_type=request.headers.get("Content-Type"))
    return await _accept(request, company, message, body_bytes=len(body), idempotency_key=idempotency_key)


async def _accept(
    request: Request, company: str, message: MessageOptions, *, body_bytes: int, idempotency_key: str | None
) -> AcceptedModel:
    sending: Messages = request.app.state.sending
    body = SendRequest(body=body_of(message), options=message, idempotency_key=idempotency_key)
    async with access.message_quota(request, company, body.body, body_bytes=body_bytes):
        return AcceptedModel.of(await sending.accept(company, body))


@messages.get("/v1/sessions/{company}/messages")
async def list_messages(
    company: CompanyPath,
    gateway: Holdfast,
    stored: StoredMessages,
    limits: Limits,
    chat: Chat,
    state: MessageState | None = None,
    after: After = None,
    limit: Limit = 100,
) -> ListPage[MessageModel]:
    """Messages of a company, oldest first."""
    await gateway.require(company)
    rows = await stored.messages(company, state=state, after=cursor(after), most=limit + 1, chat=chat)
    found, next_ = _part(rows, limit)
    view, restrictions = await gateway.look(company), await _restrictions(limits, found)
    items = [MessageModel.of(message, hold_notice(message, view, restrictions)) for message in found]
    return ListPage(items=items, next=next_)


@messages.get("/v1/messages/{id}")
async def get_message(
    id: str,  # noqa: A002 – the interface's name
    grant: KeyDependency,
    gateway: Holdfast,
    sending: Sending,
    limits: Limits,
) -> MessageModel:
    """One message as it stands."""
    message = await _message(id, grant, sending)
    view, restrictions = await gateway.look(message.company), await _restrictions(limits, [message])
    return MessageModel.of(message, hold_notice(message, view, restrictions))


@messages.delete("/v1/messages/{id}")
async def cancel_message(
    id: str,  # noqa: A002 – the interface's name
    grant: KeyDependency,
    _: Holdfast,
    sending: Sending,
    force: Annotated[bool, Query(description="also one that was handed over and never acked; it may still arrive")] = (
        False
    ),
) -> MessageModel:
    """Cancel a message that has not left (409 when it may have)."""
    await _message(id, grant, sending)
    return MessageModel.of(await sending.cancel(id, force=force))


async def _restrictions(limits: AccountLimits, messages: Sequence[Message]) -> Restrictions | None:
    """Of the account that sends these messages, where one of them waits as a first message to a new contact."""
    waits = next((message for message in messages if message.is_to_new_contact), None)
    return None if waits is None else await limits.restrictions(waits.company)


async def _message(id: str, grant: KeyGrant, sending: Messages) -> Message:  # noqa: A002 – the interface's name
    """A key that may not know of a message learns nothing of it, not even that there is one."""
    message = await sending.find(id)
    if not grant.covers(message.company):
        raise unknown_message(id)
    return message


@messages.get("/v1/sessions/{company}/inbox")
async def list_inbox(
    request: Request, company: CompanyPath, gateway: Holdfast, chat: Chat, after: After = None, limit: Limit = 100
) -> ListPage[ReceivedModel]:
    """Inbound messages of a company in the order in which they were stored."""
    await gateway.require(company)
    inbox: Inbox = request.app.state.inbox
    found, next_ = _part(await inbox.received(company, after=cursor(after), most=limit + 1, chat=chat), limit)
    desk: MediaService = request.app.state.media
    return ListPage(items=[ReceivedModel.of(received, desk.url(received)) for received in found], next=next_)


@service.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process is alive."""
    return {"status": "alive"}


@service.get("/readyz", responses={503: {"description": "starting, or the database takes no writes"}})
async def readyz(request: Request, response: Response) -> dict[str, str]:
    """Able to work: an engine host runs, the sessions are loaded, the database took the last write; 503 otherwise."""
    gateway, is_writable = request.app.state.gateway, request.app.state.is_writable
    found = {"status": "ready"}
    if not gateway.is_ready:
        found = {"status": "starting"}
    elif gateway.engine_failure is not None:
        found = {"status": "engine-unavailable", "detail": gateway.engine_failure}
    elif not is_writable():
        found = {"status": "database-failed", "detail": "the last write failed: Holdfast's log says why"}
    response.status_code = 200 if found["status"] == "ready" else 503
    return found


class _Numbered(Protocol):
    @property
    def seq(self) -> int: ...


def _part(found: Sequence[N], limit: int) -> tuple[Sequence[N], str | None]:
    """A part of a list, of which one row more than asked for was looked up, and where the next one begins."""
    shown = found[:limit]
    return shown, str(shown[-1].seq) if len(found) > limit else None


def make_api(
    gateway: Gateway,
    keys: ApiKeys,
    diagnoser: Diagnoser,
    *,
    sending: Messages,
    outbox: Outbox,
    inbox: Inbox,
    limits: AccountLimits,
    events: Events,
    webhooks: WebhookService,
    media: MediaService,
    quotas: Quotas,
    settings: Mapping[str, object],
    is_writable: Callable[[], bool],
    base_path: str = "",
    allowed_hosts: Collection[str] = (),
) -> FastAPI:
    """The HTTP application. `settings` are those in force, for diagnostics, without secrets.

    is_writable: did the database take the last write?
    base_path: where callers find it on its host: empty, or such as `/holdfast`.
    allowed_hosts: names in the Host header that are served, as `AllowedHosts` has them.
    """
    api = FastAPI(
        title="Holdfast",
        summary="Keeps WhatsApp sessions connected and gets every accepted message there.",
        version="1",
        servers=[{"url": base_path}] if base_path else None,
        docs_url=None,  # FastAPI's page loads scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # a redirect would take the host from the caller's own header
    )
    api.state.gateway = gateway
    api.state.sending = sending
    api.state.outbox = outbox
    api.state.inbox = inbox
    api.state.limits = limits
    api.state.access = access.Access(keys, quotas)
    api.state.diagnoser = diagnoser
    api.state.events = events
    api.state.webhooks = webhooks
    api.state.media = media
    api.state.settings_in_force = dict(settings)
    api.state.shutdown = ShutdownScope()
    api.add_middleware(BodyLimit, shutdown=api.state.shutdown)
    api.state.is_writable = is_writable
    if base_path:
        api.add_middleware(BasePath, base_path=base_path)
    api.add_middleware(AllowedHosts, names=allowed_hosts)
    problems.install(api)
    health = diagnosis.make_routers(KeyedRoute, dependencies=described, responses=description.KEYED)
    stream = streams.make_router(KeyedRoute, dependencies=described, responses=description.KEYED)
    hooks = webhook_routes.make_router(KeyedRoute, dependencies=described, responses=description.KEYED)
    itself = message_context.make_router(KeyedRoute, dependencies=described, responses=description.KEYED)
    stored = media_routes.make_router(KeyedRoute, dependencies=described, responses=description.KEYED)
    asking = [
        routes.make_router(KeyedRoute, dependencies=described, responses=description.KEYED)
        for routes in (chats, contacts, groups)
    ]
    passkeys = passkey_routes.make_router(KeyedRoute, dependencies=described, responses=description.KEYED)
    for router in (
        sessions,
        passkeys,
        messages,
        *asking,
        stored,
        media_routes.make_open_router(),
        stream,
        hooks,
        *health,
        service,
        itself,
    ):
        api.include_router(router)
    api.router.routes.insert(0, FastSendRoute(_MESSAGES, _accept, authenticate=authenticate))
    description.install(api)
    return api
