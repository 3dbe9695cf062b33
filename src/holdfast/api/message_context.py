"""What a running Holdfast says about itself."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import Field

from holdfast.api.schemas import ApiModel


class AboutModel(ApiModel):
    version: Annotated[str, Field(description="the version that runs, which an upgrade may not have replaced yet")]


def make_router(keyed: type[APIRoute], **options: Any) -> APIRouter:
    """A key is needed: whoever knows a version knows its weaknesses."""
    router = APIRouter(tags=["service"], route_class=keyed, **options)

    @router.get("/v1/about")
    async def get_about() -> AboutModel:
        """Which version answers."""
        return AboutModel(version=version("holdfast"))

    return router
