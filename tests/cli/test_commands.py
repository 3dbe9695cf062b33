"""Commands that talk to a running Holdfast: exit codes, tables for people, JSON for programs, error messages."""

from __future__ import annotations

import asyncio
import re

import pytest
from aiohttp import web

from holdfast.cli.messages import waits_for
from holdfast.cli.migration import PROGRAMS
from holdfast.client import Json
from holdfast.session import events
from holdfast.session.engine import Send
from tests.cli.command import Command
from tests.cli.conftest import KEY
from tests.gateway_harness import COMPANY, NUMBER, GatewayHarness


def words(line: str) -> list[str]:
    return line.split()


async def test_sessions_are_listed_as_a_table_and_as_json(holdfast: Command, harness: GatewayHarness) -> None:
    """One row per line, also without a terminal; those that need attention first; with --json, one document."""
    await harness.pair()
    await harness.now(harness.gateway.set_label(COMPANY, "Bakery"))
    await harness.now(harness.gateway.put("962303"))
    people, programs = await asyncio.gather(holdfast("sessions"), holdfast("sessions", "--json"))
    head, first, second = people.out.splitlines()
    assert words(head) == ["company", "state", "for", "why", "what", "to", "do"]
    assert words(first)[:2] == ["962303", "pairing"]
    assert words(second)[:4] == [COMPANY, "Bakery", "+962700000001", "connected"]
    assert not re.search(r"T\d\d:", people.out), "durations, and no times to the millisecond"
    assert (people.code, people.err, programs.code, programs.err) == (0, "", 0, "")
    assert [item["companyId"] for item in programs.json["items"]] == [COMPANY, "962303"]


async def test_sessions_show_the_verdict_of_the_health_route(holdfast: Command, harness: GatewayHarness) -> None:
    """For example a lock on new contacts of a connected company, and the advice for a login that fails for one company
    while another is connected. Unhealthy sessions come before degraded ones, and those before unlinked ones.
    """
    await harness.pair()
    await harness.pair("962303")
    await harness.now(harness.gateway.put("962304"))
    harness.engine.refuses = 408
    harness.engine.drop(harness.link("962303"), code=408)
    await harness.wait(90)
    harness.engine.ack_error = "463"
    await harness.send("to a stranger")
    await harness.quiet()
    people, shown = await holdfast("sessions"), await holdfast("show", "962303")
    first, second, third = people.out.splitlines()[1:]
    assert words(first)[0] == "962303"
    assert "next attempt in" in first
    assert "other companies are connected" in first
    assert "DNS" not in first + shown.out
    assert "unhealthy; not connected for" in shown.out
    assert words(second)[0] == COMPANY
    assert "only to people it already knows, until" in second
    assert "send no first messages to strangers" in second
    assert words(third)[:2] == ["962304", "pairing"]
    assert not re.search(r"T\d\d:", shown.out), "times to the second, and readable"
    items = (await holdfast("sessions", "--json")).json["items"]
    assert [item["health"]["status"] for item in items] == ["degraded", "unhealthy", "degraded"]


async def test_an_empty_list_of_sessions_is_a_success(holdfast: Command) -> None:
    """The text says how to create one; with --json the list is empty."""
    people, programs = await asyncio.gather(holdfast("sessions"), holdfast("sessions", "--json"))
    assert (people.code, people.out) == (0, "")
    assert people.err == "There are no sessions yet: `holdfast pair COMPANY` creates one.\n"
    assert programs.json == {"items": [], "next": None}


async def test_nodes_without_a_cluster_are_explained(holdfast: Command) -> None:
    """An empty table would look like a cluster without nodes."""
    people, programs = await asyncio.gather(holdfast("nodes"), holdfast("nodes", "--json"))
    assert (people.code, people.out, programs.json) == (0, "", [])
    assert people.err == "This Holdfast does not share its database with other nodes: it runs all sessions itself.\n"


async def test_show_succeeds_only_for_a_connected_session(holdfast: Command, harness: GatewayHarness) -> None:
    """Exit code 0 when connected, otherwise 1, with all details in both cases."""
    await harness.pair()
    people, programs = await asyncio.gather(holdfast("show", COMPANY), holdfast("show", COMPANY, "--json"))
    assert (people.code, programs.code) == (0, 0)
    assert programs.json["state"] == "connected"
    shown = dict(words(line)[:2] for line in people.out.splitlines())
    assert (shown["companyId"], shown["state"], shown["phoneNumber"]) == (COMPANY, "connected", "962700000001")
    assert (shown["autoRead"], shown["ignore"]) == ("no", "–")
    await harness.now(harness.gateway.ask(COMPANY, events.LogoutAsked()))
    people, programs = await asyncio.gather(holdfast("show", COMPANY), holdfast("show", COMPANY, "--json"))
    assert (people.code, programs.code) == (1, 1)
    assert programs.json["reason"]["code"] == "logout-requested"
    assert "reason" in people.out
    assert "it was logged out from here (logout-requested). What to do: ask for a new QR code" in people.out


async def test_send_can_wait_for_the_message(holdfast: Command, harness: GatewayHarness) -> None:
    """Without --wait success means accepted; with it, acknowledged by WhatsApp."""
    await harness.pair()
    harness.engine.acks = False
    accepted = await holdfast("send", COMPANY, f"+{NUMBER}", "one", "--json")
    assert (accepted.code, accepted.json["state"]) == (0, "queued")
    harness.engine.acks = True
    sent = await holdfast("send", COMPANY, "962790000002", "two", "--wait", "--json")
    assert (sent.code, sent.json["state"]) == (0, "sent")
    assert [text for _, text in harness.sends()] == ["one", "two"]


async def test_waiting_for_a_message_shows_the_reason_and_ends(holdfast: Command, harness: GatewayHarness) -> None:
    """With a company that is not linked, logged out or stopped, --wait does not hang."""
    await harness.now(harness.gateway.put(COMPANY))
    ran = await holdfast("send", COMPANY, NUMBER, "x", "--wait", "--timeout", "1", "--json")
    assert (ran.code, ran.json["state"]) == (1, "queued")
    assert f"Waiting: the session is not linked to a phone yet: link it with `holdfast pair {COMPANY}`" in ran.err
    assert "not sent within 1 s; the message stays in the outbox" in ran.err
    await harness.pair()
    for event, words in (
        (events.StopAsked(), f"the session is stopped: start it with `holdfast start {COMPANY}`"),
        (events.LogoutAsked(), f"link it with `holdfast pair {COMPANY}`"),
    ):
        await harness.now(harness.gateway.ask(COMPANY, event))
        ran = await holdfast("send", COMPANY, "962790000009", "x", "--wait", "--timeout", "1")
        assert ran.code == 1
        assert words in ran.err
    for wrong in ("soon", "0", "-1"):
        assert (await holdfast("send", COMPANY, NUMBER, "x", "--wait", f"--timeout={wrong}")).code == 2


@pytest.mark.parametrize(
    ("message", "session", "words"),
    [
        ({}, {"state": "paused", "nextAttemptAt": "2026-11-28T23:51:00.000Z", "reason": {"message": "banned"}},
         "the session is paused (banned) until 2026-11-28 23:51:00 UTC"),
        ({}, {"state": "reconnecting", "reason": {"message": "the connection was closed"}},
         "the session is reconnecting (the connection was closed)"),
        ({"held": {"message": "known people only"}}, {"state": "connected"}, "known people only"),
        ({"held": None, "retries": None}, {"state": "connected"}, "WhatsApp has not answered yet"),
    ],
)  # fmt: skip
def test_the_reason_of_a_waiting_message_is_a_sentence(message: Json, session: Json, words: str) -> None:
    """The session's state, or the restriction that holds the message."""
    assert waits_for(message, {"companyId": COMPANY, **session}) == words


async def test_logs_show_events_as_plain_lines(holdfast: Command, harness: GatewayHarness) -> None:
    """Events of sessions and messages, of one company or of all, without texts of messages."""
    await harness.pair()
    await harness.until_message(await harness.send("a secret"), "sent")
    harness.engine.receive(harness.link(), text="another secret", whatsapp_id="3A1")
    await harness.until(lambda: "3A1" in harness.engine.receipts_sent)
    harness.engine.drop(harness.link(), code=503)
    await harness.quiet()
    since = "2026-01-01T00:00:00Z"
    ran = await holdfast("logs", COMPANY, "--since", since)
    shown = [re.sub(r"^\S+ \S+ ", "", line) for line in ran.out.splitlines()]
    assert f"{COMPANY} connecting → connected" in shown
    message = (await holdfast("messages", COMPANY, "--json")).json["items"][0]
    assert f"{COMPANY} text to +{NUMBER} sent ({message['id']})" in shown
    assert any(line.startswith(f"{COMPANY} text received: from ") for line in shown)
    assert any(line.startswith(f"{COMPANY} connected → reconnecting: ") and "(503)" in line for line in shown)
    assert "secret" not in ran.out
    unknown = await holdfast("logs", "nobody", "--since", since)
    assert (unknown.code, unknown.err.startswith('holdfast: company "nobody" is unknown')) == (1, True)
    later = await holdfast("logs", COMPANY, "--since", "2050-01-01")
    assert (later.code, later.err) == (0, "Nothing happened since 2050-01-01 00:00:00 UTC.\n")
    found = (await holdfast("logs", "--since", since, "--json")).json
    assert [found["next"], len(found["items"])] == [None, len(shown)]
    wrong = await holdfast("logs", "--since", "yesterday")
    assert (wrong.code, "a time in ISO 8601" in " ".join(wrong.err.replace("│", "").split())) == (2, True)


async def test_an_unknown_program_to_import_from_is_wrong_use(holdfast: Command) -> None:
    """Nothing is read; the sentence lists the programs."""
    ran = await holdfast("import", "nonsense", COMPANY, "x")
    assert (ran.code, ran.err) == (2, f'holdfast: "nonsense" is not a known program: give one of {PROGRAMS}\n')


async def test_a_failed_message_is_an_error(holdfast: Command, harness: GatewayHarness) -> None:
    """Exit code 1 and the reason, as text and as JSON."""
    await harness.pair()
    harness.engine.not_on_whatsapp.add(f"{NUMBER}@s.whatsapp.net")
    people, programs = await asyncio.gather(
        holdfast("send", COMPANY, NUMBER, "x", "--wait"), holdfast("send", COMPANY, NUMBER, "x", "--wait", "--json")
    )
    assert (people.code, programs.code) == (1, 1)
    assert programs.json["error"]["code"] == "not-on-whatsapp"
    assert "this number is not on WhatsApp (not-on-whatsapp)" in people.out


async def test_messages_say_why_one_waits_or_has_failed(holdfast: Command, harness: GatewayHarness) -> None:
    """The reason is beside the state, so that an operator need not ask for each message."""
    await harness.pair()
    harness.engine.not_on_whatsapp.add(f"{NUMBER}@s.whatsapp.net")
    await holdfast("send", COMPANY, NUMBER, "x", "--wait")
    await harness.now(harness.gateway.ask(COMPANY, events.StopAsked()))
    await holdfast("send", COMPANY, "962790000009", "y")
    _, failed, waiting = (await holdfast("messages", COMPANY)).out.splitlines()
    assert "this number is not on WhatsApp" in failed
    assert "the session is stopped" in waiting


async def test_a_file_is_sent_as_the_fitting_kind(holdfast: Command, harness: GatewayHarness) -> None:
    """An image as an image with its caption, anything else as a document with its name; an empty message is refused."""
    await harness.pair()
    (holdfast.folder / "menu.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    (holdfast.folder / "prices & more.csv").write_text("bread,1")
    picture = await holdfast("send", COMPANY, NUMBER, "today", "--file", "menu.png", "--json")
    table = await holdfast("send", COMPANY, NUMBER, "--file", "prices & more.csv", "--json")
    assert (picture.code, table.code) == (0, 0), picture.err + table.err
    await harness.until(lambda: len(harness.commands(Send)) == 2)
    sent = [dict(each.content) for each in harness.commands(Send)]
    assert [list(content) for content in sent] == [["image"], ["document"]]
    assert "nothing to send" in (await holdfast("send", COMPANY, NUMBER)).refused(2)
    assert (await holdfast("send", COMPANY, NUMBER, "--file", "none.pdf")).refused(2) == '"none.pdf" is not a file'
    listed = await holdfast("messages", COMPANY, "--limit", "1")
    assert len(listed.out.splitlines()) == 2
    assert table.json["id"] in listed.out


async def test_the_inbox_is_listed(holdfast: Command, harness: GatewayHarness) -> None:
    """The newest last; with --json in the format of all lists."""
    await harness.pair()
    assert (await holdfast("inbox", COMPANY)).err == "There are no messages yet.\n"
    for n in ("1", "2"):
        harness.engine.receive(harness.link(), text=f"hello {n}", whatsapp_id=f"3A{n}")
        await harness.until(lambda n=n: f"3A{n}" in harness.engine.receipts_sent)  # type: ignore[misc]  # a default
    people, programs = await asyncio.gather(holdfast("inbox", COMPANY), holdfast("inbox", COMPANY, "--json"))
    assert [f"hello {n}" in line for n, line in zip((1, 2), people.out.splitlines()[1:], strict=True)] == [True, True]
    assert "+962799999999" in people.out
    assert [item["text"] for item in programs.json["items"]] == ["hello 1", "hello 2"]


async def test_sessions_are_controlled_by_commands(holdfast: Command, harness: GatewayHarness) -> None:
    """stop, start, reconnect, logout: each shows the session afterwards. `logout` asks for confirmation, because the
    phone must scan a code again; scripts need --yes.
    """
    await harness.pair()
    harness.engine.opens = False
    for command, state in (("stop", "stopped"), ("start", "connecting"), ("reconnect", "reconnecting")):
        ran = await holdfast(command, COMPANY, "--json")
        assert (ran.code, ran.json["state"]) == (0, state)
    refused = (await holdfast("logout", COMPANY)).refused(2)
    assert refused.endswith(f"nobody can confirm that company {COMPANY} is unlinked: add --yes")
    assert harness.state() == "reconnecting"
    ran = await holdfast("logout", COMPANY, "--yes")
    assert (ran.code, "logged_out" in ran.out) == (0, True)


# Errors.


async def test_a_refusal_of_holdfast_is_an_error(holdfast: Command, harness: GatewayHarness) -> None:
    """Exit code 1 and Holdfast's own message."""
    await harness.now(harness.gateway.put(COMPANY))
    for arguments, sentence in (
        (("show", "nobody"), 'company "nobody" is unknown: `holdfast pair nobody` creates it'),
        (("send", COMPANY, "12ab", "x"), 'to "12ab" is not a phone number: give 7 to 15 digits'),
        (("send", COMPANY, NUMBER, " "), "text is empty"),
        (("webhooks", "resume", "none"), 'endpoint "none" is unknown: `holdfast webhooks list` lists all'),
        (("keys", "revoke", "none"), 'API key "none" is unknown: `holdfast keys list` shows the ids'),
    ):
        assert (await holdfast(*arguments)).refused(1).startswith(sentence)


async def test_a_wrong_key_is_an_error(holdfast: Command) -> None:
    """The error says where commands read the key, and does not show it."""
    wrong, none = await asyncio.gather(
        holdfast("sessions", HOLDFAST_API_KEY="a-key-that-is-wrong"), holdfast("sessions", HOLDFAST_API_KEY="")
    )
    where = "; commands take it from HOLDFAST_API_KEY, or from the file api-key in HOLDFAST_DATA_DIR"
    assert wrong.refused(1).startswith("the API key is unknown")
    assert wrong.refused(1).endswith(where)
    assert "a-key-that-is-wrong" not in wrong.err
    assert none.refused(1) == (
        f'there is no API key for this command: HOLDFAST_API_KEY is not set, and "{holdfast.folder}/holdfast-data" has '
        "no file api-key. Run the command in the folder in which Holdfast runs, or set HOLDFAST_DATA_DIR to its data "
        "folder"
    )


async def test_commands_find_the_key_of_the_server(holdfast: Command) -> None:
    """In the server's own setting with several keys, or in the file of the data folder."""
    (holdfast.folder / "data").mkdir()
    (holdfast.folder / "data" / "api-key").write_text(f"{KEY}\n")
    several, stored = await asyncio.gather(
        holdfast("sessions", HOLDFAST_API_KEY=f"a-key-for-one-company=962303, {KEY}"),
        holdfast("sessions", HOLDFAST_API_KEY="", HOLDFAST_DATA_DIR="data"),
    )
    assert (several.code, stored.code) == (0, 0)


async def test_without_a_server_the_error_says_how_to_start_one(alone: Command) -> None:
    """Exit code 3 for every command."""
    ran = await asyncio.gather(
        alone("sessions", "--json"), alone("show", COMPANY), alone("send", COMPANY, NUMBER, "x", "--wait")
    )
    for each in ran:
        assert each.refused(3) == (
            "no Holdfast answers at http://127.0.0.1:9: start it with `holdfast serve`, or set HOLDFAST_URL"
        )


async def test_a_server_other_than_holdfast_is_detected(alone: Command) -> None:
    """Exit code 3 for JSON, HTML, a redirect and no HTTP at all; the key is not sent to the target of a redirect."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        if request.path.startswith("/html"):
            return web.Response(text="<html>", content_type="text/html", status=502)
        if request.path.startswith("/moved"):
            raise web.HTTPFound("/elsewhere")
        return web.json_response({"items": []})

    async def ssh(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await reader.read(1)
        writer.close()

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    other = await asyncio.start_server(ssh, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    mute = f"http://127.0.0.1:{other.sockets[0].getsockname()[1]}"
    try:
        json_, html, moved, no_http = await asyncio.gather(
            *(alone("sessions", HOLDFAST_URL=each) for each in (url, f"{url}/html", f"{url}/moved", mute))
        )
    finally:
        other.close()
        await runner.cleanup()
    assert json_.refused(3) == f"the server at {url} (HTTP 200) is not Holdfast: set HOLDFAST_URL to its address"
    assert html.refused(3) == f"the server at {url}/html (HTTP 502) is not Holdfast: set HOLDFAST_URL to its address"
    assert moved.refused(3) == f"the server at {url}/moved (HTTP 302) is not Holdfast: set HOLDFAST_URL to its address"
    assert no_http.refused(3) == f"the server at {mute} is not Holdfast: set HOLDFAST_URL to its address"
    assert "/elsewhere" not in asked


async def test_usage_errors_have_exit_code_2(alone: Command) -> None:
    """An unknown command or option, a missing argument, an invalid setting, no terminal."""
    ran = await asyncio.gather(
        alone("nonsense"),
        alone("show"),
        alone("sessions", "--yaml"),
        alone("demo", "--seconds", "1"),
        alone("sessions", HOLDFAST_PORT="abc"),
        alone("pair", COMPANY),
        alone("start", "../962302"),
        alone("move", "--to", "mysql://127.0.0.1/holdfast"),
        alone("drain", "--timeout", "soon"),
        alone("send", COMPANY, NUMBER, "x", "--timeout", "soon"),
    )
    assert [each.code for each in ran] == [2] * 10
    assert [each.out for each in ran] == [""] * 10
    assert "No such command 'nonsense'" in ran[0].err
    assert ran[4].refused(2).startswith('HOLDFAST_PORT is "abc": give a whole number from 0 to 65535')
    assert ran[5].refused(2).startswith("QR codes are drawn on a terminal only")
    assert ran[6].refused(2).startswith('company "../962302" is not usable: give 1 to 64 letters')
    assert ran[7].refused(2).startswith("--to can't be parsed: write postgresql://user:password@host:5432/database")
    assert all("Invalid value for '--timeout'" in each.err for each in ran[8:])


@pytest.mark.parametrize("as_json", [False, True])
async def test_settings_are_shown_with_their_origin(alone: Command, as_json: bool) -> None:
    """With value, origin and meaning; keys are not shown."""
    (alone.folder / "holdfast.toml").write_text("[keepalive]\ninterval_s = 12\n")
    ran = await alone("settings", *(["--json"] if as_json else []), HOLDFAST_API_KEY=KEY, HOLDFAST_PORT="3402")
    assert (ran.code, ran.err) == (0, "")
    assert KEY not in ran.out
    if as_json:
        by_name = {row["setting"]: row for row in ran.json}
        assert {"setting", "value", "origin", "meaning", "allowed", "group"} <= set(by_name["HOLDFAST_PORT"])
        found = {name: (row["value"], row["origin"]) for name, row in by_name.items()}
    else:
        lines = [words(line) for line in ran.out.splitlines()]
        found = {line[0]: (line[1], line[2]) for line in lines if line and line[0].startswith("HOLDFAST_")}
    port, interval = (3402, 12.0) if as_json else ("3402", "12.0")
    assert found["HOLDFAST_PORT"] == (port, "environment")
    assert found["HOLDFAST_KEEPALIVE_INTERVAL_S"] == (interval, "holdfast.toml")
    assert found["HOLDFAST_API_KEY"] == ("(set)", "environment")


async def test_one_setting_is_shown_in_full(alone: Command) -> None:
    """By its variable or by its name, with the allowed values and the cost of a change."""
    ran = await alone("settings", "HOLDFAST_KEEPALIVE_INTERVAL_S", "--json", HOLDFAST_KEEPALIVE_INTERVAL_S="20")
    assert (ran.json["value"], ran.json["default"], ran.json["origin"]) == (20, "30", "environment")
    assert ran.json["allowed"] == "a number from 5 to 300"
    assert "Lower:" in ran.json["tuning"]
    assert "a number from 5 to 300" in (await alone("settings", "keepalive_interval_s")).out
    assert (await alone("settings", "prot")).refused(2) == (
        "HOLDFAST_PROT is not a setting of Holdfast: do you mean HOLDFAST_PORT?"
    )


async def test_help_describes_each_command(alone: Command) -> None:
    """There is one page for all and one for each, without Python terms."""
    everything = (await alone("--help")).out
    commands = ["serve", "demo", "pair", "sessions", "show", "send", "start", "stop", "reconnect", "logout"]
    for command in [*commands, "settings", "fill-npm-cache", "--version"]:
        assert command in everything
    pages = await asyncio.gather(*(alone(command, "--help") for command in commands[:6]))
    for command, page in zip(commands, pages, strict=False):
        assert page.code == 0
        assert f"Usage: holdfast {command}" in page.out
        assert "None" not in page.out
        assert "--no-" not in page.out


async def test_the_version_is_one_line(alone: Command) -> None:
    """For bug reports."""
    ran = await alone("--version")
    assert (ran.code, ran.out) == (0, "holdfast 0.1.0\n")
