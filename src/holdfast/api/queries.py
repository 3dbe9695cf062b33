"""What routes that query WhatsApp share: the session's queries, and the responses that all of them can have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, TypeVar

from fastapi import Path, Request

from holdfast.api.deferred import deferred
from holdfast.api.description import Answers, problem
from holdfast.api.routing import NAMES_CHAT, CompanyPath, PeopleDependency
from holdfast.http.shutdown import ShutdownScope
from holdfast.http.startup import until_loaded
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.session_queries import SessionQueries
from holdfast.session.queries import Query

T = TypeVar("T")

ChatPath = Annotated[str, Path(description="a phone number, a JID or a username (@name)", max_length=100), NAMES_CHAT]

QUERY_FAILURES: Answers = {
    429: problem("the session has used up its queries to WhatsApp; `Retry-After` says when the next one is possible"),
    502: problem("WhatsApp's answer is an error or can't be read"),
    503: problem("no connection to WhatsApp, with the reason; or WhatsApp currently answers no queries"),
    504: problem("WhatsApp did not answer in time"),
}
"""How a query can fail, for the OpenAPI document."""


async def chat_of(people: PeopleDependency, company: CompanyPath, chat: ChatPath) -> str:
    """The canonical id of the chat in a path. Raises `BadInput`, and for a username what a query raises."""
    return await people.chat(company, chat, field="chat")


ChatJid = Annotated[str, deferred(chat_of)]
"""The canonical id of the chat that the path names in any way."""


@asynccontextmanager
async def queries_of(request: Request, company: str) -> AsyncIterator[SessionQueries]:
    """The queries of a company's session; the block is cancelled when Holdfast stops.

    Raises `NotFound`, and the error that explains why the session can't send queries now.
    """
    gateway: Gateway = request.app.state.gateway
    shutdown: ShutdownScope = request.app.state.shutdown
    await until_loaded(request, gateway)
    async with shutdown.until_stopping():
        yield (await gateway.actor(company)).work.queries


async def ask(request: Request, company: str, query: Query[T]) -> T:
    """The answer of WhatsApp to one query. Raises what `queries_of` raises, and what the query raises."""
    async with queries_of(request, company) as queries:
        return await queries.ask(query)
