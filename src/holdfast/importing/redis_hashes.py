"""Redis hashes in which programs keep a device: the field `creds`, and one field for each Signal key.

Only reading commands are sent. Keys are found by SCAN, and sizes are checked before values are read.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from holdfast.backup.auth_values import MAX_KEY_BYTES
from holdfast.importing.device import MAX_KEYS, MAX_SESSIONS, ImportRefused, StoredSession, check_size

CREDENTIALS = "creds"
_MAX_SCANNED = 5_000_000
"""Upper bound of the keys of a database that is searched for sessions."""
_AT_ONCE = 500
_BYTES_AT_ONCE = 4 * 1024 * 1024
_TIMEOUT_S = 10
_PASSED_ON = {"db", "ssl_cert_reqs", "ssl_ca_certs"}
"""URL parameters that are passed to the client library. Others are meant for the program that the URL comes from."""
_MAX_WRAPPED = 3


class ForeignRedis:
    """A database of a Redis server. Every method may raise `ImportRefused`."""

    def __init__(self, client: Redis, *, shown: str, database: int) -> None:
        self._client = client
        self._database = database
        self.shown = shown

    def keys(self, pattern: str) -> list[str]:
        """The keys of any type that match `pattern`, sorted."""
        with self._sentences():
            found, cursor, scanned = set[bytes](), 0, 0
            while True:
                cursor, keys = self._client.scan(cursor, match=pattern, count=1000)
                found.update(key for key in keys if isinstance(key, bytes))
                scanned += 1000
                if cursor == 0 or scanned > _MAX_SCANNED or len(found) > MAX_SESSIONS:
                    break
        if cursor != 0:
            raise ImportRefused(
                f"{self.shown} has more than {MAX_SESSIONS} keys that match {pattern}, or more than {_MAX_SCANNED} "
                "keys: it can't be searched for sessions"
            )
        return sorted(key.decode(errors="replace") for key in found)

    def hashes(self, pattern: str, *, field: str | None = None) -> list[str]:
        """The hashes whose key matches `pattern` and, if `field` is given, that have this field."""
        keys = self.keys(pattern)
        with self._sentences():
            types = self._each([("TYPE", key) for key in keys])
            hashes = [key for key, type_ in zip(keys, types, strict=True) if type_ == b"hash"]
            if field is None:
                return hashes
            has = self._each([("HEXISTS", key, field) for key in hashes])
            return [key for key, is_there in zip(hashes, has, strict=True) if is_there]

    def fields(self, key: str, *, session: StoredSession) -> dict[str, bytes]:
        """All fields of a hash. Raises `ImportRefused` before the values are read if the hash is too large."""
        with self._sentences():
            count = int(self._each([("HLEN", key)])[0])
            if count > MAX_KEYS:
                check_size(count, 0, 0, session=session, shown=self.shown)
            names: list[bytes] = self._each([("HKEYS", key)])[0]
            sizes = [int(size) for size in self._each([("HSTRLEN", key, name) for name in names])]
            check_size(len(names), sum(sizes), max(sizes, default=0), session=session, shown=self.shown)
            values = dict[str, bytes]()
            for part in _parts(names, sizes):
                found = self._each([("HMGET", key, *part)])[0]
                kept = zip(part, found, strict=True)
                values.update({name.decode(errors="replace"): value for name, value in kept if value is not None})
        return {name: unwrapped(name, value) for name, value in values.items()}

    def values(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The values of the keys that exist and hold a string. For small values, such as leases."""
        with self._sentences():
            found = self._each([("GET", key) for key in keys], raises=False)
        return {key: value for key, value in zip(keys, found, strict=True) if isinstance(value, bytes)}

    def other_clients(self) -> list[dict[str, str]]:
        """The other clients of this database. Empty if the server refuses to list them."""
        try:
            own = self._client.client_id()
            clients: list[dict[str, str]] = self._client.client_list(_type="normal")
        except (RedisError, OSError):
            return []  # many hosted servers refuse these commands
        return [each for each in clients if each.get("id") != str(own) and each.get("db") == str(self._database)]

    def _each(self, commands: Sequence[tuple[Any, ...]], *, raises: bool = True) -> list[Any]:
        """Send the commands in batches and return the answers."""
        answers = list[Any]()
        for start in range(0, len(commands), _AT_ONCE):
            pipeline = self._client.pipeline(transaction=False)
            for command in commands[start : start + _AT_ONCE]:
                pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
            answers += pipeline.execute(raise_on_error=raises)
        return answers

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError) as error:
            raise _unreadable(self.shown, error) from error


@contextlib.contextmanager
def open_redis(address: str) -> Iterator[ForeignRedis]:
    """Connect to `address`, which is written as in the program's own configuration. Raises `ImportRefused`."""
    try:
        parts = urlsplit(address)
        kept = urlencode([each for each in parse_qsl(parts.query) if each[0] in _PASSED_ON])
        client = Redis.from_url(
            urlunsplit(parts._replace(query=kept)),
            socket_connect_timeout=_TIMEOUT_S,
            socket_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            decode_responses=False,
        )
        arguments = client.connection_pool.connection_kwargs
        database = int(arguments.get("db") or 0)
        where = arguments.get("path") or f"{arguments.get('host', 'localhost')}:{arguments.get('port', 6379)}"
    except (ValueError, TypeError, RedisError):
        raise ImportRefused(
            "the address can't be parsed: write redis://user:password@host:6379/database; in user and password write "
            "%40 for @, %3A for : and %2F for /"
        ) from None  # its text may hold the password
    shown = f"Redis database {where}/{database}"
    with contextlib.closing(client):
        try:
            client.ping()
        except (RedisError, OSError) as error:
            raise _unreadable(shown, error, secret=parts.password) from None
        yield ForeignRedis(client, shown=shown, database=database)


def _unreadable(shown: str, error: Exception, *, secret: str | None = None) -> ImportRefused:
    cause = " ".join(str(error).split())
    cause = cause.replace(secret, "…") if secret else cause
    why = "check that the server runs, and that address and password are right"
    if isinstance(error, ResponseError) and "unknown command" in cause.lower():
        why = "the server refuses a command that the import needs"
    return ImportRefused(f"{shown} can't be read ({cause[:300]}): {why}")


def _parts(names: Sequence[bytes], sizes: Sequence[int]) -> Iterator[list[bytes]]:
    """Split the names into batches whose values have a few megabytes together."""
    part, size = list[bytes](), 0
    for name, its_size in zip(names, sizes, strict=True):
        if part and (size + its_size > _BYTES_AT_ONCE or len(part) >= _AT_ONCE):
            yield part
            part, size = [], 0
        part.append(name)
        size += its_size
    if part:
        yield part


def unwrapped(name: str, value: bytes) -> bytes:
    """Undo repeated serialisation: some programs write a JSON text as a JSON string.

    The value of a `lid-mapping` is itself a JSON string, whose content never begins with a quotation mark.
    """
    for _ in range(_MAX_WRAPPED):
        if len(value) > 2 * MAX_KEY_BYTES or not value.startswith(b'"'):
            break
        try:
            inner = json.loads(value)
        except (ValueError, RecursionError):
            break
        if name.startswith("lid-mapping-") and not inner.startswith('"'):
            break
        value = inner.encode(errors="replace")
    return value


def literally(text: str) -> str:
    """Escape `text` so that, as a pattern, it matches only itself."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", text)
