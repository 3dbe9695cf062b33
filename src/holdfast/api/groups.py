"""The groups that a company's account is in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Self

from fastapi import APIRouter, Path, Request
from fastapi.routing import APIRoute
from pydantic import Field

from holdfast.api.description import problem
from holdfast.api.queries import ASKING, Company, queries_of
from holdfast.api.schemas import ApiModel, ListPage
from holdfast.base.clock import iso
from holdfast.base.errors import BadInput
from holdfast.delivery.recipient import parse_recipient
from holdfast.session import queries as asked
from holdfast.session.queries import Group, GroupMember

_LAST_SECOND = 253_402_300_799
"""The end of the year 9999."""


class GroupModel(ApiModel):
    id: str
    subject: str | None
    description: str | None
    size: Annotated[int, Field(description="number of members")]
    created_at: str | None
    owner: str | None
    announce_only: Annotated[bool, Field(description="only admins may write")]
    locked: Annotated[bool, Field(description="only admins may change subject, picture and description")]
    join_approval: Annotated[bool, Field(description="an admin must let new members in")]
    members_add: Annotated[bool, Field(description="every member may add others")]
    disappearing_s: Annotated[int, Field(description="after how many seconds messages disappear; 0: never")]
    community: Annotated[str | None, Field(description="the community that it belongs to")]
    is_community: bool

    @classmethod
    def of(cls, group: Group) -> Self:
        return cls(**_fields(group))


class GroupMemberModel(ApiModel):
    jid: Annotated[str, Field(description="by phone number where WhatsApp reports it")]
    lid: Annotated[str | None, Field(description="the id that hides the number")]
    role: Annotated[str, Field(description="member, admin or superadmin")]

    @classmethod
    def of(cls, member: GroupMember) -> GroupMemberModel:
        return cls(jid=member.jid, lid=member.lid, role=member.role)


class GroupDetailsModel(GroupModel):
    members: list[GroupMemberModel]

    @classmethod
    def of(cls, group: Group) -> Self:
        return cls(**_fields(group), members=[GroupMemberModel.of(member) for member in group.members or []])


def _fields(group: Group) -> dict[str, Any]:
    return {
        "id": group.id,
        "subject": group.subject,
        "description": group.description,
        "size": group.size,
        "created_at": _at(group.created_at_s),
        "owner": group.owner,
        "announce_only": group.announce_only,
        "locked": group.locked,
        "join_approval": group.join_approval,
        "members_add": group.members_add,
        "disappearing_s": group.disappearing_s,
        "community": group.community,
        "is_community": group.is_community,
    }


def _at(seconds: int | None) -> str | None:
    return iso(datetime.fromtimestamp(seconds, UTC)) if seconds is not None and 0 <= seconds <= _LAST_SECOND else None


GroupId = Annotated[str, Path(description="such as 120363012345678901@g.us", max_length=100)]


def make_router(route_class: type[APIRoute], *, dependencies: Any, responses: Any) -> APIRouter:
    """The routes about groups; all need a key."""
    router = APIRouter(tags=["groups"], route_class=route_class, dependencies=dependencies, responses=responses)

    @router.get("/v1/sessions/{company}/groups", responses=dict(ASKING))
    async def list_groups(company: Company, request: Request) -> ListPage[GroupModel]:
        """The groups that the account is in, by subject. WhatsApp is asked at most every 30 s."""
        async with queries_of(request, company) as queries:
            found = await queries.ask(asked.groups())
        ordered = sorted(found, key=lambda group: ((group.subject or "").casefold(), group.id))
        return ListPage(items=[GroupModel.of(group) for group in ordered], next=None)

    @router.get(
        "/v1/sessions/{company}/groups/{id}",
        responses={**ASKING, 404: problem("there is no such group, or the account is not in it")},
    )
    async def get_group(
        company: Company,
        id: GroupId,  # noqa: A002 – the interface's name
        request: Request,
    ) -> GroupDetailsModel:
        """One group with its members."""
        _, jid = parse_recipient(id, field="id")
        if not jid.endswith("@g.us"):
            raise BadInput(f'id "{id[:60]}" is not a group: give one such as 120363012345678901@g.us', field="id")
        async with queries_of(request, company) as queries:
            return GroupDetailsModel.of(await queries.ask(asked.group(jid)))

    return router
