"""What every route has in common: the key it asks for, the bodies it refuses, its problems, its description."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from holdfast.api.body_limit import LARGEST_BODY, BodyLimit
from holdfast.http.shutdown import ShutdownScope
from tests.api.api_client import KEY, KEY_OF_ONE, OTHER, ApiClient
from tests.gateway_harness import COMPANY, NUMBER

SESSION = f"/v1/sessions/{COMPANY}"
MESSAGES = f"{SESSION}/messages"
HELLO = {"to": NUMBER, "text": "hello"}
JSON = {"Content-Type": "application/json"}

OPEN = {
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/openapi.json"),
    ("HEAD", "/openapi.json"),
    ("GET", "/webhook/whatsapp/baileys/health/{company}"),
    ("GET", "/v1/media/{id}"),
}
"""All that is answered without a key: nothing that changes anything, of companies only their health, and media by
addresses that nobody guesses."""


def routes(client: ApiClient) -> list[tuple[str, str]]:
    """Method and path of every route, hidden ones too."""

    def walk(found: Any) -> Iterator[tuple[str, str]]:
        for route in found:
            if hasattr(route, "original_router"):
                yield from walk(route.original_router.routes)
            else:
                yield from ((method, route.path) for method in sorted(route.methods))

    return sorted(walk(client.api.routes))


def filled(path: str, company: str = COMPANY) -> str:
    return re.sub(r"\{\w+\}", company, path)


# Queries.


async def test_every_route_with_a_key_refuses_an_unknown_query_parameter(client: ApiClient) -> None:
    """A misspelt `limit` would otherwise be ignored, as a misspelt field of a body is not."""
    found = [(method, path) for method, path in routes(client) if (method, path) not in OPEN and path != "/docs"]
    for method, path in found:
        answer = await client(method, f"{filled(path)}?nonsense=1")
        assert answer.status == 422, (method, path)
        answer.problem(422, "bad-input", field="nonsense")


@pytest.mark.parametrize(
    ("method", "path", "name", "sentence"),
    [
        ("GET", f"{MESSAGES}?limt=5", "limt", 'limt is not a known query parameter: did you mean "limit"?'),
        ("GET", f"{SESSION}/inbox?zz=5", "zz", "remove it; this route has after, chat, limit"),
        (
            "POST",
            f"{MESSAGES}?dryRun=1",
            "dryRun",
            "dryRun is not a known query parameter: remove it; this route has none",
        ),
        ("GET", f"/v1/sessions?{'n' * 9999}=5", "n" * 80, f"{'n' * 80} is not a known query parameter: remove it"),
    ],
)
async def test_the_refusal_of_a_query_parameter_names_the_cure(
    client: ApiClient, method: str, path: str, name: str, sentence: str
) -> None:
    """The value is not shown: it may be a key. Nothing is done."""
    await client("PUT", SESSION)
    body = HELLO if method == "POST" else None
    assert sentence in (await client(method, path, body)).problem(422, "bad-input", field=name)
    assert (await client("GET", MESSAGES)).json["items"] == []


async def test_a_list_of_one_page_accepts_the_parameters_of_pages(client: ApiClient) -> None:
    """A program that reads all pages of any list need not know which lists have only one."""
    await client("PUT", SESSION)
    assert (await client("GET", "/v1/sessions?limit=500&after=")).json["next"] is None


# Keys.


async def test_every_route_needs_a_key_unless_it_is_listed_here(client: ApiClient) -> None:
    """A new route without one turns this red, also when it comes with a body that can't be read."""
    found = routes(client)
    assert len(found) > 15
    assert {(method, path) for method, path in found if path in {"/healthz", "/openapi.json"}} < OPEN
    for method, path in found:
        if (method, path) in OPEN:
            assert (await client(method, filled(path), key=None)).status in {200, 404}
            continue
        for key in (None, "a-key-that-nobody-made"):
            answer = await client(method, filled(path), key=key, raw=[b"{"], headers=JSON)
            sentence = answer.problem(401, "unauthorized")
            assert sentence.startswith("an API key is needed" if key is None else "the API key is unknown")
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_key_may_come_in_either_header(client: ApiClient) -> None:
    """`Authorization: Bearer` in any case, or `X-API-Key`."""
    for headers in (
        {"Authorization": f"bearer {KEY}"},
        {"Authorization": f"Bearer   {KEY} "},
        {"X-API-Key": KEY},
        {"Authorization": "Basic dTpw", "X-API-Key": KEY},
    ):
        assert (await client("GET", "/v1/sessions", key=None, headers=headers)).status == 200
    for headers in (
        {"Authorization": KEY},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong", "X-API-Key": KEY},
        {"X-API-Key": ""},
        {"X-API-Key": "\xfc\xfc"},
    ):
        (await client("GET", "/v1/sessions", key=None, headers=headers)).problem(401, "unauthorized")


async def test_a_key_in_the_address_is_no_key(client: ApiClient) -> None:
    """Addresses end up in logs and histories."""
    (await client("GET", f"/v1/sessions?api_key={KEY}&key={KEY}", key=None)).problem(401, "unauthorized")


async def test_a_key_for_one_company_touches_no_other(client: ApiClient) -> None:
    """403 on every route with a company in it, the same whether there is such a company or not."""
    for _ in range(2):
        for method, path in routes(client):
            if "{company}" in path and (method, path) not in OPEN:
                answer = await client(method, filled(path, OTHER), HELLO, key=KEY_OF_ONE)
                sentence = answer.problem(403, "forbidden", field="company")
                assert sentence == f'this API key has no access to company "{OTHER}"'
        await client("PUT", f"/v1/sessions/{OTHER}")
    assert client.harness.state(OTHER) == "pairing"
    assert (await client("PUT", SESSION, key=KEY_OF_ONE)).status == 200


# Bodies.


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "application/holdfast+json"])
async def test_a_message_is_taken_in_every_spelling_of_json(client: ApiClient, kind: str) -> None:
    """By the short way of well-formed messages, and by the ordinary route: one answer, one message."""
    await client("PUT", SESSION)
    answer = await client(
        "POST", MESSAGES, raw=[b'{"to": "962790000001", ', b'"text": "x"}'], headers={"Content-Type": kind}
    )
    (kept,) = (await client("GET", MESSAGES)).json["items"]
    assert answer.status == 202
    assert answer.json == {name: kept[name] for name in ("id", "whatsappId", "state", "acceptedAt")}


@pytest.mark.parametrize(
    ("raw", "headers", "status", "code", "field", "sentence"),
    [
        ([b"{"], JSON, 422, "bad-input", "body", "the body is not JSON: Expecting property name"),
        ([b'{"to": }'], JSON, 422, "bad-input", "body", "the body is not JSON: Expecting value (character 7)"),
        ([b'{"to": "\xff"}'], JSON, 400, "bad-request", None, "the body can't be read: it must be JSON in UTF-8"),
        ([b"[" * 200_000], JSON, 422, "bad-input", "body", "body can't be used: give a JSON object"),
        ([b"[" * 20_000], JSON, 422, "bad-input", "body", "body can't be used: give a JSON object"),
        ([b'{"to": ' + b"9" * 5000 + b"}"], JSON, 422, "bad-input", "to", "to can't be used: give a smaller number"),
        ([], JSON, 422, "bad-input", "body", "the body is missing: give a JSON object"),
        ([b"null"], JSON, 422, "bad-input", "body", "body is None: give a JSON object"),
        ([b'{"to":NaN,"text":"x"}'], JSON, 422, "bad-input", "to", "to is nan: give a text"),
        (
            [json.dumps(HELLO).encode()],
            {"Content-Type": "text/plain"},
            422,
            "bad-input",
            "body",
            'the body was sent as Content-Type: "text/plain": give a JSON object, sent as Content-Type: application/js',
        ),
        (
            [json.dumps(HELLO).encode()],
            {"Content-Type": "application/x-www-form-urlencoded"},
            422,
            "bad-input",
            "body",
            'the body was sent as Content-Type: "application/x-www-form-urlencoded": give a JSON object, sent as Conte',
        ),
        ([json.dumps(HELLO).encode()], {}, 422, "bad-input", "body", "the body was sent without a Content-Type"),
    ],
)  # fmt: skip
async def test_a_body_that_is_no_json_is_refused(
    client: ApiClient,
    raw: list[bytes],
    headers: dict[str, str],
    status: int,
    code: str,
    field: str | None,
    sentence: str,
) -> None:
    """Broken JSON, another encoding, depth and digits without end, nothing at all, or no word that it is JSON."""
    await client("PUT", SESSION)
    answer = await client("POST", MESSAGES, raw=raw, headers=headers)
    assert answer.problem(status, code, field=field).startswith(sentence)


@pytest.mark.parametrize("body", [{"webhookUrl": "x"}, {"state": "connected"}])
async def test_a_session_takes_no_field_that_it_does_not_know(client: ApiClient, body: dict[str, Any]) -> None:
    """A setting that is silently ignored would be believed to be in force."""
    (field,) = body
    (await client("PUT", SESSION, body)).problem(422, "bad-input", field=field)


async def test_a_hundred_thousand_unknown_fields_cost_one_error(client: ApiClient) -> None:
    """The first one is named. An error for each would take a second of the event loop and 100 MB."""
    many = "{" + ",".join(f'"k{n:05}":0' for n in range(90_000)) + "}"
    for body, field in ((many, "k00000"), ('{"label":"x","pacing":' + many + "}", "pacing.k00000")):
        tracemalloc.start()
        try:
            answer = await client("PUT", "/v1/sessions/962302", raw=[body.encode()], headers=JSON)
            assert tracemalloc.get_traced_memory()[1] < 40_000_000
        finally:
            tracemalloc.stop()
        answer.problem(422, "bad-input", field=field)


async def test_a_body_is_refused_when_its_length_is_too_large(client: ApiClient) -> None:
    """413 before a byte of it is read; one that is as large as allowed is taken."""
    await client("PUT", SESSION)
    announced = {**JSON, "Content-Length": str(LARGEST_BODY + 1)}
    answer = await client("PUT", SESSION, raw=[b"{}"], headers=announced)
    assert answer.problem(413, "too-large") == "the body is larger than 1048576 bytes: send less at once"
    just = json.dumps({"padding": ""}).encode()
    just = just[:-2] + b"x" * (LARGEST_BODY - len(just)) + just[-2:]
    assert len(just) == LARGEST_BODY
    answer = await client("PUT", SESSION, raw=[just], headers={**JSON, "Content-Length": str(LARGEST_BODY)})
    answer.problem(422, "bad-input", field="padding")


async def test_a_body_is_refused_when_more_comes_than_is_allowed(client: ApiClient) -> None:
    """413 as soon as it is too much, in whatever parts it comes, with a wrong length or none."""
    await client("PUT", SESSION)
    parts = [b" " * 65536] * 17
    for headers in (JSON, {**JSON, "Content-Length": "2"}, {**JSON, "Content-Length": "many"}):
        (await client("PUT", SESSION, raw=parts, headers=headers)).problem(413, "too-large")


async def test_routes_that_take_files_take_larger_bodies(client: ApiClient) -> None:
    """Up to what they are for, and no more."""
    await client("PUT", SESSION)
    for path, most in ((MESSAGES, 23 * 1024 * 1024), (f"{SESSION}/media", 100 * 1024 * 1024)):
        for size, is_taken in ((most, True), (most + 1, False)):
            answer = await client("POST", path, raw=[b"{}"], headers={**JSON, "Content-Length": str(size)})
            assert (answer.status != 413) == is_taken


async def test_a_body_that_does_not_come_is_given_up(client: ApiClient) -> None:
    """408 after the deadline for the whole of it, however small the parts are; none for the wait behind it."""
    asked = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal asked
        while (await receive())["more_body"]:
            asked += 1

    async def drips() -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: Any) -> None:
        raise AssertionError("the limit answers by raising")

    limit = BodyLimit(app, shutdown=ShutdownScope(), within_s=0.1)
    with pytest.raises(Exception, match=r"the body did not arrive within 0\.1 s: send it again"):
        await limit({"type": "http", "path": "/", "headers": []}, drips, send)
    assert 1 < asked < 30


# Problems.


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/sessions/", "/v2/sessions", "/docs", f"{SESSION}/qr.gif", "//healthz"]
)
async def test_what_is_no_route_is_not_found(client: ApiClient, path: str) -> None:
    """A problem that says where the routes are listed; never a redirect, which would trust the caller's Host."""
    sentence = (await client("GET", path)).problem(404, "not-found")
    assert sentence == "there is no such route: /openapi.json lists all"


async def test_another_method_is_refused_with_those_there_are(client: ApiClient) -> None:
    """405 names them in `Allow`."""
    answer = await client("PATCH", f"{SESSION}/start")
    answer.problem(405, "method-not-allowed")
    assert answer.headers["allow"] == "POST"


async def test_a_defect_is_admitted_without_details(client: ApiClient, caplog: pytest.LogCaptureFixture) -> None:
    """500 for the caller; the server gets the error, to log it. No text of the message in either line of ours."""
    await client("PUT", SESSION)
    client.harness.database.failing = "disk I/O error"
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps({**HELLO, "text": "secret"}).encode(), "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": MESSAGES, "query_string": b"", "root_path": "",
        "headers": [(b"x-api-key", KEY.encode()), (b"content-type", b"application/json")],
    }  # fmt: skip
    with caplog.at_level(logging.INFO), pytest.raises(OSError, match="disk I/O error"):
        await client.harness.now(client.api(scope, receive, send))
    client.harness.database.failing = None
    assert sent[0]["status"] == 500
    assert json.loads(sent[1]["body"])["detail"] == "Holdfast failed to answer this request: its log says why"
    assert "A request failed inside Holdfast: POST: OSError" in caplog.text
    assert "secret" not in caplog.text


async def test_a_full_disk_is_reported_and_outlived(client: ApiClient, caplog: pytest.LogCaptureFixture) -> None:
    """503 and one line in the log, neither with the message nor with the file; the same request is accepted later."""
    await client("PUT", SESSION)
    pages = await _pragma(client, "page_count")
    await _pragma(client, f"max_page_count = {pages}")
    headers = {"Idempotency-Key": "order 17"}
    body = {**HELLO, "text": "secret" * 10_000}
    with caplog.at_level(logging.INFO):
        answer = await client("POST", MESSAGES, body, headers=headers)
    sentence = answer.problem(503, "database-failed")
    assert sentence.startswith("the database can't be used just now: try again, for a message with the same Idem")
    assert answer.headers["retry-after"] == "2"
    (line,) = [record.getMessage() for record in caplog.records if "Database failure" in record.getMessage()]
    assert "database or disk is full" in line
    assert "secret" not in caplog.text
    await _pragma(client, "max_page_count = 100000")
    assert (await client("POST", MESSAGES, body, headers=headers)).status == 202
    assert len((await client("GET", MESSAGES)).json["items"]) == 1


async def _pragma(client: ApiClient, words: str) -> Any:
    work = client.harness.database.write(lambda connection: connection.exec_driver_sql(f"PRAGMA {words}").scalar())
    return await client.harness.now(work)


# Description.


async def description(client: ApiClient) -> Any:
    return (await client("GET", "/openapi.json", key=None)).json


async def test_the_description_is_whole(client: ApiClient) -> None:
    """OpenAPI 3.1: every reference leads somewhere, every operation has an id of its own, every path its parameters."""
    document = await description(client)
    assert document["openapi"].startswith("3.1.")
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)):
        place = document
        for step in reference.split("/"):
            place = place[step]
    operations = [(path, operation) for path, found in document["paths"].items() for operation in found.values()]
    ids = [operation["operationId"] for _, operation in operations]
    assert len(set(ids)) == len(ids)
    for path, operation in operations:
        in_path = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", path))
        assert operation["description"].endswith(".")


async def test_the_description_lists_every_route_with_its_key_and_its_problems(client: ApiClient) -> None:
    """A generated client knows 401 and the other errors, as problems."""
    document = await description(client)
    described = {(method.upper(), path) for path, found in document["paths"].items() for method in found}
    assert described == set(routes(client)) - {("GET", "/openapi.json"), ("HEAD", "/openapi.json")}
    for method, path in described - OPEN:
        operation = document["paths"][path][method.lower()]
        assert operation["security"] == [{"HTTPBearer": []}, {"APIKeyHeader": []}]
        assert {"401", "403", "404", "409", "413", "422", "503"} < set(operation["responses"])
        for status, answer in operation["responses"].items():
            if status >= "400":
                content = answer["content"]
                assert content == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


async def test_pictures_are_described_as_pictures(client: ApiClient) -> None:
    """Not as JSON."""
    document = await description(client)
    for kind, media_type in (("svg", "image/svg+xml"), ("png", "image/png")):
        answers = document["paths"][f"/v1/sessions/{{company}}/qr.{kind}"]["get"]["responses"]
        assert list(answers["200"]["content"]) == [media_type]


async def test_the_description_is_the_same_each_time(client: ApiClient) -> None:
    """It is made once and not changed by being asked for."""
    assert await description(client) == await description(client)


# HEAD.


async def test_head_is_get_without_the_body(client: ApiClient) -> None:
    """Every GET route answers HEAD with the same status and headers, and nothing else; a stream ends there."""
    await client("PUT", SESSION)
    for method, path in routes(client):
        if method != "GET":
            continue
        for key in (KEY, None):
            head = await client("HEAD", filled(path), key=key)
            assert head.body == b"", path
            if path == "/v1/events":
                assert head.status == (200 if key else 401)
                continue
            got = await client("GET", filled(path), key=key)
            assert (head.status, head.headers.keys()) == (got.status, got.headers.keys()), path


async def test_head_of_a_route_for_writing_is_refused(client: ApiClient) -> None:
    """It changes nothing: the answer is that of GET."""
    assert (await client("HEAD", f"{SESSION}/stop")).status == 405
