"""The account's privacy settings: who sees what of it, and who may write to it, call it and add it to groups."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Request
from pydantic import Field

from holdfast.api.operations import STARTING, OperationModel, StarterDependency
from holdfast.api.queries import QUERY_FAILURES, ask
from holdfast.api.routing import CompanyPath, keyed_router
from holdfast.api.schemas import ApiModel, RequestModel
from holdfast.base.errors import BadInput
from holdfast.session import operations as kinds
from holdfast.session import queries as asked

_LAST_SEEN = "who sees when the account was last online"
_ONLINE = "who sees that it is online; `match_last_seen`: the same people as `lastSeen`"
_PICTURE = "who sees its picture"
_ABOUT = "who sees the text about it"
_READ_RECEIPTS = "whether others see that it read their messages. Groups always see it"
_GROUPS_ADD = "who may add it to groups"
_CALLS = "who may call it; `known`: people it knows"
_MESSAGES = "who may write to it"


class PrivacyModel(ApiModel):
    """WhatsApp's own values; null: WhatsApp does not report the setting for this account. `contact_blacklist`: all
    contacts except those that are chosen on the phone."""

    last_seen: Annotated[str | None, Field(description=_LAST_SEEN)]
    online: Annotated[str | None, Field(description=_ONLINE)]
    picture: Annotated[str | None, Field(description=_PICTURE)]
    about: Annotated[str | None, Field(description=_ABOUT)]
    read_receipts: Annotated[str | None, Field(description=_READ_RECEIPTS)]
    groups_add: Annotated[str | None, Field(description=_GROUPS_ADD)]
    calls: Annotated[str | None, Field(description=_CALLS)]
    messages: Annotated[str | None, Field(description=_MESSAGES)]


Seen = Literal["all", "contacts", "none"]


class PrivacyRequest(RequestModel):
    """Fields that are left out stay unchanged. `contact_blacklist` can be chosen on the phone only, with its people."""

    last_seen: Annotated[Seen | None, Field(description=_LAST_SEEN)] = None
    online: Annotated[Literal["all", "match_last_seen"] | None, Field(description=_ONLINE)] = None
    picture: Annotated[Seen | None, Field(description=_PICTURE)] = None
    about: Annotated[Seen | None, Field(description=_ABOUT)] = None
    read_receipts: Annotated[Literal["all", "none"] | None, Field(description=_READ_RECEIPTS)] = None
    groups_add: Annotated[Literal["all", "contacts"] | None, Field(description=_GROUPS_ADD)] = None
    calls: Annotated[Literal["all", "known"] | None, Field(description=_CALLS)] = None
    messages: Annotated[Literal["all", "contacts"] | None, Field(description=_MESSAGES)] = None

    def check(self) -> None:
        if not self.model_dump(exclude_none=True):
            names = ", ".join(str(field.alias) for field in PrivacyRequest.model_fields.values())
            raise BadInput(f"nothing to change: give one of {names}", field="body")


router = keyed_router("profile")


@router.get("/v1/sessions/{company}/privacy", responses=QUERY_FAILURES)
async def get_privacy(company: CompanyPath, request: Request) -> PrivacyModel:
    """The account's privacy settings, as WhatsApp has them now."""
    found = await ask(request, company, asked.privacy())
    return PrivacyModel.from_fields(found)


@router.patch("/v1/sessions/{company}/privacy", status_code=202, responses=STARTING)
async def change_privacy(company: CompanyPath, body: PrivacyRequest, starter: StarterDependency) -> OperationModel:
    """Change the account's privacy settings. The result names what was changed."""
    return await starter.start(company, kinds.SetPrivacy(**body.model_dump(exclude_none=True)))
