"""Every kind of message through the bridge, out and in, on real Baileys against wasim."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.delivery.content import MediaKind
from holdfast.delivery.kinds import KINDS
from holdfast.session.engine import (
    Acked,
    Commit,
    Download,
    Downloaded,
    InboundMessage,
    QueryAnswered,
    RunQuery,
    SendRefused,
    SentContentRequested,
    Written,
)
from holdfast.session.queries import uploaded_again
from tests.doubles.engine_recorder import Recorder
from tests.integration.conftest import Party, StartHost
from tests.processes import Wasim

pytestmark = pytest.mark.slow

VOICE = "audio/ogg; codecs=opus"


async def received(party: Party, count: int) -> list[InboundMessage]:
    """Wait for `count` messages in the inbox, and return the newest of them."""
    await party.shown(count)
    return party.store.inbox[-count:]


async def download(party: Party, message: InboundMessage, file: Path, *, max_bytes: int = 1 << 30) -> Downloaded:
    """Fetch a message's media."""
    assert message.media_keys is not None
    done = len(party.recorder.of(Downloaded, party.link))
    party.host.command(
        Download(link=party.link, request=done + 1, media_keys=message.media_keys, file=str(file), most_bytes=max_bytes)
    )
    return await party.recorder.wait(Downloaded, party.link, nth=done + 1)


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def memory_mb(party: Party, figure: str) -> float:
    """A memory figure of the party's host: `VmRSS` now, or `VmHWM`, the peak."""
    lines = Path(f"/proc/{party.host.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(figure))


def times_read(party: Party, made: str) -> int:
    """The number of ciphertexts with exactly this prepared content that a party decrypted."""
    read = [base64.b64decode(plaintext) for plaintext in party.store.plaintexts.values()]
    return sum(plaintext.startswith(base64.b64decode(made)) for plaintext in read)


def written_to(path: Path, size: int) -> str:
    path.write_bytes(random.Random(size).randbytes(size))
    return str(path)


async def test_every_kind_without_a_file_arrives_completely(ours: Party, friend: Party, wasim: Wasim) -> None:
    """Locations, contacts, polls, replies with mentions, reactions, edits and deletions keep all fields of the port.
    Phones can vote in the poll, and their vote arrives.
    """
    first, poll_id, options = "3EB0AA01", "3EB0AA02", ["Mansaf", "Falafel"]
    place: dict[str, object] = {"location": {"latitude": 31.95, "longitude": 35.9, "name": "Amman"}}
    contact: dict[str, object] = {"contact": {"name": "Layla", "vcard": "BEGIN:VCARD\nEND:VCARD"}}
    quoted = {"whatsappId": first, "fromMe": True, "sender": ours.jid, "text": "hello"}
    reply: dict[str, object] = {"text": "hello @962799999999", "mentions": [friend.jid], "replyTo": quoted}
    replied: dict[str, object] = {"mentions": [friend.jid], "replyTo": {"whatsappId": first, "sender": ours.jid}}
    poll = {"options": options, "votes": [], "selectable": 1}
    # What is sent; type, text and content of what arrives, and the message to which that refers.
    cases: list[tuple[dict[str, object], str, str | None, dict[str, object], str | None]] = [
        ({"text": "hello"}, "text", "hello", {}, None),
        ({"poll": {"text": "Lunch?", "options": options, "selectable": 1}}, "poll", "Lunch?", {"poll": poll}, None),
        (place, "location", None, place, None),
        (contact, "contact", None, contact, None),
        (reply, "text", "hello @962799999999", replied, None),
        (
            {"reaction": {"emoji": "👍", "whatsappId": first, "fromMe": True}},
            "reaction",
            None,
            {"reaction": {"emoji": "👍"}},
            first,
        ),
        ({"edit": {"whatsappId": first, "text": "hello, friend"}}, "edit", "hello, friend", {}, first),
        ({"delete": {"whatsappId": first}}, "revoke", None, {}, first),
    ]
    missing = set(KINDS) - {*MediaKind, *(kind for sent, *_ in cases for kind in sent)}
    assert not missing, "add a case"
    for number, (sent, *expected) in enumerate(cases, start=1):
        id_ = f"3EB0AA{number:02}"
        ours.send_content(id_, friend.jid, sent)
        assert (await ours.acked(id_)).error is None
        *_, arrived = await received(friend, number)
        assert [arrived.whatsapp_id, arrived.type, arrived.text, arrived.content, arrived.target] == [id_, *expected]
    await wasim.post(
        f"/phones/{friend.number}/send", {"to": ours.number, "vote": {"id": poll_id, "options": ["Falafel"]}}
    )
    [vote] = await received(ours, 1)
    assert (vote.type, vote.target, vote.text) == ("poll_vote", poll_id, "Falafel")
    assert vote.content == {"poll": {"options": options, "votes": ["Falafel"]}}
    assert sorted(ours.store.made) == ["3EB0AA06", "3EB0AA07"]


async def test_media_are_sent_and_received_unchanged(ours: Party, friend: Party, tmp_path: Path) -> None:
    """Each kind arrives with its details, and downloads to the bytes that were sent."""
    file = written_to(tmp_path / "media", 300_001)
    sent: dict[str, dict[str, Any]] = {
        "image": {"mimetype": "image/png", "caption": "a picture"},
        "video": {"mimetype": "video/mp4", "gif": True},
        "audio": {"mimetype": VOICE, "voice": True},
        "document": {"mimetype": "application/pdf", "filename": "bill.pdf", "caption": "a bill"},
        "sticker": {"mimetype": "image/webp"},
    }
    for number, (kind, fields) in enumerate(sent.items()):
        ours.send_content(f"3EB0AA0{number}", friend.jid, {kind: {"file": file, **fields}})
        assert (await ours.acked(f"3EB0AA0{number}")).error is None
    messages = await received(friend, len(sent))
    assert [m.type for m in messages] == list(sent)
    assert [m.text for m in messages] == ["a picture", None, None, "a bill", None]
    for message in messages:
        downloaded = await download(friend, message, tmp_path / message.type)
        assert (downloaded.size_bytes, downloaded.error) == (300_001, None)
    files = files_in(tmp_path)
    assert files == dict.fromkeys(["media", *sent], files["media"])
    _, _, audio, document, _ = messages
    assert audio.media == {"mimetype": VOICE, "sizeBytes": 300_001, "voice": True}
    assert document.media == {"mimetype": "application/pdf", "sizeBytes": 300_001, "filename": "bill.pdf"}


async def test_a_file_that_expired_is_uploaded_again_by_the_phone(
    ours: Party, friend: Party, wasim: Wasim, tmp_path: Path
) -> None:
    """It is downloaded from its new address; a message that the phone does not have has no file."""
    ours.send_content(
        "3EB0AA01", friend.jid, {"image": {"file": written_to(tmp_path / "media", 20_000), "mimetype": "image/png"}}
    )
    [image] = await received(friend, 1)
    assert image.media_keys is not None
    keys = json.loads(image.media_keys)
    await wasim.fault("media-refuse", status=410, direction="down", count=1)
    assert (await download(friend, image, tmp_path / "copy")).error == "gone"
    message = {
        "id": "3EB0AA01", "chat": ours.jid, "fromMe": False, "sender": ours.jid, "senderLid": image.sender_lid
    }  # fmt: skip

    async def ask(number: int, asked: dict[str, object]) -> QueryAnswered:
        query = uploaded_again(asked, media_key=keys["mediaKey"])
        friend.host.command(
            RunQuery(link=friend.link, request=number, name=query.name, arguments=dict(query.arguments))
        )
        return await friend.recorder.wait(QueryAnswered, friend.link, nth=number)

    again: Any = (await ask(1, message)).result
    assert again["directPath"].startswith(keys["directPath"])
    assert again["directPath"] != keys["directPath"]
    moved = msgspec.structs.replace(image, media_keys=json.dumps(keys | again))
    assert (await download(friend, moved, tmp_path / "copy")).error is None
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "media").read_bytes()
    assert (await ask(2, message | {"id": "3EB0AA99"})).error == "not-found"


async def test_sixteen_megabytes_are_streamed_and_not_kept_in_memory(
    ours: Party, friend: Party, tmp_path: Path
) -> None:
    """The memory of the sending and of the receiving host grows by much less than the file's size."""
    size = 16 * 1024 * 1024
    file = written_to(tmp_path / "media", size)
    before = [memory_mb(party, "VmRSS") for party in (ours, friend)]
    ours.send_content("3EB0AA01", friend.jid, {"document": {"file": file, "mimetype": "application/zip"}})
    [document] = await received(friend, 1)
    assert (await download(friend, document, tmp_path / "copy")).size_bytes == size
    grown = [memory_mb(party, "VmHWM") - rss for party, rss in zip((ours, friend), before, strict=True)]
    assert max(grown) < 64


async def test_media_that_cannot_be_downloaded_leave_no_file(
    ours: Party, friend: Party, wasim: Wasim, tmp_path: Path
) -> None:
    """Too large, gone, cut off, damaged: the answer says which, and there is no file."""
    ours.send_content(
        "3EB0AA01",
        friend.jid,
        {"image": {"file": written_to(tmp_path / "media", 200_000), "mimetype": "image/png"}},
    )
    [image] = await received(friend, 1)
    copy = tmp_path / "copy"
    assert (await download(friend, image, copy, max_bytes=199_999)).error == "too-large"
    await wasim.fault("media-refuse", status=404, direction="down", count=1)
    assert (await download(friend, image, copy)).error == "gone"
    await wasim.fault("media-cut", afterBytes=100_000, direction="down", count=1)
    assert (await download(friend, image, copy)).error in {"engine-error", "damaged"}
    assert image.media_keys is not None
    spoilt = InboundMessage(
        whatsapp_id="1", chat="", sender="", type="image", media_keys=image.media_keys.replace('"image"', '"video"')
    )
    assert (await download(friend, spoilt, copy)).error == "damaged"
    nowhere = await download(friend, image, tmp_path / "none" / "copy")
    assert nowhere.error == "engine-error"
    assert nowhere.detail
    assert list(files_in(tmp_path)) == ["media"]
    assert (await download(friend, image, copy)).error is None


async def test_media_are_prepared_once_and_durably_before_the_frame_is_sent(
    ours: Party, friend: Party, tmp_path: Path
) -> None:
    """No frame is sent before `Made` is answered; prepared content that is passed again is sent unchanged, even when
    the file is gone.
    """
    path = tmp_path / "media"
    content: dict[str, object] = {"image": {"file": written_to(path, 1000), "mimetype": "image/png"}}
    ours.recorder.hold(lambda commit: bool(commit.made))
    ours.send_content("3EB0AA01", friend.jid, content)
    await ours.recorder.until(lambda: bool(ours.recorder.held), what="a held commit")
    await asyncio.sleep(0.2)
    assert ours.recorder.of(Written, ours.link) == []
    ours.recorder.release()
    await ours.acked("3EB0AA01")
    path.unlink()
    ours.send_content("3EB0AA01", friend.jid, content, made=ours.store.made["3EB0AA01"])
    await ours.recorder.wait(Acked, ours.link, nth=2)
    await friend.recorder.until(lambda: times_read(friend, ours.store.made["3EB0AA01"]) == 2, what="the second copy")
    assert len(friend.store.inbox) == 1


async def test_a_failed_upload_is_reported_and_delays_no_other_message(
    ours: Party, friend: Party, wasim: Wasim, tmp_path: Path
) -> None:
    """A missing file and a server that refuses are `upload-failed`; a slow upload does not block other messages."""
    image: dict[str, object] = {"image": {"file": written_to(tmp_path / "media", 400_000), "mimetype": "image/png"}}
    lost: dict[str, object] = {"image": {"file": str(tmp_path / "none"), "mimetype": "image/png"}}
    ours.send_content("3EB0AA01", friend.jid, lost)
    refused = await ours.recorder.wait(SendRefused, ours.link)
    assert (refused.code, refused.detail) == (
        "upload-failed", "the image could not be uploaded: its file can't be read (ENOENT)",
    )  # fmt: skip
    await wasim.fault("media-refuse", status=503, direction="up", count=1)
    ours.send_content("3EB0AA02", friend.jid, image)
    assert (await ours.recorder.wait(SendRefused, ours.link, nth=2)).code == "upload-failed"
    await wasim.fault("media-slow", bytesPerS=400_000, direction="up")
    ours.send_content("3EB0AA03", friend.jid, image)
    ours.send("3EB0AA04", friend.jid, "meanwhile")
    await ours.acked("3EB0AA04")
    assert "3EB0AA03" not in ours.store.made  # its upload was not done
    await ours.acked("3EB0AA03")
    assert [m.type for m in await received(friend, 2)] == ["text", "image"]


async def test_an_undecryptable_message_is_stored_before_its_retry_receipt(
    ours: Party, friend: Party, start_host: StartHost
) -> None:
    """A message whose session is lost is reported as undecryptable first; the sender's second copy is the message."""
    friend.send("3EB0BB01", ours.jid, "the first one")
    await ours.shown(1)
    ours.store.keys["session"].clear()
    recorder = Recorder()
    async with start_host(recorder) as host:
        await ours.log_in(host=host, recorder=recorder)
        recorder.hold(lambda commit: bool(commit.undecryptable))
        friend.send("3EB0BB02", ours.jid, "the second one")
        await recorder.until(lambda: bool(recorder.held), what="a held commit")
        await asyncio.sleep(0.2)
        assert friend.recorder.of(SentContentRequested) == []
        recorder.release()
        assert await ours.shown(2) == ["the first one", "the second one"]
        [missed] = ours.store.undecryptable
        assert (missed.whatsapp_id, missed.chat, missed.sender) == ("3EB0BB02", friend.jid, friend.jid)


async def test_a_retry_receipt_is_answered_with_the_prepared_content(
    ours: Party, friend: Party, start_host: StartHost
) -> None:
    """A reaction is resent once, with the content that was prepared for it."""
    ours.send("3EB0AA01", friend.jid)
    await friend.shown(1)
    friend.store.keys["session"].clear()
    recorder = Recorder()
    async with start_host(recorder) as host:
        await friend.log_in(host=host, recorder=recorder)
        reaction: dict[str, object] = {"emoji": "👍", "whatsappId": "3EB0AA01", "fromMe": True}
        ours.send_content("3EB0AA02", friend.jid, {"reaction": reaction})
        _, arrived = await received(friend, 2)
    assert arrived.content == {"reaction": {"emoji": "👍"}}
    assert [wanted.whatsapp_id for wanted in ours.recorder.of(SentContentRequested)] == ["3EB0AA02"]
    assert [made.whatsapp_id for commit in ours.recorder.of(Commit) for made in commit.made] == ["3EB0AA02"]
    assert times_read(friend, ours.store.made["3EB0AA02"]) >= 1


async def test_typing_is_shown_before_the_message_and_delays_no_other_message(ours: Party, friend: Party) -> None:
    """The message arrives after its typing time; one on the same link that needs none arrives first."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    ours.send("3EB0AA01", friend.jid, "typed", typing_ms=500)
    ours.send("3EB0AA02", ours.jid, "a note to ourselves")
    await ours.acked("3EB0AA01")
    assert loop.time() - began >= 0.5
    assert [ack.whatsapp_id for ack in ours.acks()] == ["3EB0AA02", "3EB0AA01"]


async def test_after_479_devices_and_sessions_are_requested_again(ours: Party, friend: Party, wasim: Wasim) -> None:
    """The same message is sent again under the same id, with new sessions."""
    ours.send("3EB0AA01", friend.jid, "the first one")
    await friend.shown(1)
    await wasim.fault("ack-error", number=ours.number, code=479, count=1)
    ours.send("3EB0AA02", friend.jid, "the second one")
    assert (await ours.acked("3EB0AA02")).error == "479"
    before = session_keys(ours)
    ours.send("3EB0AA02", friend.jid, "the second one")
    await ours.recorder.wait(Acked, ours.link, nth=3)
    assert (await friend.shown(2))[-1] == "the second one"
    assert ours.acks()[-1].error is None
    assert session_keys(ours) > before


def session_keys(party: Party) -> set[str]:
    """The keys with which a party's sessions were set up: a new session has a new one."""
    records = [json.loads(record) for record in party.store.keys["session"].values()]
    return {key for record in records for key in record["_sessions"]}
