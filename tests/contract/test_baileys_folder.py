"""Folders of Baileys bots: import, export, and the errors about damaged ones."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from holdfast.backup.baileys import BadFolder, checked, read_folder, write_folder
from holdfast.backup.ratchets import RatchetKey
from holdfast.base.errors import BadInput
from tests.backup_service import FILES, LONG_AGO, bot_folder, credentials, pair

NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return bot_folder(tmp_path / "auth")


def test_every_file_is_a_key_under_the_name_that_baileys_uses(folder: Path) -> None:
    """Replaced characters in file names are restored; texts are kept unchanged."""
    read = read_folder(folder, now=NOW)
    places = {(key.type, key.id) for key in read.device.keys}
    assert places >= {
        ("session", "962777.0"),
        ("session", "77_1.12"),
        ("sender-key", "1203@g.us::77_1::12"),
        ("sender-key", "96-15@g.us::962302::7"),
        ("sender-key-memory", "96-15@g.us"),
        ("app-state-sync-key", "AAA/BB+C="),
        ("app-state-sync-version", "critical_block"),
        ("lid-mapping", "77_reverse"),
        ("tctoken", "77@lid"),
    }
    assert len(places) == len(FILES) - 1
    assert read.device.credentials == (folder / "creds.json").read_text()
    assert (read.skipped, read.ignored, read.is_in_use) == ((), (), False)


def test_an_export_equals_the_import(folder: Path, tmp_path: Path) -> None:
    """File by file, readable only for its owner; a folder that is not empty is refused."""
    out = tmp_path / "out"
    assert write_folder(out, read_folder(folder, now=NOW).device) == len(FILES)
    assert {path.name: path.read_text() for path in out.iterdir()} == {
        path.name: path.read_text() for path in folder.iterdir()
    }
    assert {oct(path.stat().st_mode & 0o777) for path in (out, *out.iterdir())} == {"0o700", "0o600"}
    with pytest.raises(BadFolder, match="is not empty: give a new folder"):
        write_folder(out, read_folder(folder, now=NOW).device)


def test_bytes_in_older_formats_are_converted(folder: Path) -> None:
    """Lists of numbers, Node's form of a Buffer, become base64; a byte order mark is removed."""
    old = {"private": {"type": "Buffer", "data": [0, 1, 2]}, "public": {"type": "Buffer", "data": [255]}}
    (folder / "pre-key-1.json").write_text("\ufeff" + json.dumps(old))
    (key,) = (key for key in read_folder(folder, now=NOW).device.keys if key.type == "pre-key")
    assert json.loads(key.value) == {
        "private": {"type": "Buffer", "data": "AAEC"},
        "public": {"type": "Buffer", "data": "/w=="},
    }


def test_other_files_are_left_out_and_named(folder: Path) -> None:
    """Bots store other files beside their keys; leftovers of editors and crashes are ignored."""
    for name in ("baileys_store.json", "contacts.txt", ".DS_Store", "creds.json.tmp"):
        (folder / name).write_text("{")
    (folder / "media").mkdir()
    assert read_folder(folder, now=NOW).ignored == ("baileys_store.json", "contacts.txt")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"nextPreKeyId": 900_001, "firstUnuploadedPreKeyId": 1_000_000_000}, "firstUnuploadedPreKeyId 1000000000"),
        ({"nextPreKeyId": 5000, "firstUnuploadedPreKeyId": 1}, "4999 pre-keys"),
        ({"routingInfo": {"type": "Buffer", "data": "AAAA" * 5_000_000}}, "bytes: credentials have 1048576 at most"),
    ],
)
def test_credentials_that_would_stall_an_engine_host_are_refused(
    folder: Path, change: dict[str, object], says: str
) -> None:
    """In a folder, and in a device that was sent by HTTP."""
    (folder / "creds.json").write_text(json.dumps({**credentials(), **change}))
    with pytest.raises(BadFolder, match=says):
        read_folder(folder, now=NOW)
    with pytest.raises(BadInput, match=says):
        checked(json.dumps({**credentials(), **change}), [])


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, '{"me": NaN}'])
def test_json_that_only_python_reads_is_refused(folder: Path, text: str) -> None:
    """The error is a sentence, not a traceback."""
    (folder / "creds.json").write_text(text)
    with pytest.raises(BadFolder, match="nothing was imported"):
        read_folder(folder, now=NOW)
    with pytest.raises(BadInput):
        checked(json.dumps(credentials()), [RatchetKey("session", "1.0", text)])


def test_a_folder_that_just_changed_is_in_use(folder: Path) -> None:
    """A running bot writes at each message."""
    os.utime(folder / "creds.json", (NOW.timestamp() - 5, NOW.timestamp() - 5))
    read = read_folder(folder, now=NOW)
    assert (read.is_in_use, read.changed_s) == (True, 5)


def _put(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def _creds(**changes: object) -> Callable[[Path], object]:
    left = {name: value for name, value in (credentials() | changes).items() if value is not None}
    return _put("creds.json", json.dumps(left))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "creds.json").unlink(), "has no creds.json: give the folder"),
        (_put("creds.json", ""), "is empty (0 bytes): it was being written when"),
        (_put("creds.json", json.dumps(credentials())[:200]), "ends too early, half-written (after 200 "),
        (_put("creds.json", "[]"), "it is not a JSON object"),
        (_creds(noiseKey=None, registrationId=None), "lacks noiseKey, registrationId: it is incomplete"),
        (_creds(noiseKey=pair() | {"private": {"type": "Buffer", "data": "AAAA"}}), "is not 32 bytes"),
        (_creds(me=None, account=None), "belongs to a device that was never linked"),
        (_creds(account=None), "belongs to a device that was never linked"),
        (_creds(me={"id": ""}), "has no account name in me.id"),
        (lambda folder: (folder / "creds.json").write_bytes(b"\xff\xfe{"), "is not text (byte 0)"),
    ],
)
def test_damaged_credentials_are_refused_even_with_skip_damaged(
    folder: Path, damage: Callable[[Path], object], said: str
) -> None:
    """Without credentials there is no device; the error names the file and the fault."""
    damage(folder)
    with pytest.raises(BadFolder) as refused:
        read_folder(folder, now=NOW, skip_damaged=True)
    assert said in str(refused.value)
    assert "creds.json" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("session-962777.0.json", "", "is empty (0 bytes)"),
        ("session-962777.0.json", "\0" * 512, "is empty (512 bytes)"),
        (
            "session-962777.0.json",
            '{"_sessions":{"QQ==":{"regist',
            "ends too early, half-written (after 29 characters)",
        ),
        ("session-962777.0.json", '{"version":"v1"}', "holds no session"),
        ("session-962777.0.json", '{"_sessions":{"A":{}}}', "holds an incomplete session"),
        ("pre-key-1.json", '{"public":{}}', "holds no key pair"),
        ("lid-mapping-962777.json", "null", "holds nothing"),
        ("device-list-962777.json", '["0"]]', "is not JSON (character 5 of 6)"),
    ],
)
def test_a_damaged_key_is_named_and_left_out_only_on_request(folder: Path, name: str, text: str, said: str) -> None:
    """The import is all or nothing, unless damaged keys are skipped explicitly."""
    (folder / name).write_text(text)
    with pytest.raises(BadFolder) as refused:
        read_folder(folder, now=NOW)
    sentence = str(refused.value)
    assert f"has 1 damaged file: {name} {said}" in sentence
    assert "Nothing was imported; with --skip-damaged" in sentence
    read = read_folder(folder, now=NOW, skip_damaged=True)
    assert [each.split(" ")[0] for each in read.skipped] == [name]
    assert len(read.device.keys) == len(FILES) - 2


def test_a_path_that_is_not_a_folder_is_refused(tmp_path: Path) -> None:
    """A file, or a path that does not exist."""
    with pytest.raises(BadFolder, match="is missing"):
        read_folder(tmp_path / "nowhere", now=NOW)
    (tmp_path / "file").touch()
    with pytest.raises(BadFolder, match="is not a folder"):
        read_folder(tmp_path / "file", now=NOW)


def test_keys_sent_by_http_pass_the_same_checks() -> None:
    """The API accepts nothing that would be refused in a folder."""
    text = json.dumps(credentials())
    assert checked(text, [RatchetKey("lid-mapping", "1", '"2"')]).keys == (RatchetKey("lid-mapping", "1", '"2"'),)
    for given, keys, said in [
        ("{}", [], "credentials is of|credentials lacks"),
        (text, [RatchetKey("nonsense", "1", "{}")], 'a key has the type "nonsense"'),
        (text, [RatchetKey("session", "1", "{")], "a key ends too early"),
    ]:
        with pytest.raises(BadInput, match=said):
            checked(given, keys)


def test_the_bot_of_these_tests_is_stopped() -> None:
    """The files of this fixture have an old modification time."""
    assert NOW.timestamp() - LONG_AGO > 60
