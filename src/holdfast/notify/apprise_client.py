"""Sends alerts through Apprise, which supports about a hundred services but blocks: in a thread, with a deadline.

Apprise and its dependencies log URLs with their secrets. Their loggers are therefore muted, and every part of the URL
is redacted in the reason of a failure. Apprise is imported only when an address is configured: it takes two seconds and
20 MB to load.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable
from threading import Semaphore, Thread
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote

from holdfast.base.clock import Clock
from holdfast.base.errors import Fault, HoldfastError
from holdfast.health.stores import PendingAlert
from holdfast.notify.addresses import AlertAddress

if TYPE_CHECKING:
    from apprise import AppriseAsset, AppriseResult, NotifyType

_MUTED = ("apprise", "urllib3", "requests_oauthlib", "oauthlib")
_TRIES_AT_ONCE = 3
"""The maximum number of threads that hang on one address, because threads can't be ended from outside."""


class NotDelivered(HoldfastError):
    """An alert was not delivered to an address. The delivery is retried."""

    code = "alert-not-delivered"
    fault = Fault.OPERATOR


class AlertTransport(Protocol):
    """Delivers alerts to addresses."""

    async def deliver(self, address: AlertAddress, alert: PendingAlert) -> None:
        """Raises `NotDelivered` with the cause as far as it is known, never with the URL of the address."""


class AppriseClient:
    """Implements `AlertTransport` with Apprise."""

    def __init__(self, *, clock: Clock, deadline_s: float = 30) -> None:
        self._clock = clock
        self._deadline_s = deadline_s
        self._slots: dict[str, Semaphore] = {}

    async def deliver(self, address: AlertAddress, alert: PendingAlert) -> None:
        slots = self._slots.setdefault(address.fingerprint, Semaphore(_TRIES_AT_ONCE))
        if not slots.acquire(blocking=False):
            raise NotDelivered(f"{_TRIES_AT_ONCE} earlier attempts are still waiting for an answer")
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        thread = Thread(target=_run, args=(lambda: send(address.url, alert), answer, slots), daemon=True)
        thread.name = f"alert to {address}"
        try:
            thread.start()
        except RuntimeError as error:
            slots.release()
            raise NotDelivered(f"Holdfast could not start a thread: {error}") from error
        async with self._clock.until(self._clock.monotonic() + self._deadline_s):
            why = await answer
            if why is not None:
                raise NotDelivered(why)
            return
        raise NotDelivered(f"no answer within {self._deadline_s:g} s")


def _run(call: Callable[[], str | None], answer: asyncio.Future[str | None], slots: Semaphore) -> None:
    """The body of a delivery thread. It is a daemon thread, so a thread that hangs ends with the process."""
    try:
        why = call()
    except Exception as error:  # noqa: BLE001 – a service's plugin may raise anything, with the URL in its text
        why = f"Apprise failed: {type(error).__name__}"
    slots.release()
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for the answer any more
        answer.get_loop().call_soon_threadsafe(_resolve, answer, why)


def _resolve(answer: asyncio.Future[str | None], why: str | None) -> None:
    if not answer.done():
        answer.set_result(why)


def send(url: str, alert: PendingAlert) -> str | None:
    """Deliver an alert, blocking. Returns None on success, else the reason."""
    mute()
    from apprise import Apprise, NotifyFormat

    service = Apprise(asset=_asset())
    if not service.add(url):
        return "Apprise can't use this URL"
    result = service.notify(
        title=alert.title, body=alert.body, notify_type=_type(alert.severity), body_format=NotifyFormat.TEXT
    )
    return None if result else _explanation(result, url)


def refusal(url: str) -> str | None:
    """Why Apprise can't use a URL, without showing it; None when it can."""
    mute()
    from apprise import Apprise
    from apprise.manager_plugins import NotificationManager

    if Apprise.instantiate(url, asset=_asset()) is not None:
        return None
    services = NotificationManager()  # type: ignore[no-untyped-call]  # Apprise gives it no types
    scheme = url.partition("://")[0].lower()
    if scheme not in services:
        return f"Apprise knows no service {scheme}://"
    if not services[scheme].enabled:
        needed = services[scheme].requirements.get("packages_required") or "another system"
        return f"{scheme}:// needs {needed}"
    return f"a part of the {scheme}:// URL is missing or wrong"


def mute() -> None:
    """Mute the loggers that may log a URL. Apprise still collects their records to explain a failure."""
    for name in _MUTED:
        logger = logging.getLogger(name)
        logger.propagate = False
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())


def _asset() -> AppriseAsset:
    """Configures Apprise to write nothing to the disk and to start no threads: ours already have a deadline."""
    from apprise import AppriseAsset, PersistentStoreMode

    return AppriseAsset(
        app_id="Holdfast",
        app_desc="Holdfast",
        app_url="",
        async_mode=False,
        service_timeout=0,
        storage_mode=PersistentStoreMode.MEMORY,
        pgp_autogen=False,
        pem_autogen=False,
    )


def _type(severity: str) -> NotifyType:
    from apprise import NotifyType

    return {"over": NotifyType.SUCCESS, "warning": NotifyType.WARNING}.get(severity, NotifyType.FAILURE)


def _explanation(result: AppriseResult, url: str) -> str:
    messages = "; ".join(dict.fromkeys(entry.message for entry in result.logs()))
    return redacted(messages, url) if messages else "Apprise gives no reason"


def redacted(text: str, url: str) -> str:
    """The text with every part of the URL but its scheme replaced by `…`."""
    behind = url.partition("://")[2]
    parts = {part for form in (behind, unquote(behind)) for part in re.split(r"[/:@?&=,#\s]+", form) if len(part) > 2}
    for part in sorted(parts, key=len, reverse=True):
        text = re.sub(re.escape(part), "…", text, flags=re.IGNORECASE)
    return text
