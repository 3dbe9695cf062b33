"""Queries to WhatsApp by HTTP, over an in-process gateway: answers, deadlines, limits, and no link."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast.runtime.session_queries import DEADLINE_S, PACE
from holdfast.session.engine import QueryAnswered, RunQuery
from tests.api.api_client import KEY_OF_ONE, OTHER, Answer, ApiClient
from tests.gateway_harness import COMPANY, GatewayHarness

CHECK, GROUPS = f"/v1/sessions/{COMPANY}/contacts/check", f"/v1/sessions/{COMPANY}/groups"
GROUP = "120363012345678901@g.us"
FLOWERS: dict[str, Any] = {"id": GROUP, "subject": "Flowers", "size": 2, "createdAtS": 1_700_000_000}


def numbers(arguments: dict[str, Any]) -> list[dict[str, str]]:
    """WhatsApp knows all numbers but those that end in 0."""
    rows = []
    for number in arguments["numbers"]:
        known = {"chat": f"{number}@s.whatsapp.net", "lid": "77@lid"}
        rows.append({"number": number} if number.endswith("0") else {"number": number, **known})
    return rows


@pytest.fixture
async def linked(client: ApiClient, harness: GatewayHarness) -> ApiClient:
    await harness.pair()
    harness.engine.answers = {"check-numbers": numbers, "groups": lambda _: [FLOWERS]}
    return client


def asked(harness: GatewayHarness) -> list[RunQuery]:
    return [command for command in harness.engine.commands if isinstance(command, RunQuery)]


async def check(client: ApiClient, *given: str) -> Answer:
    return await client("POST", CHECK, {"numbers": list(given)})


async def test_numbers_are_checked_in_bulk(linked: ApiClient, harness: GatewayHarness) -> None:
    """Each number is returned in the given form, in the same order; an answer is cached."""
    answer = await check(linked, "+962 79 000 0001", "962790000010", "00962790000001")
    person = {"chat": "962790000001@s.whatsapp.net", "phoneNumber": "962790000001", "lid": "77@lid", "username": None}
    assert answer.json == {
        "items": [
            {
                "number": "+962 79 000 0001",
                "exists": True,
                **person,
            },
            {"number": "962790000010", "exists": False, **dict.fromkeys(person)},
            {"number": "00962790000001", "exists": True, **person},
        ],
        "next": None,
    }
    assert (await check(linked, "962790000001", "962790000003")).status == 200
    assert [query.arguments["numbers"] for query in asked(harness)] == [
        ["962790000001", "962790000010"],
        ["962790000003"],
    ]


async def test_a_number_is_queried_again_when_its_answer_is_old(linked: ApiClient, harness: GatewayHarness) -> None:
    """After five minutes if it did not exist, after an hour if it did."""
    await check(linked, "962790000001", "962790000010")
    await harness.wait(301)
    await check(linked, "962790000001", "962790000010")
    await harness.wait(3600)
    await check(linked, "962790000001")
    assert [query.arguments["numbers"] for query in asked(harness)][1:] == [["962790000010"], ["962790000001"]]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"numbers": []}, "numbers"),
        ({"numbers": ["12ab"]}, "numbers"),
        ({"numbers": ["962790000001"] * 501}, "numbers"),
        ({"numbers": [GROUP]}, "numbers"),
        ({"numbers": [962790000001]}, "numbers.0"),
        ({}, "numbers"),
    ],
)
async def test_invalid_numbers_are_refused(
    linked: ApiClient, harness: GatewayHarness, body: dict[str, object], field: str
) -> None:
    """Before WhatsApp is queried."""
    assert (await linked("POST", CHECK, body)).problem(422, "bad-input", field=field)
    assert not asked(harness)


async def test_groups_are_listed_by_subject_and_cached_for_a_while(linked: ApiClient, harness: GatewayHarness) -> None:
    """A second caller within 30 s causes no query."""
    other = {"id": "1-2@g.us", "subject": "bakers", "announceOnly": True, "owner": "962790000001@s.whatsapp.net"}
    harness.engine.answers["groups"] = lambda _: [FLOWERS, other]
    items = (await linked("GET", GROUPS)).json["items"]
    assert [(item["id"], item["subject"], item["announceOnly"]) for item in items] == [
        ("1-2@g.us", "bakers", True),
        (GROUP, "Flowers", False),
    ]
    assert items[1]["createdAt"] == "2023-11-14T22:13:20.000Z"
    await linked("GET", GROUPS)
    assert len(asked(harness)) == 1
    await harness.wait(31)
    await linked("GET", GROUPS)
    assert len(asked(harness)) == 2


async def test_a_group_has_its_members(linked: ApiClient, harness: GatewayHarness) -> None:
    """With their roles; each is one person under number and hidden id from then on. An unknown group is 404, and an
    invalid id is refused.
    """
    member = {"jid": "962790000001@s.whatsapp.net", "lid": "77@lid", "role": "superadmin"}
    harness.engine.answers["group"] = lambda _: {**FLOWERS, "members": [member]}
    assert (await linked("GET", f"{GROUPS}/{GROUP}")).json["members"] == [member]
    (contact,) = (await linked("GET", f"/v1/sessions/{COMPANY}/contacts")).json["items"]
    assert (contact["chat"], contact["lid"]) == (member["jid"], member["lid"])
    harness.engine.answers["group"] = lambda _: QueryAnswered(
        link=0, request=0, error="no-such-group", detail="there is no such group, or this number is not in it"
    )
    assert "this number is not in it" in (await linked("GET", f"{GROUPS}/{GROUP}")).problem(404, "not-found")
    assert "is not a group" in (await linked("GET", f"{GROUPS}/962790000001")).problem(422, "bad-input", field="id")


async def test_concurrent_equal_requests_share_one_query(linked: ApiClient, harness: GatewayHarness) -> None:
    """This also holds when the first caller disconnects."""
    harness.engine.answers.clear()
    linked.leaps = False  # nobody reaches the deadline
    first = asyncio.ensure_future(linked("GET", GROUPS))
    second = asyncio.ensure_future(linked("GET", GROUPS))
    await harness.until(lambda: len(asked(harness)) == 1)
    await harness.quiet()
    first.cancel()
    (query,) = asked(harness)
    harness.engine.answer_query(query, [FLOWERS])
    assert [item["id"] for item in (await second).json["items"]] == [GROUP]
    assert len(asked(harness)) == 1


async def test_without_a_connection_there_is_no_query(client: ApiClient, harness: GatewayHarness) -> None:
    """503 with the state, and with the reason if there is one; 404 for an unknown company."""
    assert (await check(client, "962790000001")).problem(404, "not-found", field="company")
    await harness.pair()
    await client("POST", f"/v1/sessions/{COMPANY}/stop")
    sentence = (await client("GET", GROUPS)).problem(503, "not-connected")
    assert sentence == f"the session of company {COMPANY} is stopped: this request needs a connection to WhatsApp"
    assert not asked(harness)


async def test_a_query_of_a_paused_session_is_refused_with_the_reason(
    linked: ApiClient, harness: GatewayHarness
) -> None:
    """The error has the reason's sentence."""
    harness.engine.drop(max(harness.engine.links), code=403)
    await harness.quiet()
    sentence = (await linked("GET", GROUPS)).problem(503, "not-connected")
    reason = (await linked("GET", f"/v1/sessions/{COMPANY}")).json["reason"]
    assert reason["message"] in sentence


async def test_an_unanswered_query_ends_at_the_deadline(linked: ApiClient, harness: GatewayHarness) -> None:
    """504; a later request queries WhatsApp again."""
    harness.engine.answers.clear()
    before = harness.clock.monotonic()
    assert (await linked("GET", GROUPS)).problem(504, "whatsapp-timeout")
    assert harness.clock.monotonic() - before == pytest.approx(DEADLINE_S, abs=1)
    harness.engine.answers["groups"] = lambda _: [FLOWERS]
    assert (await linked("GET", GROUPS)).status == 200
    assert len(asked(harness)) == 2


async def test_the_end_of_a_link_ends_its_queries(linked: ApiClient, harness: GatewayHarness) -> None:
    """503 at once, without waiting for the deadline."""
    harness.engine.answers.clear()
    waiting = asyncio.ensure_future(linked("GET", GROUPS))
    await harness.until(lambda: len(asked(harness)) == 1)
    harness.engine.drop(max(harness.engine.links), code=428)
    assert "ended before it answered" in (await waiting).problem(503, "not-connected")


async def test_a_rate_limit_of_whatsapp_delays_queries_and_fails_no_message(
    linked: ApiClient, harness: GatewayHarness
) -> None:
    """503 with Retry-After; messages are still sent."""
    harness.engine.answers["groups"] = lambda _: QueryAnswered(
        link=0, request=0, error="rate-limited", detail="w:g2: rate-overlimit (429)", retry_after_s=7.5
    )
    answer = await linked("GET", GROUPS)
    assert "WhatsApp currently answers no queries (w:g2: rate-overlimit (429)): try again in 8 s" in answer.problem(
        503, "whatsapp-busy"
    )
    assert answer.headers["retry-after"] == "8"
    sent = await linked("POST", f"/v1/sessions/{COMPANY}/messages", {"to": "962790000099", "text": "hello"})
    await harness.until(lambda: len(harness.engine.arrived) == 1)
    await harness.quiet()
    assert (await linked("GET", f"/v1/messages/{sent.json['id']}")).json["state"] == "sent"


async def test_queries_of_a_session_are_limited(linked: ApiClient, harness: GatewayHarness) -> None:
    """429 with Retry-After; cached answers are still returned, and after the wait it may query again."""
    for n in range(PACE.burst):
        assert (await check(linked, f"96279000{n:03}1")).status == 200
    answer = await check(linked, "962790009991")
    answer.problem(429, "too-many-queries")
    assert answer.headers["retry-after"] == "1"
    assert (await check(linked, "962790000001")).status == 200
    await harness.wait(2)
    assert (await check(linked, "962790009991")).status == 200


@pytest.mark.parametrize(
    "result",
    [None, "text", [1], [{"id": 5}], [{"subject": "without an id"}], {"id": GROUP}, [{"id": GROUP, "size": "many"}]],
)
async def test_an_invalid_answer_of_whatsapp_is_502(linked: ApiClient, harness: GatewayHarness, result: object) -> None:
    """It is never a 500."""
    harness.engine.answers["groups"] = lambda _: QueryAnswered(link=0, request=0, result=result)
    assert (await linked("GET", GROUPS)).problem(502, "query-failed")


async def test_a_key_of_another_company_is_refused(linked: ApiClient, harness: GatewayHarness) -> None:
    """As with every route of a company."""
    path = f"/v1/sessions/{OTHER}/groups"
    assert (await linked("GET", path, key=KEY_OF_ONE)).problem(403, "forbidden", field="company")
    assert not asked(harness)


# Pictures and typing.

CHAT = "962790000099@s.whatsapp.net"


async def test_a_picture_has_the_url_that_whatsapp_returns(linked: ApiClient, harness: GatewayHarness) -> None:
    """In two sizes; 404 with the reason if there is none; 422 for an invalid chat or size."""
    path = f"/v1/sessions/{COMPANY}/contacts/+962790000099/picture"
    harness.engine.answers["picture"] = lambda given: {"url": f"https://example.test/{given['size']}"}
    assert (await linked("GET", path)).json == {"chat": CHAT, "url": "https://example.test/preview"}
    assert (await linked("GET", f"{path}?size=full")).json["url"] == "https://example.test/full"
    assert [query.arguments["jid"] for query in asked(harness)] == [CHAT, CHAT]
    await harness.wait(61)
    harness.engine.answers["picture"] = lambda _: QueryAnswered(
        link=0, request=0, error="not-found", detail="there is no picture, or it is hidden from this account"
    )
    assert (await linked("GET", path)).problem(
        404, "not-found"
    ) == "there is no picture, or it is hidden from this account"
    (await linked("GET", f"{path}?size=huge")).problem(422, "bad-input", field="size")
    (await linked("GET", f"/v1/sessions/{COMPANY}/contacts/nobody/picture")).problem(422, "bad-input", field="chat")


async def test_typing_is_shown(linked: ApiClient, harness: GatewayHarness) -> None:
    """To a person or a group; 422 for an unknown state, 503 without a connection."""
    harness.engine.answers["typing"] = lambda _: {}
    path = f"/v1/sessions/{COMPANY}/chats/{GROUP}/typing"
    answer = await linked("POST", path, {"state": "recording"})
    assert (answer.status, answer.json) == (202, {"chat": GROUP, "state": "recording"})
    assert [dict(query.arguments) for query in asked(harness)] == [{"jid": GROUP, "state": "recording"}]
    (await linked("POST", path, {"state": "singing"})).problem(422, "bad-input", field="state")
    await linked("POST", f"/v1/sessions/{COMPANY}/stop")
    (await linked("POST", path, {})).problem(503, "not-connected")


async def test_the_text_of_a_person_and_the_profile_of_a_business(linked: ApiClient, harness: GatewayHarness) -> None:
    """Missing values are null, and queried once a minute."""
    shop = {
        "about": "Open from 7 to 20",
        "setAtS": 1_700_000_000,
        "business": {
            "description": "Fresh bread",
            "websites": ["https://bread.test"],
            "hours": [{"day": "mon", "mode": "specific_hours", "opens": "07:00", "closes": "20:00"}],
        },
    }
    harness.engine.answers["about"] = lambda given: shop if str(given["jid"]).startswith("962790000001@") else {}
    contacts = f"/v1/sessions/{COMPANY}/contacts"
    found = (await linked("GET", f"{contacts}/962790000001/about")).json
    assert (found["about"], found["aboutSetAt"]) == ("Open from 7 to 20", "2023-11-14T22:13:20.000Z")
    missing = dict.fromkeys(("category", "address", "email", "timezone"))
    assert found["business"] == shop["business"] | missing  # type: ignore[operator]
    for _ in range(2):
        other = (await linked("GET", f"{contacts}/962790000002/about")).json
    nothing = dict.fromkeys(("about", "aboutSetAt", "business"))
    assert other == {"chat": "962790000002@s.whatsapp.net"} | nothing
    assert [query.name for query in asked(harness)] == ["about", "about"]
