"""Problems shown on every page besides the sessions themselves: open alerts and failing webhook endpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from holdfast.base.clock import Clock
from holdfast.dashboard.fleet import advice_on
from holdfast.dashboard.ports import CompanyGrant
from holdfast.delivery.webhooks import OF_ALL, Endpoint, EndpointState, Webhooks
from holdfast.health.advice import Remedy
from holdfast.health.conditions import Condition

_ENDPOINTS_EVERY_S = 4.0
_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionItem:
    """One problem that concerns the whole installation, as text."""

    title: str
    sentence: str
    advice: str
    is_about_webhooks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """The problems that the signed-in key may see."""

    alerts: int = 0
    """Open alerts, of companies and of the whole installation. Those about webhooks are counted as endpoints."""
    failing_endpoints: int = 0
    items: tuple[AttentionItem, ...] = ()


NOTHING = Attention()


class AttentionList:
    """Collects the problems. Endpoints are read at most once every four seconds, shared by all requests."""

    def __init__(self, open_alerts: Callable[[], Sequence[Condition]], webhooks: Webhooks, *, clock: Clock) -> None:
        self._open_alerts = open_alerts
        self._webhooks = webhooks
        self._clock = clock
        self._endpoints: Sequence[Endpoint] = ()
        self._read_at = float("-inf")

    async def of(self, grant: CompanyGrant) -> Attention:
        if self._clock.monotonic() - self._read_at >= _ENDPOINTS_EVERY_S:
            self._endpoints, self._read_at = await self._webhooks.endpoints(), self._clock.monotonic()
        alerts = [
            each for each in self._open_alerts() if _sees(grant, each.company) and each.action != Remedy.CHECK_WEBHOOK
        ]
        failing = [each for each in self._endpoints if _fails(each) and _sees(grant, each.company or None)]
        items = [_item(each) for each in alerts if each.company is None]
        return Attention(
            alerts=len(alerts),
            failing_endpoints=len(failing),
            items=(*items, *([_webhooks_item(failing)] if failing else [])),
        )


def _sees(grant: CompanyGrant, company: str | None) -> bool:
    return grant.companies is None if company is None else grant.covers(company)


def _fails(endpoint: Endpoint) -> bool:
    health = endpoint.health
    return endpoint.url is not None and (health.state is not EndpointState.ACTIVE or health.failures > 0)


def _item(condition: Condition) -> AttentionItem:
    return AttentionItem(
        title=condition.title, sentence=condition.sentence, advice=advice_on(condition.action, condition.cause)
    )


def _webhooks_item(failing: Sequence[Endpoint]) -> AttentionItem:
    count = len(failing)
    title = "a webhook receiver is failing" if count == 1 else f"{count} webhook receivers are failing"
    off = [each for each in failing if each.health.state is EndpointState.OFF]
    retried = [each for each in failing if each.health.state is not EndpointState.OFF]
    sentences = []
    if retried:
        sentences.append(f"{_events_of(retried)} are kept and retried")
    if off:
        sentences.append(f"{_events_of(off)} are kept until you resume the endpoint, for four days at most")
    return AttentionItem(title=title, sentence=". ".join(sentences), advice="", is_about_webhooks=True)


def _events_of(endpoints: Sequence[Endpoint]) -> str:
    whose = [each.company for each in endpoints[:_NAMED] if each.company != OF_ALL]
    return f"Events of {', '.join(whose)}" + (" and others" if len(endpoints) > _NAMED else "") if whose else "Events"
