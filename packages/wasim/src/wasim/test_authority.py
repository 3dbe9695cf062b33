"""wasim's own certificate authority: clients that trust it can connect by TLS, before and after a restart."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path

import pytest

from wasim.authority import BadAuthority, open_authority

NOW = time.time()


async def test_clients_that_trust_it_can_connect_to_the_next_process_too(tmp_path: Path) -> None:
    """A client with the first process's certificate can connect to the host that the second one certified."""
    trusted = ssl.create_default_context(cafile=str(open_authority(tmp_path, now=NOW).file))
    context = open_authority(tmp_path, now=NOW).server_context("127.0.0.1", now=NOW)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusted)
        assert await reader.read() == b""
        writer.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", port, ssl=ssl.create_default_context())


def test_its_key_is_readable_only_by_its_owner(tmp_path: Path) -> None:
    """The files with the keys have the mode 0600."""
    open_authority(tmp_path, now=NOW).server_context("localhost", now=NOW)
    assert {path.name: path.stat().st_mode & 0o077 for path in tmp_path.glob("*") if path.name != "ca.pem"} == {
        "ca.key": 0,
        "media-host.pem": 0,
    }


def test_damaged_files_are_reported(tmp_path: Path) -> None:
    """The error says what to do; files are not replaced, because clients may trust the old certificate."""
    open_authority(tmp_path, now=NOW)
    (tmp_path / "ca.key").write_text("no key")
    with pytest.raises(BadAuthority, match=r"ca.key can't be read .* remove both"):
        open_authority(tmp_path, now=NOW)
