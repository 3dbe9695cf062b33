"""The groups that a company's account is in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import Path, Request
from pydantic import AfterValidator, Field

from holdfast.api.description import problem
from holdfast.api.operations import STARTING, OperationModel, StarterDependency
from holdfast.api.queries import QUERY_FAILURES, ask
from holdfast.api.routing import CompanyPath, PeopleDependency, keyed_router
from holdfast.api.schemas import ApiModel, ListPage, RequestModel, Text
from holdfast.base.clock import iso
from holdfast.base.errors import BadInput
from holdfast.delivery.recipient import parse_recipient
from holdfast.session import operations as kinds
from holdfast.session import queries as asked

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
    join_approval: Annotated[bool, Field(description="an admin must approve new members")]
    members_add: Annotated[bool, Field(description="every member may add others")]
    disappearing_s: Annotated[int, Field(description="after how many seconds messages disappear; 0: never")]
    community: Annotated[str | None, Field(description="the community that it belongs to")]
    is_community: bool


class GroupMemberModel(ApiModel):
    jid: Annotated[str, Field(description="by phone number where WhatsApp reports it")]
    lid: Annotated[str | None, Field(description="the id that hides the number")]
    role: Annotated[str, Field(description="member, admin or superadmin")]


class GroupDetailsModel(GroupModel):
    members: list[GroupMemberModel]


MAX_MEMBERS = 1023
_Subject = Annotated[Text, Field(min_length=1, max_length=100, description="the name of the group")]
Members = Annotated[
    list[Annotated[Text, Field(max_length=100)]], Field(max_length=MAX_MEMBERS, description="phone numbers or JIDs")
]


class CreateGroupRequest(RequestModel):
    subject: _Subject
    members: Annotated[Members, Field(min_length=1)]

    def check(self) -> None:
        people_of(self.members, field="members")


class ChangeGroupRequest(RequestModel):
    """Fields that are left out stay unchanged."""

    subject: _Subject | None = None
    description: Annotated[Text | None, Field(max_length=2048, description="empty: none")] = None
    announce_only: Annotated[bool | None, Field(description="only admins may write")] = None
    locked: Annotated[bool | None, Field(description="only admins may change subject, picture and description")] = None
    join_approval: Annotated[bool | None, Field(description="an admin must approve new members")] = None
    members_add: Annotated[bool | None, Field(description="every member may add others")] = None
    disappearing_s: Annotated[
        Literal[0, 86_400, 604_800, 7_776_000] | None,
        Field(description="after how many seconds messages disappear: 0 (never), a day, a week or 90 days"),
    ] = None

    def check(self) -> None:
        if not self.model_dump(exclude_none=True):
            raise BadInput("nothing to change: give at least one field, such as subject", field="body")


class ChangeMembersRequest(RequestModel):
    add: Members | None = None
    remove: Members | None = None
    promote: Annotated[Members | None, Field(description="make them admins")] = None
    demote: Annotated[Members | None, Field(description="take the admin role from them")] = None

    def check(self) -> None:
        if not self.people():
            raise BadInput("nobody to add, remove, promote or demote: name at least one member", field="body")

    def people(self) -> dict[str, list[str]]:
        """The JIDs of the people by what happens to them. Raises `BadInput`."""
        return {name: people_of(people, field=name) for name, people in self.model_dump().items() if people}


def people_of(given: list[str], *, field: str) -> list[str]:
    """JIDs of people, each once. Raises `BadInput`."""
    jids = [parse_recipient(text, field=field)[1] for text in given]
    for text, jid in zip(given, jids, strict=True):
        if jid.endswith("@g.us"):
            raise BadInput(f'{field} "{text[:60]}" is a group: give phone numbers or JIDs of people', field=field)
    return list(dict.fromkeys(jids))


def shown_time(seconds: int | None) -> str | None:
    return iso(datetime.fromtimestamp(seconds, UTC)) if seconds is not None and 0 <= seconds <= _LAST_SECOND else None


def group_of(text: str, *, field: str = "id") -> str:
    """The JID of a group. Raises `BadInput`."""
    _, jid = parse_recipient(text, field=field)
    if not jid.endswith("@g.us"):
        raise BadInput(f'{field} "{text[:60]}" is not a group: give one such as 120363012345678901@g.us', field=field)
    return jid


GroupId = Annotated[str, Path(description="such as 120363012345678901@g.us", max_length=100), AfterValidator(group_of)]
"""The JID of the group that the path names."""


router = keyed_router("groups")


@router.get("/v1/sessions/{company}/groups", responses=QUERY_FAILURES)
async def list_groups(company: CompanyPath, request: Request) -> ListPage[GroupModel]:
    """The groups that the account is in, by subject. WhatsApp is asked at most every 30 s."""
    found = await ask(request, company, asked.groups())
    ordered = sorted(found, key=lambda group: ((group.subject or "").casefold(), group.id))
    return ListPage(
        items=[GroupModel.from_fields(group, created_at=shown_time(group.created_at_s)) for group in ordered], next=None
    )


@router.get(
    "/v1/sessions/{company}/groups/{id}",
    responses={**QUERY_FAILURES, 404: problem("there is no such group, or the account is not in it")},
)
async def get_group(company: CompanyPath, id: GroupId, request: Request, people: PeopleDependency) -> GroupDetailsModel:
    """One group with its members. They are contacts from then on, with the number and the hidden id of each."""
    found = await ask(request, company, asked.group(id))
    await people.learn_members(company, found.members or [])
    members = [GroupMemberModel.from_fields(member) for member in found.members or []]
    return GroupDetailsModel.from_fields(found, created_at=shown_time(found.created_at_s), members=members)


@router.post("/v1/sessions/{company}/groups", status_code=202, responses=STARTING)
async def create_group(company: CompanyPath, body: CreateGroupRequest, starter: StarterDependency) -> OperationModel:
    """Create a group. The `result` is `{id, subject, members}`, with WhatsApp's answer about each member: who can't
    be added gets an `inviteCode`.

    The group is created once, even across failures; if the outcome can't be determined, the state is `unknown`.
    """
    members = people_of(body.members, field="members")
    return await starter.start(company, kinds.CreateGroup(subject=body.subject, members=members))


@router.patch("/v1/sessions/{company}/groups/{id}", status_code=202, responses=STARTING)
async def change_group(
    company: CompanyPath, id: GroupId, body: ChangeGroupRequest, starter: StarterDependency
) -> OperationModel:
    """Change a group's name, description or settings. The `result` names what was changed."""
    return await starter.start(company, kinds.UpdateGroup(group=id, **body.model_dump(exclude_none=True)))


@router.post("/v1/sessions/{company}/groups/{id}/members", status_code=202, responses=STARTING)
async def change_members(
    company: CompanyPath, id: GroupId, body: ChangeMembersRequest, starter: StarterDependency
) -> OperationModel:
    """Add, remove, promote and demote members, in this order. The `result` has WhatsApp's answer about each: who
    can't be added gets an `inviteCode`."""
    return await starter.start(company, kinds.ChangeMembers(group=id, **body.people()))


@router.post("/v1/sessions/{company}/groups/{id}/leave", status_code=202, responses=STARTING)
async def leave_group(company: CompanyPath, id: GroupId, starter: StarterDependency) -> OperationModel:
    """Leave a group."""
    return await starter.start(company, kinds.LeaveGroup(group=id))
