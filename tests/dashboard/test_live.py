"""Live pages: which updates are sent to a browser, and when."""

from __future__ import annotations

import pytest

from holdfast.session.operations import CreateGroup
from tests.api.api_client import KEY_OF_ONE, OTHER
from tests.dashboard.browser import Browser, Stream
from tests.gateway_harness import COMPANY, NUMBER, GatewayHarness

STOP = f"/companies/{COMPANY}/action/stop"


async def receives(harness: GatewayHarness, stream: Stream, *words: str) -> None:
    await harness.until(lambda: all(word in stream.text for word in words), within_s=30)


async def test_the_fleet_page_gets_only_changed_rows(browser: Browser, harness: GatewayHarness) -> None:
    """A page of unknown age gets all rows first. Then it gets only changed rows, with the counts and a text for screen
    readers, and new rows.
    """
    await harness.pair()
    await harness.pair(OTHER)
    await harness.wait(100)
    await browser.sign_in()
    async with browser.listening("/live") as stream:
        await receives(harness, stream, 'hx-swap-oob="innerHTML:#fleet-rows"', f'id="c-{COMPANY}"', f'id="c-{OTHER}"')
        stream.forget()
        await browser.post(STOP)
        await receives(harness, stream, f'id="c-{COMPANY}"', "Stopped", "count-neutral")
        assert f"{COMPANY}: stopped" in stream.text
        assert f'id="c-{OTHER}"' not in stream.text
        stream.forget()
        await harness.now(harness.gateway.put("a-new-one"))
        await receives(harness, stream, 'hx-swap-oob="beforeend:#fleet-rows"', 'id="c-a-new-one"')
    assert stream.has_ended


async def test_a_company_added_while_another_changes_is_shown(browser: Browser, harness: GatewayHarness) -> None:
    """Its row is sent before the changed rows, because HTML allows no table body after a row."""
    await harness.pair()
    await browser.sign_in()
    async with browser.listening("/live") as stream:
        await receives(harness, stream, f'id="c-{COMPANY}"')
        stream.forget()
        await harness.now(harness.gateway.put("a-new-one"))
        await browser.post(STOP)
        await receives(harness, stream, 'id="c-a-new-one"', f'id="c-{COMPANY}"')
        assert stream.text.index('id="c-a-new-one"') < stream.text.index(f'id="c-{COMPANY}"')


async def test_the_reason_of_queued_messages_follows_the_state(browser: Browser, harness: GatewayHarness) -> None:
    """No message has changed, but the reason in their rows has."""
    await harness.pair()
    await browser.sign_in()
    async with browser.listening(f"/companies/{COMPANY}/live") as stream:
        await receives(harness, stream, "event: sent_messages")
        stream.forget()
        await harness.wait(10)
        assert "sent_messages" not in stream.text
        await browser.post(STOP)
        await receives(harness, stream, "event: sent_messages")


async def test_a_company_is_shown_with_its_label_and_its_number(browser: Browser, harness: GatewayHarness) -> None:
    """On its page and in the fleet, where both are found by the search; markup in a label is text."""
    await harness.pair()
    await harness.now(harness.gateway.set_label(COMPANY, "<b>Bakery</b> Irbid"))
    await browser.sign_in()
    fleet = (await browser.get("/")).body.decode()
    assert 'data-words="962302 &lt;b&gt;Bakery&lt;/b&gt; Irbid 962700000001"' in fleet
    assert "+962700000001</span></th>" in fleet
    assert "&lt;b&gt;Bakery&lt;/b&gt; Irbid</span></h1>" in (await browser.get(f"/companies/{COMPANY}")).body.decode()


async def test_a_current_page_gets_no_rows(browser: Browser, harness: GatewayHarness) -> None:
    """It requests no row again; a heartbeat within ten seconds shows that the connection is open."""
    await harness.pair()
    await harness.wait(100)
    await browser.sign_in()
    page = (await browser.get("/")).body.decode()
    async with browser.listening(page.split('sse-connect="')[1].split('"')[0]) as stream:
        await receives(harness, stream, "event: fleet\ndata: \n\n")
        stream.forget()
        await receives(harness, stream, "event: fleet\ndata: \n\n")
        assert "fleet-rows" not in stream.text


async def test_a_key_of_one_company_gets_updates_of_that_company_only(
    browser: Browser, harness: GatewayHarness
) -> None:
    """It gets no hint that another company exists."""
    await harness.pair()
    await browser.sign_in(KEY_OF_ONE)
    async with browser.listening("/live") as stream:
        await browser.post(STOP)
        await receives(harness, stream, f'id="c-{COMPANY}"', "Stopped")
        assert OTHER not in stream.text


async def test_linking_is_shown_live_from_code_to_connection(browser: Browser, harness: GatewayHarness) -> None:
    """The page has the code at once, gets each new one, and removes it when the phone has scanned it."""
    await browser.sign_in()
    answer = await browser.post("/companies", company=COMPANY)
    assert (answer.status, answer.headers["location"]) == (303, f"/companies/{COMPANY}")
    await harness.quiet()
    page = (await browser.get(f"/companies/{COMPANY}")).body.decode()
    assert "<svg" in page
    assert "data-countdown" in page
    async with browser.listening(f"/companies/{COMPANY}/live") as stream:
        await receives(harness, stream, "event: company")
        stream.forget()
        harness.engine.scan(harness.link())
        await receives(harness, stream, 'id="link"', "hidden", "Connected", "Phone linked", f"{COMPANY}: connected")


async def test_a_pairing_code_is_shown_for_a_number(browser: Browser, harness: GatewayHarness) -> None:
    """An invalid number and a refusal by WhatsApp are shown in the same place."""
    await browser.sign_in()
    await browser.post("/companies", company=COMPANY)
    await harness.quiet()
    part = {"HX-Request": "true"}
    refused = await browser.post(f"/companies/{COMPANY}/pairing-code", number="12ab", headers=part)
    assert refused.status == 422
    assert b"<html" not in refused.body
    harness.engine.pairing_codes["962790000009"] = 429
    refused = await browser.post(f"/companies/{COMPANY}/pairing-code", number="962790000009", headers=part)
    assert (refused.status, b"wait for an hour" in refused.body) == (502, True)
    shown = await browser.post(f"/companies/{COMPANY}/pairing-code", number=NUMBER, headers=part)
    assert (shown.status, b"pairing-code" in shown.body) == (200, True)


async def test_a_second_click_sends_no_second_message(browser: Browser, harness: GatewayHarness) -> None:
    """The id of the form makes both the same message; its state is shown and updated live."""
    await harness.pair()
    await browser.sign_in()
    fields = {"to": f"+{NUMBER}", "text": "is this on?", "form_id": "one-form"}
    for _ in range(2):
        answer = await browser.post(f"/companies/{COMPANY}/messages", headers={"HX-Request": "true"}, **fields)
        assert answer.status == 200
        assert b"it is stored and will be sent" in answer.body
    found = (await browser.get(f"/companies/{COMPANY}/messages")).body.decode()
    assert found.count("is this on?") == 1


@pytest.mark.parametrize(
    ("query", "is_found"),
    [("", True), ("words=962790", True), ("words=%2B962+790", True), ("words=msg_", True), ("words=nothing", False),
     ("state=failed", False), ("state=nonsense", True), ("before=0", False), ("words=%25", False)],
)  # fmt: skip
async def test_messages_are_found_by_id_number_and_state(
    browser: Browser, harness: GatewayHarness, query: str, is_found: bool
) -> None:
    """The newest first; wildcards have no special meaning."""
    await harness.pair()
    await harness.send("find me")
    await browser.sign_in()
    found = (await browser.get(f"/companies/{COMPANY}/messages?{query}")).body.decode()
    assert ("find me" in found) is is_found


async def test_actions_are_carried_out_or_refused_with_an_explanation(
    browser: Browser, harness: GatewayHarness
) -> None:
    """Stop, start, reconnect; the error for a forbidden action is that of the API."""
    await harness.pair()
    await browser.sign_in()
    part = {"HX-Request": "true"}
    assert (await browser.post(STOP, headers=part)).status == 200
    assert harness.state() == "stopped"
    refused = await browser.post(f"/companies/{COMPANY}/action/reconnect", headers=part)
    assert refused.status == 409
    assert b"Can&#39;t reconnect: the session is stopped; start it first." in refused.body
    assert (await browser.post(f"/companies/{COMPANY}/action/start")).status == 303
    await harness.until_state("connected")
    assert (await browser.post(f"/companies/{COMPANY}/action/dance", headers=part)).status == 404


async def test_the_chart_shows_one_day(browser: Browser, harness: GatewayHarness) -> None:
    """The times at which the session was connected, and each round trip."""
    await harness.pair()
    await harness.wait(100)
    await browser.sign_in()
    chart = (await browser.get(f"/companies/{COMPANY}/chart.json")).json
    assert [band[2] for band in chart["bands"]] == ["excluded", "disconnected", "connected"]
    assert chart["bands"][-1][1] == chart["now"]
    assert len(chart["at"]) == len(chart["ms"]) == len(chart["missed"]) >= 3
    assert not any(chart["missed"])


async def test_the_chart_excludes_requested_disconnections(browser: Browser, harness: GatewayHarness) -> None:
    """A requested reconnection, a stop, and the time without a linked phone are not drawn as a disconnection."""
    await harness.pair()
    await browser.sign_in()
    for action in ("reconnect", "log-out"):
        assert (await browser.post(f"/companies/{COMPANY}/action/{action}")).status == 303
        await harness.wait(10)
    assert harness.state() == "logged_out"
    chart = (await browser.get(f"/companies/{COMPANY}/chart.json")).json
    assert {band[2] for band in chart["bands"][3:]} == {"excluded", "connected"}


async def test_the_chart_shows_a_logout_by_whatsapp_as_a_missing_phone(
    browser: Browser, harness: GatewayHarness
) -> None:
    """The time after it is neither red nor hidden: the words below the chart count its beginning as a disconnection."""
    await harness.pair()
    await browser.sign_in()
    harness.engine.drop(harness.link(), code=401, attributes={"type": "device_removed"})
    await harness.until_state("logged_out")
    await harness.quiet()
    chart = (await browser.get(f"/companies/{COMPANY}/chart.json")).json
    assert [band[2] for band in chart["bands"][-2:]] == ["connected", "unlinked"]


async def test_streams_end_with_their_session(browser: Browser, harness: GatewayHarness) -> None:
    """After a sign-out in one tab, streams in the other tabs end."""
    await harness.pair()
    await browser.sign_in()
    for path in ("/live", f"/companies/{COMPANY}/live"):
        async with browser.listening(path) as stream:
            await receives(harness, stream, "event:")
            await browser.post("/sign-out")
            await harness.until(lambda: stream.has_ended, within_s=30)
        await browser.sign_in()


async def test_streams_end_when_holdfast_stops(browser: Browser, harness: GatewayHarness) -> None:
    """A stop does not wait for open pages."""
    await harness.pair()
    await browser.sign_in()
    for path in ("/live", f"/companies/{COMPANY}/live"):
        browser.client.api.state.shutdown.has_ended = False
        async with browser.listening(path) as stream:
            await receives(harness, stream, "event: ")
            browser.client.api.state.shutdown.end()
            await harness.until(lambda stream=stream: stream.has_ended)  # type: ignore[misc]


async def test_a_transition_that_is_stored_late_is_still_reported(browser: Browser, harness: GatewayHarness) -> None:
    """The session's record is ahead of its history by the duration of a write."""
    link = await harness.pair()
    await harness.wait(100)
    await browser.sign_in()
    async with browser.listening(f"/companies/{COMPANY}/live") as stream:
        await receives(harness, stream, "Phone linked")
        harness.engine.opens = False
        harness.engine.drop(link, code=428)
        await receives(harness, stream, "Not connected")
        stream.forget()
        harness.transitions.let_one_pass()
        harness.engine.opens = True
        harness.engine.drop(harness.link(), code=428)
        await harness.until(lambda: harness.state() == "connected", within_s=60)
        await harness.wait(3)
        assert "Connection lost" not in stream.text
        harness.transitions.open()
        await receives(harness, stream, "Connection lost")


async def test_operations_appear_in_the_history_of_their_company(browser: Browser, harness: GatewayHarness) -> None:
    """As soon as they are accepted, and again with their outcome; sorted by time among the connections."""
    await harness.pair()
    await browser.sign_in()
    async with browser.listening(f"/companies/{COMPANY}/live") as stream:
        await receives(harness, stream, 'id="history"')
        await harness.wait(10)
        stream.forget()
        arguments = CreateGroup(subject="Orders & more", members=["962790000098@s.whatsapp.net"])
        harness.engine.operations["create-group"] = lambda _: None
        made = await harness.now(harness.operations.accept(COMPANY, arguments))
        await receives(harness, stream, "Create a group", "Name: Orders &amp; more.", made.id)
        assert stream.text.index("Create a group") < stream.text.index("Phone linked")
        stream.forget()
        await browser.post(STOP)
        await receives(harness, stream, "Create a group", "Stopped")
        assert stream.text.index("Stopped by a user") < stream.text.index("Create a group")
