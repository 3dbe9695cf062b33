"""Calls: they are items of the inbox, and can be rejected while they ring."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request
from pydantic import Field

from holdfast.api.description import problem
from holdfast.api.queries import QUERY_FAILURES, queries_of
from holdfast.api.routing import CompanyPath, from_state, keyed_router
from holdfast.api.schemas import ApiModel
from holdfast.base.errors import Conflict, NotFound
from holdfast.base.ids import may_be_id
from holdfast.delivery.calls import REJECTED, RINGING, Calls
from holdfast.session import queries as asked


class CallModel(ApiModel):
    id: str
    chat: Annotated[str, Field(description="who calls")]
    state: Annotated[str, Field(description="ringing, answered, rejected, missed or ended")]


router = keyed_router("calls")


@router.post(
    "/v1/sessions/{company}/calls/{id}/reject",
    responses={
        **QUERY_FAILURES,
        404: problem("the inbox has no such call"),
        409: problem("the call is no longer ringing"),
    },
)
async def reject_call(
    company: CompanyPath,
    call_id: Annotated[str, Path(alias="id", description="`id` of the call in the inbox")],
    request: Request,
    calls: Annotated[Calls, from_state("calls")],
) -> CallModel:
    """Reject a call while it rings."""
    async with queries_of(request, company) as queries:
        call = await calls.find(company, call_id) if may_be_id(call_id) else None
        if call is None:
            raise NotFound(f'call "{call_id[:80]}" is unknown: its id is in the event call.received', field="id")
        if call.state != RINGING:
            raise Conflict(f"the call was {call.state}: only a ringing call can be rejected", field="id")
        await queries.ask(asked.reject_call(call.whatsapp_id, call.creator))
        await calls.end(company, call, outcome=REJECTED)
    return CallModel(id=call_id, chat=call.chat, state=REJECTED)
