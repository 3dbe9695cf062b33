"""Evolution API, which stores credentials in PostgreSQL and Signal keys in Redis or in a folder, or all in Redis.

In PostgreSQL, the table `Instance` has names and states, and `Session` has the credentials by the id of the instance.
The keys are in the Redis hash `<prefix>:instance:<id>` with CACHE_REDIS_ENABLED, and otherwise in the folder
`instances/<id>`. With CACHE_REDIS_SAVE_INSTANCES the credentials are in that hash as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from holdfast.backup.baileys import BadFolder, read_keys
from holdfast.importing.databases import ForeignDatabase, open_postgres
from holdfast.importing.device import (
    MAX_SESSIONS,
    ImportedDevice,
    ImportRefused,
    Source,
    StoredSession,
    checked_device,
)
from holdfast.importing.folders import recent
from holdfast.importing.redis_hashes import CREDENTIALS, ForeignRedis, literally, open_redis, unwrapped

NO_KEYS = "none"
_BAILEYS = "WHATSAPP-BAILEYS"


class _Keys(Protocol):
    """A place that holds the Signal keys of instances."""

    def entries(self, session: StoredSession) -> Iterable[tuple[str, bytes]]: ...

    def signs_of_use(self, session: StoredSession, *, now: datetime) -> Sequence[str]: ...


@contextlib.contextmanager
def open_evolution_postgres(address: str, keys: str | None) -> Iterator[Source]:
    """`keys`: the address of Redis, a folder, or `NO_KEYS`."""
    if keys is None:
        raise ImportRefused(
            "Evolution API keeps only credentials in PostgreSQL: name the place of the Signal keys with --keys. It is "
            "its Redis (CACHE_REDIS_URI) if CACHE_REDIS_ENABLED is true, otherwise its folder `instances`. With "
            f'"--keys {NO_KEYS}" only the credentials are imported, and every chat gets new keys'
        )
    with open_postgres(address) as database, _opened_keys(keys) as places:
        database.use_schema_of("Session")
        yield EvolutionPostgres(database=database, keys=places)


@contextlib.contextmanager
def open_evolution_redis(address: str) -> Iterator[Source]:
    with open_redis(address) as redis:
        yield EvolutionRedis(redis=redis)


@contextlib.contextmanager
def _opened_keys(keys: str) -> Iterator[_Keys]:
    if keys == NO_KEYS:
        yield _NoKeys()
    elif keys.startswith(("redis://", "rediss://", "unix://")):
        with open_redis(keys) as redis:
            yield _RedisKeys(redis=redis)
    else:
        yield _FolderKeys(folder=Path(keys))


@dataclass(frozen=True, slots=True, kw_only=True)
class EvolutionPostgres:
    database: ForeignDatabase
    keys: _Keys

    @property
    def shown(self) -> str:
        return self.database.shown

    def sessions(self) -> Sequence[StoredSession]:
        if not {"sessionId", "creds"} <= self.database.columns("Session") or not self.database.has("Instance"):
            raise ImportRefused(
                f"{self.shown} has no tables Instance and Session: it is not a database of Evolution API 2, or the "
                "address needs its schema (?schema=…)"
            )
        found = self.database.rows(
            'SELECT id, name, coalesce("connectionStatus"::text, \'\') FROM "Instance" ORDER BY name LIMIT :limit',
            limit=MAX_SESSIONS,
        )
        return [StoredSession(name=str(name), id=str(id_), about=str(status)) for id_, name, status in found]

    def signs_of_use(self, session: StoredSession, *, now: datetime) -> Sequence[str]:
        signs = self.database.signs_of_use(now=now)
        found = self.database.rows(
            'SELECT "connectionStatus"::text, "updatedAt" FROM "Instance" WHERE id = :id', id=session.id
        )
        for status, changed in found:
            if isinstance(changed, datetime):
                written_s = changed.replace(tzinfo=changed.tzinfo or UTC).timestamp()
                signs += recent(written_s, now=now, what="its row in the table Instance")
            if status == "open":
                signs.append(
                    "the table Instance says connectionStatus=open, which is also what Evolution API leaves when it is "
                    "ended while connected"
                )
        return [*signs, *self.keys.signs_of_use(session, now=now)]

    def read(self, session: StoredSession, *, now: datetime, skip_damaged: bool) -> ImportedDevice:
        self._refuse_other_kinds(session)
        found = self.database.rows('SELECT creds FROM "Session" WHERE "sessionId" = :id', id=session.id)
        credentials = None if not found or found[0][0] is None else str(found[0][0]).encode(errors="replace")
        return checked_device(
            None if credentials is None else unwrapped(CREDENTIALS, credentials),
            self.keys.entries(session),
            session=session,
            shown=self.shown,
            skip_damaged=skip_damaged,
        )

    def _refuse_other_kinds(self, session: StoredSession) -> None:
        found = self.database.rows('SELECT integration FROM "Instance" WHERE id = :id', id=session.id)
        kind = str((found and found[0][0]) or _BAILEYS)
        if kind != _BAILEYS:
            raise ImportRefused(
                f'instance "{session.name}" in {self.shown} is of the kind {kind[:60]}, which has no linked device: '
                f"only {_BAILEYS} can be imported"
            )


class _NoKeys:
    def entries(self, session: StoredSession) -> Iterable[tuple[str, bytes]]:
        return ()

    def signs_of_use(self, session: StoredSession, *, now: datetime) -> Sequence[str]:
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _FolderKeys:
    folder: Path

    def _of(self, session: StoredSession) -> Path:
        """The folder of the instance: a subfolder of the given one, or that folder itself."""
        return self.folder / session.id if (self.folder / session.id).is_dir() else self.folder

    def entries(self, session: StoredSession) -> Iterable[tuple[str, bytes]]:
        try:
            found = read_keys(self._of(session))
        except BadFolder as error:
            raise ImportRefused(error.sentence) from error
        if not found:
            raise _no_keys(session, f'folder "{self.folder}"')
        return found.items()

    def signs_of_use(self, session: StoredSession, *, now: datetime) -> Sequence[str]:
        try:
            files = [each.stat().st_mtime for each in self._of(session).iterdir() if each.is_file()]
        except OSError as error:
            raise ImportRefused(f'"{self.folder}" can\'t be read: {error.strerror}') from error
        return recent(max(files, default=0), now=now, what="its folder of keys")


@dataclass(frozen=True, slots=True, kw_only=True)
class _RedisKeys:
    redis: ForeignRedis

    def entries(self, session: StoredSession) -> Iterable[tuple[str, bytes]]:
        keys = self.redis.hashes(f"*:{literally(session.id)}")
        if len(keys) != 1:
            raise _no_keys(session, self.redis.shown) if not keys else _several(session, keys, self.redis.shown)
        found = self.redis.fields(keys[0], session=session)
        return [(name, value) for name, value in found.items() if name != CREDENTIALS]

    def signs_of_use(self, session: StoredSession, *, now: datetime) -> Sequence[str]:
        return clients_of_node(self.redis)


def _no_keys(session: StoredSession, shown: str) -> ImportRefused:
    return ImportRefused(
        f'{shown} has no keys of instance "{session.name}" (id {session.id}): Evolution API keeps them in Redis with '
        "CACHE_REDIS_ENABLED=true and in its folder `instances` otherwise"
    )


def _several(session: StoredSession, keys: Sequence[str], shown: str) -> ImportRefused:
    return ImportRefused(
        f'{shown} has {len(keys)} hashes for instance "{session.name}": {", ".join(keys[:5])}. Leave only the one of '
        "the prefix that is used (CACHE_REDIS_PREFIX_KEY)"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EvolutionRedis:
    """Credentials and keys in Redis (CACHE_REDIS_SAVE_INSTANCES). Sessions have ids there, and no names."""

    redis: ForeignRedis

    @property
    def shown(self) -> str:
        return self.redis.shown

    def sessions(self) -> Sequence[StoredSession]:
        keys = self.redis.hashes("*", field=CREDENTIALS)
        return [StoredSession(name=key.rpartition(":")[2], id=key) for key in keys]

    def signs_of_use(self, session: StoredSession, *, now: datetime) -> Sequence[str]:
        return clients_of_node(self.redis)

    def read(self, session: StoredSession, *, now: datetime, skip_damaged: bool) -> ImportedDevice:
        fields = self.redis.fields(session.id, session=session)
        credentials = fields.pop(CREDENTIALS, None)
        return checked_device(credentials, fields.items(), session=session, shown=self.shown, skip_damaged=skip_damaged)


def clients_of_node(redis: ForeignRedis) -> list[str]:
    """The connected clients, without those that identify themselves as written in a language other than Node."""
    clients = [each for each in redis.other_clients() if "node" in (each.get("lib-name") or "node")]
    return [
        f"{each.get('name') or 'a client'} from {each.get('addr', 'somewhere')} is connected to {redis.shown}"
        for each in clients[:20]
    ]
