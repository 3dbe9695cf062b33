"""`GET /v1/about`: the version of the running Holdfast and the client version of its sessions.

It needs a key, because a version tells attackers its weaknesses.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

from pydantic import Field

from holdfast.api.diagnosis_models import ClientVersionModel
from holdfast.api.routing import from_state, keyed_router
from holdfast.api.schemas import ApiModel
from holdfast.runtime.diagnosis import Diagnoser


class AboutModel(ApiModel):
    version: Annotated[str, Field(description="the version that runs, which an upgrade may not have replaced yet")]
    client_version: ClientVersionModel


router = keyed_router("service")


@router.get("/v1/about")
async def get_about(diagnoser: Annotated[Diagnoser, from_state("diagnoser")]) -> AboutModel:
    """Which version answers, and as which version of WhatsApp Web sessions log in."""
    client = ClientVersionModel.of(diagnoser.client_version, diagnoser.client_refusal, now=diagnoser.now())
    return AboutModel(version=version("holdfast"), client_version=client)
