"""The phone's history by HTTP: the setting, the progress, and more of one chat on request."""

from __future__ import annotations

from holdfast.session.engine import HistoryProgress, InboundMessage, OpenLink, RunQuery
from tests.api.api_client import ApiClient
from tests.gateway_harness import COMPANY, GatewayHarness

SESSION = f"/v1/sessions/{COMPANY}"
FRIEND = "962799999999@s.whatsapp.net"
CHANNEL = "120363001@newsletter"
NOTHING = {"setting": "none", "state": "off", "percent": None, "messages": 0, "partsRetrying": 0, "partsLost": 0}
MORE = f"{SESSION}/chats/962799999999/history"


def message(id_: str, chat: str = FRIEND) -> InboundMessage:
    return InboundMessage(whatsapp_id=id_, chat=chat, sender=FRIEND, type="text", text=id_, sent_at_s=1_700_000_000)


async def store(harness: GatewayHarness, *messages: InboundMessage) -> None:
    harness.engine.send_history(harness.link(), *messages, progress=HistoryProgress(percent=40))
    await harness.quiet()


async def test_nothing_is_stored_unless_it_is_wanted(client: ApiClient, harness: GatewayHarness) -> None:
    """Without the setting the engine is opened as before."""
    await harness.pair()
    assert {command.history for command in harness.commands(OpenLink)} == {"none"}
    assert (await client("GET", SESSION)).json["history"] == NOTHING


async def test_the_setting_reaches_the_engine_and_the_session_shows_progress(
    client: ApiClient, harness: GatewayHarness
) -> None:
    """Kinds of messages that the company ignores are left out of the history, too."""
    put = await client("PUT", SESSION, {"history": "full", "ignore": ["channels"]})
    assert put.json["history"] == NOTHING | {"setting": "full", "state": "waiting"}
    await harness.pair()
    assert {command.history for command in harness.commands(OpenLink)} == {"full"}
    await store(harness, message("a"), message("b", CHANNEL))
    shown = (await client("GET", SESSION)).json["history"]
    assert shown == NOTHING | {"setting": "full", "state": "idle", "percent": 40, "messages": 2}
    (item,) = (await client("GET", f"{SESSION}/inbox")).json["items"]
    assert (item["whatsappId"], item["origin"]) == ("a", "history")
    assert (await client("PUT", SESSION, {"history": "none"})).json["history"]["setting"] == "none"


async def test_a_history_is_complete_when_everything_that_the_phone_sent_is_stored(
    client: ApiClient, harness: GatewayHarness
) -> None:
    """Failed parts are reported: those that are read again, which those of an ended connection are, and those that were
    given up.
    """
    await client("PUT", SESSION, {"history": "full"})
    await harness.pair()
    for progress, state in (
        (HistoryProgress(percent=100, reading=1, lost=1), "storing"),
        (HistoryProgress(percent=100, retrying=2, lost=1), "retrying"),
        (HistoryProgress(percent=100, lost=3), "incomplete"),
        (HistoryProgress(percent=60, lost=3), "idle"),
        (HistoryProgress(percent=100), "complete"),
        (HistoryProgress(percent=100, reading=1), "storing"),
    ):
        harness.engine.send_history(harness.link(), progress=progress)
        await harness.quiet()
        shown = (await client("GET", SESSION)).json["history"]
        assert shown["state"] == state
        assert (shown["partsRetrying"], shown["partsLost"]) == (progress.retrying, progress.lost)
    await client("POST", f"{SESSION}/stop")
    await harness.quiet()
    shown = (await client("GET", SESSION)).json["history"]
    assert (shown["state"], shown["partsRetrying"]) == ("retrying", 1)


async def test_an_unknown_setting_is_refused(client: ApiClient) -> None:
    answer = await client("PUT", SESSION, {"history": "some"})
    answer.problem(422, "bad-input", field="history")


async def test_older_messages_than_the_oldest_are_requested_from_the_phone(
    client: ApiClient, harness: GatewayHarness
) -> None:
    """Of a chat without any message nothing can be requested."""
    await harness.pair()
    harness.engine.answers = {"chat-history": lambda _: {"messages": 7}}
    (await client("POST", MORE, {})).problem(404, "not-found", field="chat")
    await store(harness, message("a"))
    assert (await client("POST", MORE, {"count": 9})).json == {"chat": FRIEND, "messages": 7}
    (query,) = [command for command in harness.engine.commands if isinstance(command, RunQuery)]
    oldest = {"id": "a", "fromMe": False, "atS": 1_700_000_000}
    assert query.arguments == {"jid": FRIEND, "oldest": oldest, "count": 9}
