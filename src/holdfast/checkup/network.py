"""The HTTP address, who can reach it, and the state of the Holdfast that runs there."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from holdfast.checkup.check_result import CheckResult, ok, problem, warning
from holdfast.checkup.whatsapp import judge_client_version
from holdfast.client import Client, NoServer, Refused, connect
from holdfast.settings import Settings, variable

_ANSWER_S = 5


def exposure(host: str, port: int) -> CheckResult:
    """HTTP has no TLS of its own: beyond this machine the key would travel unencrypted."""
    what, description = "HTTP", f"listens on {host}:{port}"
    if _is_loopback(host):
        return ok(what, f"{description}, for this machine only")
    cure = (
        f"put a proxy with TLS in front and set {variable('host')} to 127.0.0.1, or let only a trusted network reach it"
    )
    return warning(what, f"{description}, without TLS: keys and messages can be read in transit", cure)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def server(settings: Settings, key: str | None) -> list[CheckResult]:
    """Whether a Holdfast runs, its version, and the state of its sessions, engine hosts and webhooks."""
    what = "running Holdfast"
    try:
        async with connect(settings.server_url, key, timeout_s=_ANSWER_S, only_holdfast=True) as client:
            return await _query(client, settings)
    except NoServer as error:
        return [_nobody(what, settings, error)]
    except Refused as error:
        if error.status == 503:
            return [
                warning(what, f"at {settings.server_url}: it is starting or stopping", "repeat the check in a minute")
            ]
        where = f"set {variable('api_key')}, or {variable('data_dir')} to the folder with its api-key"
        return [problem(what, f"at {settings.server_url}: {error.sentence}", where)]


async def _query(client: Client, settings: Settings) -> list[CheckResult]:
    about = await client.get("/v1/about")
    running, here = about["version"], version("holdfast")
    description = f"{running} at {settings.server_url}"
    found = (
        ok("running Holdfast", description)
        if running == here
        else warning("running Holdfast", f"{description}, and {here} is installed", "restart it")
    )
    sessions = [session async for session in client.items("/v1/sessions")]
    endpoints = [endpoint async for endpoint in client.items("/v1/webhooks")]
    hosts = await _engine_hosts(client, sessions)
    client_version = judge_client_version(about["clientVersion"])
    return [found, client_version, judge_sessions(sessions), judge_engine_hosts(hosts), judge_webhooks(endpoints)]


async def _engine_hosts(client: Client, sessions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The engine hosts of the process that answers: the diagnostics of any session list them all."""
    if not sessions:
        return []
    found = await client.get(f"/webhook/whatsapp/baileys/diagnostics/{sessions[0]['companyId']}")
    hosts: list[dict[str, Any]] = found["engineHosts"]
    return hosts


def judge_sessions(sessions: list[dict[str, Any]]) -> CheckResult:
    what = "sessions"
    if not sessions:
        return ok(what, "none yet: `holdfast pair COMPANY` links one")
    away = [each["companyId"] for each in sessions if each["state"] not in {"connected", "stopped"}]
    degraded = [each["companyId"] for each in sessions if each["state"] == "connected" and _is_degraded(each)]
    if not away and not degraded:
        return ok(what, f"{len(sessions)}, all connected or stopped on purpose")
    found = [f"not connected: {len(away)} of {len(sessions)} ({_named(away)})"] if away else []
    if degraded:
        found.append(f"connected but degraded: {len(degraded)} of {len(sessions)} ({_named(degraded)})")
    return warning(what, "; ".join(found), "`holdfast sessions` says why")


def _is_degraded(session: dict[str, Any]) -> bool:
    """By the verdict; there is none about sessions of other processes."""
    return session["health"] is not None and session["health"]["status"] != "healthy"


def _named(companies: Sequence[str]) -> str:
    return ", ".join(companies[:5]) + (" …" if len(companies) > 5 else "")


def judge_engine_hosts(hosts: list[dict[str, Any]]) -> CheckResult:
    """How many engine hosts run, and which sessions are suspected of ending them."""
    what = "engine hosts"
    suspected = sorted(company for host in hosts if host["isolation"] for company in host["sessions"])
    if suspected:
        cure = "wait: each of them runs in a host of its own until it is cleared, or is quarantined with an alert"
        return warning(what, f"a host ended twice within a minute; suspected: {_named(suspected)}", cure)
    largest = max((host["rssBytes"] or 0 for host in hosts), default=0)
    sizes = f", the largest with {largest // 2**20} MB" if largest else ""
    return ok(what, f"{len(hosts)}{sizes}; no session is suspected of ending them")


def judge_webhooks(endpoints: list[dict[str, Any]]) -> CheckResult:
    """Whether all endpoints accept their deliveries."""
    what = "webhooks"
    cure = "repair the receiver, then deliver what it missed with `holdfast webhooks replay` or in the dashboard"
    broken = [each for each in endpoints if each["state"] != "active" or each["failed"]]
    if not endpoints:
        return ok(what, "none are set: programs read /v1/events or the inbox")
    if broken:
        named = ", ".join(f"{each['companyId'] or 'all companies'}: {_how(each)}" for each in broken[:5])
        return warning(
            what, f"{len(broken)} of {len(endpoints)} are failing or have given up deliveries: {named}", cure
        )
    return ok(what, f"{len(endpoints)}, all accept their deliveries")


def _how(endpoint: dict[str, Any]) -> str:
    failed = f", {endpoint['failed']} given up" if endpoint["failed"] else ""
    last = f" (last: {endpoint['lastError']})" if endpoint["lastError"] else ""
    return f"{endpoint['state']}{failed}{last}"


def _nobody(what: str, settings: Settings, error: NoServer) -> CheckResult:
    if settings.url is not None:
        return problem(what, error.sentence, f"start it, or correct {variable('url')}")
    if settings.port and _is_port_in_use(settings):
        cure = f"stop the other program, or set {variable('port')} to another port"
        return problem(what, f"another program than Holdfast listens on port {settings.port}", cure)
    return warning(what, "none", "`holdfast serve` starts it")


def _is_port_in_use(settings: Settings) -> bool:
    try:
        with socket.create_connection(("localhost" if not settings.host else settings.host, settings.port), timeout=1):
            return True
    except OSError:
        return False
