"""How people come into groups: invite links, personal invitations, and requests that admins answer."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Path, Request
from pydantic import AfterValidator, Field

from holdfast.api.description import problem
from holdfast.api.groups import GroupId, GroupModel, Members, group_of, people_of, shown_time
from holdfast.api.operations import STARTING, OperationModel, StarterDependency
from holdfast.api.queries import QUERY_FAILURES, ask
from holdfast.api.routing import CompanyPath, keyed_router
from holdfast.api.schemas import ApiModel, ListPage, RequestModel, Text
from holdfast.base.errors import BadInput, NotFound
from holdfast.session import operations as kinds
from holdfast.session import queries as asked

_LINK = re.compile(r"(?:https?://)?chat\.whatsapp\.com/(?:invite/)?([A-Za-z0-9_-]{1,64})(?:[/?#].*)?", re.IGNORECASE)
_CODE = re.compile(r"[A-Za-z0-9_-]{1,64}")


class InviteModel(ApiModel):
    code: str
    url: str


class JoinRequestModel(ApiModel):
    jid: Annotated[str, Field(description="by phone number where WhatsApp reports it")]
    lid: Annotated[str | None, Field(description="the id that hides the number")]
    requested_at: str | None
    method: Annotated[str | None, Field(description="how, as WhatsApp reports it: invite_link, non_admin_add …")]


class JoinRequestBody(RequestModel):
    """An invite link or its code. For a personal invitation also `group`, `admin` and `expiresS`, from its message."""

    invite: Annotated[Text, Field(min_length=1, max_length=200, description="a link to chat.whatsapp.com, or its code")]
    group: Annotated[Text | None, Field(max_length=100, description="of a personal invitation: the group")] = None
    admin: Annotated[Text | None, Field(max_length=100, description="of a personal invitation: who sent it")] = None
    expires_s: Annotated[
        int | None, Field(ge=0, le=2**40, description="of a personal invitation: when it expires, in Unix seconds")
    ] = None

    def check(self) -> None:
        self.arguments()

    def arguments(self) -> kinds.JoinGroup:
        """Raises `BadInput`."""
        code = _code(self.invite, field="invite")
        if (self.group is None) is not (self.admin is None):
            raise BadInput("a personal invitation has both group and admin: give both, or neither", field="group")
        if self.group is None or self.admin is None:
            return kinds.JoinGroup(code=code)
        (admin,) = people_of([self.admin], field="admin")
        group = group_of(self.group, field="group")
        return kinds.JoinGroup(code=code, group=group, admin=admin, expires_s=self.expires_s)


class AnswerRequestsBody(RequestModel):
    approve: Members | None = None
    reject: Members | None = None

    def check(self) -> None:
        if not self.people():
            raise BadInput("nobody to approve or reject: name at least one person", field="body")

    def people(self) -> dict[str, list[str]]:
        """The JIDs of the people by what happens to their requests. Raises `BadInput`."""
        return {name: people_of(people, field=name) for name, people in self.model_dump().items() if people}


def _code(text: str, *, field: str = "code") -> str:
    """The code in an invite link, or the code itself. Raises `BadInput`."""
    plain = text.strip()
    if (link := _LINK.fullmatch(plain)) is not None:
        return link[1]
    if _CODE.fullmatch(plain) is not None:
        return plain
    cure = "give a link such as https://chat.whatsapp.com/AbCdEfGhIjK, or its code"
    raise BadInput(f'{field} "{plain[:80]}" is not an invite link: {cure}', field=field)


_InviteCode = Annotated[str, Path(max_length=200, description="of the link"), AfterValidator(_code)]

router = keyed_router("groups")


@router.get("/v1/sessions/{company}/groups/{id}/invite", responses=QUERY_FAILURES)
async def get_invite(company: CompanyPath, id: GroupId, request: Request) -> InviteModel:
    """The group's invite link. In most groups only admins may see it."""
    code = (await ask(request, company, asked.invite(id))).code
    if code is None:
        raise NotFound("WhatsApp gives no invite link of this group", field="id")
    return InviteModel(code=code, url=f"https://chat.whatsapp.com/{code}")


@router.delete("/v1/sessions/{company}/groups/{id}/invite", status_code=202, responses=STARTING)
async def revoke_invite(company: CompanyPath, id: GroupId, starter: StarterDependency) -> OperationModel:
    """Revoke the invite link. The `result` is `{code}`, that of the new link."""
    return await starter.start(company, kinds.RevokeInvite(group=id))


@router.get(
    "/v1/sessions/{company}/invites/{code}",
    responses={**QUERY_FAILURES, 404: problem("the link leads to no group, or was revoked")},
)
async def get_invited_group(company: CompanyPath, code: _InviteCode, request: Request) -> GroupModel:
    """The group that an invite link leads to, before joining it."""
    group = await ask(request, company, asked.invited_group(code))
    return GroupModel.from_fields(group, created_at=shown_time(group.created_at_s))


@router.post("/v1/sessions/{company}/groups/join", status_code=202, responses=STARTING)
async def join_group(company: CompanyPath, body: JoinRequestBody, starter: StarterDependency) -> OperationModel:
    """Join a group by its link. The `result` is `{id, waitsForApproval}`: an admin may have to let the account
    in."""
    return await starter.start(company, body.arguments())


@router.get("/v1/sessions/{company}/groups/{id}/requests", responses=QUERY_FAILURES)
async def list_join_requests(company: CompanyPath, id: GroupId, request: Request) -> ListPage[JoinRequestModel]:
    """The people who ask to join the group."""
    found = await ask(request, company, asked.join_requests(id))
    items = [JoinRequestModel.from_fields(each, requested_at=shown_time(each.requested_at_s)) for each in found]
    return ListPage(items=items, next=None)


@router.post("/v1/sessions/{company}/groups/{id}/requests", status_code=202, responses=STARTING)
async def answer_join_requests(
    company: CompanyPath, id: GroupId, body: AnswerRequestsBody, starter: StarterDependency
) -> OperationModel:
    """Let people in, or reject them. The `result` has WhatsApp's answer about each."""
    return await starter.start(company, kinds.AnswerRequests(group=id, **body.people()))
