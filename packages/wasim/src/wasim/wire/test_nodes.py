"""WABinary nodes: the same bytes as a real client writes, and everything that is written can be read."""

from __future__ import annotations

import contextlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasim.wire.errors import WireError
from wasim.wire.nodes import MAX_INFLATED_BYTES, Node, decode, encode

# Written by Baileys 7.0.0-rc14.
BAILEYS = [
    (
        Node("iq", {"to": "@s.whatsapp.net", "type": "get", "xmlns": "w:p", "id": "12.34-1"}, [Node("ping")]),
        "00f80a1911fa00030429165708ff8412b34a1ff801f80156",
    ),
    (
        Node(
            "ack",
            {
                "class": "message",
                "id": "3EB0FAB3CCE4F7526C138E",
                "from": "962303@s.whatsapp.net",
                "t": "1795347172",
            },
        ),
        "00f8091b151308fb0b3eb0fab3cce4f7526c138e06faff03962303031aff051795347172",
    ),
    (
        Node(
            "message",
            {"from": "885981332575973:7@lid", "id": "abc é"},
            [Node("enc", {"v": "2", "type": "pkmsg"}, b"\x00\xff\x10")],
        ),
        "00f8061306f70107ff88885981332575973f08fc0661626320c3a9f801f8061d51450453fc0300ff10",
    ),
    (Node("to", {"jid": "962302:1@s.whatsapp.net"}, "hello"), "00f804110cf70001ff03962302fc0568656c6c6f"),
    (Node("x", {"jid": "1203630@g.us"}, b"\x07" * 300), "00f804fc01780cfaff841203630f1cfd00012c" + "07" * 300),
]


@pytest.mark.parametrize(("node", "written"), BAILEYS)
def test_writes_what_baileys_writes(node: Node, written: str) -> None:
    """Dictionary words, packed digits, packed hex, addresses and bytes are encoded exactly as by a real client."""
    assert encode(node).hex() == written


@pytest.mark.parametrize(("node", "written"), BAILEYS)
def test_reads_what_baileys_writes(node: Node, written: str) -> None:
    """Nodes of a real client are read; in contents, words and bytes are compared as bytes."""
    read = decode(bytes.fromhex(written))
    assert (read.tag, read.attrs) == (node.tag, node.attrs)
    assert read.data == node.data


words = st.one_of(
    st.text(min_size=1, max_size=20),
    st.from_regex(r"[0-9.-]{1,40}", fullmatch=True),
    st.from_regex(r"[0-9A-F]{1,40}", fullmatch=True),
    st.sampled_from(["s.whatsapp.net", "devices", "read-self", "participating"]),
    st.from_regex(r"[1-9][0-9]{5,14}(:[1-9][0-9]?)?@(s\.whatsapp\.net|lid|hosted)", fullmatch=True),
    st.from_regex(r"[1-9][0-9]{5,17}@(g\.us|newsletter|broadcast)", fullmatch=True),
)
trees = st.recursive(
    st.builds(Node, words, st.dictionaries(words, words, max_size=4), st.one_of(st.none(), st.binary(max_size=300))),
    lambda children: st.builds(Node, words, st.dictionaries(words, words, max_size=4), st.lists(children, max_size=5)),
    max_leaves=20,
)


@given(trees)
def test_nodes_survive_a_round_trip(node: Node) -> None:
    """Any tree of words, addresses, bytes and children reads back as it was written."""
    assert decode(encode(node)) == node


@given(st.binary(max_size=200))
def test_invalid_bytes_raise_wire_error(data: bytes) -> None:
    """Bytes that are not a node raise no other exception."""
    with contextlib.suppress(WireError):
        decode(data)


@given(trees, st.data())
def test_a_truncated_node_is_refused(node: Node, data: st.DataObject) -> None:
    """A node that is cut off at any byte raises WireError."""
    written = encode(node)
    with pytest.raises(WireError):
        decode(written[: data.draw(st.integers(0, len(written) - 1))])


def test_reads_compressed_nodes() -> None:
    """Flag 2 means zlib; the contents are the same."""
    node = Node("iq", {"id": "1"}, [Node("list", {}, [Node("item", {"jid": "962302@s.whatsapp.net"})])])
    assert decode(b"\x02" + zlib.compress(encode(node)[1:])) == node


def test_refuses_a_decompression_bomb() -> None:
    """The size of the decompressed node is limited."""
    bomb = zlib.compress(bytes(MAX_INFLATED_BYTES + 1))
    with pytest.raises(WireError, match="larger than"):
        decode(b"\x02" + bomb)


def test_refuses_bad_compression() -> None:
    """Flag 2 before bytes that are not zlib is the peer's error."""
    with pytest.raises(WireError, match="compressed"):
        decode(b"\x02nonsense")


def test_long_lists_have_a_two_byte_size() -> None:
    """A list of more than 255 children survives, as an upload of 812 prekeys needs."""
    node = Node("list", {}, [Node("key", {}, bytes([i % 256])) for i in range(812)])
    assert decode(encode(node)) == node


def test_large_contents_survive() -> None:
    """Contents from 1 MiB on have a four-byte length."""
    node = Node("enc", {}, bytes(1 << 20))
    assert decode(encode(node)) == node


@pytest.mark.parametrize(
    ("written", "jid"),
    [
        ("00f8030c0cf6ff039623020005fc046d736772", "962302:5@msgr"),
        ("00f8030c0cf5ff0396230200050007fc07696e7465726f70", "7-962302:5@interop"),
    ],
)
def test_reads_rare_addresses(written: str, jid: str) -> None:
    """Messenger and interop addresses are read, though never written here."""
    assert decode(bytes.fromhex(written)).attrs == {"jid": jid}


def test_finds_children() -> None:
    """`child` gives the first of a tag, `all` every one, `data_of` its bytes or none."""
    node = Node("a", {}, [Node("b", {}, b"1"), Node("c"), Node("b", {}, "2")])
    assert node.child("b") == Node("b", {}, b"1")
    assert node.child("d") is None
    assert [child.data for child in node.all("b")] == [b"1", b"2"]
    assert node.data_of("b") == b"1"
    assert node.data_of("d") == b""
    assert Node("a").children == []
    assert node.data == b""


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "empty node"),
        ("00f80100", "has no tag"),
        ("00f801", "cut off"),
        ("0019", "does not start a list"),
        ("00f801f0", "does not start a string"),
        ("00f8011900", "follow the node"),
    ],
)
def test_errors_state_the_reason(written: str, why: str) -> None:
    """Each kind of damage has its own sentence."""
    with pytest.raises(WireError, match=why):
        decode(bytes.fromhex(written))


def test_reads_four_byte_lengths() -> None:
    """A content may have its length in four bytes, however short it is."""
    assert decode(bytes.fromhex("00f80219fe000000026869")).data == b"hi"


def test_reads_a_dictionary_word_as_content() -> None:
    """A content may be a word instead of bytes."""
    assert decode(bytes.fromhex("00f8021913")) == Node("iq", {}, "message")
