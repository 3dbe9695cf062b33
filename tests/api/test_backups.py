"""Backups, clearing, importing and exporting by HTTP: who may, and what is answered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import update

from holdfast.api.backups import add_backups
from holdfast.session.engine import BAD_CREDENTIALS, OpenLink
from holdfast.store.tables import credentials as stored_credentials
from tests.api.api_client import KEY_OF_ONE, OTHER, ApiClient, make_client
from tests.backup_service import FILES, backup_service_of, bot_folder, credentials
from tests.gateway_harness import COMPANY, GatewayHarness

REQUEST = {"credentials": json.dumps(credentials()), "keys": [{"type": "lid-mapping", "id": "1", "value": '"2"'}]}
FOR_ALL = [
    ("POST", "/v1/backups"),
    ("GET", "/v1/backups"),
    ("GET", "/v1/backups/x"),
    ("POST", f"/v1/sessions/{COMPANY}/clear"),
    ("POST", "/v1/compact"),
]
FOR_ONE = [("POST", f"/v1/sessions/{COMPANY}/import"), ("GET", f"/v1/sessions/{COMPANY}/export")]


@pytest.fixture
async def client(harness: GatewayHarness, tmp_path: Path) -> AsyncIterator[ApiClient]:
    async with harness.running() as gateway:
        client = make_client(harness, gateway)
        client.leaps = False  # threads of their own make backups: time would leap past them
        add_backups(client.api, backup_service_of(gateway, harness.database, tmp_path / "backups", clock=harness.clock))
        yield client


async def test_a_backup_holds_all_companies_so_its_key_must_too(client: ApiClient) -> None:
    """A key for one company may import and export that company, and nothing more; without a key nothing is possible."""
    for method, path in [*FOR_ALL, *FOR_ONE]:
        (await client(method, path, key=None)).problem(401, "unauthorized")
    for method, path in FOR_ALL:
        sentence = (await client(method, path, key=KEY_OF_ONE)).problem(403, "forbidden")
        assert "a backup contains all" in sentence
    elsewhere = f"/v1/sessions/{OTHER}/export"
    (await client("GET", elsewhere, key=KEY_OF_ONE)).problem(403, "forbidden", field="company")


async def test_a_backup_is_made_listed_and_handed_over(client: ApiClient, harness: GatewayHarness) -> None:
    """The downloaded file is the one in the folder; no other file can be downloaded."""
    await harness.pair()
    made = (await client("POST", "/v1/backups")).json
    assert (made["companies"], made["problem"], made["encrypted"]) == ([COMPANY], None, False)
    listed = (await client("GET", "/v1/backups?verify=true")).json
    assert listed == {"items": [made], "next": None, "missing": []}
    file = await client("GET", f"/v1/backups/{made['name']}")
    assert len(file.body) == made["sizeBytes"]
    assert file.headers["cache-control"] == "no-store"
    for name in ("x", "..", "%2e%2e%2fholdfast.db", ".holdfast.backup.part"):
        assert (await client("GET", f"/v1/backups/{name}")).status == 404


async def test_a_backup_that_is_removed_while_the_list_is_read_is_left_out(client: ApiClient, tmp_path: Path) -> None:
    """Old scheduled backups are removed at any time; the list must not fail because of that."""
    made = (await client("POST", "/v1/backups")).json
    (tmp_path / "backups" / "holdfast-2026-01-01-000000-scheduled.backup").symlink_to(tmp_path / "removed")
    assert [each["name"] for each in (await client("GET", "/v1/backups")).json["items"]] == [made["name"]]


async def test_a_backup_that_is_removed_before_its_download_is_not_found(client: ApiClient, tmp_path: Path) -> None:
    """As a name that was never in the list, although the list still had it."""
    await client("POST", "/v1/backups")
    name = "holdfast-2026-01-01-000000-scheduled.backup"
    (tmp_path / "backups" / name).symlink_to(tmp_path / "removed")
    sentence = (await client("GET", f"/v1/backups/{name}")).problem(404, "not-found", field="name")
    assert sentence == f'there is no backup "{name}": GET /v1/backups lists all backups'


async def test_a_cleared_company_is_gone(client: ApiClient, harness: GatewayHarness) -> None:
    """Its link is cut, the company is unknown and can be created again; its data is in the backup."""
    await harness.pair()
    await harness.send()
    made = (await client("POST", f"/v1/sessions/{COMPANY}/clear")).json
    assert made["companies"] == [COMPANY]
    (await client("GET", f"/v1/sessions/{COMPANY}")).problem(404, "not-found", field="company")
    assert await harness.services.live.get(COMPANY) is None
    (await client("POST", f"/v1/sessions/{COMPANY}/clear")).problem(404, "not-found", field="company")
    await harness.pair()
    assert (await client("GET", f"/v1/sessions/{COMPANY}/messages")).json["items"] == []


async def test_the_space_of_a_cleared_company_goes_back_to_the_disk(client: ApiClient, harness: GatewayHarness) -> None:
    """The answer says how much, and what the database has now."""
    await harness.pair()
    await client("POST", f"/v1/sessions/{COMPANY}/clear")
    done = (await client("POST", "/v1/compact")).json
    assert (done["freedBytes"] >= 0, done["sizeBytes"] > 10_000, done["advice"]) == (True, True, None)


async def test_a_backup_that_fails_keeps_the_company(
    client: ApiClient, harness: GatewayHarness, tmp_path: Path
) -> None:
    """Nothing is removed that is not in a backup; the session stays as it was: stopped."""
    await harness.pair()
    (tmp_path / "backups").write_text("a file in the way")
    refused = await client("POST", f"/v1/sessions/{COMPANY}/clear")
    assert "no backup could be made" in refused.problem(500, "backup-failed")
    assert harness.state() == "stopped"


async def test_an_imported_company_connects_at_once(client: ApiClient, harness: GatewayHarness) -> None:
    """With the credentials that came, and without a QR code; a second import finds a phone linked, and cuts nothing."""
    session = (await client("POST", f"/v1/sessions/{COMPANY}/import", REQUEST)).json
    assert (session["companyId"], session["state"]) == (COMPANY, "reconnecting")
    await harness.until_state("connected")
    assert harness.commands(OpenLink)[-1].credentials == REQUEST["credentials"]
    assert "has a linked device already" in (await client("POST", f"/v1/sessions/{COMPANY}/import", REQUEST)).problem(
        409, "conflict"
    )
    assert harness.state() == "connected"
    assert len(harness.commands(OpenLink)) == 1


async def test_a_device_serves_one_company(client: ApiClient) -> None:
    """Imported a second time under another name, the two sessions would disconnect each other forever; nothing is
    changed.
    """
    assert (await client("POST", f"/v1/sessions/{COMPANY}/import", REQUEST)).status < 300
    again = await client("POST", f"/v1/sessions/{OTHER}/import", REQUEST)
    assert f'company "{COMPANY}" has this device already' in again.problem(409, "conflict")
    (await client("GET", f"/v1/sessions/{OTHER}")).problem(404, "not-found", field="company")


async def test_an_import_replaces_a_pairing_that_nobody_finished(client: ApiClient, harness: GatewayHarness) -> None:
    """A session that shows a QR code has no phone yet."""
    await client("PUT", f"/v1/sessions/{COMPANY}")
    await harness.until(lambda: bool(harness.commands(OpenLink)))
    await client("POST", f"/v1/sessions/{COMPANY}/import", REQUEST)
    await harness.until_state("connected")


HOSTILE = [
    '{"me": {}, "nextPreKeyId": 900001, "firstUnuploadedPreKeyId": 1000000000}',
    '{"me": {}, "routingInfo": {"type": "Buffer", "data": "' + "A" * 2**21 + '"}}',
    '{"me":',
    '["me"]',
]
"""Stored before such credentials were refused, or damaged since."""


@pytest.mark.parametrize("stored", HOSTILE, ids=["key range", "2 MB", "no JSON", "no object"])
@pytest.mark.parametrize("way_out", ["stop", "clear", "import"])
async def test_a_company_with_unusable_stored_credentials_can_be_repaired(
    client: ApiClient, harness: GatewayHarness, stored: str, way_out: str
) -> None:
    """It is paused with its reason; stopping, clearing and importing over it work, and so do imports of others."""
    await client("POST", f"/v1/sessions/{COMPANY}/import", REQUEST)
    await harness.until_state("connected")
    damaged = update(stored_credentials).values(creds=stored)
    await harness.now(harness.database.write(lambda connection: connection.execute(damaged)))
    harness.engine.refuses = BAD_CREDENTIALS  # as a host does that is handed such credentials
    harness.engine.drop(harness.link(), code=428)
    await harness.until_state("paused")
    session = (await client("GET", f"/v1/sessions/{COMPANY}")).json
    assert session["reason"]["code"] == "bad-credentials"
    harness.engine.refuses = None
    done = await client("POST", f"/v1/sessions/{COMPANY}/{way_out}", REQUEST if way_out == "import" else None)
    assert done.status < 300, done.body
    if way_out == "import":
        await harness.until_state("connected")
        assert harness.commands(OpenLink)[-1].credentials == REQUEST["credentials"]
    else:
        assert (await client("POST", f"/v1/sessions/{OTHER}/import", REQUEST)).status < 300


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"credentials": "{"}, "credentials", "credentials ends too early, half-written"),
        ({"credentials": "{}"}, "credentials", "credentials lacks noiseKey"),
        ({"keys": [{"type": "session", "id": "1.0", "value": "{}"}]}, "keys", "a key holds no session"),
        ({"keys": [{"type": "nonsense", "id": "1", "value": "{}"}]}, "keys", "which Baileys does not know"),
        ({"keys": [{"type": "session"}]}, "keys.0.id", "is missing"),
        (
            {"keys": [{"type": "lid-mapping", "id": "1" * 501, "value": '"2"'}]},
            "keys",
            "has an id that can't be stored",
        ),
        ({"keys": [{"type": "lid-mapping", "id": "1\0", "value": '"2"'}]}, "keys", "has an id that can't be stored"),
        ({"keys": [{"type": "lid-mapping", "id": "", "value": '"2"'}]}, "keys", "has an id that can't be stored"),
    ],
)
async def test_nothing_is_imported_of_what_is_damaged(
    client: ApiClient, change: dict[str, object], field: str, said: str
) -> None:
    """The field is named, and no session is there afterwards."""
    refused = await client("POST", f"/v1/sessions/{COMPANY}/import", REQUEST | change)
    assert said in refused.problem(422, "bad-input", field=field)
    (await client("GET", f"/v1/sessions/{COMPANY}")).problem(404, "not-found", field="company")


async def test_keys_that_are_in_use_are_not_exported(
    client: ApiClient, harness: GatewayHarness, tmp_path: Path
) -> None:
    """A connected session changes them with each message: two users of one device would break its encryption."""
    text = (bot_folder(tmp_path / "auth") / "creds.json").read_text()
    await client("POST", f"/v1/sessions/{COMPANY}/import", {"credentials": text, "keys": []})
    await harness.until_state("connected")
    sentence = (await client("GET", f"/v1/sessions/{COMPANY}/export")).problem(409, "conflict")
    assert f"is connected: stop it first (`holdfast stop {COMPANY}`" in sentence
    await client("POST", f"/v1/sessions/{COMPANY}/stop")
    assert (await client("GET", f"/v1/sessions/{COMPANY}/export")).status == 200


async def test_what_is_exported_is_what_a_folder_holds(client: ApiClient, tmp_path: Path) -> None:
    """As many keys as there were files, and more than other bodies may have bytes."""
    folder = bot_folder(tmp_path / "auth")
    large = {"type": "tctoken", "id": "large@lid", "value": json.dumps({"token": "x" * 2_000_000})}
    keys = [{"type": "lid-mapping", "id": str(n), "value": '"2"'} for n in range(len(FILES))]
    text = (folder / "creds.json").read_text()
    await client("POST", f"/v1/sessions/{COMPANY}/import", {"credentials": text, "keys": [*keys, large]})
    await client("POST", f"/v1/sessions/{COMPANY}/stop")
    exported = (await client("GET", f"/v1/sessions/{COMPANY}/export")).json
    assert (exported["credentials"], len(exported["keys"])) == (text, len(keys) + 1)


async def test_a_refused_import_shows_no_key(client: ApiClient) -> None:
    """A member that is not of the right type may hold keys: its value is not repeated."""
    for body, field in (
        ({"credentials": ["cGF0"], "keys": []}, "credentials"),
        ({**REQUEST, "keys": {"a": "cGF0"}}, "keys"),
    ):
        refused = await client("POST", f"/v1/sessions/{COMPANY}/import", body)
        assert refused.problem(422, "bad-input", field=field).startswith(f"{field} can't be used: ")
        assert "cGF0" not in str(refused.json)


async def test_a_key_that_comes_twice_is_refused(client: ApiClient) -> None:
    """Two values of one key contradict each other; the sentence names the key and shows no value."""
    keys = [{"type": "lid-mapping", "id": "1", "value": value} for value in ('"2"', '"3"')]
    refused = await client("POST", f"/v1/sessions/{COMPANY}/import", {**REQUEST, "keys": keys})
    sentence = refused.problem(422, "bad-input", field="keys")
    assert sentence == 'keys have "lid-mapping-1" more than once: give each key once'


@pytest.mark.parametrize("index_info", [{}, {"closed": -1, "note": "\\ud800"}])
async def test_odd_sessions_of_a_device_in_use_are_closed_or_kept(
    client: ApiClient, index_info: dict[str, object]
) -> None:
    """One that does not say whether it is open, and one with half a character, are no defect of the import."""
    record = json.dumps({"_sessions": {"QQ==": {"indexInfo": index_info}}}).replace("\\\\ud800", "\\ud800")
    keys = [{"type": "session", "id": "962777.0", "value": record}]
    imported = await client("POST", f"/v1/sessions/{COMPANY}/import", {**REQUEST, "keys": keys, "inUse": True})
    assert imported.status == 200, imported.json
