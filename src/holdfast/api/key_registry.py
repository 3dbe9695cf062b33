"""All valid API keys: those of the settings, and those that operators create and revoke while Holdfast runs.

Created keys are held in memory too, because every request needs them. Another node that shares the database knows a new
or revoked key after `REFRESH_S`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Iterator
from datetime import datetime

from holdfast.api.keys import ApiKeys, KeyGrant, digest_of
from holdfast.base.api_keys import CreatedKey, CreatedKeys, ListedKey
from holdfast.base.clock import Clock, iso
from holdfast.base.errors import BadInput, Conflict, NotFound
from holdfast.base.ids import COMPANY_RULE, RandomSource, is_company_id
from holdfast.session.labels import checked_name

log = logging.getLogger(__name__)

REFRESH_S = 5
MAX_KEYS = 1000
MAX_COMPANIES = 1000
"""Of one key."""


class KeyRegistry:
    """Implements `holdfast.api.keys.KnownKeys` and `holdfast.dashboard.ports.KeyManagement`."""

    def __init__(
        self,
        configured: ApiKeys,
        rows: CreatedKeys,
        *,
        source: str,
        is_shared: bool,
        clock: Clock,
        randomness: RandomSource,
    ) -> None:
        """source: where the configured keys come from, for people. is_shared: other nodes may change `rows`."""
        self._configured = configured
        self._rows = rows
        self._source = source
        self._is_shared = is_shared
        self._clock = clock
        self._randomness = randomness
        self._created: dict[bytes, CreatedKey] = {}
        self._used: dict[bytes, datetime] = {}
        self._stored_used: dict[bytes, str] = {}
        self._is_stale = False
        """Whether memory may differ from the rows: a change failed, which may have been committed all the same."""
        self._lock = asyncio.Lock()
        """Held while rows and memory may differ: a reading that began before a change must not undo it in memory."""

    @property
    def grants(self) -> tuple[tuple[bytes, KeyGrant], ...]:
        created = ((digest, KeyGrant(key.companies)) for digest, key in self._created.items())
        return (*self._configured.grants, *created)

    def entry(self, key: str | None) -> tuple[bytes, KeyGrant]:
        """The key's hash and what it allows. Raises `NoKey`."""
        created = None if key is None else self._created.get(digest_of(key))
        if created is None:
            digest, grant = self._configured.entry(key)
        else:
            digest, grant = bytes.fromhex(created.digest), KeyGrant(created.companies)
        self._used[digest] = self._clock.now()
        return digest, grant

    def knows(self, digest: bytes) -> bool:
        return digest in self._created or self._configured.knows(digest)

    def listed(self) -> list[ListedKey]:
        """The keys of the settings, then the created ones, oldest first."""
        configured = [
            ListedKey(
                id=f"settings-{n}",
                name=f"{self._source}, key {n}" if len(self._configured.grants) > 1 else self._source,
                companies=grant.companies,
                source="settings",
                created_at=None,
                used_at=self._used_at(digest),
            )
            for n, (digest, grant) in enumerate(self._configured.grants, start=1)
        ]
        return configured + [self._listed(digest, key) for digest, key in self._created.items()]

    async def create(self, *, name: str, companies: Collection[str]) -> tuple[ListedKey, str]:
        """Create a key for these companies, and return it: it can't be shown again. Raises `BadInput`, `Conflict`."""
        key = self._randomness.api_key()
        digest = digest_of(key)
        created = CreatedKey(
            id=self._randomness.api_key_id(),
            name=_checked_name(name),
            digest=digest.hex(),
            companies=_checked_companies(companies),
            created_at=iso(self._clock.now()),
            used_at=None,
        )
        async with self._lock:
            if len(self._created) >= MAX_KEYS:
                raise Conflict(f"there are {MAX_KEYS} API keys already: revoke those that nobody uses")
            with self._changing():
                await self._rows.add(created)
            self._created[digest] = created
        log.info("API key %s created for %s", created.id, ", ".join(sorted(created.companies)))
        return self._listed(digest, created), key

    async def revoke(self, key_id: str) -> ListedKey:
        """Raises `NotFound`, and `Conflict` for a key of the settings."""
        async with self._lock:
            found = next((each for each in self.listed() if each.id == key_id), None)
            if found is None:
                raise NotFound(f'API key "{key_id[:80]}" is unknown: the list of keys has its id', field="id")
            if found.source == "settings":
                raise Conflict(f"this key comes from {self._source}: remove it there, and restart Holdfast", field="id")
            with self._changing():
                await self._rows.remove(key_id)
            self._created = {digest: key for digest, key in self._created.items() if key.id != key_id}
        log.info("API key %s revoked", key_id)
        return found

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Wraps a change of the rows."""
        try:
            yield
        except BaseException:
            self._is_stale = True
            raise

    async def load(self) -> None:
        """Read the created keys from the database."""
        async with self._lock:
            self._created = {bytes.fromhex(key.digest): key for key in await self._rows.all()}
            self._is_stale = False

    async def reload(self) -> None:
        """Read the created keys again after others changed the rows; if that fails, as soon as the database is back."""
        self._is_stale = True
        try:
            await self.load()
        except Exception as error:  # noqa: BLE001 – the rows are changed; this process must follow, not the caller
            log.warning("API keys can't be read; they are read again as soon as the database is back: %s", error)

    async def run(self) -> None:
        """Store the times of last uses, and learn of changes by other nodes, until cancelled."""
        while True:
            await self._clock.sleep(REFRESH_S)
            try:
                await self._store_uses()
                if self._is_shared or self._is_stale:
                    await self.load()
            except Exception as error:  # noqa: BLE001 – the database may be away; the next round tries again
                log.debug("API keys were not synchronised with the database: %s", error)

    async def _store_uses(self) -> None:
        used = {digest: at for digest in self._created if (at := self._used_at(digest)) is not None}
        changed = {digest: at for digest, at in used.items() if self._stored_used.get(digest) != at}
        if changed:
            await self._rows.mark_used({digest.hex(): at for digest, at in changed.items()})
            self._stored_used |= changed

    def _used_at(self, digest: bytes) -> str | None:
        """The minute of the last use in this process."""
        at = self._used.get(digest)
        return None if at is None else iso(at.replace(second=0, microsecond=0))

    def _listed(self, digest: bytes, key: CreatedKey) -> ListedKey:
        uses = [at for at in (key.used_at, self._used_at(digest)) if at is not None]
        return ListedKey(
            id=key.id,
            name=key.name,
            companies=key.companies,
            source="created",
            created_at=key.created_at,
            used_at=max(uses, default=None),
        )


def _checked_name(text: str) -> str:
    name = checked_name(text, field="name")
    if not name:
        raise BadInput("name is empty: say who or what uses the key", field="name")
    return name


def _checked_companies(companies: Collection[str]) -> frozenset[str]:
    if not companies:
        raise BadInput("companies is empty: name the companies that the key may access", field="companies")
    if len(companies) > MAX_COMPANIES:
        raise BadInput(f"companies has {len(companies)} ids: give at most {MAX_COMPANIES}", field="companies")
    wrong = next((each for each in companies if not is_company_id(each)), None)
    if wrong is not None:
        raise BadInput(f'companies: "{wrong[:80]}" is not a valid company id: {COMPANY_RULE}', field="companies")
    return frozenset(companies)
