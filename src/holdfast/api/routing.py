"""What every route is built from: the checks that come before it, and the dependencies that routes use as arguments.

Every route checks a request in the same order: key, syntax, company. Only what passed them all may cause a look-up, so
WhatsApp is never asked for a request that is refused anyway, and what is wrong with a request never depends on what
exists.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Collection, Coroutine, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.security import APIKeyHeader, HTTPBearer
from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

from holdfast.api import access, description
from holdfast.api.access import authenticate
from holdfast.api.deferred import DeferringRoute, Function, deferred
from holdfast.api.keys import KeyGrant, NotAllowed
from holdfast.api.schemas import checked_by, cursor
from holdfast.base.clock import in_utc
from holdfast.base.errors import BadInput
from holdfast.base.ids import COMPANY_RULE, is_company_id
from holdfast.delivery.recipient import parse_recipient, username_in
from holdfast.delivery.stores import Outbox
from holdfast.http.encoded_slashes import with_slashes
from holdfast.http.nul import refuse_nul
from holdfast.http.shutdown import ShutdownScope
from holdfast.http.startup import until_loaded
from holdfast.runtime.account_limits import AccountLimits
from holdfast.runtime.diagnosis import Diagnoser
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.messages import Messages
from holdfast.runtime.people import People

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class KeyedRoute(DeferringRoute):
    """Checks the API key, and whether it covers the company in the path, before anything else of a request is read;
    then the path, the query and the body; then whether the company exists. Only then are deferred dependencies called.
    """

    def __init__(
        self, path: str, endpoint: Function, *, dependencies: Sequence[Any] | None = None, **options: Any
    ) -> None:
        if "{company}" in path and MAY_BE_NEW not in (dependencies or ()):
            endpoint = _for_known_company(endpoint)
        super().__init__(path, endpoint, dependencies=dependencies, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()
        known = _query_names(self.dependant)
        if "items" in getattr(self.response_model, "model_fields", ()):
            known |= _OF_PAGES

        async def keyed(request: Request) -> Response:
            values = request.scope["path_params"]
            request.scope["path_params"] = {name: with_slashes(value) for name, value in values.items()}
            grant = authenticate(request)
            if (company := request.path_params.get("company")) is not None:
                grant.check(company)
            refuse_nul((*request.path_params.items(), *request.query_params.multi_items()))
            _refuse_unknown_names(request, known)
            async with access.large_body(request):
                await self.check_body(request)
                return await answer(request)

        return keyed

    async def check_body(self, request: Request) -> None:
        """Refuse a bad body before the framework parses it, which takes time and memory on the event loop."""


async def _require_company(request: Request) -> None:
    """Raises `NotFound` for an unknown company, and `DatabaseStalled`."""
    gateway: Gateway = request.app.state.gateway
    company = request.path_params["company"]
    if gateway.find(company) is None:  # else no database is asked
        await gateway.stalls.answered(lambda: gateway.require(company))


_REQUIRED_COMPANY = inspect.Parameter(
    "required_company", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Annotated[None, deferred(_require_company)]
)


def _for_known_company(endpoint: Function) -> Function:
    """The endpoint with one more dependency: the company in its path must exist. It is the first parameter, so that it
    is called before other deferred dependencies."""

    @functools.wraps(endpoint)
    async def call(required_company: None, **arguments: Any) -> Any:
        return await endpoint(**arguments)

    signature = inspect.signature(endpoint)
    parameters = [_REQUIRED_COMPANY, *signature.parameters.values()]
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # FastAPI reads it
    return call


_OF_PAGES = {"after", "limit"}
"""Accepted for every list: a program that reads all pages of any list does not know which lists have only one."""


def _query_names(dependant: Dependant) -> set[str]:
    """The query parameters of a route and of all its dependencies."""
    names = {field.alias for field in dependant.query_params}
    return names.union(*(_query_names(each) for each in dependant.dependencies))


def _refuse_unknown_names(request: Request, known: Collection[str]) -> None:
    """Raises `BadInput` for a query parameter that the route does not have, as for an unknown field of a body.

    Its value is not shown: it may be a key that somebody put in the address.
    """
    for name in request.query_params:
        if name not in known:
            near = next(iter(difflib.get_close_matches(name[:80], sorted(known), n=1)), None)
            others = f"this route has {', '.join(sorted(known))}" if known else "this route has none"
            cure = f'did you mean "{near}"?' if near else f"remove it; {others}"
            raise BadInput(f"{name[:80]} is not a known query parameter: {cure}", field=name[:80])


_KEY_DESCRIBED = (  # the routes check the key themselves; these two only add it to the OpenAPI document
    Depends(HTTPBearer(auto_error=False, description="the API key")),
    Depends(APIKeyHeader(name="X-API-Key", auto_error=False, description="the API key")),
)


async def _grant(request: Request) -> KeyGrant:
    grant: KeyGrant = request.state.grant
    return grant


KeyDependency = Annotated[KeyGrant, Depends(_grant)]


def for_all_companies(refusal: str) -> Any:
    """A dependency: the request's key, which must be one for all companies. Raises `NotAllowed` with `refusal`."""

    async def check(grant: KeyDependency) -> KeyGrant:
        if grant.companies is not None:
            raise NotAllowed(refusal)
        return grant

    return Depends(check)


def from_state(name: str, *, loaded: bool = False) -> Any:
    """A dependency: what `make_api` stored in `api.state` under this name.

    loaded: wait until the sessions are loaded. Before that, the gateway would report each of them as unknown.
    """

    async def read(request: Request) -> Any:
        if loaded:
            await until_loaded(request, request.app.state.gateway)
        return getattr(request.app.state, name)

    return deferred(read) if loaded else Depends(read)


LoadedGateway = Annotated[Gateway, from_state("gateway", loaded=True)]
DiagnoserDependency = Annotated[Diagnoser, from_state("diagnoser", loaded=True)]
StoredMessages = Annotated[Outbox, from_state("outbox")]
Sending = Annotated[Messages, from_state("sending")]
Limits = Annotated[AccountLimits, from_state("limits")]
ShutdownDependency = Annotated[ShutdownScope, from_state("shutdown")]
PeopleDependency = Annotated[People, from_state("people", loaded=True)]
CompanyPath = Annotated[str, Path(description="the company id")]
"""`KeyedRoute` has checked that the key covers it, and that it exists unless the route is marked with `MAY_BE_NEW`."""


async def _check_new_company(company: CompanyPath) -> None:
    if not is_company_id(company):
        raise BadInput(f'company "{company[:80]}" is not usable: {COMPANY_RULE}', field="company")


MAY_BE_NEW = Depends(_check_new_company)
"""For `dependencies` of a route: the company in its path need not exist."""
After = Annotated[str | None, Query(description="`next` of the previous page"), checked_by(cursor)]
"""The position in a list whose rows are numbered."""


def _names_chat(text: str) -> None:
    """Raises `BadInput` for what can't name a chat."""
    if username_in(text) is None:
        parse_recipient(text, field="chat")


NAMES_CHAT = checked_by(_names_chat)
_ChatText = Annotated[
    str | None,
    Query(description="only of this chat: a phone number, a JID or a username (@name)", max_length=100),
    NAMES_CHAT,
]


async def _chat(people: PeopleDependency, company: CompanyPath, chat: _ChatText = None) -> str | None:
    return None if chat is None else await people.chat(company, chat, field="chat")


Chat = Annotated[str | None, deferred(_chat)]
Limit = Annotated[int, Query(ge=1, le=500, description="rows in a page")]


def _written_as_iso(value: object) -> object:
    """Refuse texts that begin with no date: pydantic would take digits for seconds since 1970."""
    if isinstance(value, str) and _DATE.match(value) is None:
        raise PydanticCustomError("iso_time", "give a time such as 2026-11-28T09:00:00Z")
    return value


Moment = Annotated[datetime, BeforeValidator(_written_as_iso), AfterValidator(in_utc)]
"""A time of a query (ISO 8601), in UTC; one without a zone is taken as UTC."""


def keyed_router(tag: str, *, prefix: str = "", route_class: type[KeyedRoute] = KeyedRoute) -> APIRouter:
    """A router whose routes need an API key."""
    return APIRouter(
        tags=[tag],
        prefix=prefix,
        route_class=route_class,
        dependencies=_KEY_DESCRIBED,
        responses=description.KEYED,
        generate_unique_id_function=description.operation_id,
    )


def keyless_router(tag: str, *, responses: description.Answers | None = None) -> APIRouter:
    """A router whose routes need no API key."""
    return APIRouter(
        tags=[tag],
        route_class=DeferringRoute,
        responses=responses,
        generate_unique_id_function=description.operation_id,
    )
