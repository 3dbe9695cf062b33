"""Routes of the passkey ceremony: the challenge for the account's owner, and the signed answer.

A challenge is worthless without the owner's passkey, and an assertion is worthless for another challenge; neither is
logged or stored.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field

from holdfast.api.description import Answers, problem
from holdfast.api.keys import KeyGrant
from holdfast.api.schemas import ApiModel, Text
from holdfast.base.clock import iso
from holdfast.http.shutdown import ShutdownScope
from holdfast.http.startup import until_loaded
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.passkeys import Passkey, PasskeyRelay
from holdfast.session.assertions import LONGEST, snippet
from holdfast.session.state import PasskeyStep

_NO_STORE = {"Cache-Control": "no-store"}
_Field = Annotated[Text, Field(max_length=LONGEST, description="base64url without padding")]


class _Lenient(BaseModel):
    """Ignores unknown fields: browsers add fields of their own, which WhatsApp does not accept."""

    model_config = ConfigDict(extra="ignore", strict=True, hide_input_in_errors=True)


class AssertionResponse(_Lenient):
    clientDataJSON: _Field  # noqa: N815 – WebAuthn's own name
    authenticatorData: _Field  # noqa: N815 – WebAuthn's own name
    signature: _Field
    userHandle: _Field | None = None  # noqa: N815 – WebAuthn's own name


class Assertion(_Lenient):
    """What `PublicKeyCredential.toJSON()` returns."""

    id: _Field
    rawId: _Field  # noqa: N815 – WebAuthn's own name
    type: Annotated[Text, Field(max_length=40, description="public-key")]
    response: AssertionResponse


class PasskeyModel(ApiModel):
    options: Annotated[
        dict[str, Any], Field(description="for PublicKeyCredential.parseRequestOptionsFromJSON, on web.whatsapp.com")
    ]
    expires_at: Annotated[str, Field(description="when WhatsApp stops accepting an answer")]
    snippet: Annotated[str, Field(description="does the same in the console of web.whatsapp.com, and shows the answer")]

    @classmethod
    def of(cls, passkey: Passkey) -> PasskeyModel:
        return cls(options=dict(passkey.options), expires_at=iso(passkey.expires_at), snippet=snippet(passkey.options))


class PasskeyStepModel(ApiModel):
    step: Annotated[str, Field(description="confirm: compare the code with that on the phone; finishing: wait")]
    code: Annotated[str | None, Field(description="with confirm: the phone must show the same")] = None

    @classmethod
    def of(cls, passkey: Passkey) -> PasskeyStepModel:
        if passkey.step is PasskeyStep.COMPARE:
            return cls(step="confirm", code=passkey.code)
        return cls(step="finishing")


class ComparisonModel(ApiModel):
    matches: Annotated[bool, Field(description="false: the codes differ; then nothing is linked")] = True


_PATH = "/v1/sessions/{company}/passkey"
_SILENT: Answers = {504: problem("the device was not linked after the signature was sent; `code` says why")}
Company = Annotated[str, Path(description="the company id")]


def make_router(route_class: type[APIRoute], *, dependencies: Any, responses: Answers) -> APIRouter:
    """The routes of the passkey ceremony; all need a key."""
    router = APIRouter(tags=["sessions"], route_class=route_class, dependencies=dependencies, responses=responses)

    @router.get(_PATH)
    async def get_passkey(company: Company, request: Request, response: Response) -> PasskeyModel:
        """What the owner of the account has to sign; 404 while WhatsApp asks for no passkey."""
        response.headers.update(_NO_STORE)
        return PasskeyModel.of((await _relay(request, company)).shown())

    @router.post(_PATH, status_code=202, response_model_exclude_none=True, responses=_SILENT)
    async def answer_passkey(
        company: Company, assertion: Assertion, request: Request, response: Response
    ) -> PasskeyStepModel:
        """Send the owner's signature to WhatsApp. Responds when WhatsApp has continued; 504 if linking fails."""
        response.headers.update(_NO_STORE)
        relay, shutdown = await _relay(request, company), request.app.state.shutdown
        assert isinstance(shutdown, ShutdownScope)
        async with shutdown.until_stopping():
            step = await relay.answer(assertion.model_dump(exclude_none=True))
        return PasskeyStepModel.of(step)

    @router.post(f"{_PATH}/confirm", status_code=202, response_model_exclude_none=True)
    async def confirm_passkey(
        company: Company, request: Request, compared: ComparisonModel | None = None
    ) -> PasskeyStepModel:
        """Confirm that the code is the one on the phone; `{"matches": false}` cancels the ceremony."""
        matches = compared is None or compared.matches
        relay = await _relay(request, company)
        if matches:
            relay.confirm()
        else:
            relay.mismatch()
        return PasskeyStepModel(step="finishing" if matches else "stopped")

    @router.delete(_PATH, status_code=202, response_model_exclude_none=True)
    async def decline_passkey(company: Company, request: Request) -> PasskeyStepModel:
        """Cancel the ceremony: nothing is linked, and a new code can be requested."""
        (await _relay(request, company)).decline()
        return PasskeyStepModel(step="stopped")

    return router


async def _relay(request: Request, company: str) -> PasskeyRelay:
    """The ceremony of a session, for callers whose key covers this company."""
    grant: KeyGrant = request.state.grant
    grant.check(company)
    gateway: Gateway = request.app.state.gateway
    await until_loaded(request, gateway)
    return (await gateway.actor(company)).passkeys
