"""The client version as operators see it."""

from __future__ import annotations

from datetime import datetime, timedelta

from prometheus_client.parser import text_string_to_metric_families

from holdfast.api.metrics import exposition
from holdfast.base.clock import SystemClock, iso
from holdfast.session.client_version import ENGINE_RELEASED_AT, ENGINE_REVISION, ClientVersion, age_s
from tests.api.api_client import ApiClient
from tests.gateway_harness import COMPANY


async def test_diagnostics_and_about_show_the_engine_s_own_version_too(client: ApiClient) -> None:
    """With its origin, for finding out why WhatsApp refuses logins."""
    await client.harness.pair()
    expected: dict[str, object] = {
        "version": f"2.3000.{ENGINE_REVISION}",
        "origin": "engine",
        "readAt": None,
        "ageS": round(age_s(None, now=client.harness.clock.now()), 1),
        "refused": [],
    }
    diagnostics = await client("GET", f"/webhook/whatsapp/baileys/diagnostics/{COMPANY}")
    assert diagnostics.json["clientVersion"] == expected
    assert (await client("GET", "/v1/about")).json["clientVersion"] == expected


def test_metrics_show_version_origin_and_age() -> None:
    """Also for the version built into the engine, whose age counts from the release of the engine."""
    now = SystemClock().now()
    version = ClientVersion(revision=1_045_000_000, origin="whatsapp", read_at=iso(now - timedelta(seconds=90)))
    assert shown(version, now) == ({"version": "2.3000.1045000000", "origin": "whatsapp"}, 90)
    released_s = (now - datetime.fromisoformat(ENGINE_RELEASED_AT)).total_seconds()
    assert shown(None, now) == ({"version": f"2.3000.{ENGINE_REVISION}", "origin": "engine"}, round(released_s))


def shown(version: ClientVersion | None, now: datetime) -> tuple[dict[str, str], int]:
    """Labels and seconds of the one sample."""
    text = exposition([], [], version=version, now=now).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    (sample,) = families["holdfast_client_version_age_seconds"].samples
    return sample.labels, round(sample.value)
