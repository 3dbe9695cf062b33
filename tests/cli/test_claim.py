"""Port, data folder and API key, which `holdfast serve` acquires before it starts anything, and the errors when it
can't.
"""

from __future__ import annotations

import socket
import sqlite3
from pathlib import Path

import pytest

from holdfast.app import claim
from holdfast.base.errors import BadSetting, Misconfigured
from holdfast.settings import Settings, load


class RecordedKeys:
    """The keys that were printed."""

    def __init__(self) -> None:
        self.keys: list[tuple[str, Path]] = []

    def __call__(self, key: str, file: Path) -> None:
        self.keys.append((key, file))


def take(data_dir: Path, told: RecordedKeys | None = None, /, **settings: str) -> None:
    """Acquire and release."""
    with claim(wanted(data_dir, **settings), key_made=told or RecordedKeys()):
        pass


def wanted(data_dir: Path, **settings: str) -> Settings:
    return load({"HOLDFAST_PORT": "0", "HOLDFAST_DATA_DIR": str(data_dir), **settings}, file=Path("none"))


def refused(data_dir: Path, **settings: str) -> str:
    held = wanted(data_dir, **settings)
    with pytest.raises(Misconfigured) as caught, claim(held, key_made=RecordedKeys()):
        pass
    return caught.value.sentence


def test_the_first_start_generates_a_key_and_prints_it_once(tmp_path: Path) -> None:
    """The second start finds the key and does not print it; only its owner can read the file in the data folder."""
    told = RecordedKeys()
    take(tmp_path / "data", told)
    take(tmp_path / "data", told)
    ((key, file),) = told.keys
    assert file == tmp_path / "data" / "api-key"
    assert file.read_text() == f"{key}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_a_configured_key_is_used(tmp_path: Path) -> None:
    """No key is generated or printed."""
    told = RecordedKeys()
    take(tmp_path, told, HOLDFAST_API_KEY="a-key-that-is-set-by-hand")
    assert told.keys == []
    assert not (tmp_path / "api-key").exists()


def test_no_key_is_generated_when_the_port_is_in_use(tmp_path: Path) -> None:
    """Otherwise it would be printed by a start that fails, or never."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sentence = refused(tmp_path, HOLDFAST_PORT=str(port))
    assert sentence == (
        f"can't listen on 127.0.0.1 port {port} (Address already in use): "
        "stop the program that uses it, or set HOLDFAST_PORT to another port"
    )
    assert not (tmp_path / "api-key").exists()


def test_a_port_is_free_again_after_a_stop(tmp_path: Path) -> None:
    """A restart immediately after a stop can use the same port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    take(tmp_path, HOLDFAST_PORT=port)
    take(tmp_path, HOLDFAST_PORT=port)


def test_listening_on_an_address_of_another_machine_is_an_error(tmp_path: Path) -> None:
    """The error names the host setting, not the port."""
    sentence = refused(tmp_path, HOLDFAST_HOST="192.0.2.1", HOLDFAST_PORT="3000")
    assert sentence == (
        "can't listen on 192.0.2.1 port 3000 (Cannot assign requested address): "
        "set HOLDFAST_HOST to an address of this machine"
    )


def test_an_invalid_host_name_is_refused(tmp_path: Path) -> None:
    """No name server is queried, because such a name is invalid."""
    assert refused(tmp_path, HOLDFAST_HOST="no..name").startswith("no..name port 0 is not an address to listen on")


def test_ipv6_can_be_listened_on(tmp_path: Path) -> None:
    """An IPv6 address can be used."""
    with claim(wanted(tmp_path, HOLDFAST_HOST="::1"), key_made=RecordedKeys()) as held:
        assert held.listener.family == socket.AF_INET6


@pytest.mark.parametrize("inner", ["", "deeper/still"])
def test_a_file_in_place_of_the_data_folder_is_named(tmp_path: Path, inner: str) -> None:
    """In place of the folder, or of a parent folder."""
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / inner if inner else tmp_path / "file"
    assert refused(folder) == (
        f'the data folder "{folder}" can\'t be created (there is a file with this name): '
        "move it away, or set HOLDFAST_DATA_DIR to another folder"
    )


def test_an_unwritable_data_folder_is_named() -> None:
    """It is neither created nor used where even root can't write."""
    for folder, what, cure in (("/proc/data", "created", "create it"), ("/proc", "written", "write there")):
        sentence = refused(Path(folder))
        assert sentence.startswith(f'the data folder "{folder}" can\'t be {what} (')
        cure = f"give the user of Holdfast permission to {cure}"
        assert sentence.endswith(f"): {cure}, or set HOLDFAST_DATA_DIR to another folder")


def test_two_gateways_never_share_a_data_folder(tmp_path: Path) -> None:
    """The second is refused while the first holds it, whatever its port."""
    with claim(wanted(tmp_path), key_made=RecordedKeys()):
        assert refused(tmp_path) == (
            f'the data folder "{tmp_path}" is in use by another holdfast process: '
            "stop that one, or set HOLDFAST_DATA_DIR to another folder"
        )
    take(tmp_path)


def test_a_file_that_is_not_a_database_is_named(tmp_path: Path) -> None:
    """With what to do; the folder is unlocked afterwards."""
    (tmp_path / "holdfast.db").write_text("no database, but long enough to be looked at" * 100)
    assert refused(tmp_path).startswith(
        f'the database "{tmp_path}/holdfast.db" can\'t be opened (file is not a database)'
    )
    (tmp_path / "holdfast.db").unlink()
    take(tmp_path)


def test_a_database_of_a_newer_holdfast_is_not_changed(tmp_path: Path) -> None:
    """It is refused, with its version."""
    take(tmp_path)
    with sqlite3.connect(tmp_path / "holdfast.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = (tmp_path / "holdfast.db").read_bytes()
    assert refused(tmp_path).startswith(f'the database "{tmp_path}/holdfast.db" has version 9999, newer than this')
    assert (tmp_path / "holdfast.db").read_bytes() == before


def test_a_key_that_is_too_short_is_refused(tmp_path: Path) -> None:
    """This is a `BadSetting`; a truncated file of a generated key is reported as such."""
    with pytest.raises(BadSetting, match="HOLDFAST_API_KEY has 5 characters: give at least 16"):
        take(tmp_path, HOLDFAST_API_KEY="short")
    (tmp_path / "api-key").write_text("hf_ha\n")
    with pytest.raises(BadSetting, match=r"/api-key has 5 characters: give at least 16"):
        take(tmp_path)
