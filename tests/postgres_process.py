"""A real PostgreSQL that a test run starts by itself: a cluster in a folder of its own, on a free loopback port."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from holdfast.store.database import Database
from holdfast.store.postgres import parse
from tests.redis_process import free_port

PASSWORD = "p@ss:w/rd"
_USER = "holdfast"
_DEBIAN = "/usr/lib/postgresql"
_OPTIONS = "-c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=60 -c fsync=off"


class PostgresProcess:
    """One server; each test gets a database of its own in it."""

    def __init__(self, folder: Path) -> None:
        self._data = folder / "cluster"
        self._log = folder / "postgres.log"
        self._port = free_port()
        self._numbers = itertools.count(1)
        self._migrated: str | None = None

    def create(self) -> None:
        password = self._data.with_name("password")
        password.write_text(PASSWORD)
        own_by_postgres(password)
        self._run("initdb", "--username", _USER, "--pwfile", password, "--auth", "scram-sha-256", "--no-sync")

    def start(self) -> None:
        """Returns when it takes connections."""
        self._run("pg_ctl", "start", "--wait", "--silent", "--log", self._log, "-o", f"-p {self._port} {_OPTIONS}")

    def stop(self, *, mode: str = "fast") -> None:
        """`immediate` is like a crash."""
        self._run("pg_ctl", "stop", "--wait", "--silent", "--mode", mode)

    def url(self, database: str = "postgres") -> str:
        """As an operator writes it."""
        return f"postgresql://{_USER}:p%40ss%3Aw%2Frd@127.0.0.1:{self._port}/{database}"

    def new_database(self, *, template: str | None = None) -> str:
        """URL of an empty one, or of a copy of another."""
        name = f"test_{next(self._numbers)}"
        with self.operator() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template or 'template1'}".encode())
        return self.url(name)

    def new_migrated(self) -> str:
        """URL of an empty one of this version: copying one is faster than migrating."""
        if self._migrated is None:
            url = self.new_database()
            Database(parse(url)).close()
            self._migrated = url.rsplit("/", 1)[1]
        return self.new_database(template=self._migrated)

    @contextlib.contextmanager
    def operator(self, url: str | None = None) -> Iterator[psycopg.Connection]:
        """A connection as an operator has it; each statement stands for itself."""
        with psycopg.connect(url or self.url(), autocommit=True) as connection:
            yield connection

    def rows(self, url: str, statement: str) -> list[tuple[object, ...]]:
        """What is in the database, as another program sees it."""
        with self.operator(url) as connection:
            return list(connection.execute(statement.encode()).fetchall())

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [_program(program), "--pgdata", str(self._data), *map(str, arguments)]
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            command = ["runuser", "-u", "postgres", "--", *command]
        done = subprocess.run(
            command, cwd=self._data.parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False, text=True
        )
        assert done.returncode == 0, f"{program}: {done.stderr}"


@contextlib.contextmanager
def running_postgres() -> Iterator[PostgresProcess]:
    """It ends with the block; its folder goes with it."""
    with tempfile.TemporaryDirectory(prefix="holdfast-postgres-") as name:
        own_by_postgres(Path(name))
        process = PostgresProcess(Path(name))
        process.create()
        process.start()
        try:
            yield process
        finally:
            process.stop(mode="immediate")


def own_by_postgres(path: Path) -> None:
    if os.geteuid() == 0:
        postgres = pwd.getpwnam("postgres")
        os.chown(path, postgres.pw_uid, postgres.pw_gid)


def _program(name: str) -> str:
    """Debian keeps all but the client out of the path."""
    folders = sorted(Path(_DEBIAN).glob("*/bin"), key=lambda folder: int(folder.parent.name), reverse=True)
    found = shutil.which(name, path=os.pathsep.join(map(str, folders))) or shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is missing: install PostgreSQL (Debian: apt-get install postgresql) and run this again")
    return found
