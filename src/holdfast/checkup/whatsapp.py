"""How Holdfast reaches WhatsApp: through which proxy, and as which client version."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from holdfast.base.proxy_urls import redacted
from holdfast.checkup.check_result import CheckResult, ok, problem, warning
from holdfast.health.advice import Remedy, what_to_do
from holdfast.settings import Settings, variable
from holdfast.web.proxies import ProxyError, probe

_PROBE_S = 5
_WHATSAPP = "wss://web.whatsapp.com"
_OLD = timedelta(days=14)
_ORIGINS = {
    "setting": "pinned by a setting, since the start",
    "whatsapp": "read from WhatsApp",
    "stored": "from the database, read from WhatsApp",
    "engine": "built into Baileys, released",
}


async def proxy(settings: Settings) -> CheckResult:
    """Whether the proxy lets Holdfast reach WhatsApp."""
    what = "proxy"
    if settings.proxy_url is None:
        return ok(what, f"not used: sessions without one of their own connect directly ({variable('proxy_url')})")
    where = urlsplit(settings.whatsapp_url or _WHATSAPP)
    port = where.port or (80 if where.scheme == "ws" else 443)
    try:
        await probe(settings.proxy_url, where.hostname or "", port, within_s=_PROBE_S)
    except ProxyError as error:
        return problem(what, error.sentence, f"correct {variable('proxy_url')}, or start the proxy")
    return ok(what, f"{redacted(settings.proxy_url)} connects to {where.hostname}:{port}")


def judge_client_version(client: dict[str, Any]) -> CheckResult:
    """Whether WhatsApp accepts the client version in use, and whether it is about to become too old."""
    what, version_, refused = "client version", client["version"], client["refused"]
    if refused:
        cure = what_to_do(Remedy.UNPIN_VERSION if client["origin"] == "setting" else "update", "client-version-refused")
        return problem(what, f"WhatsApp refuses {', '.join(refused)} (405)", cure)
    age = timedelta(seconds=client["ageS"])
    description = f"{version_}, {_ORIGINS.get(client['origin'], client['origin'])} {_age(age)}"
    cure = f"make sure that {variable('whatsapp_web_url')} can be reached from here: the log says why it can't be read"
    if client["origin"] == "engine":
        return warning(what, f"{description}; the version that WhatsApp publishes was not read yet", cure)
    if client["origin"] != "setting" and age > _OLD:
        return warning(what, f"{description}; WhatsApp refuses versions that are a few weeks old", cure)
    return ok(what, description)


def _age(age: timedelta) -> str:
    hours = max(0, int(age.total_seconds() // 3600))
    if hours == 0:
        return "within the last hour"
    return f"{hours} h ago" if hours < 48 else f"{hours // 24} days ago"
