from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.engine.errors import WireError
from holdfast.engine.wire import (
    MAX_LINE_BYTES,
    PROTOCOL_VERSION,
    AskHeartbeat,
    Hello,
    LineSplitter,
    Logged,
    Stop,
    check_hello,
    decode_report,
    encode,
)
from holdfast.session.engine import (
    Acked,
    AnsweredMessage,
    AnsweredMessageFound,
    AnsweredMessageRequested,
    AnyCommand,
    AnyReport,
    Commit,
    Decrypted,
    InboundMessage,
    LinkClosed,
    OpenLink,
    Send,
)

COMMANDS: list[AnyCommand | AskHeartbeat | Stop] = [
    AskHeartbeat(),
    Stop(),
    OpenLink(link=1, company="962302", credentials=None, url="ws://127.0.0.1:1/ws"),
    Send(link=1, whatsapp_id="3EB0AA", to="962700000001@s.whatsapp.net", content={"text": "مرحبا\nline"}),
    AnsweredMessageFound(link=1, request=2, message=AnsweredMessage(secret="AA==", sender="s", content={"poll": {}})),
]
REPORTS: list[AnyReport | Hello | Logged] = [
    Hello(v=1, engine="baileys", engine_version="7.0.0-rc14", node_version="v24.0.0", pid=7),
    Logged(level="warning", message="a promise of Baileys was rejected"),
    LinkClosed(link=1, code=515, detail="Stream Errored (restart required)", attributes={"code": "515"}),
    AnsweredMessageRequested(link=1, request=2, chat="c", whatsapp_id="3A"),
    Acked(link=1, whatsapp_id="3EB0AA", chat="962700000001@s.whatsapp.net", at_s=1, error="463"),
    Commit(
        link=1,
        seq=3,
        keys={"session": {"a.0": "{}", "b.0": None}},
        decrypted=[
            Decrypted(
                ciphertext_sha256="00",
                plaintext="AA==",
                message=InboundMessage(whatsapp_id="3A", chat="c", sender="s", type="text", text="hi"),
            )
        ],
    ),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda word: type(word).__name__)
def test_a_command_survives_the_pipe(command: AnyCommand | AskHeartbeat | Stop) -> None:
    """An encoded command is one line, and decodes to the same value."""
    line = encode(command)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert msgspec.json.decode(line, type=AnyCommand | AskHeartbeat | Stop) == command


@pytest.mark.parametrize("report", REPORTS, ids=lambda word: type(word).__name__)
def test_a_report_survives_the_pipe(report: AnyReport | Hello | Logged) -> None:
    """An encoded report is one line, and decodes to the same value."""
    line = encode(report)
    assert line.count(b"\n") == 1
    assert decode_report(line) == report


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"not json of 962700000001", "malformed"),
        (b'{"r":"telepathy","link":1}', "`$.r`"),
        (b'{"r":"closed","link":1}', "code"),
        (b'{"r":"closed","link":"secret","code":1}', "`$.link`"),
        (b'{"link":1}', "`r`"),
    ],
)
def test_a_malformed_line_is_named_but_never_shown(line: bytes, says: str) -> None:
    """The error says what is wrong and where, and contains nothing of the line."""
    with pytest.raises(WireError) as caught:
        decode_report(line)
    assert says in caught.value.sentence
    assert caught.value.__cause__ is None
    for secret in ("962700000001", "telepathy", "secret"):
        assert secret not in caught.value.sentence


def test_a_line_that_is_too_long_is_not_sent() -> None:
    """Our own side keeps to the limit as well."""
    with pytest.raises(WireError, match="is too long"):
        encode(OpenLink(link=1, company="1", credentials="x" * MAX_LINE_BYTES))


def test_another_version_is_refused() -> None:
    """A bridge of another version is refused at its first line."""
    hello = Hello(v=PROTOCOL_VERSION + 1, engine="baileys", engine_version="8", node_version="v24", pid=1)
    with pytest.raises(WireError, match=f"speaks version {PROTOCOL_VERSION + 1}"):
        check_hello(hello)


def test_the_first_line_must_be_a_hello() -> None:
    """Anything before the hello is refused."""
    with pytest.raises(WireError, match="instead of a hello"):
        check_hello(LinkClosed(link=1, code=428))


@given(st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"")), max_size=20), st.data())
def test_lines_are_complete_whatever_the_chunk_boundaries(lines: list[bytes], data: st.DataObject) -> None:
    """Chunk boundaries never change, drop or duplicate a line."""
    stream = b"".join(line + b"\n" for line in lines)
    splitter, out, at = LineSplitter(), [], 0
    while at < len(stream):
        size = data.draw(st.integers(min_value=1, max_value=len(stream) - at))
        out += splitter.feed(stream[at : at + size])
        at += size
    assert out == lines


def test_a_line_without_end_is_refused() -> None:
    """A host can't make Holdfast hold more than one full line in memory."""
    splitter = LineSplitter(limit=100)
    splitter.feed(b"x" * 99)
    with pytest.raises(WireError, match="longer than 100 bytes"):
        splitter.feed(b"xx")


def test_names_on_the_pipe_are_camel_case() -> None:
    """The bridge is JavaScript: field names are camelCase, and defaults are left out."""
    line = msgspec.json.decode(encode(Send(link=1, whatsapp_id="A", to="b", content={"text": "c"})))
    assert line == {"c": "send", "link": 1, "whatsappId": "A", "to": "b", "content": {"text": "c"}}
