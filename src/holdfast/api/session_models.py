"""The schemas of sessions: their settings, state, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from holdfast.api.schemas import ApiModel, RequestModel, Text
from holdfast.base.clock import iso
from holdfast.base.device_names import device_name
from holdfast.base.errors import BadInput
from holdfast.base.proxy_urls import proxy_url, redacted
from holdfast.delivery.calls import checked_call_text
from holdfast.delivery.events import TYPES
from holdfast.delivery.recipient import phone_number
from holdfast.delivery.webhooks import Endpoint
from holdfast.health.verdict import Verdict
from holdfast.notify.signing import checked_secret
from holdfast.runtime.view import Qr, View
from holdfast.session.ignoring import checked_ignored, ignored_kinds
from holdfast.session.labels import checked_label
from holdfast.session.reasons import Reason
from holdfast.session.state import State
from holdfast.web.urls import checked_url

_PerMinute = Annotated[float | None, Field(ge=0, le=6000, description="messages a minute on average; 0: no limit")]
_Burst = Annotated[
    int | None, Field(ge=1, le=10_000, description="messages that may be sent at once before the average rate applies")
]


class PacingRequest(ApiModel):
    """Pacing of this company; fields that are left out follow the settings."""

    per_minute: _PerMinute = None
    burst: _Burst = None
    bulk_per_minute: _PerMinute = None
    bulk_burst: _Burst = None
    new_per_minute: _PerMinute = None
    new_burst: _Burst = None
    new_per_day: Annotated[
        int | None, Field(ge=0, le=100_000, description="people written to for the first time in 24 hours; 0: no limit")
    ] = None
    gap_ms: Annotated[
        int | None,
        Field(ge=0, le=60_000, description="minimum time between two messages; jitter adds up to as much again"),
    ] = None

    def changes(self) -> dict[str, object]:
        """The changes in the form in which they are stored."""
        return self.model_dump(by_alias=True, exclude_none=True)


class SessionRequest(RequestModel):
    """The settings of a session; fields that are left out stay unchanged."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "label": "Bakery Irbid",
                    "webhookUrl": "https://crm.example/whatsapp",
                    "webhookEvents": ["message.received", "session.state"],
                }
            ]
        }
    )

    label: Annotated[
        Text | None,
        Field(description="what people call the company, such as Bakery Irbid; null or empty: only its id is shown"),
    ] = None
    webhook_url: Annotated[
        Text | None,
        Field(description="where its events are sent; null: to the webhook for all companies, if there is one"),
    ] = None
    webhook_secret: Annotated[
        Text | None,
        Field(
            description="whsec_ and 24 to 64 bytes in base64, to sign with; null, or absent with a first URL: a new one"
        ),
    ] = None
    webhook_events: Annotated[
        list[Text] | None, Field(description="event types; null: all except message.accepted", max_length=50)
    ] = None
    device_name: Annotated[
        Text | None, Field(description="name in the phone's list of linked devices; null: as the settings say")
    ] = None
    proxy_url: Annotated[
        Text | None,
        Field(description="http, https or socks5 proxy for all of its traffic to WhatsApp; null: as the settings say"),
    ] = None
    pacing: Annotated[
        PacingRequest | None,
        Field(
            description="how fast it may send; null: as the settings say for all companies. A key limited to "
            "companies can only tighten the operator's limits"
        ),
    ] = None

    history: Annotated[
        Literal["none", "recent", "full"] | None,
        Field(
            description="what to store of the phone's history: none, recent (as much as the phone decides) or full. "
            "The phone sends it when the device is linked; null: none"
        ),
    ] = None

    ignore: Annotated[
        list[Text] | None,
        Field(
            description="messages that are not stored: any of status (status posts), channels, groups, broadcast "
            "(messages to a broadcast list that the account is on); null or empty: all are stored",
            max_length=10,
        ),
    ] = None

    auto_read: Annotated[
        bool | None,
        Field(description="mark messages as read on arrival, which their senders see; null: only on request"),
    ] = None
    auto_reject_calls: Annotated[
        bool | None, Field(description="reject calls on arrival; null: let them ring on the phone")
    ] = None
    rejected_call_text: Annotated[
        Text | None,
        Field(description="text that the caller gets when a call is rejected automatically; null or empty: none"),
    ] = None

    def check(self) -> None:
        _check_webhook(self)
        if self.label is not None:
            checked_label(self.label)
        self.connection()

    def connection(self) -> dict[str, str | None]:
        """The given settings of the session's actor. Raises `BadInput`."""
        given: dict[str, str | None] = {}
        if "device_name" in self.model_fields_set:
            given["device_name"] = _checked("deviceName", self.device_name, device_name)
        if "proxy_url" in self.model_fields_set:
            given["proxy_url"] = _checked("proxyUrl", self.proxy_url, proxy_url)
        if "history" in self.model_fields_set:
            given["history"] = None if self.history == "none" else self.history
        if "ignore" in self.model_fields_set:
            given["ignored"] = checked_ignored(self.ignore or ())
        if "auto_read" in self.model_fields_set:
            given["auto_read"] = "on" if self.auto_read else None
        if "auto_reject_calls" in self.model_fields_set:
            given["auto_reject_calls"] = "on" if self.auto_reject_calls else None
        if "rejected_call_text" in self.model_fields_set:
            given["rejected_call_text"] = checked_call_text(self.rejected_call_text)
        return given


def _check_webhook(body: SessionRequest) -> None:
    """Raises `BadInput` for settings that are never valid."""
    if body.webhook_url is not None:
        checked_url(body.webhook_url, field="webhookUrl")
    if body.webhook_secret is not None:
        checked_secret(body.webhook_secret, field="webhookSecret")
    for type_ in body.webhook_events or ():
        if type_ not in TYPES:
            raise BadInput(
                f'webhookEvents has "{type_[:40]}", which is not an event type: give some of {", ".join(TYPES)}',
                field="webhookEvents",
            )


class PairingRequest(RequestModel):
    phone_number: Annotated[Text, Field(description="the phone to be linked, 7 to 15 digits with country code")]

    def check(self) -> None:
        phone_number(self.phone_number, field="phoneNumber")


class ReasonModel(ApiModel):
    code: Annotated[str, Field(description="stable name of the reason")]
    number: Annotated[int | None, Field(description="WhatsApp's or Baileys' own number")]
    message: str
    action: Annotated[str, Field(description="what a person should do")]

    @classmethod
    def of(cls, reason: Reason) -> ReasonModel:
        return cls(code=reason.name, number=reason.code, message=reason.sentence, action=reason.action.value)


class FindingModel(ApiModel):
    code: str
    message: str
    action: str


def findings(verdict: Verdict) -> list[FindingModel]:
    return [
        FindingModel(code=finding.code, message=finding.message, action=finding.action.value)
        for finding in verdict.reasons
    ]


class VerdictModel(ApiModel):
    status: Annotated[str, Field(description="healthy, degraded or unhealthy")]
    reasons: Annotated[list[FindingModel], Field(description="what is wrong, worst first")]

    @classmethod
    def of(cls, verdict: Verdict) -> VerdictModel:
        return cls(status=verdict.status.label, reasons=findings(verdict))


class HistoryModel(ApiModel):
    setting: Annotated[str, Field(description="what is stored of the phone's history: none, recent or full")]
    state: Annotated[
        str | None,
        Field(
            description="off; waiting: the phone has sent nothing; storing; idle: the phone will send more; "
            "retrying: parts that failed are read again when the session next connects; complete; "
            "incomplete: parts were lost; "
            "null for a session that another process runs"
        ),
    ]
    percent: Annotated[
        int | None, Field(description="how much of the history the phone has sent, in percent, as the phone reports it")
    ]
    messages: Annotated[
        int,
        Field(
            description="messages that the phone sent since Holdfast started, including those that were stored already"
        ),
    ]
    parts_retrying: Annotated[
        int, Field(description="parts that failed and are read again when the session next connects")
    ]
    parts_lost: Annotated[
        int, Field(description="parts that were given up: they can't be read, or failed on three connections")
    ]

    @classmethod
    def of(cls, view: View, *, is_live: bool) -> HistoryModel:
        setting, seen, state = view.record.history, view.history, view.history_state
        if setting is None and state == "waiting":
            state = "off"
        return cls(
            setting=setting or "none",
            state=state if is_live or setting is None else None,
            percent=seen.percent,
            messages=seen.messages,
            parts_retrying=seen.retrying(is_connected=view.is_connected),
            parts_lost=seen.lost,
        )


class SessionModel(ApiModel):
    company_id: str
    label: Annotated[str | None, Field(description="what people call the company")]
    state: str
    since: str
    phone_number: str | None
    connected_at: Annotated[
        str | None, Field(description="when the current connection opened; null while none is open")
    ]
    last_activity: Annotated[str | None, Field(description="when data last arrived from WhatsApp")]
    reconnect_attempts: int
    next_attempt_at: str | None
    last_ping_rtt_ms: float | None
    reason: ReasonModel | None
    health: Annotated[
        VerdictModel | None,
        Field(description="the verdict that the health route gives; null for a session that another process runs"),
    ]
    node: Annotated[str | None, Field(description="the Holdfast process that runs it; null while none does")]
    device_name: Annotated[str | None, Field(description="the session's own; null: as the settings say")]
    proxy_url: Annotated[str | None, Field(description="the session's own, without its password")]
    history: HistoryModel
    ignore: Annotated[list[str], Field(description="kinds of messages that are not stored")]
    auto_read: bool
    auto_reject_calls: bool
    rejected_call_text: Annotated[str | None, Field(description="what the caller of a rejected call gets")]
    webhook_url: Annotated[str | None, Field(description="the session's own; null: the one for all companies")]
    webhook_events: list[str] | None
    webhook_secret: Annotated[str | None, Field(description="only in the response to the request that set it")]

    @classmethod
    def of(
        cls,
        view: View,
        endpoint: Endpoint | None = None,
        *,
        verdict: Verdict | None,
        label: str | None,
        secret: str | None = None,
    ) -> SessionModel:
        """`endpoint`: the session's own; `secret`: its secret, if that is new."""
        record, session = view.record, view.session
        round_trip_s = session.link.round_trip_s if session.link else None
        return cls.from_fields(
            record,
            company_id=record.company,
            label=label,
            connected_at=record.connected_at if record.state is State.CONNECTED else None,
            reconnect_attempts=session.attempts,
            next_attempt_at=iso(view.next_attempt_at),
            last_ping_rtt_ms=None if round_trip_s is None else round(round_trip_s * 1000, 1),
            reason=None if session.shown_reason is None else ReasonModel.of(session.shown_reason),
            health=None if verdict is None else VerdictModel.of(verdict),
            node=view.node,
            proxy_url=None if record.proxy_url is None else redacted(record.proxy_url),
            history=HistoryModel.of(view, is_live=verdict is not None),
            ignore=list(ignored_kinds(record.ignored)),
            auto_read=record.auto_read is not None,
            auto_reject_calls=record.auto_reject_calls is not None,
            webhook_url=None if endpoint is None else endpoint.url,
            webhook_events=None if endpoint is None or endpoint.events is None else list(endpoint.events),
            webhook_secret=secret,
        )


class QrModel(ApiModel):
    qr: str
    expires_at: str

    @classmethod
    def of(cls, qr: Qr) -> QrModel:
        return cls(qr=qr.text, expires_at=iso(qr.expires_at))


class PairingCodeModel(ApiModel):
    code: str


def _checked(name: str, text: str | None, check: Callable[[str], str]) -> str | None:
    try:
        return None if text is None else check(text)
    except ValueError as error:
        raise BadInput(f"{name}: {error}", field=name) from error
