"""Starting the command `holdfast` imports no more than its commands need."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from holdfast.cli.migration import PROGRAMS
from holdfast.importing.kinds import KINDS

_PROGRAM = """\
import sys
from holdfast.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    print("imported:", *{name.partition(".")[0] for name in sys.modules})
"""


_DATABASE_AND_SERVER = {"sqlalchemy", "alembic", "redis", "psycopg", "fastapi", "uvicorn", "uvloop"}


@pytest.mark.parametrize(
    ("arguments", "unneeded"),
    [
        (["--help"], {*_DATABASE_AND_SERVER, "aiohttp", "pydantic", "segno"}),
        (["sessions"], _DATABASE_AND_SERVER),
    ],
    ids=["help", "sessions"],
)
def test_help_and_commands_to_a_running_gateway_import_only_what_they_need(
    arguments: list[str], unneeded: set[str]
) -> None:
    """`--help` takes half the processor time without the HTTP client and the settings; a command to a running gateway
    a third without the database and the server."""
    environment = {**os.environ, "HOLDFAST_URL": "http://127.0.0.1:9", "HOLDFAST_API_KEY": "hf_key_of_a_test"}
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments], env=environment, capture_output=True, text=True, check=True
    )
    imported = set(ended.stdout.splitlines()[-1].split())
    assert "typer" in imported
    assert not imported & unneeded


def test_serving_imports_neither_alembic_nor_the_client_of_redis() -> None:
    """They take a fifth of the time, and are needed to migrate a database, and with HOLDFAST_REDIS_URL."""
    program = "import sys, holdfast.app; print(*{name.partition('.')[0] for name in sys.modules})"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = set(ended.stdout.split())
    assert "sqlalchemy" in imported
    assert not imported & {"alembic", "redis"}


def test_the_help_of_import_names_every_program() -> None:
    """The names are repeated there, because importing all readers would delay every command."""
    assert PROGRAMS.split(", ") == list(KINDS)
