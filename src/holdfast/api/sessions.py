"""Sessions: create, show, link a phone, start, stop, reconnect, log out."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import segno
from fastapi import Response

from holdfast.api import description
from holdfast.api.account_limits import LimitsModel
from holdfast.api.deferred import deferred
from holdfast.api.routing import (
    MAY_BE_NEW,
    CompanyPath,
    DiagnoserDependency,
    KeyDependency,
    Limits,
    LoadedGateway,
    ShutdownDependency,
    keyed_router,
)
from holdfast.api.schemas import ListPage
from holdfast.api.session_models import PairingCodeModel, PairingRequest, QrModel, SessionModel, SessionRequest
from holdfast.api.webhooks import WebhooksDependency, WebhookService
from holdfast.http.shutdown import ShutdownScope
from holdfast.runtime.diagnosis import Diagnoser
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.pairing import pairing_code, qr_code
from holdfast.runtime.view import View
from holdfast.session import events as asked
from holdfast.session.events import Event

_QR_WAIT_S = 15
_NO_STORE = {"Cache-Control": "no-store"}

router = keyed_router("sessions")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionAnswers:
    """Builds responses about sessions from the gateway, the database and the verdict."""

    gateway: Gateway
    diagnoser: Diagnoser
    webhooks: WebhookService

    async def of(self, view: View, *, secret: str | None = None) -> SessionModel:
        """`secret`: the secret of the session's webhook, if it is new."""
        company = view.record.company
        return SessionModel.of(
            view,
            await self.webhooks.rows.endpoint(company),
            verdict=(await self.diagnoser.verdicts([view])).get(company),
            label=(await self.gateway.labels()).get(company),
            secret=secret,
        )

    async def of_all(self, views: Sequence[View]) -> list[SessionModel]:
        own, labels = await self.webhooks.own(), await self.gateway.labels()
        verdicts = await self.diagnoser.verdicts(views)
        companies = [view.record.company for view in views]
        return [
            SessionModel.of(view, own.get(company), verdict=verdicts.get(company), label=labels.get(company))
            for company, view in zip(companies, views, strict=True)
        ]

    async def after(self, company: str, event: Event) -> SessionModel:
        """The session after it has handled the request."""
        return await self.of(await self.gateway.ask(company, event))


async def _answers(
    gateway: LoadedGateway, diagnoser: DiagnoserDependency, webhooks: WebhooksDependency
) -> SessionAnswers:
    return SessionAnswers(gateway=gateway, diagnoser=diagnoser, webhooks=webhooks)


Answers = Annotated[SessionAnswers, deferred(_answers)]


@router.put("/v1/sessions/{company}", dependencies=[MAY_BE_NEW])
async def put_session(
    company: CompanyPath,
    grant: KeyDependency,
    gateway: LoadedGateway,
    limits: Limits,
    webhooks: WebhooksDependency,
    answers: Answers,
    body: SessionRequest | None = None,
) -> SessionModel:
    """Create the session of a company if it does not exist, apply the given settings, and start it."""
    body = body or SessionRequest()
    await webhooks.check(company, body)
    pacing = None if body.pacing is None else body.pacing.changes()
    is_tenant = grant.companies is not None
    if is_tenant and "pacing" in body.model_fields_set:
        await limits.check_tenant_pacing(company, pacing or {})
    actor = await gateway.put(company, body.connection())
    if "pacing" in body.model_fields_set:
        await (limits.set_tenant_pacing(company, pacing or {}) if is_tenant else limits.set_pacing(company, pacing))
    if "label" in body.model_fields_set:
        await gateway.set_label(company, body.label)
    secret = await webhooks.set(company, body)
    return await answers.of(actor.view, secret=secret)


@router.get("/v1/sessions")
async def list_sessions(grant: KeyDependency, gateway: LoadedGateway, answers: Answers) -> ListPage[SessionModel]:
    """All sessions that the key may see."""
    views = [view for view in await gateway.cluster_views() if grant.covers(view.record.company)]
    return ListPage(items=await answers.of_all(views), next=None)


@router.get("/v1/sessions/{company}")
async def get_session(company: CompanyPath, gateway: LoadedGateway, answers: Answers) -> SessionModel:
    """One session as it is now."""
    return await answers.of(await gateway.cluster_view(company))


@router.get("/v1/sessions/{company}/limits")
async def get_limits(company: CompanyPath, _: LoadedGateway, limits: Limits) -> LimitsModel:
    """How fast and to whom the company may send now, and what WhatsApp restricts."""
    return LimitsModel.of(await limits.restrictions(company))


@router.delete("/v1/sessions/{company}")
async def delete_session(company: CompanyPath, answers: Answers) -> SessionModel:
    """Log the device out at WhatsApp and quarantine its credentials."""
    return await answers.after(company, asked.LogoutAsked())


@router.post("/v1/sessions/{company}/start")
async def start_session(company: CompanyPath, answers: Answers) -> SessionModel:
    """Connect, and stay connected."""
    return await answers.after(company, asked.StartAsked())


@router.post("/v1/sessions/{company}/stop")
async def stop_session(company: CompanyPath, answers: Answers) -> SessionModel:
    """Disconnect until started again; credentials and messages are kept."""
    return await answers.after(company, asked.StopAsked())


@router.post("/v1/sessions/{company}/logout")
async def log_out_session(company: CompanyPath, answers: Answers) -> SessionModel:
    """Log the device out at WhatsApp and quarantine its credentials."""
    return await answers.after(company, asked.LogoutAsked())


@router.post("/v1/sessions/{company}/reconnect", status_code=202)
@router.post(
    "/webhook/whatsapp/baileys/reconnect/{company}", status_code=202, operation_id="reconnectSessionByWebhookPath"
)
async def reconnect_session(company: CompanyPath, answers: Answers) -> SessionModel:
    """Cut the link and connect at once, past any backoff; not past a ban or a logout (409)."""
    return await answers.after(company, asked.ReconnectAsked())


@router.get("/v1/sessions/{company}/qr")
async def get_qr(
    company: CompanyPath, gateway: LoadedGateway, shutdown: ShutdownDependency, response: Response
) -> QrModel:
    """The QR code that links a phone; waits up to 15 s for one. It changes, so request it again when it has expired."""
    response.headers.update(_NO_STORE)
    async with shutdown.until_stopping():
        return QrModel.of(await qr_code(await gateway.actor(company), within_s=_QR_WAIT_S))


@router.get("/v1/sessions/{company}/qr.svg", response_class=Response, responses=description.picture("image/svg+xml"))
async def get_qr_svg(company: CompanyPath, gateway: LoadedGateway, shutdown: ShutdownDependency) -> Response:
    """The QR code as an SVG picture."""
    return await _picture(gateway, shutdown, company, kind="svg", media_type="image/svg+xml")


@router.get("/v1/sessions/{company}/qr.png", response_class=Response, responses=description.picture("image/png"))
async def get_qr_png(company: CompanyPath, gateway: LoadedGateway, shutdown: ShutdownDependency) -> Response:
    """The QR code as a PNG picture."""
    return await _picture(gateway, shutdown, company, kind="png", media_type="image/png")


async def _picture(gateway: Gateway, shutdown: ShutdownScope, company: str, *, kind: str, media_type: str) -> Response:
    async with shutdown.until_stopping():
        code = await qr_code(await gateway.actor(company), within_s=_QR_WAIT_S)
    out = io.BytesIO()
    segno.make_qr(code.text).save(out, kind=kind, scale=6, border=4, dark="#000", light="#fff")
    return Response(out.getvalue(), media_type=media_type, headers=_NO_STORE)


@router.post(
    "/v1/sessions/{company}/pairing-code",
    responses={502: description.problem("WhatsApp refused a pairing code; the sentence says why")},
)
async def make_pairing_code(
    company: CompanyPath, body: PairingRequest, gateway: LoadedGateway, shutdown: ShutdownDependency, response: Response
) -> PairingCodeModel:
    """A code to type on the phone, for people who can't scan."""
    response.headers.update(_NO_STORE)
    async with shutdown.until_stopping():
        code = await pairing_code(await gateway.actor(company), body.phone_number, within_s=_QR_WAIT_S)
    return PairingCodeModel(code=code)
