"""`/v1/keys`: operators list, create and revoke keys; a key for some companies sees none of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.api.api_keys import add_api_keys
from holdfast.api.backups import add_backups
from holdfast.api.key_registry import REFRESH_S, KeyRegistry
from holdfast.api.keys import NoKey, parse
from holdfast.base.api_keys import CreatedKey
from holdfast.store.api_keys import ApiKeyRows
from holdfast.store.tables import api_keys
from tests.api.api_client import KEY, KEY_OF_ONE, OTHER, ApiClient, make_client, registry_of
from tests.backup_service import backup_service_of
from tests.gateway_harness import COMPANY, GatewayHarness, JitterFreeRandomSource

BAKERY = {"name": "Bakery CRM", "companies": [OTHER]}


@pytest.fixture
async def client(harness: GatewayHarness, tmp_path: Path) -> AsyncIterator[ApiClient]:
    registry = registry_of(harness)
    async with harness.running() as gateway:
        client = make_client(harness, gateway, keys=registry)
        add_api_keys(client.api, registry)
        backups = tmp_path / "backups"
        add_backups(
            client.api,
            backup_service_of(gateway, harness.database, backups, clock=harness.clock, load_api_keys=registry.reload),
        )
        yield client


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/keys"), ("POST", "/v1/keys"), ("DELETE", "/v1/keys/x")])
async def test_keys_are_managed_with_a_key_for_all_companies(client: ApiClient, method: str, path: str) -> None:
    """Neither without a key, nor with one for some companies, whether that is from the settings or created."""
    created = (await client("POST", "/v1/keys", BAKERY)).json["key"]
    body = BAKERY if method == "POST" else None
    (await client(method, path, body, key=None)).problem(401, "unauthorized")
    for key in (KEY_OF_ONE, created):
        sentence = (await client(method, path, body, key=key)).problem(403, "forbidden")
        assert "only a key for all companies can manage keys" in sentence


async def test_a_created_key_covers_its_companies_and_is_never_shown_again(
    client: ApiClient, harness: GatewayHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """The database has a hash of it, the log its id, the list its name, companies and last use."""
    with caplog.at_level(logging.INFO):
        answer = await client("POST", "/v1/keys", BAKERY)
    created = answer.json
    key = created.pop("key")
    assert answer.status == 201
    assert (await client("PUT", f"/v1/sessions/{OTHER}", key=key)).status == 200
    (await client("GET", f"/v1/sessions/{COMPANY}", key=key)).problem(403, "forbidden", field="company")
    listed = (await client("GET", "/v1/keys")).json
    [of_all, of_one, bakery] = listed["items"]
    assert bakery == created | {"lastUsedAt": bakery["lastUsedAt"]}
    assert bakery["lastUsedAt"] is not None
    assert (of_all["id"], of_all["companies"], of_all["source"]) == ("settings-1", None, "settings")
    assert (of_one["name"], of_one["companies"]) == ("HOLDFAST_API_KEY, key 2", [COMPANY])
    rows = await harness.now(harness.database.read(lambda connection: connection.execute(api_keys.select()).all()))
    assert key not in f"{rows}{listed}{caplog.text}"
    assert f"API key {bakery['id']} created for {OTHER}" in caplog.text


async def test_a_revoked_key_is_refused_at_once(client: ApiClient) -> None:
    """One of the settings is revoked there, and an unknown id is not found."""
    created = (await client("POST", "/v1/keys", BAKERY)).json
    revoked = await client("DELETE", f"/v1/keys/{created['id']}")
    assert (revoked.status, revoked.json["name"]) == (200, "Bakery CRM")
    (await client("GET", "/v1/sessions", key=created["key"])).problem(401, "unauthorized")
    assert created["id"] not in str((await client("GET", "/v1/keys")).json)
    (await client("DELETE", f"/v1/keys/{created['id']}")).problem(404, "not-found", field="id")
    sentence = (await client("DELETE", "/v1/keys/settings-1")).problem(409, "conflict", field="id")
    assert sentence == "this key comes from HOLDFAST_API_KEY: remove it there, and restart Holdfast"


async def test_of_two_requests_that_revoke_a_key_one_does(client: ApiClient) -> None:
    """The other one is answered that there is no such key any more."""
    created = (await client("POST", "/v1/keys", BAKERY)).json
    client.leaps = False
    path = f"/v1/keys/{created['id']}"
    answers = await asyncio.gather(client("DELETE", path), client("DELETE", path))
    assert sorted(answer.status for answer in answers) == [200, 404]


async def test_a_removed_company_is_withdrawn_from_its_keys(client: ApiClient) -> None:
    """A key for it alone is revoked; otherwise the program of a former customer could create the company again. A key
    for other companies, too, keeps those."""
    client.leaps = False
    await client("PUT", f"/v1/sessions/{COMPANY}")
    alone = (await client("POST", "/v1/keys", {"name": "Bakery", "companies": [COMPANY]})).json
    both = (await client("POST", "/v1/keys", {"name": "Agency", "companies": [COMPANY, OTHER]})).json
    await client("POST", "/v1/keys", BAKERY)
    assert (await client("POST", f"/v1/sessions/{COMPANY}/clear")).status == 200
    (await client("PUT", f"/v1/sessions/{COMPANY}", key=alone["key"])).problem(401, "unauthorized")
    (await client("PUT", f"/v1/sessions/{COMPANY}", key=both["key"])).problem(403, "forbidden", field="company")
    created = (await client("GET", "/v1/keys")).json["items"][2:]
    assert {each["name"]: each["companies"] for each in created} == {"Agency": [OTHER], "Bakery CRM": [OTHER]}


@pytest.mark.parametrize("name", ["مشتری\u200cها", "Family \U0001f468\u200d\U0001f469\u200d\U0001f467"])
async def test_the_name_of_a_key_may_have_joiners(client: ApiClient, name: str) -> None:
    """Words in Persian and emoji have them; labels of companies allow them, too."""
    assert (await client("POST", "/v1/keys", BAKERY | {"name": name})).json["name"] == name
    assert (await client("PUT", f"/v1/sessions/{OTHER}", {"label": name})).json["label"] == name


@pytest.mark.parametrize(
    ("wrong", "field", "sentence"),
    [
        ({"name": "  "}, "name", "name is empty"),
        ({"name": "\u200d \u200c"}, "name", "name is empty"),
        ({"name": "x" * 101}, "name", "name has 101 characters: give at most 100"),
        ({"name": "a\u202eb"}, "name", "invisible character U+202E"),
        ({"companies": []}, "companies", "companies is empty"),
        (
            {"companies": ["../etc"]},
            "companies",
            'companies: "../etc" is not a valid company id: give 1 to 64 letters',
        ),
        ({"companies": ["a"] * 1001}, "companies", "companies has 1001 ids: give at most 1000"),
        ({"scopes": ["read"]}, "scopes", "scopes"),
    ],
)
async def test_a_bad_key_is_refused_with_the_cure(
    client: ApiClient, wrong: dict[str, object], field: str, sentence: str
) -> None:
    """Nothing is stored."""
    assert sentence in (await client("POST", "/v1/keys", BAKERY | wrong)).problem(422, "bad-input", field=field)
    assert len((await client("GET", "/v1/keys")).json["items"]) == 2


async def test_an_event_stream_ends_when_its_key_is_revoked(client: ApiClient, harness: GatewayHarness) -> None:
    """Before anything that happened after that."""
    created = (await client("POST", "/v1/keys", {"name": "CRM", "companies": [COMPANY]})).json
    await client("PUT", f"/v1/sessions/{COMPANY}")
    asking = asyncio.ensure_future(client("GET", "/v1/events", key=created["key"]))
    await harness.quiet()
    await client("DELETE", f"/v1/keys/{created['id']}")
    assert not asking.done()
    await client("POST", f"/v1/sessions/{COMPANY}/stop")
    assert b"session." not in (await asking).body


class FailingRows(ApiKeyRows):
    """Changes of keys take effect, but their results are lost; then nothing can be read until the test allows it."""

    failing = False

    async def all(self) -> list[CreatedKey]:
        if self.failing:
            raise OSError("the connection was lost")
        return await super().all()

    async def remove(self, key_id: str) -> None:
        await super().remove(key_id)
        self.failing = True
        raise OSError("the connection was lost")


@pytest.mark.parametrize("way", ["revoked", "company cleared"])
async def test_a_removed_key_is_refused_when_the_database_is_back(
    harness: GatewayHarness, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Also in a process with a database of its own, which reads its keys only at the start."""
    rows = FailingRows(harness.database)
    registry = KeyRegistry(
        parse(KEY),
        rows,
        source="HOLDFAST_API_KEY",
        is_shared=False,
        clock=harness.clock,
        randomness=JitterFreeRandomSource(),
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(registry.run())
        created, key = await harness.now(registry.create(name="CRM", companies=[COMPANY]))
        if way == "revoked":
            with pytest.raises(OSError, match="the connection was lost"):
                await harness.now(registry.revoke(created.id))
        else:
            await harness.now(ApiKeyRows(harness.database).remove(created.id))
            rows.failing = True
            await harness.now(registry.reload())
            assert "the connection was lost" in caplog.text
        await harness.wait(3 * REFRESH_S)
        assert registry.knows(registry.entry(key)[0])
        rows.failing = False
        await harness.wait(REFRESH_S + 1)
        with pytest.raises(NoKey):
            registry.entry(key)
        running.cancel()


async def test_created_keys_survive_a_restart_and_reach_the_other_nodes(harness: GatewayHarness) -> None:
    """So do revocations and the times of last uses, within some seconds."""
    first, second = registry_of(harness, is_shared=True), registry_of(harness, is_shared=True)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(each.run()) for each in (first, second)]
        created, key = await harness.now(first.create(name="CRM", companies=[COMPANY]))
        await harness.wait(REFRESH_S + 1)
        assert second.entry(key)[1].companies == frozenset({COMPANY})
        await harness.wait(2 * REFRESH_S + 1)
        third = registry_of(harness)
        await harness.now(third.load())
        assert [each.used_at is not None for each in first.listed()[2:] + third.listed()[2:]] == [True, True]
        digest, _ = second.entry(key)
        await harness.now(first.revoke(created.id))
        await harness.wait(REFRESH_S + 1)
        assert not second.knows(digest)
        for each in running:
            each.cancel()
