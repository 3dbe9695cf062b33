"""The client version as operators see it."""

from __future__ import annotations

from datetime import timedelta

from holdfast.api.metrics import exposition
from holdfast.base.clock import SystemClock, iso
from holdfast.session.client_version import ENGINE_REVISION, ClientVersion
from tests.api.api_client import ApiClient
from tests.world import COMPANY


async def test_diagnostics_and_about_show_the_engine_s_own_version_too(client: ApiClient) -> None:
    """With its origin, for people who wonder why WhatsApp refuses logins."""
    await client.world.pair()
    shown: dict[str, object] = {
        "version": f"2.3000.{ENGINE_REVISION}",
        "origin": "engine",
        "readAt": None,
        "refused": [],
    }
    diagnostics = await client("GET", f"/webhook/whatsapp/baileys/diagnostics/{COMPANY}")
    assert diagnostics.json["clientVersion"] == shown
    assert (await client("GET", "/v1/about")).json["clientVersion"] == shown


def test_metrics_show_version_origin_and_age() -> None:
    """And nothing of it while the engine's own is used."""
    now = SystemClock().now()
    version = ClientVersion(revision=1_045_000_000, origin="whatsapp", read_at=iso(now - timedelta(seconds=90)))
    text = exposition([], [], version=version, now=now).decode()
    line = next(line for line in text.splitlines() if line.startswith("holdfast_client_version_age_seconds{"))
    labels, _, age = line.partition("} ")
    assert 'version="2.3000.1045000000"' in labels
    assert 'origin="whatsapp"' in labels
    assert round(float(age)) == 90
    assert "version_age_seconds{" not in exposition([], [], now=now).decode()
