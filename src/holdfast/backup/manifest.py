"""The manifest of a backup: when and by which version it was made, its companies, and the checksum of each part."""

from __future__ import annotations

from typing import Any

import msgspec

FORMAT = 2
"""2: a backup may hold one company alone."""


class CompanySummary(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A company at the moment of the backup."""

    company_id: str
    state: str
    is_paired: bool
    keys: str
    """Fingerprint of its credentials and Signal keys: two that differ are two moments of one device."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One table: rows, and SHA-256 of the part's bytes."""

    rows: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    format: int
    created_at: str
    made_by: str
    """Holdfast's version."""
    revision: str
    """Of the database."""
    kind: str
    companies: tuple[CompanySummary, ...]
    tables: dict[str, Member]
    settings: dict[str, Any]
    """Those in force, secrets only as set or not."""
    only_company: str | None = None
    """It holds this company and nothing else; None: everything."""

    def company(self, company: str) -> CompanySummary | None:
        return next((each for each in self.companies if each.company_id == company), None)
