"""The programs from which a device can be imported, and the kinds of sources that each one has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from holdfast.importing.baileys_api import open_baileys_api
from holdfast.importing.databases import is_sqlite
from holdfast.importing.device import ImportRefused, Source
from holdfast.importing.evolution import open_evolution_postgres, open_evolution_redis
from holdfast.importing.folders import FolderSource
from holdfast.importing.openwa import open_openwa_postgres, open_openwa_sqlite
from holdfast.importing.waha import open_waha_folder, open_waha_postgres, open_waha_sqlite
from holdfast.importing.whatsmeow import open_whatsmeow_postgres, open_whatsmeow_sqlite

Opened = AbstractContextManager[Source]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How to open the stores of a program. None: the program has no store of that kind."""

    expects: str
    """Describes SOURCE in error messages."""
    folder: Callable[[Path], Opened] | None = None
    sqlite: Callable[[Path], Opened] | None = None
    postgres: Callable[[str], Opened] | None = None
    redis: Callable[[str], Opened] | None = None
    postgres_with_keys: Callable[[str, str | None], Opened] | None = None
    """For programs that keep Signal keys in another place, which is the second argument."""


def _open_folder(folder: Path) -> Opened:
    return nullcontext(FolderSource(folder=folder))


KINDS: Mapping[str, Kind] = MappingProxyType({
    "baileys": Kind(
        expects="the folder of useMultiFileAuthState",
        folder=_open_folder,
    ),
    "evolution": Kind(
        expects="postgresql://… with --keys, or redis://… with CACHE_REDIS_SAVE_INSTANCES=true",
        redis=open_evolution_redis,
        postgres_with_keys=open_evolution_postgres,
    ),
    "waha": Kind(
        expects="the folder .sessions/noweb, or postgresql://…",
        folder=open_waha_folder,
        sqlite=open_waha_sqlite,
        postgres=open_waha_postgres,
    ),
    "baileys-api": Kind(
        expects="redis://…",
        redis=open_baileys_api,
    ),
    "openwa": Kind(
        expects="the folder data/baileys, the file data/openwa.sqlite, or postgresql://…",
        folder=_open_folder,
        sqlite=open_openwa_sqlite,
        postgres=open_openwa_postgres,
    ),
    "whatsmeow": Kind(
        expects="the SQLite file with the table whatsmeow_device, or postgresql://…",
        sqlite=open_whatsmeow_sqlite,
        postgres=open_whatsmeow_postgres,
    ),
})  # fmt: skip
"""By the name that `holdfast import` takes as KIND."""


def open_source(kind: str, source: str, *, keys: str | None = None) -> Opened:
    """Open the store of a program. Raises `ImportRefused`, also when the context is entered.

    keys: the place of the Signal keys, for programs that keep them apart from the credentials.
    """
    chosen = KINDS[kind]
    opened = _opened(chosen, source, keys)
    if opened is None:
        raise ImportRefused(f"{_described(source)} is not a source for {kind}: give {chosen.expects}")
    if keys is not None and (chosen.postgres_with_keys is None or not _is_postgres(source)):
        raise ImportRefused(
            "--keys is only for Evolution API with PostgreSQL: other sources have keys and credentials in one place"
        )
    return opened


def _opened(kind: Kind, source: str, keys: str | None) -> Opened | None:
    if _is_postgres(source) and kind.postgres_with_keys is not None:
        return kind.postgres_with_keys(source, keys)
    if _is_postgres(source):
        return kind.postgres and kind.postgres(source)
    if source.startswith(("redis://", "rediss://", "unix://")):
        return kind.redis and kind.redis(source)
    if "://" in source:
        return None
    path = Path(source)
    if path.is_dir():
        return kind.folder and kind.folder(path)
    if is_sqlite(path):
        return kind.sqlite and kind.sqlite(path)
    if path.exists() or (kind.folder is None and kind.sqlite is None):
        return None
    raise ImportRefused(f'"{source}" does not exist: give {kind.expects}')


def _is_postgres(source: str) -> bool:
    return source.startswith(("postgresql://", "postgres://"))


def _described(source: str) -> str:
    """The source for error messages. An address is cut after its scheme, because it may contain a password."""
    scheme, separator, _ = source.partition("://")
    return f"an address of {scheme[:20]}" if separator else f'"{source[:200]}"'
