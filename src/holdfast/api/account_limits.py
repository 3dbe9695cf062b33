"""How fast and to whom a company may send: the configured pacing, reduced by WhatsApp's restrictions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from holdfast.api.schemas import ApiModel
from holdfast.runtime.account_limits import Restrictions


class PaceModel(ApiModel):
    per_minute: Annotated[float, Field(description="0: no limit")]
    burst: int


class LimitsModel(ApiModel):
    """The limits in force now. After a temporary ban they are tighter than the configured ones."""

    every: PaceModel
    bulk: Annotated[PaceModel, Field(description='messages with priority "bulk"')]
    new: Annotated[PaceModel, Field(description="first messages to people the company has no chat with")]
    new_per_day: Annotated[int, Field(description="0: no limit")]
    new_in_last_day: Annotated[int, Field(description="people written to for the first time in the last 24 hours")]
    gap_ms: int
    reach_out_locked_until: Annotated[
        str | None, Field(description="WhatsApp accepts no messages to new contacts until then")
    ]
    new_chat_quota_until: Annotated[
        str | None,
        Field(
            description="WhatsApp's quota of new chats is used up: it accepts no messages to new contacts until then"
        ),
    ]
    tight_until: Annotated[str | None, Field(description="after a temporary ban, fewer messages are sent until then")]

    @classmethod
    def of(cls, restrictions: Restrictions) -> LimitsModel:
        return cls.from_fields(
            restrictions.pacing,
            new_in_last_day=restrictions.new_in_last_day,
            reach_out_locked_until=restrictions.reach_out_until,
            new_chat_quota_until=restrictions.quota_until,
            tight_until=restrictions.tight_until,
        )
