"""fazer-ai's baileys-api, which stores each connection in a Redis hash.

The key of the hash is `@baileys-api:connections:<phone number>:authState`. Since the program has a cluster mode (2026),
the process that runs a connection holds a lease on it, and each process has a heartbeat key.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from holdfast.importing.device import ImportedDevice, Source, StoredSession, checked_device
from holdfast.importing.redis_hashes import CREDENTIALS, ForeignRedis, literally, open_redis

_PREFIX, _ENDING = "@baileys-api:connections:", ":authState"
_CLUSTER = "@baileys-api:cluster"
_CLIENT = "baileys-api"


@contextlib.contextmanager
def open_baileys_api(address: str) -> Iterator[Source]:
    with open_redis(address) as redis:
        yield BaileysApi(redis=redis)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaileysApi:
    redis: ForeignRedis

    @property
    def shown(self) -> str:
        return self.redis.shown

    def sessions(self) -> Sequence[StoredSession]:
        keys = self.redis.hashes(f"{_PREFIX}*{_ENDING}")
        return [StoredSession(name=key.removeprefix(_PREFIX).removesuffix(_ENDING), id=key) for key in keys]

    def signs_of_use(self, session: StoredSession, *, now: datetime) -> Sequence[str]:
        leases = self.redis.values([f"{_CLUSTER}:lease:{session.name}"])
        processes = self.redis.keys(f"{literally(_CLUSTER)}:instance:*")
        clients = [each for each in self.redis.other_clients() if each.get("name") == _CLIENT]
        return [
            *(["a process of baileys-api holds the lease on it"] if leases else []),
            *(f"the process {key.rpartition(':')[2][:60]} of baileys-api is alive" for key in processes[:5]),
            *(f"baileys-api is connected from {each.get('addr', 'somewhere')}" for each in clients[:5]),
        ]

    def read(self, session: StoredSession, *, now: datetime, skip_damaged: bool) -> ImportedDevice:
        fields = self.redis.fields(session.id, session=session)
        credentials = fields.pop(CREDENTIALS, None)
        return checked_device(credentials, fields.items(), session=session, shown=self.shown, skip_damaged=skip_damaged)
