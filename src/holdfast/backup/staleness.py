"""Finds the companies whose keys were used after a backup was made.

Pure. It is certain when this installation, or a later backup, has other keys of the same device. On an empty machine
there is no evidence: a session that was connected when the backup was made then counts as used after an hour, and also
when the backup seems to be of the future, because its age is then unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from holdfast.backup.manifest import CompanySummary, Manifest
from holdfast.health.advice import format_duration
from holdfast.session.state import RUNNING

BELIEVED_FRESH_S = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Keys of a company from another source than the backup."""

    keys: str
    where: str
    """`this installation`, `the later backup "…"`."""


def moved_on(manifest: Manifest, *, known: Mapping[str, Sequence[Known]], now: datetime) -> dict[str, str]:
    """Return the companies that must not start, each with the reason as a clause.

    known: keys of each company in this installation and in later backups, in this order.
    """
    age_s = (now - datetime.fromisoformat(manifest.created_at)).total_seconds()
    judged = {
        company.company_id: _why(company, known.get(company.company_id, ()), age_s) for company in manifest.companies
    }
    return {company: why for company, why in judged.items() if why is not None}


def _why(company: CompanySummary, known: Sequence[Known], age_s: float) -> str | None:
    if not company.is_paired:
        return None
    newer = next((each for each in known if each.keys != company.keys), None)
    if newer is not None:
        return f"{newer.where} has newer keys of its device"
    if known or company.state not in RUNNING or abs(age_s) <= BELIEVED_FRESH_S:
        return None
    made = f"{format_duration(age_s)} ago" if age_s > 0 else "(by this machine's clock, in the future)"
    return f"it was {company.state} when this backup was made {made}, and may have continued since"
