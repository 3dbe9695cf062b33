"""A real PostgreSQL that a test run starts: a cluster in a temporary folder, on a free loopback port."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
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
    """One server; each test gets its own database in it."""

    def __init__(self, folder: Path, *, options: str = "") -> None:
        """`options`: more options of the server."""
        self.folder = folder
        self._options = f"{_OPTIONS} {options}"
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
        """Returns when it accepts connections."""
        self._run("pg_ctl", "start", "--wait", "--silent", "--log", self._log, "-o", f"-p {self._port} {self._options}")

    def stop(self, *, mode: str = "fast") -> None:
        """`immediate` is like a crash."""
        self._run("pg_ctl", "stop", "--wait", "--silent", "--mode", mode)

    def freeze(self) -> None:
        """All its processes stand still; connections stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        postmaster = int((self._data / "postmaster.pid").read_text().split()[0])
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                if parent == postmaster:
                    os.kill(int(stat.parent.name), number)
        os.kill(postmaster, number)

    def url(self, database: str = "postgres") -> str:
        """The URL in the form that operators use."""
        return f"postgresql://{_USER}:p%40ss%3Aw%2Frd@127.0.0.1:{self._port}/{database}"

    def new_database(self, *, template: str | None = None) -> str:
        """URL of an empty database, or of a copy of another one."""
        name = f"test_{next(self._numbers)}"
        with self.operator() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template or 'template1'}".encode())
        return self.url(name)

    def new_migrated(self) -> str:
        """URL of an empty database of the current version: copying one is faster than migrating."""
        if self._migrated is None:
            url = self.new_database()
            Database(parse(url)).close()
            self._migrated = url.rsplit("/", 1)[1]
        return self.new_database(template=self._migrated)

    @contextlib.contextmanager
    def operator(self, url: str | None = None) -> Iterator[psycopg.Connection]:
        """A connection like an operator's, in autocommit mode."""
        with psycopg.connect(url or self.url(), autocommit=True) as connection:
            yield connection

    def rows(self, url: str, statement: str) -> list[tuple[object, ...]]:
        """The rows in the database, read through a separate connection."""
        with self.operator(url) as connection:
            return list(connection.execute(statement.encode()).fetchall())

    @contextlib.contextmanager
    def ends_with_this(self, *, keeps_folder: bool = False) -> Iterator[None]:
        """Stop the server and remove its folder when a signal ends this process during the block.

        No `finally` is executed then, and the server is nobody's child. The pipe to a shell closes however this ends.
        """
        stop = self._command("pg_ctl", "stop", "--silent", "--mode", "immediate")
        script = 'cat; "$@"' if keeps_folder else 'cat; "$@"; rm -rf "$0"'
        watch = subprocess.Popen(
            ["sh", "-c", script, str(self.folder), *stop],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield
        finally:
            watch.kill()
            watch.communicate()

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            self._command(program, *arguments),
            cwd=self._data.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
            text=True,
        )
        assert done.returncode == 0, f"{program}: {done.stderr}"

    def _command(self, program: str, *arguments: str | Path) -> list[str]:
        command = [_program(program), "--pgdata", str(self._data), *map(str, arguments)]
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            return ["runuser", "-u", "postgres", "--", *command]
        return command


@contextlib.contextmanager
def running_postgres() -> Iterator[PostgresProcess]:
    """Runs for the duration of the block, or until a signal ends this process; its folder is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="holdfast-postgres-") as name:
        own_by_postgres(Path(name))
        process = PostgresProcess(Path(name))
        process.create()
        with process.ends_with_this():
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
    """Debian installs only the client in the path."""
    folders = sorted(Path(_DEBIAN).glob("*/bin"), key=lambda folder: int(folder.parent.name), reverse=True)
    found = shutil.which(name, path=os.pathsep.join(map(str, folders))) or shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is missing: install PostgreSQL (Debian: apt-get install postgresql) and run this again")
    return found
