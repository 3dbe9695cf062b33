"""The groups that a company's account is in, with their members."""

from __future__ import annotations

from typing import Annotated, TypeVar
from urllib.parse import quote, unquote

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from holdfast.base.errors import BadInput, HoldfastError, NotFound
from holdfast.dashboard.chat_views import PersonView, person_view
from holdfast.dashboard.company_pages import CompanyPath
from holdfast.dashboard.context import context_of
from holdfast.dashboard.page_auth import ProtectedPage, page
from holdfast.delivery.recipient import parse_recipient
from holdfast.session import queries as asked
from holdfast.session.queries import Query

pages = APIRouter(route_class=ProtectedPage, include_in_schema=False)

R = TypeVar("R")

_GROUPS_SHOWN = 200


async def _group(group: str) -> str:
    """The group in the path."""
    jid = parse_recipient(unquote(group), field="group")[1]
    if not jid.endswith("@g.us"):
        raise BadInput(f'"{group[:60]}" is not a group', field="group")
    return jid


GroupPath = Annotated[str, Depends(_group)]


@pages.get("/companies/{company}/groups")
async def show_groups(request: Request, company: CompanyPath) -> Response:
    words = request.query_params.get("words", "").strip()[:80]
    answer = await _ask(request, company, asked.groups())
    groups, said = ([], answer) if isinstance(answer, str) else (answer, None)
    found = [each for each in groups if words.casefold() in f"{each.subject or ''} {each.id}".casefold()]
    found.sort(key=lambda each: ((each.subject or "").casefold(), each.id))
    rows = [(person_view(each.id, each.subject), each.size) for each in found[:_GROUPS_SHOWN]]
    return page(
        request, "groups.html", company=company, groups=rows, words=words, said=said, hidden=len(found) - len(rows)
    )


@pages.get("/companies/{company}/groups/{group}")
async def show_group(request: Request, company: CompanyPath, group: GroupPath) -> Response:
    answer = await _ask(request, company, asked.group(group))
    found, said = (None, answer) if isinstance(answer, str) else (answer, None)
    members: list[tuple[PersonView, str]] = []
    if found is not None:
        names = await context_of(request).chats.names(company, [each.jid for each in found.members or ()])
        members = [(person_view(each.jid, names[each.jid].shown(each.jid)), each.role) for each in found.members or ()]
    return page(
        request,
        "group.html",
        company=company,
        group=found,
        path_of_chat=quote(group, safe="@"),
        members=members,
        said=said,
    )


async def _ask(request: Request, company: str, query: Query[R]) -> R | str:
    """WhatsApp's answer, or the sentence that says why there is none."""
    context = context_of(request)
    try:
        async with context.shutdown.until_stopping():
            return await (await context.gateway.actor(company)).queries.ask(query)
    except NotFound:
        raise
    except HoldfastError as error:
        return error.sentence
