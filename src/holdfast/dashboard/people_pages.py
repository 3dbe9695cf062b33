"""The groups that a company's account is in, their members, and new groups."""

from __future__ import annotations

import re
from typing import Annotated, TypeVar
from urllib.parse import quote, unquote

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from holdfast.base.errors import BadInput, HoldfastError, NotFound
from holdfast.dashboard.chat_views import PersonView, name_of, person_view
from holdfast.dashboard.company_pages import CompanyPath
from holdfast.dashboard.context import context_of, label_of
from holdfast.dashboard.page_auth import ProtectedPage, is_part, page, part
from holdfast.delivery.recipient import parse_recipient
from holdfast.session import queries as asked
from holdfast.session.operation_states import Operation, OperationState
from holdfast.session.operations import CreateGroup
from holdfast.session.queries import Query

pages = APIRouter(route_class=ProtectedPage, include_in_schema=False)

R = TypeVar("R")

_GROUPS_SHOWN, _CONTACTS_SHOWN = 200, 100
_CREATION_WAIT_S = 15
_THIS = "This account"
_LONGEST_SUBJECT, _MAX_MEMBERS = 100, 1023
_BETWEEN = re.compile("[\\r\\n,;،؛、，；]")


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
    groups, message = ([], answer) if isinstance(answer, str) else (answer, None)
    found = [each for each in groups if words.casefold() in f"{each.subject or ''} {each.id}".casefold()]
    found.sort(key=lambda each: ((each.subject or "").casefold(), each.id))
    rows = [(person_view(each.id, each.subject), each.size) for each in found[:_GROUPS_SHOWN]]
    return page(
        request,
        "groups.html",
        company=company,
        label=await label_of(request, company),
        groups=rows,
        words=words,
        message=message,
        hidden=len(found) - len(rows),
        form_id=context_of(request).randomness.secret(),
    )


@pages.post("/companies/{company}/groups")
async def create_group(request: Request, company: CompanyPath) -> Response:
    """Create a group, and open it. The id of the form is its idempotency key, so a second click creates no second
    group."""
    context, form = context_of(request), request.state.form
    arguments = CreateGroup(subject=_subject(form.get("subject", "")), members=_members(form.get("members", "")))
    operation = await context.operations.accept(company, arguments, idempotency_key=form.get("form_id") or None)
    async with context.shutdown.until_stopping():
        operation = await context.operations.settled(operation, within_s=_CREATION_WAIT_S)
    tone, message = _outcome(operation)
    created = f"/companies/{company}/groups/{quote(operation.result['id'], safe='@')}" if tone == "success" else None
    if not is_part(request):
        return RedirectResponse(created or f"/companies/{company}/groups", status_code=303)
    response = part(request, "notice.html", tone=tone, message=message)
    if created is not None:
        response.headers["HX-Redirect"] = context.base_path + created
    return response


def _subject(text: str) -> str:
    subject = text.strip()
    if not 1 <= len(subject) <= _LONGEST_SUBJECT:
        raise BadInput(f"the name has {len(subject)} characters: give 1 to {_LONGEST_SUBJECT}", field="subject")
    return subject


def _members(text: str) -> list[str]:
    """The JIDs of the people on the lines of a text, or between commas of any script."""
    lines = [line.strip() for line in _BETWEEN.split(text) if line.strip()]
    if not 1 <= len(lines) <= _MAX_MEMBERS:
        raise BadInput(f"there are {len(lines)} members: give 1 to {_MAX_MEMBERS} numbers", field="members")
    jids = [parse_recipient(line, field="members")[1] for line in lines]
    if group := next((jid for jid in jids if jid.endswith("@g.us")), None):
        raise BadInput(f'members "{group}" is a group: give phone numbers of people', field="members")
    return list(dict.fromkeys(jids))


def _outcome(operation: Operation) -> tuple[str, str]:
    """The tone and the sentence about the creation of a group."""
    match operation.state:
        case OperationState.SUCCEEDED:
            return "success", "the group was created"
        case OperationState.QUEUED | OperationState.RUNNING:
            return "info", "the group is created as soon as the session is connected; then it is listed here"
    return "critical", operation.error or f"the group was not created ({operation.state})"


@pages.get("/companies/{company}/groups/{group}")
async def show_group(request: Request, company: CompanyPath, group: GroupPath) -> Response:
    answer = await _ask(request, company, asked.group(group))
    found, message = (None, answer) if isinstance(answer, str) else (answer, None)
    members: list[tuple[PersonView, str]] = []
    if found is not None:
        names = await context_of(request).chats.names(company, [each.jid for each in found.members or ()])
        own = await _own_jid(request, company)
        members = [
            (person_view(each.jid, _THIS if each.jid == own else names[each.jid].shown(each.jid)), each.role)
            for each in found.members or ()
        ]
    return page(
        request,
        "group.html",
        company=company,
        label=await label_of(request, company),
        group=found,
        path_of_chat=quote(group, safe="@"),
        members=members,
        message=message,
    )


@pages.get("/companies/{company}/contacts")
async def show_contacts(request: Request, company: CompanyPath) -> Response:
    query = request.query_params
    words, after = query.get("words", "").strip()[:80], query.get("after", "")[:200]
    found = await context_of(request).contacts.contacts(company, after=after, limit=_CONTACTS_SHOWN, words=words)
    own = await _own_jid(request, company)
    return page(
        request,
        "contacts.html",
        company=company,
        label=await label_of(request, company),
        people=[person_view(each.jid, _THIS if each.jid == own else name_of(each)) for each in found.people],
        words=words,
        after=after,
        following=found.next,
    )


async def _own_jid(request: Request, company: str) -> str | None:
    """The company's own account, which is among its contacts and the members of its groups."""
    number = (await context_of(request).gateway.cluster_view(company)).record.phone_number
    return None if number is None else parse_recipient(number, field="phoneNumber")[1]


async def _ask(request: Request, company: str, query: Query[R]) -> R | str:
    """WhatsApp's answer, or the sentence that says why there is none."""
    context = context_of(request)
    try:
        async with context.shutdown.until_stopping():
            return await (await context.gateway.actor(company)).work.queries.ask(query)
    except NotFound:
        raise
    except HoldfastError as error:
        return error.sentence
