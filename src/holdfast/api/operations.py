"""Operations: the routes that show, list and cancel them, and what every route that begins one shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from fastapi import Header, Query, Response
from pydantic import Field

from holdfast.api.deferred import deferred
from holdfast.api.description import Answers, problem
from holdfast.api.fast_send import LONGEST_KEY
from holdfast.api.keys import KeyGrant
from holdfast.api.routing import After, CompanyPath, KeyDependency, Limit, ShutdownDependency, from_state, keyed_router
from holdfast.api.schemas import ApiModel, ListPage, cursor
from holdfast.http.shutdown import ShutdownScope
from holdfast.runtime.operations import OperationService, unknown_operation
from holdfast.session.operation_states import LONGEST_EXPIRY_S, OPEN, Operation, OperationState, body_of
from holdfast.session.operations import Arguments

LONGEST_WAIT_S = 60

STARTING: Answers = {
    200: {"description": "the operation is settled already; `state` and `error` say how"},
    409: problem("the Idempotency-Key was used for another operation"),
    429: problem("the company has too many operations that are not settled"),
}
"""How the start of an operation can be answered besides 202, for the OpenAPI document."""

router = keyed_router("operations")


class OperationErrorModel(ApiModel):
    code: str
    message: str
    whatsapp_code: Annotated[int | None, Field(description="the code of WhatsApp's refusal")]


class OperationRetryModel(ApiModel):
    at: str
    code: str
    message: str


class OperationModel(ApiModel):
    """Something that changes the state of WhatsApp: carried out once, as soon as the session is connected."""

    id: str
    company_id: str
    kind: str
    target: Annotated[str, Field(description="what it changes; operations of one target keep their order")]
    state: Annotated[
        str,
        Field(
            description="queued, running, succeeded, failed, expired, cancelled; unknown: the outcome can't be "
            "determined"
        ),
    ]
    attempts: int
    accepted_at: str
    settled_at: str | None
    expires_at: str | None
    result: Annotated[Any, Field(description="what WhatsApp answered; its form depends on the kind")]
    error: OperationErrorModel | None
    retries: Annotated[OperationRetryModel | None, Field(description="why the last attempt failed and is retried")]

    @classmethod
    def of(cls, operation: Operation) -> Self:
        return cls.model_validate(body_of(operation))


Service = Annotated[OperationService, from_state("operations", loaded=True)]
Wait = Annotated[float, Query(ge=0, le=LONGEST_WAIT_S, description="seconds to wait for the outcome")]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationStarter:
    """Begins an operation as the request asks: options that all kinds share."""

    service: OperationService
    shutdown: ShutdownScope
    response: Response
    wait_s: float
    expires_in_s: int | None
    idempotency_key: str | None

    async def start(
        self, company: str, arguments: Arguments, *, hashed: Mapping[str, object] | None = None
    ) -> OperationModel:
        """Accept the operation. 202, or 200 when it is settled within the time that the caller waits.

        `hashed`: the caller's own input, if the arguments are made from it and would differ in a repeated request.
        """
        operation = await self.service.accept(
            company, arguments, idempotency_key=self.idempotency_key, expires_in_s=self.expires_in_s, hashed=hashed
        )
        return await self.answer(operation)

    async def repeated(
        self, company: str, arguments: Arguments, *, hashed: Mapping[str, object]
    ) -> OperationModel | None:
        """The response for a request that was accepted before, for routes that look something up for a new one."""
        operation = await self.service.repeated(
            company, arguments, idempotency_key=self.idempotency_key, expires_in_s=self.expires_in_s, hashed=hashed
        )
        return None if operation is None else await self.answer(operation)

    async def answer(self, operation: Operation) -> OperationModel:
        """The response for an accepted operation, after the time that the caller waits."""
        operation = await _waited(operation, self.wait_s, self.service, self.shutdown)
        self.response.status_code = 202 if operation.state in OPEN else 200
        self.response.headers["Location"] = f"/v1/operations/{operation.id}"
        return OperationModel.of(operation)


async def _waited(operation: Operation, wait_s: float, service: OperationService, shutdown: ShutdownScope) -> Operation:
    """The operation as soon as it is settled, or after this time."""
    if not wait_s or operation.state not in OPEN:
        return operation
    async with shutdown.until_stopping():
        return await service.settled(operation, within_s=wait_s)


async def _starter(
    service: Service,
    shutdown: ShutdownDependency,
    response: Response,
    wait: Wait = 0,
    expires_in_s: Annotated[
        int | None,
        Query(alias="expiresInS", ge=1, le=LONGEST_EXPIRY_S, description="seconds after which it is no longer started"),
    ] = None,
    idempotency_key: Annotated[str | None, Header(max_length=LONGEST_KEY, min_length=1)] = None,
) -> OperationStarter:
    return OperationStarter(
        service=service,
        shutdown=shutdown,
        response=response,
        wait_s=wait,
        expires_in_s=expires_in_s,
        idempotency_key=idempotency_key,
    )


StarterDependency = Annotated[OperationStarter, deferred(_starter)]


@router.get("/v1/operations/{id}")
async def get_operation(
    id: str, shutdown: ShutdownDependency, grant: KeyDependency, service: Service, wait: Wait = 0
) -> OperationModel:
    """One operation in its current state; with `wait`, as soon as it is settled."""
    operation = await _operation(id, grant, service)
    return OperationModel.of(await _waited(operation, wait, service, shutdown))


@router.delete("/v1/operations/{id}")
async def cancel_operation(id: str, grant: KeyDependency, service: Service) -> OperationModel:
    """Cancel an operation that is queued (409 if it may have been done)."""
    await _operation(id, grant, service)
    return OperationModel.of(await service.cancel(id))


@router.get("/v1/sessions/{company}/operations")
async def list_operations(
    company: CompanyPath,
    service: Service,
    state: OperationState | None = None,
    after: After = None,
    limit: Limit = 100,
) -> ListPage[OperationModel]:
    """Operations of a company, oldest first."""
    found = await service.operations(company, state=state, after=cursor(after), limit=limit + 1)
    next_ = str(found[limit - 1].seq) if len(found) > limit else None
    return ListPage(items=[OperationModel.of(each) for each in found[:limit]], next=next_)


async def _operation(id: str, grant: KeyGrant, service: OperationService) -> Operation:
    """The operation, if the key may access it; for another key it does not exist."""
    operation = await service.find(id)
    if not grant.covers(operation.company):
        raise unknown_operation(id)
    return operation
