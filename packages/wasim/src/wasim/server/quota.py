"""The quota of new chats: how many accounts a number may write to for the first time within one cycle."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NewChatQuota:
    """What is allowed and used in the current cycle. Times are Unix seconds."""

    total: int
    used: int
    cycle_start: float
    cycle_end: float

    @property
    def is_used_up(self) -> bool:
        return self.used >= self.total


def quota_state(quota: NewChatQuota | None, *, now: float) -> dict[str, object]:
    """The quota as WhatsApp's GraphQL reports it; None means that the account has no limit."""
    if quota is None:
        return {"total_quota": -1, "used_quota": 0, "capping_status": "NONE"}
    return {
        "total_quota": quota.total,
        "used_quota": quota.used,
        "cycle_start_timestamp": str(int(quota.cycle_start)),
        "cycle_end_timestamp": str(int(quota.cycle_end)),
        "server_sent_timestamp": str(int(now)),
        "ote_status": "NOT_ELIGIBLE",
        "mv_status": "NOT_ELIGIBLE",
        "capping_status": "CAPPED" if quota.is_used_up else "NONE",
    }
