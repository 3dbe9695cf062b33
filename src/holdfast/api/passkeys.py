"""Routes of the passkey ceremony: the challenge for the account's owner, and the signed answer.

A challenge is worthless without the owner's passkey, and an assertion is worthless for another challenge; neither is
logged or stored.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from holdfast.api.deferred import deferred
from holdfast.api.description import Answers, problem
from holdfast.api.routing import CompanyPath, LoadedGateway, ShutdownDependency, keyed_router
from holdfast.api.schemas import ApiModel, Text
from holdfast.base.clock import iso
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


async def _relay(company: CompanyPath, gateway: LoadedGateway) -> PasskeyRelay:
    return (await gateway.actor(company)).passkeys


Relay = Annotated[PasskeyRelay, deferred(_relay)]

router = keyed_router("sessions")


@router.get(_PATH)
async def get_passkey(relay: Relay, response: Response) -> PasskeyModel:
    """What the owner of the account has to sign; 404 while WhatsApp asks for no passkey."""
    response.headers.update(_NO_STORE)
    return PasskeyModel.of(relay.shown())


@router.post(_PATH, status_code=202, response_model_exclude_none=True, responses=_SILENT)
async def answer_passkey(
    relay: Relay, assertion: Assertion, shutdown: ShutdownDependency, response: Response
) -> PasskeyStepModel:
    """Send the owner's signature to WhatsApp. Responds when WhatsApp has continued; 504 if linking fails."""
    response.headers.update(_NO_STORE)
    async with shutdown.until_stopping():
        step = await relay.answer(assertion.model_dump(exclude_none=True))
    return PasskeyStepModel.of(step)


@router.post(f"{_PATH}/confirm", status_code=202, response_model_exclude_none=True)
async def confirm_passkey(relay: Relay, compared: ComparisonModel | None = None) -> PasskeyStepModel:
    """Confirm that the code is the one on the phone; `{"matches": false}` cancels the ceremony."""
    matches = compared is None or compared.matches
    if matches:
        relay.confirm()
    else:
        relay.mismatch()
    return PasskeyStepModel(step="finishing" if matches else "stopped")


@router.delete(_PATH, status_code=202, response_model_exclude_none=True)
async def decline_passkey(relay: Relay) -> PasskeyStepModel:
    """Cancel the ceremony: nothing is linked, and a new code can be requested."""
    relay.decline()
    return PasskeyStepModel(step="stopped")
