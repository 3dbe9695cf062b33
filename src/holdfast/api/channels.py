"""Channels: those that the account follows, and following others. Posts are messages of outbox and inbox."""

from __future__ import annotations

import re
from typing import Annotated, Self

from fastapi import Path, Request
from pydantic import AfterValidator, Field

from holdfast.api.description import problem
from holdfast.api.groups import shown_time
from holdfast.api.operations import STARTING, OperationModel, StarterDependency
from holdfast.api.queries import QUERY_FAILURES, ask
from holdfast.api.routing import CompanyPath, keyed_router
from holdfast.api.schemas import ApiModel, ListPage, checked_by
from holdfast.base.errors import BadInput
from holdfast.delivery.recipient import parse_channel
from holdfast.session import operations as kinds
from holdfast.session import queries as asked

_LINK = "https://whatsapp.com/channel/"
_CODE = re.compile(r"[0-9A-Za-z_-]{8,64}")


class ChannelModel(ApiModel):
    id: str
    name: str | None
    description: str | None
    invite_link: str | None
    followers: int
    created_at: str | None
    verified: bool
    role: Annotated[
        str | None,
        Field(description="of this account: owner, admin or subscriber; guest: it does not follow it"),
    ]
    muted: bool

    @classmethod
    def of(cls, channel: asked.Channel) -> Self:
        return cls.from_fields(
            channel,
            invite_link=None if channel.invite is None else f"{_LINK}{channel.invite}",
            created_at=shown_time(channel.created_at_s),
        )


def _jid(text: str) -> str:
    return parse_channel(text, field="id")


def _query(named: str) -> asked.Query[asked.Channel]:
    """Raises `BadInput`."""
    if "@" in named:
        return asked.channel(jid=_jid(named))
    if _CODE.fullmatch(named) is None:
        raise BadInput(
            f'id "{named[:60]}" is neither a channel such as 120363012345678901@newsletter nor the code of an invite '
            f"link ({_LINK}CODE)",
            field="id",
        )
    return asked.channel(invite=named)


ChannelId = Annotated[
    str, Path(description="such as 120363012345678901@newsletter", max_length=100), AfterValidator(_jid)
]
"""The JID of the channel that the path names."""
NamedChannel = Annotated[
    str,
    Path(description="such as 120363012345678901@newsletter, or the code of an invite link", max_length=100),
    checked_by(_query),
]


router = keyed_router("channels")


@router.get("/v1/sessions/{company}/channels", responses=QUERY_FAILURES)
async def list_channels(company: CompanyPath, request: Request) -> ListPage[ChannelModel]:
    """The channels that the account follows or writes in, by name. WhatsApp is asked at most every 30 s."""
    found = await ask(request, company, asked.channels())
    ordered = sorted(found, key=lambda channel: ((channel.name or "").casefold(), channel.id))
    return ListPage(items=[ChannelModel.of(channel) for channel in ordered], next=None)


@router.get(
    "/v1/sessions/{company}/channels/{id}", responses={**QUERY_FAILURES, 404: problem("there is no such channel")}
)
async def get_channel(company: CompanyPath, id: NamedChannel, request: Request) -> ChannelModel:
    """One channel, also one that the account does not follow."""
    return ChannelModel.of(await ask(request, company, _query(id)))


@router.post("/v1/sessions/{company}/channels/{id}/follow", status_code=202, responses=STARTING)
async def follow_channel(company: CompanyPath, id: ChannelId, starter: StarterDependency) -> OperationModel:
    """Follow a channel: its posts come to the inbox."""
    return await starter.start(company, kinds.FollowChannel(channel=id, followed=True))


@router.post("/v1/sessions/{company}/channels/{id}/unfollow", status_code=202, responses=STARTING)
async def unfollow_channel(company: CompanyPath, id: ChannelId, starter: StarterDependency) -> OperationModel:
    """Leave a channel. Its owner can't."""
    return await starter.start(company, kinds.FollowChannel(channel=id, followed=False))
