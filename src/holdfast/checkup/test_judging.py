"""What the looks at an installation come to, given what was seen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from holdfast.checkup.advisories import ADVISORIES, advisories_about, parsed
from holdfast.checkup.database import judge_clock, judge_database
from holdfast.checkup.folder import judge_backups, judge_disk, judge_private
from holdfast.checkup.network import exposure, judge_engine_hosts, judge_sessions, judge_webhooks
from holdfast.checkup.programs import judge_baileys
from holdfast.checkup.whatsapp import judge_client_version
from holdfast.dashboard.fleet import advice_on
from holdfast.engine.baileys.install import locked_version
from holdfast.health.advice import needed_advice, what_to_do
from holdfast.store.inspect import DatabaseInspection

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GB = 1_000_000_000
KNOWN = ["0002", "0001"]


def peeked(**changes: str | None) -> DatabaseInspection:
    seen: dict[str, str | None] = {"name": "holdfast.db", "revision": "0002", "newest_at": None, "damage": None}
    return DatabaseInspection(**{**seen, **changes})  # type: ignore[arg-type]  # the revision is never None here


@pytest.mark.parametrize(
    ("mode", "is_own", "cure"),
    [
        (0o600, True, ""),
        (0o640, True, "chmod 600 /x"),
        (0o644, True, "chmod 600 /x"),
        (0o640, False, ""),  # /etc/holdfast/holdfast.toml of root:holdfast
        (0o440, False, ""),  # a secret of Kubernetes
        (0o660, False, "chmod 640 /x"),
        (0o644, False, "chmod 640 /x"),
    ],
)
def test_a_settings_file_of_root_stays_readable_for_the_service(mode: int, is_own: bool, cure: str) -> None:
    """The permissions of docs/install.md are right; no cure takes the file away from the service."""
    assert judge_private("settings file", Path("/x"), mode=mode, is_own=is_own).cure == cure


@pytest.mark.parametrize(
    ("version", "is_safe"),
    [
        ("6.7.21", False), ("6.7.22", True), ("6.17.16", True), ("7.0.0-rc.1", False), ("7.0.0-rc.9", False),
        ("7.0.0-rc11", False), ("7.0.0-rc12", True), ("7.0.0-rc14", True), ("7.0.0", True), ("latest", False),
    ],
)  # fmt: skip
def test_advisories_know_the_versions_they_concern(version: str, is_safe: bool) -> None:
    """rc.9 is older than rc10, although it sorts after it; what is not a version is never called safe."""
    assert (advisories_about(version) == []) is is_safe


def test_the_shipped_baileys_has_no_known_weakness() -> None:
    """This Holdfast would not pass its own check otherwise."""
    assert advisories_about(locked_version()) == []
    assert all(parsed(version) for each in ADVISORIES for span in each.affected for version in span)
    found = judge_baileys("7.0.0-rc.9", advisories_about("7.0.0-rc.9"), is_installed=True)
    assert found.state == "problem"
    assert "CVE-2026-48063" in found.sentence
    assert "https://github.com/WhiskeySockets/Baileys/security/advisories/" in found.sentence
    assert judge_baileys("7.0.0-rc14", [], is_installed=False).state == "warning"


@pytest.mark.parametrize(("free", "state"), [(GB // 10, "problem"), (GB, "warning"), (50 * GB, "ok")])
def test_a_disk_is_reported_before_it_is_full(free: int, state: str) -> None:
    """The free space decides, not its share: a large disk that is 95 % full has room for years."""
    assert judge_disk(free, 1000 * GB).state == state


@pytest.mark.parametrize(
    ("seen", "state", "words"),
    [
        (peeked(), "ok", "version 0002, undamaged"),
        (peeked(revision=""), "ok", "empty"),
        (peeked(revision="0001"), "warning", "migrates it to 0002"),
        (peeked(revision="0009"), "problem", "newer than this Holdfast"),
        (peeked(damage="row 3 missing from index"), "problem", "row 3 missing from index"),
    ],
)
def test_a_database_is_judged_by_version_and_integrity(seen: DatabaseInspection, state: str, words: str) -> None:
    """An older one is migrated at the next start; a newer one must not be changed."""
    found = judge_database(seen, KNOWN)
    assert (found.state, words in found.sentence) == (state, True), found
    assert (found.cure == "") is (state == "ok")


@pytest.mark.parametrize(
    ("newest", "ntp", "state"),
    [
        (None, None, "ok"),
        (NOW - timedelta(days=30), True, "ok"),
        (NOW + timedelta(seconds=30), True, "ok"),
        (NOW + timedelta(hours=3), True, "problem"),
        (NOW, False, "warning"),
    ],
)
def test_a_clock_is_judged_by_the_newest_row(newest: datetime | None, ntp: bool | None, state: str) -> None:
    """A row from the future means that the time was set back; a few seconds are another machine's."""
    found = judge_clock(NOW, newest, ntp)
    assert found.state == state
    if state == "problem":
        assert "3 h ahead" in found.sentence


@pytest.mark.parametrize(
    ("count", "age", "every_h", "state"),
    [(0, None, 24, "warning"), (3, 5, 24, "ok"), (3, 60, 24, "warning"), (3, 5, 0, "warning"), (3, 60, 100, "ok")],
)
def test_backups_are_judged_by_their_schedule(count: int, age: int | None, every_h: float, state: str) -> None:
    """A backup that is two intervals late means that backups fail."""
    assert judge_backups(count, None if age is None else timedelta(hours=age), every_h).state == state


@pytest.mark.parametrize(
    ("host", "state"),
    [("127.0.0.1", "ok"), ("localhost", "ok"), ("::1", "ok"), ("0.0.0.0", "warning"), ("10.0.0.5", "warning")],
)  # fmt: skip
def test_http_beyond_this_machine_is_warned_of(host: str, state: str) -> None:
    """It has no TLS of its own."""
    assert exposure(host, 3000).state == state


def test_failing_webhooks_are_named() -> None:
    """Endpoints that are suspended, off, or have given up deliveries are named with the receiver's last error."""

    def endpoint(state: str = "active", failed: int = 0, company: str | None = None) -> dict[str, object]:
        return {"companyId": company, "state": state, "failed": failed, "lastError": "503" if failed else None}

    assert judge_webhooks([]).state == judge_webhooks([endpoint()]).state == "ok"
    states = "962302: suspended, all companies: active, 3 given up (last: 503)"
    found = judge_webhooks([endpoint(), endpoint("suspended", company="962302"), endpoint(failed=3)])
    assert (found.state, found.sentence) == (
        "warning",
        f"2 of 3 are failing or have given up deliveries: {states}",
    )


@pytest.mark.parametrize(
    ("origin", "days", "refused", "state", "words"),
    [
        ("whatsapp", 0.2, [], "ok", "2.3000.1045000000, read from WhatsApp 4 h ago"),
        ("whatsapp", 0.01, [], "ok", "2.3000.1045000000, read from WhatsApp within the last hour"),
        ("stored", 20, [], "warning", "20 days ago"),
        ("setting", 20, [], "ok", "pinned"),
        ("engine", 114, [], "warning", "built into Baileys, released 114 days ago"),
        ("whatsapp", 0, ["2.3000.1045000000"], "problem", "refuses 2.3000.1045000000 (405)"),
    ],
)
def test_a_client_version_is_judged_by_origin_and_age(
    origin: str, days: float, refused: list[str], state: str, words: str
) -> None:
    """An old one will be refused; a refused one is a problem, whatever its age."""
    client = {"version": "2.3000.1045000000", "origin": origin, "ageS": days * 86_400, "refused": refused}
    found = judge_client_version(client)
    assert (found.state, words in found.sentence) == (state, True), found


def test_the_cure_of_a_refused_version_names_the_setting_that_pins_it() -> None:
    """An update would not help: the pinned version stays in use."""
    client = {"version": "2.3000.1", "origin": "setting", "ageS": 0, "refused": ["2.3000.1"]}
    assert "set HOLDFAST_WHATSAPP_VERSION to auto" in str(judge_client_version(client).cure)
    assert "HOLDFAST_WHATSAPP_VERSION" not in str(judge_client_version(client | {"origin": "whatsapp"}).cure)
    for shown in (needed_advice, what_to_do, advice_on):  # commands, alerts, pages
        assert str(shown("update", "client-outdated")).startswith("set HOLDFAST_WHATSAPP_VERSION to auto")


def test_disconnected_sessions_are_named() -> None:
    """Up to a few names are shown; a session that was stopped on purpose is no problem."""
    rows = [{"companyId": str(n), "state": "reconnecting", "health": {"status": "unhealthy"}} for n in range(7)]
    good = {"companyId": "a", "state": "connected", "health": {"status": "healthy"}}
    of_another_process = {"companyId": "c", "state": "connected", "health": None}
    stopped = {"companyId": "b", "state": "stopped", "health": {"status": "unhealthy"}}
    assert judge_sessions([good, stopped, of_another_process]).state == "ok"
    found = judge_sessions(rows)
    assert (found.state, found.sentence) == ("warning", "not connected: 7 of 7 (0, 1, 2, 3, 4 …)")
    found = judge_sessions([good, {**good, "companyId": "d", "health": {"status": "degraded"}}])
    assert (found.state, found.sentence) == ("warning", "connected but degraded: 1 of 2 (d)")


def test_sessions_that_are_suspected_of_ending_hosts_are_a_warning() -> None:
    """Named, with what happens next; otherwise the row says how large the hosts are."""
    good = {"isolation": False, "sessions": ["a"], "rssBytes": 150 * 2**20}
    found = judge_engine_hosts([good, {**good, "rssBytes": None}])
    assert (found.state, found.sentence) == (
        "ok", "2, the largest with 150 MB; no session is suspected of ending them",
    )  # fmt: skip
    suspected = judge_engine_hosts([good, {**good, "isolation": True, "sessions": ["c", "b"]}])
    assert suspected.state == "warning"
    assert "suspected: b, c" in suspected.sentence
