"""API keys: who may touch which company. Compared in constant time, never logged."""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass
from pathlib import Path

from holdfast.base.errors import BadInput, Fault, HoldfastError, Misconfigured
from holdfast.base.ids import Chance

_SHORTEST = 16
_FILE = "api-key"


class NotAllowed(HoldfastError):
    """The key does not cover this company."""

    code = "forbidden"
    fault = Fault.CALLER


class NoKey(HoldfastError):
    """No key, or one that is unknown."""

    code = "unauthorized"
    fault = Fault.CALLER


@dataclass(frozen=True, slots=True)
class Grant:
    """What a key allows. `companies` None: all."""

    companies: frozenset[str] | None

    def check(self, company: str) -> None:
        if self.companies is not None and company not in self.companies:
            raise NotAllowed(f'this API key may not touch company "{company[:80]}"')

    def check_all(self) -> None:
        if self.companies is not None:
            raise NotAllowed("this API key is limited to some companies and may not do what touches all")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys in force."""

    grants: tuple[tuple[bytes, Grant], ...]

    def grant(self, key: str | None) -> Grant:
        """Raises `NoKey`. Every key is compared, so that the time taken tells nothing."""
        if key is None:
            raise NoKey("an API key is needed: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        given = key.encode()
        found = [grant for known, grant in self.grants if hmac.compare_digest(known, given)]
        if not found:
            raise NoKey("the API key is unknown: the one made at the first start is in the data folder's file api-key")
        return found[0]


def parse(text: str) -> Keys:
    """`KEY, KEY=962302|962303`: a key for all companies, and one for two."""
    return Keys(tuple(_entry(entry.strip()) for entry in text.split(",")))


def _entry(text: str) -> tuple[bytes, Grant]:
    key, limited, companies = text.partition("=")
    if len(key) < _SHORTEST:
        raise BadInput(
            f"HOLDFAST_API_KEY has a key of {len(key)} characters: give at least {_SHORTEST}", field="HOLDFAST_API_KEY"
        )
    return key.encode(), Grant(frozenset(companies.split("|")) if limited else None)


def stored_key(data_dir: Path) -> str | None:
    """The generated key of this data folder, for commands on the same machine."""
    try:
        return (data_dir / _FILE).read_text().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Misconfigured(f"the API key in {data_dir / _FILE} can't be read: {error.strerror}") from error


def make_key(data_dir: Path, chance: Chance) -> str:
    """Generate a key and keep it in the data folder, readable by its owner only."""
    key = chance.api_key()
    handle = os.open(data_dir / _FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(key + "\n")
        file.flush()
        os.fsync(file.fileno())
    return key
