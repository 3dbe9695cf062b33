"""The routes of INTERFACE. Every one that changes or reveals something needs a key."""

from __future__ import annotations

import io
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Annotated, Any, Protocol, TypeVar

import segno
from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer

from holdfast.api import about, description, diagnosis, problems
from holdfast.api import events as streams
from holdfast.api import media as media_routes
from holdfast.api import passkeys as passkey_routes
from holdfast.api import webhooks as webhook_routes
from holdfast.api.account import LimitsShape
from holdfast.api.bodies import read_message
from holdfast.api.keys import Grant, Keys
from holdfast.api.limits import BodyLimit
from holdfast.api.media import MediaDesk
from holdfast.api.quick import LONGEST_KEY, QuickRoute
from holdfast.api.schemas import (
    AcceptedShape,
    MessageShape,
    Page,
    PairingCodeShape,
    PairingWish,
    QrShape,
    ReceivedShape,
    SessionShape,
    SessionWish,
    cursor,
)
from holdfast.api.waits import Waits
from holdfast.api.webhooks import WebhookDesk
from holdfast.delivery.events import Events
from holdfast.delivery.message import MessageState
from holdfast.delivery.ports import Message
from holdfast.delivery.recipient import parse_recipient
from holdfast.delivery.requests import MessageOptions, MessageRequest, body_of
from holdfast.runtime.composer import Wish
from holdfast.runtime.diagnosis import Diagnoser
from holdfast.runtime.gateway import Gateway, unknown_message
from holdfast.runtime.holds import held
from holdfast.runtime.rate_limiter import Restrictions
from holdfast.runtime.view import View
from holdfast.session import events as asked

N = TypeVar("N", bound="_Numbered")

_QR_WAIT_S = 15


class KeyedRoute(APIRoute):
    """Asks for the API key before anything else of a request is read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def keyed(request: Request) -> Response:
            request.state.grant = _granted(request)
            return await answer(request)

        return keyed


def _granted(request: Request) -> Grant:
    keys: Keys = request.app.state.keys
    return keys.grant(_key(request))


def _key(request: Request) -> str | None:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else request.headers.get("X-API-Key")


described = (  # the routes ask for the key by themselves; these two tell the OpenAPI document of it
    Depends(HTTPBearer(auto_error=False, description="the API key")),
    Depends(APIKeyHeader(name="X-API-Key", auto_error=False, description="the API key")),
)

sessions = APIRouter(tags=["sessions"], route_class=KeyedRoute, dependencies=described, responses=description.KEYED)
messages = APIRouter(tags=["messages"], route_class=KeyedRoute, dependencies=described, responses=description.KEYED)
service = APIRouter(tags=["service"])


async def _grant(request: Request) -> Grant:
    grant: Grant = request.state.grant
    return grant


async def _gateway(request: Request) -> Gateway:
    """Before its sessions are in hand, the gateway would call each of them unknown."""
    gateway: Gateway = request.app.state.gateway
    if not gateway.is_ready:
        raise problems.Starting
    return gateway


async def _desk(request: Request) -> WebhookDesk:
    desk: WebhookDesk = request.app.state.webhooks
    return desk


async def _shape(desk: WebhookDesk, view: View) -> SessionShape:
    return SessionShape.of(view, await desk.rows.endpoint(view.record.company))


async def _waits(request: Request) -> Waits:
    waits: Waits = request.app.state.waits
    return waits


Key = Annotated[Grant, Depends(_grant)]
Holdfast = Annotated[Gateway, Depends(_gateway)]
Desk = Annotated[WebhookDesk, Depends(_desk)]
Waiting = Annotated[Waits, Depends(_waits)]


async def _company(company: Annotated[str, Path(description="the company id")], grant: Key) -> str:
    grant.check(company)
    return company


Company = Annotated[str, Depends(_company)]
After = Annotated[str | None, Query(description="`next` of the part before")]
_ChatText = Annotated[str | None, Query(description="only of this chat: a phone number or a JID", max_length=100)]


async def _chat(chat: _ChatText = None) -> str | None:
    return None if chat is None else parse_recipient(chat, field="chat")[1]


Chat = Annotated[str | None, Depends(_chat)]
Limit = Annotated[int, Query(ge=1, le=500, description="rows in a part")]


@sessions.put("/v1/sessions/{company}")
async def put_session(
    company: Company, grant: Key, gateway: Holdfast, desk: Desk, wish: SessionWish | None = None
) -> SessionShape:
    """Create the session of a company, or find it, set what is given, and start it."""
    wish = wish or SessionWish()
    await desk.check(wish)
    pacing = None if wish.pacing is None else wish.pacing.changes()
    if grant.companies is not None and "pacing" in wish.model_fields_set:
        pacing = await gateway.tenant_pacing(company, pacing or {})
    actor = await gateway.put(company)
    if "pacing" in wish.model_fields_set:
        await gateway.set_pacing(company, pacing)
    endpoint, secret = await desk.set(company, wish)
    return SessionShape.of(actor.view, endpoint, secret=secret)


@sessions.get("/v1/sessions")
async def list_sessions(grant: Key, gateway: Holdfast, desk: Desk) -> Page[SessionShape]:
    """All sessions that the key may see."""
    views = [view for view in await gateway.looks() if grant.covers(view.record.company)]
    own = await desk.own()
    return Page(items=[SessionShape.of(view, own.get(view.record.company)) for view in views], next=None)


@sessions.get("/v1/sessions/{company}")
async def get_session(company: Company, gateway: Holdfast, desk: Desk) -> SessionShape:
    """One session as it is now."""
    return await _shape(desk, await gateway.look(company))


@sessions.get("/v1/sessions/{company}/limits")
async def get_limits(company: Company, gateway: Holdfast) -> LimitsShape:
    """How fast and to whom the company may write now, and what WhatsApp restricts."""
    return LimitsShape.of(await gateway.restrictions(company))


@sessions.delete("/v1/sessions/{company}")
async def delete_session(company: Company, gateway: Holdfast, desk: Desk) -> SessionShape:
    """Log the device out at WhatsApp and put its credentials in quarantine."""
    return await _shape(desk, await gateway.ask(company, asked.LogoutAsked()))


@sessions.post("/v1/sessions/{company}/start")
async def start_session(company: Company, gateway: Holdfast, desk: Desk) -> SessionShape:
    """Connect, and stay connected."""
    return await _shape(desk, await gateway.ask(company, asked.StartAsked()))


@sessions.post("/v1/sessions/{company}/stop")
async def stop_session(company: Company, gateway: Holdfast, desk: Desk) -> SessionShape:
    """Disconnect until started again; credentials and messages are kept."""
    return await _shape(desk, await gateway.ask(company, asked.StopAsked()))


@sessions.post("/v1/sessions/{company}/logout")
async def log_out_session(company: Company, gateway: Holdfast, desk: Desk) -> SessionShape:
    """Log the device out at WhatsApp and put its credentials in quarantine."""
    return await _shape(desk, await gateway.ask(company, asked.LogoutAsked()))


@sessions.post("/v1/sessions/{company}/reconnect", status_code=202)
@sessions.post("/webhook/whatsapp/baileys/reconnect/{company}", status_code=202)
async def reconnect_session(company: Company, gateway: Holdfast, desk: Desk) -> SessionShape:
    """Cut the link and connect at once, past any backoff; not past a ban or a logout (409)."""
    return await _shape(desk, await gateway.ask(company, asked.ReconnectAsked()))


@sessions.get("/v1/sessions/{company}/qr")
async def get_qr(company: Company, gateway: Holdfast, waits: Waiting, response: Response) -> QrShape:
    """The QR code that links a phone; waits for it for up to 15 s. It changes: ask again when it has expired."""
    response.headers.update(_NO_STORE)
    async with waits.until_stopping():
        return QrShape.of(await gateway.qr(company, at_most_s=_QR_WAIT_S))


@sessions.get("/v1/sessions/{company}/qr.svg", response_class=Response, responses=description.picture("image/svg+xml"))
async def get_qr_svg(company: Company, gateway: Holdfast, waits: Waiting) -> Response:
    """The same as a picture."""
    return await _picture(gateway, waits, company, kind="svg", media_type="image/svg+xml")


@sessions.get("/v1/sessions/{company}/qr.png", response_class=Response, responses=description.picture("image/png"))
async def get_qr_png(company: Company, gateway: Holdfast, waits: Waiting) -> Response:
    """The same as a picture."""
    return await _picture(gateway, waits, company, kind="png", media_type="image/png")


async def _picture(gateway: Gateway, waits: Waits, company: str, *, kind: str, media_type: str) -> Response:
    async with waits.until_stopping():
        code = await gateway.qr(company, at_most_s=_QR_WAIT_S)
    out = io.BytesIO()
    segno.make_qr(code.text).save(out, kind=kind, scale=6, border=4, dark="#000", light="#fff")
    return Response(out.getvalue(), media_type=media_type, headers=_NO_STORE)


@sessions.post("/v1/sessions/{company}/pairing-code")
async def make_pairing_code(
    company: Company, wish: PairingWish, gateway: Holdfast, waits: Waiting, response: Response
) -> PairingCodeShape:
    """A code to be typed on the phone, for those who can't scan."""
    response.headers.update(_NO_STORE)
    async with waits.until_stopping():
        return PairingCodeShape(code=await gateway.pairing_code(company, wish.phone_number, at_most_s=_QR_WAIT_S))


_NO_STORE = {"Cache-Control": "no-store"}
_MESSAGES = "/v1/sessions/{company}/messages"


@messages.post(_MESSAGES, status_code=202, openapi_extra=description.body(MessageRequest.__name__))
async def send_message(
    request: Request,
    company: Company,
    gateway: Holdfast,
    idempotency_key: Annotated[str | None, Header(max_length=LONGEST_KEY, min_length=1)] = None,
) -> AcceptedShape:
    """Accept a message: 202 means that it is on the disk and will be sent, whatever happens."""
    message = await read_message(await request.body(), content_type=request.headers.get("Content-Type"))
    return await _accept(gateway, company, message, idempotency_key=idempotency_key)


async def _accept(
    gateway: Gateway, company: str, message: MessageOptions, *, idempotency_key: str | None
) -> AcceptedShape:
    wish = Wish(body=body_of(message), options=message, idempotency_key=idempotency_key)
    return AcceptedShape.of(await gateway.accept(company, wish))


@messages.get("/v1/sessions/{company}/messages")
async def list_messages(
    company: Company,
    gateway: Holdfast,
    chat: Chat,
    state: MessageState | None = None,
    after: After = None,
    limit: Limit = 100,
) -> Page[MessageShape]:
    """Messages of a company, oldest first."""
    rows = await gateway.messages(company, state=state, after=cursor(after), most=limit + 1, chat=chat)
    found, next_ = _part(rows, limit)
    view, limits = await gateway.look(company), await _limits(gateway, found)
    items = [MessageShape.of(message, held(message, view, limits)) for message in found]
    return Page(items=items, next=next_)


@messages.get("/v1/messages/{id}")
async def get_message(id: str, grant: Key, gateway: Holdfast) -> MessageShape:  # noqa: A002 – the interface's name
    """One message as it stands."""
    message = await _message(id, grant, gateway)
    view, limits = await gateway.look(message.company), await _limits(gateway, [message])
    return MessageShape.of(message, held(message, view, limits))


@messages.delete("/v1/messages/{id}")
async def cancel_message(
    id: str,  # noqa: A002 – the interface's name
    grant: Key,
    gateway: Holdfast,
    force: Annotated[bool, Query(description="also one that was handed over and never acked; it may still arrive")] = (
        False
    ),
) -> MessageShape:
    """Cancel a message that has not left (409 when it may have)."""
    await _message(id, grant, gateway)
    return MessageShape.of(await gateway.cancel(id, force=force))


async def _limits(gateway: Gateway, messages: Sequence[Message]) -> Restrictions | None:
    """Of the account that sends these messages, where one of them waits as a first message to a new contact."""
    waits = next((message for message in messages if message.is_to_new_contact), None)
    return None if waits is None else await gateway.restrictions(waits.company)


async def _message(id: str, grant: Grant, gateway: Gateway) -> Message:  # noqa: A002 – the interface's name
    """A key that may not know of a message learns nothing of it, not even that there is one."""
    message = await gateway.message(id)
    if not grant.covers(message.company):
        raise unknown_message(id)
    return message


@messages.get("/v1/sessions/{company}/inbox")
async def list_inbox(
    request: Request, company: Company, gateway: Holdfast, chat: Chat, after: After = None, limit: Limit = 100
) -> Page[ReceivedShape]:
    """Inbound messages of a company in the order in which they were stored."""
    found, next_ = _part(await gateway.received(company, after=cursor(after), most=limit + 1, chat=chat), limit)
    desk: MediaDesk = request.app.state.media
    return Page(items=[ReceivedShape.of(received, desk.url(received)) for received in found], next=next_)


@service.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process is alive."""
    return {"status": "alive"}


@service.get("/readyz", responses={503: {"description": "not yet"}})
async def readyz(request: Request, response: Response) -> dict[str, str]:
    """The engine has come up and all sessions are in hand (503 before)."""
    if not request.app.state.gateway.is_ready:
        response.status_code = 503
        return {"status": "starting"}
    return {"status": "ready"}


class _Numbered(Protocol):
    @property
    def seq(self) -> int: ...


def _part(found: Sequence[N], limit: int) -> tuple[Sequence[N], str | None]:
    """A part of a list, of which one row more than asked for was looked up, and where the next one begins."""
    shown = found[:limit]
    return shown, str(shown[-1].seq) if len(found) > limit else None


def make_api(
    gateway: Gateway,
    keys: Keys,
    diagnoser: Diagnoser,
    *,
    events: Events,
    webhooks: WebhookDesk,
    media: MediaDesk,
    settings: Mapping[str, object],
) -> FastAPI:
    """The HTTP application. `settings` are those in force, for diagnostics, without secrets."""
    api = FastAPI(
        title="Holdfast",
        summary="Keeps WhatsApp sessions connected and gets every accepted message there.",
        version="1",
        docs_url=None,  # FastAPI's page loads scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # a redirect would take the host from the caller's own header
    )
    api.state.gateway = gateway
    api.state.keys = keys
    api.state.diagnoser = diagnoser
    api.state.events = events
    api.state.webhooks = webhooks
    api.state.media = media
    api.state.settings_in_force = dict(settings)
    api.state.waits = Waits()
    api.add_middleware(BodyLimit, waits=api.state.waits)
    problems.install(api)
    health = diagnosis.make_routers(KeyedRoute, dependencies=described, responses=description.KEYED)
    stream = streams.make_router(KeyedRoute, dependencies=described, responses=description.KEYED)
    hooks = webhook_routes.make_router(KeyedRoute, dependencies=described, responses=description.KEYED)
    itself = about.make_router(KeyedRoute, dependencies=described, responses=description.KEYED)
    stored = media_routes.make_router(KeyedRoute, dependencies=described, responses=description.KEYED)
    passkeys = passkey_routes.make_router(KeyedRoute, dependencies=described, responses=description.KEYED)
    for router in (
        sessions,
        passkeys,
        messages,
        stored,
        media_routes.make_open_router(),
        stream,
        hooks,
        *health,
        service,
        itself,
    ):
        api.include_router(router)
    api.router.routes.insert(0, QuickRoute(_MESSAGES, _accept, grant=_granted))
    description.install(api)
    return api
