"""The programs that Holdfast depends on: Redis, Node and Baileys; and the addresses of alerts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from holdfast.base.clock import Clock
from holdfast.base.errors import Misconfigured
from holdfast.checkup.advisories import Advisory, advisories_about
from holdfast.checkup.check_result import CheckResult, ok, problem, warning
from holdfast.engine.baileys.install import installed_version, locked_version
from holdfast.engine.errors import EngineUnavailable
from holdfast.engine.node import find_node
from holdfast.engine.sandbox import is_effective
from holdfast.live.redis_connection import RedisServer, RedisUnavailable
from holdfast.notify.addresses import read_addresses
from holdfast.notify.apprise_client import refusal
from holdfast.settings import Settings, variable


async def redis(settings: Settings, clock: Clock) -> CheckResult:
    """Whether Redis answers, and its version. Holdfast works without it; programs that read live state there do not."""
    what = "Redis"
    if settings.redis_url is None:
        return ok(what, f"not used: live state is in memory ({variable('redis_url')} is not set)")
    try:
        server = RedisServer(settings.redis_url, clock=clock)
    except Misconfigured as error:
        return problem(what, error.sentence, f"correct {variable('redis_url')}")
    try:
        (reply,) = await server.ask([("INFO", "server")])
    except RedisUnavailable as error:
        cure = "start it, or check host, port and password; until then live state is kept in memory"
        return problem(what, f"{server.where} does not answer: {error}", cure)
    finally:
        await server.close()
    return ok(what, f"{server.where}, {_version(reply)}")


def _version(info: object) -> str:
    """`Redis 7.0.15`, or the name and version of a compatible server. `info`: the client parses this reply itself."""
    fields = info if isinstance(info, Mapping) else {}
    if "valkey_version" in fields:
        return f"Valkey {fields['valkey_version']}"
    return f"Redis {fields.get('redis_version', 'of an unknown version')}"


async def node(settings: Settings) -> CheckResult:
    """Whether there is a Node that is new enough to run the engine."""
    try:
        found = await asyncio.to_thread(find_node, settings.node_bin)
    except EngineUnavailable as error:
        return problem("Node", error.sentence, f"correct this, or set {variable('node_bin')} to another Node")
    return ok("Node", f"{found.version}, {found.executable}")


async def sandbox(settings: Settings) -> CheckResult:
    """Whether this Node keeps an engine host from reading files and starting programs; it is tried."""
    what = "engine sandbox"
    try:
        found = await asyncio.to_thread(find_node, settings.node_bin)
    except EngineUnavailable:
        return warning(what, "not tried, because there is no Node", "see the row about Node")
    if await asyncio.to_thread(is_effective, found):
        return ok(what, "engine hosts can't read other files, start programs or load native addons (tried)")
    cure = f"use the Node that comes with Holdfast: unset {variable('node_bin')}"
    return problem(
        what, f"Node {found.version} does not stop engine hosts from reading files and starting programs", cure
    )


def baileys(settings: Settings) -> CheckResult:
    """Whether Baileys is installed, and the published advisories about its version."""
    version, installed = locked_version(), installed_version(settings.cache_dir.absolute())
    return judge_baileys(version, advisories_about(version), is_installed=installed == version)


def judge_baileys(version: str, advisories: Sequence[Advisory], *, is_installed: bool) -> CheckResult:
    what = "Baileys"
    if advisories:
        vulnerabilities = "; ".join(f"{each.name}: {each.what} ({each.source})" for each in advisories)
        return problem(
            what, f"{version} has known vulnerabilities: {vulnerabilities}", "update Holdfast, which brings a newer one"
        )
    if not is_installed:
        return warning(
            what, f"{version} is not installed yet", "the first start installs it, which needs a package registry"
        )
    return ok(what, f"{version}, installed; no advisory is known about it")


def alerts(settings: Settings) -> CheckResult:
    """Whether alerts go to anybody."""
    what = "alerts"
    if settings.alert_urls is None:
        cure = f"set {variable('alert_urls')} to Apprise addresses, such as mailto://… or slack://…"
        return warning(what, "none are sent when a session needs a person: they are in the log only", cure)
    try:
        found = read_addresses(settings.alert_urls, refusal=refusal)
    except Misconfigured as error:
        return problem(what, error.sentence, "correct or remove that address")
    return ok(what, ", ".join(map(str, found)))
