"""Checks the assertion of a passkey before it is passed to WhatsApp, which accepts only one answer to a challenge.

What can be seen without the public key is checked here: that it is an assertion at all, for this challenge, made on
WhatsApp's own site by a verified person. Only WhatsApp can check the signature.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from typing import cast

from holdfast.base.errors import BadInput

ORIGIN = "https://web.whatsapp.com"
RP_ID = "whatsapp.com"
LONGEST = 8192
"""Maximum number of characters in one field; real ones have a few hundred."""
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST_ID_BYTES = 1023
_HEAD_BYTES = 37
_FLAGS_AT, _USER_PRESENT, _USER_VERIFIED = 32, 0x01, 0x04
_LONGEST_CHALLENGE_S = 600.0


class BadAssertion(BadInput):
    """It is not a valid assertion, or one that WhatsApp would refuse."""

    code = "bad-assertion"


def lifetime_s(options: Mapping[str, object]) -> float:
    """The lifetime of the challenge as WhatsApp states it, in seconds."""
    timeout_ms = options.get("timeout")
    is_number = isinstance(timeout_ms, int | float) and not isinstance(timeout_ms, bool)
    return cast(float, timeout_ms) / 1000 if is_number else _LONGEST_CHALLENGE_S


_SNIPPET = """(async () => {
  if (location.origin !== "%s") throw new Error("Paste this on %s");
  try {
    const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(%s);
    const credential = await navigator.credentials.get({ publicKey });
    const answer = JSON.stringify(credential.toJSON());
    try { await navigator.clipboard.writeText(answer); } catch {}
    console.log("Copy the next line to Holdfast:\\n" + answer);
    return answer;
  } catch (error) {
    console.error(error.name === "NotAllowedError"
      ? "No signature: the dialog was closed, or this computer has no passkey of this account. "
        + "Run this again and choose the phone in the browser's dialog."
      : "No signature: the browser failed (" + error + "). Try a current version of Chrome or Edge.");
    return null;
  }
})()"""


def snippet(options: Mapping[str, object]) -> str:
    """What a person pastes into the console of WhatsApp Web, to sign without the extension."""
    return _SNIPPET % (ORIGIN, ORIGIN, json.dumps(options))


def checked(assertion: Mapping[str, object], options: Mapping[str, object]) -> dict[str, object]:
    """The assertion with only the fields that WhatsApp expects. Raises `BadAssertion`."""
    if assertion.get("type") != "public-key":
        raise BadAssertion(
            f"type is {_shown(assertion.get('type'))}: give what PublicKeyCredential.toJSON() returns", field="type"
        )
    raw_id = _text(assertion, "rawId")
    if len(_bytes(raw_id, field="rawId")) > _LONGEST_ID_BYTES:
        raise BadAssertion(f"rawId has more than {_LONGEST_ID_BYTES} bytes: this is not a credential id", field="rawId")
    if _text(assertion, "id") != raw_id:
        raise BadAssertion("id and rawId differ: give what PublicKeyCredential.toJSON() returns", field="id")
    _check_allowed(raw_id, options)
    response = assertion.get("response")
    if not isinstance(response, Mapping):
        raise BadAssertion("response is missing: give what PublicKeyCredential.toJSON() returns", field="response")
    names = ["clientDataJSON", "authenticatorData", "signature"]
    if response.get("userHandle") is not None:
        names.append("userHandle")
    fields = {name: _text(response, name, within="response.") for name in names}
    read = {name: _bytes(text, field=f"response.{name}") for name, text in fields.items()}
    _check_client_data(read["clientDataJSON"], options)
    _check_authenticator_data(read["authenticatorData"], options)
    return {"id": raw_id, "rawId": raw_id, "type": "public-key", "response": fields}


def _text(values: Mapping[str, object], name: str, *, within: str = "") -> str:
    value, field = values.get(name), within + name
    if not isinstance(value, str):
        raise BadAssertion(f"{field} is {_shown(value)}: give a text in base64url", field=field)
    if not value or len(value) > LONGEST:
        raise BadAssertion(f"{field} has {len(value)} characters: it must have 1 to {LONGEST}", field=field)
    return value


def _bytes(text: str, *, field: str) -> bytes:
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise BadAssertion(f"{field} is not base64url without padding", field=field)
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _check_allowed(raw_id: str, options: Mapping[str, object]) -> None:
    allowed = options.get("allowCredentials")
    if not isinstance(allowed, list) or not allowed:
        return
    if raw_id not in {one.get("id") for one in allowed if isinstance(one, Mapping) and isinstance(one.get("id"), str)}:
        raise BadAssertion(
            "rawId names none of the passkeys that WhatsApp asks for: use one of this account", field="rawId"
        )


def _check_client_data(data: bytes, options: Mapping[str, object]) -> None:
    field = "response.clientDataJSON"
    try:
        client_data = json.loads(data.decode())  # from bytes it would also read UTF-16 and UTF-32
    except (ValueError, RecursionError) as error:
        raise BadAssertion(f"{field} is not JSON in UTF-8", field=field) from error
    if not isinstance(client_data, dict) or client_data.get("type") != "webauthn.get":
        raise BadAssertion(f"{field} is not that of an assertion (type webauthn.get)", field=field)
    if client_data.get("origin") != ORIGIN:
        raise BadAssertion(f"{field} was made on {_shown(client_data.get('origin'))}: sign on {ORIGIN}", field=field)
    if client_data.get("challenge") != str(options.get("challenge")).rstrip("="):
        sentence = f"{field} answers another challenge: fetch the challenge again and sign that one"
        raise BadAssertion(sentence, field=field)


def _check_authenticator_data(data: bytes, options: Mapping[str, object]) -> None:
    field = "response.authenticatorData"
    if len(data) < _HEAD_BYTES:
        raise BadAssertion(f"{field} has {len(data)} bytes: at least {_HEAD_BYTES} are needed", field=field)
    if data[:_FLAGS_AT] != hashlib.sha256(str(options.get("rpId", RP_ID)).encode()).digest():
        raise BadAssertion(f"{field} is for another site than {RP_ID}", field=field)
    if not data[_FLAGS_AT] & _USER_PRESENT or not data[_FLAGS_AT] & _USER_VERIFIED:
        raise BadAssertion(f"{field} says that the person was not verified: use fingerprint, face or PIN", field=field)


def _shown(value: object) -> str:
    return "missing" if value is None else repr(value)[:60]
