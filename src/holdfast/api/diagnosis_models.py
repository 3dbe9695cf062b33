"""Health and diagnostics as the API shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from holdfast.api.account_limits import LimitsModel
from holdfast.api.keys import KeyGrant
from holdfast.api.schemas import ApiModel
from holdfast.api.session_models import FindingModel, SessionModel, findings
from holdfast.base.clock import iso
from holdfast.health.signals import Signals
from holdfast.health.stability import Stability
from holdfast.health.verdict import Verdict
from holdfast.runtime.client_versions import RefusedVersions
from holdfast.runtime.diagnosis import Diagnosis
from holdfast.runtime.engine_supervisor import HostView
from holdfast.runtime.view import View
from holdfast.session.client_version import ClientVersion, age_s, origin_of, text_of
from holdfast.session.event_words import event_sentence
from holdfast.session.reasons import stored_reason
from holdfast.session.state import State
from holdfast.session.stores import Transition


class HealthModel(ApiModel):
    """Readable by everybody who reaches the port, so without a phone number."""

    company_id: str
    status: Annotated[str, Field(description="healthy, degraded or unhealthy")]
    state: str
    since: str
    connected_at: str | None
    last_activity: str | None
    reconnect_attempts: int
    reasons: list[FindingModel]

    @classmethod
    def of(cls, view: View, verdict: Verdict) -> HealthModel:
        record = view.record
        return cls.from_fields(
            record,
            company_id=record.company,
            status=verdict.status.label,
            connected_at=record.connected_at if record.state is State.CONNECTED else None,
            reconnect_attempts=view.session.attempts,
            reasons=findings(verdict),
        )


class TurnModel(ApiModel):
    at: str
    before: str
    after: str
    event: Annotated[str, Field(description="the event's name in the table of states (docs/states.md)")]
    event_message: Annotated[
        str | None, Field(description="the event in words; null for one that another version of Holdfast stored")
    ]
    reason: str | None
    code: int | None
    cause: Annotated[str | None, Field(description="the reason as a sentence")]
    reaction: str | None
    attempts: int
    next_attempt_at: str | None
    lasted_s: Annotated[float, Field(description="how long the previous state had lasted")]

    @classmethod
    def of(cls, transition: Transition) -> TurnModel:
        reason = None if transition.reason is None else stored_reason(transition.reason, transition.code)
        return cls.from_fields(
            transition,
            event_message=event_sentence(transition.event),
            cause=None if reason is None else reason.sentence,
            reaction=None if reason is None else reason.reaction,
        )


class GoalModel(ApiModel):
    what: str
    measured: Annotated[str, Field(description="as text with its unit")]
    goal: str
    holds: bool


class StabilityModel(ApiModel):
    observed_s: float
    uptime_percent: float | None
    delivery_percent: float | None
    disconnections: int
    disconnections_per_hour: float
    reconnect_p50_s: float | None
    reconnect_p95_s: float | None
    holds: Annotated[bool, Field(description="all four stability goals are met")]
    table: Annotated[list[GoalModel], Field(description="each goal, with its measured value")]

    @classmethod
    def of(cls, measured: Stability) -> StabilityModel:
        return cls.from_fields(
            measured,
            observed_s=round(measured.observed_s, 1),
            uptime_percent=rounded(measured.uptime_percent),
            delivery_percent=rounded(measured.delivery_percent),
            disconnections_per_hour=round(measured.disconnections_an_hour, 2),
            reconnect_p50_s=rounded(measured.reconnect_p50_s),
            reconnect_p95_s=rounded(measured.reconnect_p95_s),
            table=[GoalModel.from_fields(row) for row in measured.table()],
        )


class EvidenceModel(ApiModel):
    last_frame_at: str | None
    last_ping_rtt_ms: float | None
    last_ack_at: str | None
    oldest_unacked_s: float | None
    link_open_s: float | None


class KeepAliveModel(ApiModel):
    sent: int
    answered: int
    success_rate: Annotated[float | None, Field(description="0 to 1, over the window")]
    window: Annotated[int, Field(description="outcomes in the window")]
    missed_in_a_row: int
    rtt_p50_ms: float | None
    rtt_p95_ms: float | None


class BudgetModel(ApiModel):
    an_hour: int
    left: int


class OutboxModel(ApiModel):
    waiting: int
    oldest_s: float | None


class HostModel(ApiModel):
    pid: Annotated[int | None, Field(description="null for a key limited to companies")]
    engine: str | None
    version: str | None
    rss_bytes: int | None
    links: int | None
    lost_last_hour: int


class ClientVersionModel(ApiModel):
    """The version of WhatsApp Web that sessions log in as."""

    version: Annotated[str, Field(description="2.3000.N")]
    origin: Annotated[
        str, Field(description="setting, whatsapp (read from its script), stored (worked before), engine")
    ]
    read_at: Annotated[
        str | None, Field(description="when WhatsApp published it as current; null for the engine's own")
    ]
    age_s: Annotated[
        float, Field(description="seconds since `readAt`; for the engine's own since the release of that Baileys")
    ]
    refused: Annotated[list[str], Field(description="versions that WhatsApp refused (405), while it accepts none")]

    @classmethod
    def of(cls, version: ClientVersion | None, refusal: RefusedVersions | None, *, now: datetime) -> ClientVersionModel:
        return cls(
            version=text_of(version),
            origin=origin_of(version),
            read_at=None if version is None else version.read_at,
            age_s=round(age_s(version, now=now), 1),
            refused=[] if refusal is None else list(refusal.tried),
        )


class EngineHostModel(ApiModel):
    """One of this process's engine hosts."""

    number: int
    pid: Annotated[int | None, Field(description="null for a key limited to companies")]
    rss_bytes: int | None
    session_count: int
    sessions: Annotated[list[str], Field(description="the sessions that the key may see")]
    silent_s: Annotated[float, Field(description="since its last sign of life")]
    isolation: Annotated[bool, Field(description="runs sessions that are suspected of ending hosts")]
    retiring: Annotated[bool, Field(description="was replaced, and runs until its last session has moved")]

    @classmethod
    def of(cls, host: HostView, *, grant: KeyGrant) -> EngineHostModel:
        return cls.from_fields(
            host,
            pid=host.facts.pid if grant.companies is None else None,
            rss_bytes=host.facts.rss_bytes,
            session_count=len(host.sessions),
            sessions=[company for company in host.sessions if grant.covers(company)],
            silent_s=round(host.silent_s, 1),
        )


class LiveModel(ApiModel):
    availability: str
    since: str
    message: str


class WaitingAlertModel(ApiModel):
    address: Annotated[str, Field(description="the address, without its secret")]
    title: str
    made_at: str
    tries: int
    error: str | None


class AlertsModel(ApiModel):
    undelivered: Annotated[
        list[WaitingAlertModel],
        Field(description="kept and retried for a day; empty for keys limited to companies: alerts name others"),
    ]


class DiagnosticsModel(ApiModel):
    at: Annotated[str, Field(description="the server's time of this response, for `since` of a later request")]
    session: SessionModel
    status: str
    reasons: list[FindingModel]
    evidence: EvidenceModel
    keep_alive: KeepAliveModel
    history: Annotated[list[TurnModel], Field(description="newest first")]
    budget: BudgetModel
    outbox: OutboxModel
    ignored: Annotated[
        dict[str, int],
        Field(description="messages that were not stored because `ignore` names their kind, since the session started"),
    ]
    limits: LimitsModel
    stability: Annotated[
        dict[str, StabilityModel], Field(description="by window: 5m, 1h, 24h, 7d, and requested (from `since` to now)")
    ]
    client_version: ClientVersionModel
    engine_host: Annotated[HostModel, Field(description="the one that runs this session")]
    engine_hosts: Annotated[
        list[EngineHostModel], Field(description="a key limited to companies sees those that run its sessions")
    ]
    live_state: LiveModel
    alerts: AlertsModel
    settings: Annotated[
        dict[str, Any],
        Field(description="in force; a key limited to companies sees those that affect its sessions"),
    ]

    @classmethod
    def of(
        cls,
        found: Diagnosis,
        *,
        evidence: EvidenceModel,
        settings: dict[str, Any],
        grant: KeyGrant,
    ) -> DiagnosticsModel:
        host = None if found.host is None else found.host.facts
        sees_all = grant.companies is None
        return cls(
            at=iso(found.at),
            session=SessionModel.of(found.view, verdict=found.verdict, label=found.label),
            status=found.verdict.status.label,
            reasons=findings(found.verdict),
            evidence=evidence,
            keep_alive=keep_alive(found.signals),
            history=[TurnModel.of(transition) for transition in found.history],
            budget=BudgetModel(an_hour=found.budget_an_hour, left=found.budget_left),
            outbox=OutboxModel(
                waiting=found.signals.messages.waiting, oldest_s=rounded(found.signals.messages.oldest_s)
            ),
            ignored=dict(found.view.left_out),
            limits=LimitsModel.of(found.restrictions),
            stability={name: StabilityModel.of(measured) for name, measured in found.stability.items()},
            client_version=ClientVersionModel.of(found.client_version, found.client_refusal, now=found.at),
            engine_host=HostModel(
                pid=host.pid if host is not None and sees_all else None,
                engine=None if host is None else host.engine,
                version=None if host is None else host.version,
                rss_bytes=None if host is None else host.rss_bytes,
                links=None if host is None else host.links,
                lost_last_hour=found.hosts_lost_lately,
            ),
            engine_hosts=[
                EngineHostModel.of(each, grant=grant)
                for each in found.hosts
                if sees_all or any(map(grant.covers, each.sessions))
            ],
            live_state=LiveModel(
                availability=found.live.availability.value, since=found.live.since, message=found.live.sentence
            ),
            alerts=AlertsModel(undelivered=[WaitingAlertModel.from_fields(each) for each in found.alerts]),
            settings=settings,
        )


def keep_alive(signals: Signals) -> KeepAliveModel:
    known = signals.keepalives
    return KeepAliveModel.from_fields(
        known,
        success_rate=None if known.success_rate is None else round(known.success_rate, 4),
        window=len(known.outcomes),
        rtt_p50_ms=ms(known.p50_s),
        rtt_p95_ms=ms(known.p95_s),
    )


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
