"""A real PgBouncer in front of a test's PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.postgres_process import own_by_postgres
from tests.redis_process import free_port, with_its_parent


@contextlib.contextmanager
def running_pgbouncer(server: URL, *, mode: str) -> Iterator[str]:
    """URL of the database at `server` through a pooler that runs for the block. `mode`: PgBouncer's `pool_mode`."""
    with tempfile.TemporaryDirectory(prefix="holdfast-pgbouncer-") as name:
        port = free_port()
        configuration = Path(name) / "pgbouncer.ini"
        configuration.write_text(
            f"[databases]\n* = host={server.host} port={server.port} "
            f"user={server.username} password={server.password}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
            f"pool_mode = {mode}\ndefault_pool_size = 40\nserver_login_retry = 1\n"
        )
        own_by_postgres(Path(name))
        own_by_postgres(configuration)
        as_postgres = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [*with_its_parent(), *as_postgres, _program(), str(configuration)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        # It logs each connection, and would stand still as soon as the pipe is full.
        reading = threading.Thread(target=process.stderr.read, name="pgbouncer log")
        try:
            assert any("process up" in line for line in process.stderr), "PgBouncer did not start"
            reading.start()
            yield f"postgresql://any@127.0.0.1:{port}/{server.database}"
        finally:
            process.terminate()
            process.wait(timeout=10)
            if reading.ident is not None:
                reading.join()
            process.stderr.close()


def _program() -> str:
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if found is None:
        pytest.fail("pgbouncer is missing: install it (Debian: apt-get install pgbouncer) and run this again")
    return found
