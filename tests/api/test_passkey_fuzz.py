"""Assertion bodies that are damaged or hostile never become a malformed stanza to WhatsApp."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest

from holdfast.session.assertions import BadAssertion, checked
from holdfast.session.engine import AnswerPasskey
from tests.api.api_client import ApiClient
from tests.api.test_passkeys import OPTIONS, OWNER, PATH, altered, asked
from tests.doubles.authenticator import Authenticator, base64url
from tests.gateway_harness import GatewayHarness

BODIES = 2500
BODIES_BY_HTTP = 60
PLACES = (
    ("id",), ("rawId",), ("type",), ("response",), ("response", "clientDataJSON"), ("response", "authenticatorData"),
    ("response", "signature"), ("response", "userHandle"), ("unknown",), ("response", "unknown"),
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, 10**400, "", " ", "\0", "AA\0A", "AAAA", "AAAA=", "A", "a+/b", "é", "\ud800", "A" * 8193,
    "A" * 100_000, [], {}, [[[[]]]], ["AAAA"], {"AAAA": "AAAA"}, "public-key", "AA AA", "AAAA\n", "\u0661\u0662\u0663",
)  # fmt: skip


def damaged(chance: random.Random) -> Any:
    """A real assertion with one to three changes, one signed under wrong conditions, or any JSON value."""
    kind = chance.randrange(8)
    if kind == 0:
        return chance.choice(VALUES)
    if kind == 1:
        stranger = Authenticator(key=OWNER.key, id=OWNER.id, origin=chance.choice(["null", "http://localhost", "\0"]))
        return stranger.sign(OPTIONS)
    if kind == 2:
        return OWNER.sign({**OPTIONS, "challenge": chance.choice(VALUES[:10])})
    made: dict[str, Any] = json.loads(json.dumps(OWNER.sign(OPTIONS)))
    for _ in range(chance.randint(1, 3)):
        *above, name = chance.choice(PLACES)
        place = made.get(above[0]) if above else made
        if isinstance(place, dict):
            damage(chance, place, name)
    return made


def damage(chance: random.Random, place: dict[str, Any], name: str) -> None:
    value = place.get(name)
    way = chance.randrange(5)
    if way == 0:
        place.pop(name, None)
    elif way == 1 or not isinstance(value, str) or not value:
        place[name] = chance.choice(VALUES)
    elif way == 2:
        place[name] = value[: chance.randrange(len(value))]
    elif way == 3:
        at = chance.randrange(len(value))
        place[name] = value[:at] + chance.choice("=+/\0A_-é") + value[at + 1 :]
    else:
        place[name] = value + chance.choice(["=", "==", "\n", "A", "AAAA"])


def check_encodable(made: dict[str, Any]) -> None:
    """Check everything that the engine puts into the stanza: JSON in ASCII, and fields that decode to bytes."""
    assert set(made) == {"id", "rawId", "type", "response"}
    assert set(made["response"]) - {"userHandle"} == {"clientDataJSON", "authenticatorData", "signature"}
    assert json.loads(json.dumps(made).encode("ascii")) == made
    for text in (made["rawId"], *made["response"].values()):
        assert base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True)


def checked_or_field(body: dict[str, Any]) -> dict[str, Any] | str:
    """The assertion as WhatsApp gets it, or the field that is refused."""
    try:
        return checked(body, OPTIONS)
    except BadAssertion as error:
        return error.field or ""


def test_damaged_assertions_are_refused_or_can_be_encoded() -> None:
    """The only exception is the refusal, which names a field; an accepted assertion is complete and decodes."""
    chance, refused = random.Random(12), 0
    for _ in range(BODIES):
        body = damaged(chance)
        if not isinstance(body, dict):
            continue
        made = checked_or_field(body)
        if isinstance(made, str):
            assert made
            refused += 1
        else:
            check_encodable(made)
    assert refused > BODIES / 2


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_client_data_must_be_utf_8(encoding: str) -> None:
    """Browsers write UTF-8; Python's JSON reader alone would also accept UTF-16 and UTF-32."""
    text = json.dumps({"type": "webauthn.get", "challenge": OPTIONS["challenge"], "origin": OWNER.origin})
    body = altered("response", "clientDataJSON", value=base64url(text.encode(encoding)))
    with pytest.raises(BadAssertion, match="not JSON"):
        checked(body, OPTIONS)


async def test_damaged_bodies_by_http_never_become_a_malformed_stanza(
    client: ApiClient, harness: GatewayHarness
) -> None:
    """WhatsApp waits for a signature and refuses each one: every body gets a 4xx, an impossible assertion does not
    reach the engine, and one that does is complete and can be encoded. The right answer is still accepted afterwards.
    """
    harness.engine.passkey_answer = "refused"
    await asked(client, harness)
    chance, passed_on = random.Random(12), 0
    for _ in range(BODIES_BY_HTTP):
        body = damaged(chance)
        if body is None:
            continue
        answer = await client("POST", PATH, body)
        assert answer.json["code"] in {"bad-assertion", "bad-input", "bad-request"}, body
        assert 400 <= answer.status < 500, body
        if is_accepted(body):
            passed_on += 1
            await asked(client, harness)
        assert len(harness.commands(AnswerPasskey)) == passed_on
    for command in harness.commands(AnswerPasskey):
        check_encodable(command.assertion)
    assert 0 < passed_on < BODIES_BY_HTTP / 2
    harness.engine.passkey_answer = "finish"
    assert (await client("POST", PATH, OWNER.sign(OPTIONS))).status == 202


def _raw_bodies() -> list[bytes]:
    whole = json.dumps(OWNER.sign(OPTIONS)).encode()
    return [
        b"",
        whole[:-1],
        whole + b"}",
        whole.replace(b"public-key", b"public-\xffkey"),
        b"[" * 100_000,
        b'{"response":' * 50_000,
        whole.replace(b'"type"', b'"rawId": 1, "type"'),
        b"NaN",
        b'{"rawId": Infinity}',
        b"assertion=" + whole,
    ]


async def test_bodies_that_are_not_json_do_not_reach_the_engine(client: ApiClient, harness: GatewayHarness) -> None:
    """Truncated, binary, deeply nested or with a duplicate name: a 4xx problem, and the challenge stays open."""
    await asked(client, harness)
    for body in _raw_bodies():
        answer = await client("POST", PATH, raw=[body], headers={"Content-Type": "application/json"})
        assert 400 <= answer.status < 500, body[:80]
        assert answer.headers["content-type"] == "application/problem+json"
    assert not harness.commands(AnswerPasskey)
    assert (await client("GET", PATH)).status == 200


def is_accepted(body: Any) -> bool:
    return isinstance(body, dict) and not isinstance(checked_or_field(body), str)
