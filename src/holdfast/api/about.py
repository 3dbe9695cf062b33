"""`GET /v1/about`: the version of the running Holdfast and the client version of its sessions."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from pydantic import Field

from holdfast.api.diagnosis_models import ClientVersionModel
from holdfast.api.schemas import ApiModel
from holdfast.runtime.diagnosis import Diagnoser


class AboutModel(ApiModel):
    version: Annotated[str, Field(description="the version that runs, which an upgrade may not have replaced yet")]
    client_version: ClientVersionModel


def make_router(keyed: type[APIRoute], **options: Any) -> APIRouter:
    """Needs a key, because a version tells attackers its weaknesses."""
    router = APIRouter(tags=["service"], route_class=keyed, **options)

    @router.get("/v1/about")
    async def get_about(request: Request) -> AboutModel:
        """Which version answers, and as which version of WhatsApp Web sessions log in."""
        diagnoser: Diagnoser = request.app.state.diagnoser
        client = ClientVersionModel.of(diagnoser.client_version, diagnoser.client_refusal, now=diagnoser.now())
        return AboutModel(version=version("holdfast"), client_version=client)

    return router
