"""Posts an event to a webhook receiver, signed, and reports the result. The receiver's response body is not used."""

from __future__ import annotations

from datetime import datetime
from email.utils import parsedate_to_datetime

from holdfast.base.clock import Clock
from holdfast.base.errors import BadInput
from holdfast.delivery.events import Event
from holdfast.delivery.webhooks import OF_ALL, Attempt, Endpoint
from holdfast.notify.signing import sign
from holdfast.web.client import NotReached, WebClient, WebResponse

_MAX_BYTES = 1024


class WebhookPost:
    """Implements `holdfast.runtime.webhook_sender.Post`."""

    def __init__(self, web: WebClient, *, clock: Clock, timeout_s: float) -> None:
        """`timeout_s`: of one attempt."""
        self._web = web
        self._clock = clock
        self._timeout_s = timeout_s

    async def __call__(self, endpoint: Endpoint, event: Event) -> Attempt:
        body = event.payload.encode()
        timestamp = int(self._clock.now().timestamp())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": event.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(endpoint.secret or "", id_=event.id, timestamp=timestamp, body=body),
        }
        try:
            answer = await self._web.post(
                endpoint.url or "",
                body=body,
                headers=headers,
                within_s=self._timeout_s,
                max_bytes=_MAX_BYTES,
                is_trusted=endpoint.company == OF_ALL,  # the operator set it, not a tenant
            )
        except (NotReached, BadInput) as error:
            return Attempt(status=None, error=str(error))
        return tried(answer, now=self._clock.now())


def tried(answer: WebResponse, *, now: datetime) -> Attempt:
    """The result of an attempt that got a response."""
    if 200 <= answer.status < 300:
        return Attempt(status=answer.status)
    what = f"the receiver answered {answer.status}"
    if 300 <= answer.status < 400:
        what += ": redirects are not followed, give the address at the end"
    return Attempt(
        status=answer.status, error=what, retry_after_s=retry_after_s(answer.headers.get("Retry-After"), now=now)
    )


def retry_after_s(text: str | None, *, now: datetime) -> float | None:
    """The value of `Retry-After` in seconds, given as a number or a date; None if it is neither."""
    if text is None:
        return None
    if text.strip().isascii() and text.strip().isdigit():
        return float(text.strip()[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        return None
    return max((moment - now).total_seconds(), 0.0)
