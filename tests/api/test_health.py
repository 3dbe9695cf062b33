"""Health, diagnostics and metrics over HTTP."""

from __future__ import annotations

import functools

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from holdfast.api.diagnosis_models import TurnModel
from holdfast.health.stores import Undelivered
from holdfast.runtime.diagnosis import Diagnoser
from holdfast.session import events
from holdfast.store.events import record
from holdfast.store.figures import FigureRows
from tests.api.api_client import KEY_OF_ONE, OTHER, ApiClient
from tests.gateway_harness import COMPANY, NUMBER, GatewayHarness

HEALTH = f"/webhook/whatsapp/baileys/health/{COMPANY}"
DIAGNOSTICS = f"/webhook/whatsapp/baileys/diagnostics/{COMPANY}"
NUMBER_OF_COMPANY = "962700000001"


async def test_a_full_disk_is_not_ready(harness: GatewayHarness, client: ApiClient) -> None:
    """Until a write succeeds again: a load balancer must not send messages to a process that refuses all of them."""

    def limit(connection: Connection, most: int | None = None) -> None:
        most = most or connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={most}")

    def fill(connection: Connection) -> None:
        record(connection, COMPANY, "session.state", {"n": "x" * 1_000_000}, chat=None, at="2026-01-01T00:00:00.000Z")

    assert (await client("GET", "/readyz", key=None)).status == 200
    await harness.database.write(limit)
    with pytest.raises(OperationalError, match="full"):
        await harness.database.write(fill)
    answer = await client("GET", "/readyz", key=None)
    assert (answer.status, answer.json["status"]) == (503, "database-failed")
    await harness.database.write(functools.partial(limit, most=1_000_000))
    await harness.database.write(fill)
    assert (await client("GET", "/readyz", key=None)).json == {"status": "ready"}


async def test_a_connected_session_is_healthy_without_a_key(client: ApiClient) -> None:
    """200 with the documented fields and no phone number, because this route needs no key."""
    await client.harness.pair()
    await client.harness.wait(1)
    answer = await client("GET", HEALTH, key=None)
    assert answer.status == 200
    shown = answer.json
    assert list(shown) == [
        "companyId",
        "status",
        "state",
        "since",
        "connectedAt",
        "lastActivity",
        "reconnectAttempts",
        "reasons",
    ]
    assert (shown["status"], shown["state"], shown["reasons"]) == ("healthy", "connected", [])
    assert NUMBER_OF_COMPANY.encode() not in answer.body


async def test_a_quiet_company_stays_healthy(client: ApiClient) -> None:
    """After hours without a message, but with answered pings, it is healthy, on the same link, with every keep-alive
    answered.
    """
    link = await client.harness.pair()
    await client.harness.wait(3600)
    assert (await client("GET", HEALTH)).json["status"] == "healthy"
    assert client.harness.link() == link
    known = (await client("GET", DIAGNOSTICS)).json["keepAlive"]
    assert known["sent"] == known["answered"] > 100
    assert known["successRate"] == 1


async def test_the_health_of_an_unhealthy_session_has_reason_and_action(client: ApiClient) -> None:
    """503 with a stable code, a sentence and an action."""
    link = await client.harness.pair()
    client.harness.engine.drop(link, code=406)
    await client.harness.until_state("paused")
    answer = await client("GET", HEALTH, key=None)
    assert answer.status == 503
    assert answer.json["status"] == "unhealthy"
    found = answer.json["reasons"][0]
    assert (found["code"], found["action"]) == ("banned", "contact-whatsapp")
    assert "banned" in found["message"]


async def test_a_degraded_session_is_not_healthy(client: ApiClient) -> None:
    """During a login: no reason for an alarm, but not the 200 of a session that works."""
    link = await client.harness.pair()
    client.harness.engine.opens = False
    client.harness.engine.drop(link, code=428)
    await client.harness.until_state("reconnecting")
    answer = await client("GET", HEALTH, key=None)
    assert (answer.status, answer.json["status"]) == (503, "degraded")


async def test_health_of_an_unknown_company_is_not_found(client: ApiClient) -> None:
    """404, with a problem that says what to do."""
    assert "PUT /v1/sessions/nobody" in (
        await client("GET", "/webhook/whatsapp/baileys/health/nobody", key=None)
    ).problem(404, "not-found", field="company")


async def test_diagnostics_have_the_history_of_a_disconnection(client: ApiClient) -> None:
    """The newest transition first, with the code, the cause as a sentence, the reaction, and how long the state before
    had lasted.
    """
    link = await client.harness.pair()
    await client.harness.wait(100)
    client.harness.engine.drop(link, code=428)
    await client.harness.until_state("reconnecting")
    await client.harness.until_state("connected")
    await client.harness.quiet()
    found = (await client("GET", DIAGNOSTICS)).json
    back, lost = found["history"][:2]
    assert (lost["before"], lost["after"], lost["code"]) == ("connected", "reconnecting", 428)
    assert (lost["cause"], lost["reaction"]) == ("the connection was closed", "backoff")
    assert (lost["event"], lost["eventMessage"]) == ("LinkClosed", "the connection ended")
    assert lost["lastedS"] >= 100
    assert (back["before"], back["after"]) == ("reconnecting", "connected")
    stable = found["stability"]["1h"]
    assert stable["disconnections"] == 1
    assert 0 <= stable["reconnectP95S"] < 10
    assert stable["uptimePercent"] > 95
    assert found["budget"]["left"] == found["budget"]["anHour"] - 3
    assert found["settings"] == {"keepaliveIntervalS": 30}


async def test_diagnostics_need_a_key_for_the_company(client: ApiClient) -> None:
    """They contain the phone number and the history."""
    (await client("GET", DIAGNOSTICS, key=None)).problem(401, "unauthorized")
    (await client("GET", f"/webhook/whatsapp/baileys/diagnostics/{OTHER}", key=KEY_OF_ONE)).problem(
        403, "forbidden", field="company"
    )


async def test_diagnostics_show_a_tenant_nothing_of_the_installation(client: ApiClient) -> None:
    """A key limited to companies gets neither the operator's settings, nor process ids, nor hosts of other sessions."""
    operators = {
        "dataDir": "/srv/wa",
        "allowedAddresses": "10.0.0.0/8",
        "whatsappUrl": "ws://x",
        "backupRecipients": "a",
    }
    client.api.state.settings_in_force = {**operators, "node": "n1", "mediaMaxMb": 64}
    await client.harness.pair()
    shown = (await client("GET", DIAGNOSTICS, key=KEY_OF_ONE)).json
    assert shown["settings"] == {"mediaMaxMb": 64}
    assert shown["engineHost"]["pid"] is None
    assert [(host["pid"], host["sessions"]) for host in shown["engineHosts"]] == [(None, [COMPANY])]
    full = (await client("GET", DIAGNOSTICS)).json
    assert full["settings"] == client.api.state.settings_in_force
    assert full["engineHost"]["pid"] == full["engineHosts"][0]["pid"] is not None


async def test_undelivered_alerts_are_shown_only_to_keys_for_all_companies(client: ApiClient) -> None:
    """Their titles may name any company, and their addresses are the operator's."""
    waiting = Undelivered(address="mailto", title=f"{OTHER} – banned", made_at="", tries=1, error=None)
    figures = FigureRows(client.harness.database)
    harness = client.harness
    client.api.state.diagnoser = Diagnoser(
        harness.gateway, harness.services, figures=figures, limits=harness.limits, undelivered=lambda: [waiting]
    )
    await client("PUT", f"/v1/sessions/{COMPANY}")
    [shown] = (await client("GET", DIAGNOSTICS)).json["alerts"]["undelivered"]
    assert shown["title"] == waiting.title
    assert OTHER not in (await client("GET", DIAGNOSTICS, key=KEY_OF_ONE)).body.decode()


async def test_metrics_name_companies_and_no_phone_numbers(client: ApiClient) -> None:
    """Prometheus' text, for the companies that the key may see."""
    await client.harness.pair()
    await client("PUT", f"/v1/sessions/{OTHER}")
    answer = await client("GET", "/metrics")
    text = answer.body.decode()
    assert f'holdfast_session_connected{{company="{COMPANY}"}} 1.0' in text
    assert f'holdfast_session_connected{{company="{OTHER}"}} 0.0' in text
    assert 'holdfast_sessions{state="connected"} 1.0' in text
    assert NUMBER_OF_COMPANY not in text
    assert OTHER not in (await client("GET", "/metrics", key=KEY_OF_ONE)).body.decode()
    (await client("GET", "/metrics", key=None)).problem(401, "unauthorized")


async def test_time_in_which_holdfast_was_down_counts_as_disconnected(harness: GatewayHarness) -> None:
    """After a restart the history shows the session as disconnected since the moment of the stop."""
    async with harness.running():
        await harness.pair()
        await harness.wait(3000)
    harness.clock.advance_to(harness.clock.monotonic() + 600)
    async with harness.running():
        await harness.until_state("connected")
        await harness.quiet()
        found = await harness.now(harness.diagnoser().diagnose(COMPANY))
        measured = found.stability["24h"]
        assert measured.disconnections == 1
        assert 600 <= measured.reconnects_s[0] < 610
        absence = next(turn for turn in map(TurnModel.of, found.history) if turn.event == "HoldfastStopped")
        assert (absence.reason, absence.cause) == ("holdfast-stopped", "Holdfast was not running")
        assert absence.event_message == "Holdfast was not running"


async def test_the_first_message_counts_at_once_in_every_window(harness: GatewayHarness) -> None:
    """The day's delivery is not unknown for minutes while that of five minutes is 100 %."""
    async with harness.running():
        link = await harness.pair()
        message = await harness.send("text")
        await harness.until_message(message, "sent")
        chat = f"{NUMBER}@s.whatsapp.net"
        harness.engine.receipt(link, whatsapp_ids=[message.whatsapp_id], chat=chat, kind="delivered")
        await harness.quiet()
        stability = (await harness.now(harness.diagnoser().diagnose(COMPANY))).stability
        assert {name: window.delivery_percent for name, window in stability.items()} == {
            "5m": 100.0, "1h": 100.0, "24h": 100.0, "7d": 100.0,
        }  # fmt: skip


async def test_a_requested_stop_is_not_a_disconnection(harness: GatewayHarness) -> None:
    """Time in which a person has stopped the session counts neither as up nor as down."""
    async with harness.running() as gateway:
        await harness.pair()
        await harness.wait(100)
        await harness.now(gateway.ask(COMPANY, events.StopAsked()))
        await harness.wait(500)
        measured = (await harness.now(harness.diagnoser().diagnose(COMPANY))).stability["1h"]
        assert (measured.disconnections, measured.uptime_percent is not None) == (0, True)


async def test_a_requested_window_is_evaluated_like_the_others(client: ApiClient) -> None:
    """From `since` to now, row by row; a message counts as soon as a tenth of the window has passed."""
    link = await client.harness.pair()
    await client.harness.wait(50)
    since = (await client("GET", DIAGNOSTICS)).json["at"]
    await client.harness.wait(50)
    calm = (await client("GET", f"{DIAGNOSTICS}?since={since}")).json["stability"]["requested"]
    assert (calm["observedS"], calm["holds"], calm["deliveryPercent"]) == (50, True, None)
    await client.harness.send("one")
    await client.harness.wait(6)
    client.harness.engine.drop(link, code=428)
    await client.harness.until_state("reconnecting")
    await client.harness.until_state("connected")
    await client.harness.quiet()
    shaken = (await client("GET", f"{DIAGNOSTICS}?since={since}")).json["stability"]["requested"]
    assert (shaken["deliveryPercent"], shaken["holds"]) == (100, False)
    assert [row["what"] for row in shaken["table"] if not row["holds"]] == ["disconnections an hour"]


@pytest.mark.parametrize("since", ["9999-01-01T00:00:00Z", "0001-01-01T00:00:00%2B14:00", "yesterday", "0.5", ""])
async def test_a_window_must_begin_at_a_valid_time_in_the_past(client: ApiClient, since: str) -> None:
    """A time in the future, one beyond the calendar, a number, and an invalid time are refused."""
    await client.harness.pair()
    (await client("GET", f"{DIAGNOSTICS}?since={since}")).problem(422, "bad-input", field="since")


async def test_a_window_reaches_back_as_far_as_the_history(client: ApiClient) -> None:
    """A session that is younger than the window is evaluated over the time it was observed."""
    await client.harness.pair()
    await client.harness.wait(50)
    asked = (await client("GET", f"{DIAGNOSTICS}?since=1970-01-01T00:00:00")).json["stability"]["requested"]
    assert 45 <= asked["observedS"] <= 60


async def test_health_and_diagnostics_have_the_same_verdict(client: ApiClient) -> None:
    """Messages that wait for minutes, and WhatsApp's lock on new contacts: both report them, in the same words."""
    await client.harness.pair()
    await client("PUT", f"/v1/sessions/{COMPANY}", {"pacing": {"perMinute": 1, "burst": 1}})
    for number in range(9):
        await client("POST", f"/v1/sessions/{COMPANY}/messages", {"to": f"96279000001{number}", "text": "x"})
    await client.harness.wait(200)
    assert await codes(client) == ["outbox-late"]
    client.harness.engine.ack_error = "463"
    await client.harness.wait(90)
    assert await codes(client) == ["reach-out-lock"]


async def codes(client: ApiClient) -> list[str]:
    """The reasons that both routes report."""
    health, diagnostics = await client("GET", HEALTH, key=None), await client("GET", DIAGNOSTICS)
    assert health.json["status"] == diagnostics.json["status"] == "degraded"
    assert health.json["reasons"] == diagnostics.json["reasons"]
    assert health.status == 503
    return [found["code"] for found in health.json["reasons"]]


async def test_a_start_during_a_temporary_ban_is_refused_like_a_reconnection(client: ApiClient) -> None:
    """409 with the reason; the session can still be updated, and its state does not change."""
    client.harness.engine.drop(await client.harness.pair(), code=402, attributes={"expire": "3600"})
    await client.harness.until_state("paused")
    for what in ("start", "reconnect"):
        told = (await client("POST", f"/v1/sessions/{COMPANY}/{what}")).problem(409, "conflict")
        assert told.endswith(
            "the session is paused because WhatsApp banned this number for a time; it waits until that ends"
        )
    assert (await client("PUT", f"/v1/sessions/{COMPANY}")).json["state"] == "paused"
