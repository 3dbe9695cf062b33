"""The manifest of a backup: when and by which version it was made, its companies, and the checksum of each part."""

from __future__ import annotations

from typing import Any

import msgspec

FORMAT = 2
"""Since format 2 a backup may hold a single company."""


class CompanySummary(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A company at the time of the backup."""

    company_id: str
    state: str
    is_paired: bool
    keys: str
    """Fingerprint of its credentials and Signal keys; it changes whenever the device uses them."""


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """The file of one table: its number of rows and SHA-256."""

    rows: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    format: int
    created_at: str
    made_by: str
    """Holdfast's version."""
    revision: str
    """Version of the database schema."""
    kind: str
    companies: tuple[CompanySummary, ...]
    tables: dict[str, Member]
    settings: dict[str, Any]
    """The settings in force; of secrets only whether they are set."""
    only_company: str | None = None
    """The only company in the backup; None for a backup of everything."""

    def company(self, company: str) -> CompanySummary | None:
        return next((each for each in self.companies if each.company_id == company), None)
