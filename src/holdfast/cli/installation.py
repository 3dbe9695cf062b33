"""Runs a command on the running Holdfast or, when none runs here, on the data folder itself under its lock."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from holdfast.cli.requests import read_settings, with_client
from holdfast.client import Client, NoServer

if TYPE_CHECKING:
    from holdfast.backup.backup_dir import Opener
    from holdfast.backup.creating import BackupMaker
    from holdfast.settings import Settings
    from holdfast.store.database import Database

T = TypeVar("T")

_TIMEOUT_S = 3600
"""Timeout of a request; a large backup takes long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoppedInstallation:
    """An installation that no `serve` uses while the block runs."""

    settings: Settings
    database: Database
    maker: BackupMaker

    @property
    def folder(self) -> Path:
        return backups_of(self.settings)


def backups_of(settings: Settings) -> Path:
    from holdfast.backup.creating import FOLDER

    return settings.data_dir / FOLDER


def opener_of(settings: Settings, identity: Path | None = None) -> Opener:
    from holdfast.backup.backup_dir import Opener

    return Opener(passphrase=settings.backup_passphrase, identity=identity)


@contextlib.contextmanager
def stopped() -> Iterator[StoppedInstallation]:
    """Lock the data folder. Raises `Misconfigured`, which names the folder, when a `serve` uses it."""
    from holdfast.app import make_folder
    from holdfast.backup.creating import maker_of
    from holdfast.store.open_database import open_database

    settings = read_settings()
    make_folder(settings.data_dir)
    with contextlib.closing(open_database(settings)) as database:
        maker = maker_of(settings, database, folder=backups_of(settings))
        yield StoppedInstallation(settings=settings, database=database, maker=maker)


def running_or_stopped(ask: Callable[[Client], Awaitable[T]], act: Callable[[StoppedInstallation], T]) -> T:
    """Call `ask` with a client of the running Holdfast, or `act` with the data folder when none answers.

    Raises `NoServer` when HOLDFAST_URL names a Holdfast that does not answer.
    """
    try:
        return with_client(ask, timeout_s=_TIMEOUT_S)
    except NoServer:
        if read_settings().url is not None:
            raise
    with stopped() as installation:
        return act(installation)
