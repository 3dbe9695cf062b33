"""API keys: who may access which company. Stored as hashes, compared in constant time, never logged."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from holdfast.base.errors import BadSetting, Fault, HoldfastError
from holdfast.base.ids import RandomSource, is_company_id
from holdfast.base.private import read_private, write_private

FILE = "api-key"
"""Name of the file in the data folder with the generated key."""

_SHORTEST = 16
_USABLE = re.compile(r"[!-~]+")
"""Characters that a header carries without quoting. Commas and `=` are split off before this is matched."""


class NotAllowed(HoldfastError):
    """The key does not cover this company."""

    code = "forbidden"
    fault = Fault.CALLER


class NoKey(HoldfastError):
    """The key is missing or unknown."""

    code = "unauthorized"
    fault = Fault.CALLER


@dataclass(frozen=True, slots=True)
class KeyGrant:
    """What a key allows. `companies` None: all companies."""

    companies: frozenset[str] | None

    def covers(self, company: str) -> bool:
        return self.companies is None or company in self.companies

    def check(self, company: str) -> None:
        """Raises `NotAllowed`, whether or not the company exists."""
        if not self.covers(company):
            raise NotAllowed(f'this API key has no access to company "{company[:80]}"', field="company")


class KnownKeys(Protocol):
    """The valid keys at the time of the call."""

    def entry(self, key: str | None) -> tuple[bytes, KeyGrant]:
        """The key's hash and what it allows. Raises `NoKey`."""

    def knows(self, digest: bytes) -> bool:
        """Whether the key with this hash is still valid."""


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The keys of the settings, by the SHA-256 of each."""

    grants: tuple[tuple[bytes, KeyGrant], ...]

    def grant(self, key: str | None) -> KeyGrant:
        """Raises `NoKey`."""
        return self.entry(key)[1]

    def entry(self, key: str | None) -> tuple[bytes, KeyGrant]:
        """The key's hash and what it allows. Raises `NoKey`.

        Every hash is compared, so that timing reveals nothing.
        """
        if key is None:
            raise NoKey("an API key is needed: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        given = digest_of(key)
        found = [(known, grant) for known, grant in self.grants if hmac.compare_digest(known, given)]
        if not found:
            raise NoKey(
                "the API key is unknown: the one generated at the first start is in the file api-key of the data folder"
            )
        return found[0]

    def knows(self, digest: bytes) -> bool:
        return any(known == digest for known, _ in self.grants)


def parse(text: str, *, source: str = "HOLDFAST_API_KEY") -> ApiKeys:
    """`KEY, KEY=962302|962303`: a key for all companies, and one for two.

    Raises `BadSetting`, naming `source` and never a key.
    """
    entries = _entries(text)
    for n, (key, _) in enumerate(entries, start=1):
        which = f"{source}: key {n}" if len(entries) > 1 else source
        if len(key) < _SHORTEST:
            raise BadSetting(f"{which} has {len(key)} characters: give at least {_SHORTEST}", field=source)
        if not _USABLE.fullmatch(key):
            raise BadSetting(f"{which} has a space or a character that is not ASCII: leave those out", field=source)
    if len({key for key, _ in entries}) < len(entries):
        raise BadSetting(f"{source} has the same key twice: give each key once, with all its companies", field=source)
    return ApiKeys(tuple((digest_of(key), KeyGrant(_companies(limit, source))) for key, limit in entries))


def first_key(text: str) -> str:
    """The key that commands on the same machine use: one for all companies if there is one."""
    entries = _entries(text)
    return next((key for key, limit in entries if limit is None), entries[0][0])


def _entries(text: str) -> list[tuple[str, str | None]]:
    """Each key with the text of its limit; None: no limit."""
    parts = (entry.strip().partition("=") for entry in text.split(","))
    return [(key.strip(), limit if limited else None) for key, limited, limit in parts]


def _companies(limit: str | None, source: str) -> frozenset[str] | None:
    if limit is None:
        return None
    companies = [company.strip() for company in limit.split("|")]
    if not all(is_company_id(company) for company in companies):
        # The text after "=" may be the end of a key in base64, so it is not shown.
        raise BadSetting(
            f"{source} has a key with = but no company id after it: write KEY=962302|962303, and no = within a key",
            field=source,
        )
    return frozenset(companies)


def digest_of(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def stored_key(data_dir: Path) -> str | None:
    """The generated key of this data folder, for commands on the same machine."""
    return read_private(data_dir / FILE, what="the API key")


def make_key(data_dir: Path, randomness: RandomSource) -> str:
    """Generate a key and store it in the data folder, readable only by its owner."""
    key = randomness.api_key()
    write_private(data_dir / FILE, key, what="the API key")
    return key
