"""Which media WhatsApp accepts, by type, size and first bytes."""

from __future__ import annotations

import pytest

from holdfast.base.errors import BadInput
from holdfast.delivery.content import MediaKind
from holdfast.delivery.media import (
    MB,
    Evidence,
    bare_mimetype,
    check_size,
    check_voice,
    checked_mimetype,
    resolved_mimetype,
    shown_media,
)


def ogg(packet: bytes) -> bytes:
    """The first page of a stream, with its first packet."""
    return b"OggS\x00\x02" + bytes(20) + bytes([1, len(packet)]) + packet


JPEG, PNG, WEBP = b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF\x10\x00\x00\x00WEBPVP8 "
MP4, M4A, THREEGP = b"\x00\x00\x00\x20ftypisom", b"\x00\x00\x00\x20ftypM4A ", b"\x00\x00\x00\x20ftyp3gp5"
OGG, MP3, PDF = b"OggS\x00\x02", b"ID3\x04", b"%PDF-1.7"
OPUS, VORBIS, SPEEX, FLAC, OTHER, THEORA = map(
    ogg, (b"OpusHead\x01\x02", b"\x01vorbis", b"Speex   1.2", b"\x7fFLAC\x01", b"CELT    ", b"\x80theora")
)
SKELETON = ogg(b"fishead\0") + OPUS


@pytest.mark.parametrize(
    ("kind", "declared", "head", "mimetype"),
    [
        (MediaKind.IMAGE, None, JPEG, "image/jpeg"),
        (MediaKind.IMAGE, "application/octet-stream", PNG, "image/png"),
        (MediaKind.IMAGE, "image/png", JPEG, "image/jpeg"),  # the bytes decide
        (MediaKind.STICKER, None, WEBP, "image/webp"),
        (MediaKind.VIDEO, None, MP4, "video/mp4"),
        (MediaKind.VIDEO, None, THREEGP, "video/3gpp"),
        (MediaKind.AUDIO, "audio/ogg; codecs=opus", OGG, "audio/ogg; codecs=opus"),
        (MediaKind.AUDIO, "audio/ogg", OPUS, "audio/ogg; codecs=opus"),
        (MediaKind.AUDIO, None, OPUS, "audio/ogg; codecs=opus"),
        (MediaKind.AUDIO, "audio/ogg; codecs=vorbis", OPUS, "audio/ogg; codecs=opus"),
        (MediaKind.AUDIO, "audio/mpeg", OPUS, "audio/ogg; codecs=opus"),
        (MediaKind.AUDIO, None, SKELETON, "audio/ogg; codecs=opus"),
        (MediaKind.AUDIO, "audio/ogg; codecs=opus", VORBIS, "audio/ogg; codecs=vorbis"),
        (MediaKind.AUDIO, None, OTHER, "audio/ogg"),
        (MediaKind.AUDIO, "audio/ogg", MP3, "audio/mpeg"),
        (MediaKind.DOCUMENT, None, OPUS, "audio/ogg"),
        (MediaKind.DOCUMENT, None, THEORA, "video/ogg"),
        (MediaKind.AUDIO, "audio/mpeg", b"\x00\x00", "audio/mpeg"),
        (MediaKind.AUDIO, "audio/mp4", MP4, "audio/mp4"),
        (MediaKind.AUDIO, None, M4A, "audio/mp4"),
        (MediaKind.AUDIO, None, MP3, "audio/mpeg"),
        (MediaKind.DOCUMENT, None, PDF, "application/pdf"),
        (MediaKind.DOCUMENT, None, b"hello", "text/plain"),
        (MediaKind.DOCUMENT, None, b"\x00\x01\x02", "application/octet-stream"),
        (MediaKind.DOCUMENT, "text/csv", b"a,b", "text/csv"),
    ],
)
def test_the_type_of_a_file_is_stated_or_detected(
    kind: MediaKind, declared: str | None, head: bytes, mimetype: str
) -> None:
    """The type `application/octet-stream` from a server counts as no type."""
    assert resolved_mimetype(kind, declared, Evidence(head=head), field="f") == mimetype


@pytest.mark.parametrize(
    ("kind", "declared", "head", "mimetype"),
    [
        (MediaKind.IMAGE, "text/html; charset=utf-8", JPEG, "image/jpeg"),
        (MediaKind.IMAGE, "text/plain", PNG, "image/png"),
        (MediaKind.AUDIO, "text/plain", OPUS, "audio/ogg; codecs=opus"),
        (MediaKind.VIDEO, "text/html", MP4, "video/mp4"),
    ],
)
def test_text_html_from_a_server_is_ignored_for_other_content(
    kind: MediaKind, declared: str, head: bytes, mimetype: str
) -> None:
    """PHP sends text/html if a program sets no type; a caller who gives that type means it."""
    assert resolved_mimetype(kind, declared, Evidence(head=head), field="f", is_callers=False) == mimetype
    with pytest.raises(BadInput, match=f"^f is {declared}"):
        resolved_mimetype(kind, declared, Evidence(head=head), field="f")


@pytest.mark.parametrize(
    ("kind", "declared", "head", "sentence"),
    [
        (
            MediaKind.IMAGE,
            None,
            b"<html>",
            "f is application/octet-stream: an image must be JPEG or PNG, or send it as a document",
        ),
        (
            MediaKind.IMAGE,
            "text/html",
            b"<html>",
            "f is text/html: an image must be JPEG or PNG, or send it as a document",
        ),
        (
            MediaKind.IMAGE,
            "image/jpeg",
            b"<html>",
            "f is declared as image/jpeg, but is a type that WhatsApp does not accept: an image must be JPEG or PNG",
        ),
        (
            MediaKind.IMAGE,
            "image/jpeg",
            MP4,
            "f is declared as image/jpeg, but is video/mp4: an image must be JPEG or PNG",
        ),
        (MediaKind.STICKER, None, PNG, "f is image/png: a sticker must be WebP"),
        (MediaKind.VIDEO, None, b"\x1aE\xdf\xa3", "f is video/webm: a video must be MP4 (H.264, AAC) or 3GP"),
        (MediaKind.VIDEO, None, b"\x00\x00\x00\x20ftypqt  ", "f is video/quicktime: a video must be MP4"),
        (MediaKind.IMAGE, None, b"\x00\x00\x00\x20ftypheic", "f is image/heic: an image must be JPEG"),
        (MediaKind.IMAGE, None, b"\x00\x00\x00\x20ftypavif", "f is image/avif: an image must be JPEG"),
        (
            MediaKind.AUDIO,
            "audio/ogg",
            JPEG,
            "f is declared as audio/ogg, but is image/jpeg: an audio must be Ogg (Opus), MP3",
        ),
        (
            MediaKind.AUDIO,
            "audio/ogg; codecs=opus",
            b"\0\0",
            "f is declared as audio/ogg; codecs=opus, but is a type that WhatsApp",
        ),
        (MediaKind.AUDIO, None, THEORA, "f is video/ogg: an audio must be"),
    ],
)
def test_a_file_that_phones_would_not_show_is_refused(
    kind: MediaKind, declared: str | None, head: bytes, sentence: str
) -> None:
    """The error names the actual type and the required ones."""
    with pytest.raises(BadInput) as refused:
        resolved_mimetype(kind, declared, Evidence(head=head), field="f")
    assert str(refused.value).startswith(sentence)
    assert refused.value.field == "f"


def test_a_type_is_stored_by_its_usual_name() -> None:
    """Types are stored in lower case, with their parameters."""
    assert checked_mimetype(" Image/JPG ", field="f") == "image/jpeg"
    assert checked_mimetype("audio/opus; codecs=opus", field="f") == "audio/ogg; codecs=opus"
    for text in ("", "image", "image/", "a/b c", "ä/b", "a/b\r\nx: y", "a/b; c\rx: y", "a/b; c\0d"):
        with pytest.raises(BadInput, match="is not a media type: give one such as image/jpeg"):
            checked_mimetype(text, field="f")


@pytest.mark.parametrize(
    ("declared", "sent"),
    [
        ("video/mp4", "video/mp4"),
        ("video/mp4; a=b, text/html", "video/mp4"),
        ("video/mp4; codecs=a, text/html", "video/mp4"),
        ('video/mp4; codecs="avc1.42E01E, mp4a.40.2"', 'video/mp4; codecs="avc1.42E01E, mp4a.40.2"'),
        ("audio/ogg; codecs=opus", "audio/ogg; codecs=opus"),
        ("Audio/OGG;charset=x; Codecs=opus; y=z", "audio/ogg; codecs=opus"),
        ('audio/ogg; codecs="opus", text/html', "audio/ogg"),
        ("text/html; charset=utf-7", "text/html"),
        ("video/mp4, text/html", "application/octet-stream"),
        ("text/html\r\nX: 1", "application/octet-stream"),
        ("", "application/octet-stream"),
    ],
)
def test_a_strangers_type_is_sent_bare(declared: str, sent: str) -> None:
    """Its codecs may stay, but nothing else that could be read as a second type."""
    assert bare_mimetype(declared) == sent


@pytest.mark.parametrize(
    ("kind", "size", "limit_mb", "sentence"),
    [
        (MediaKind.IMAGE, 0, 64, "f is empty: give at least one byte"),
        (MediaKind.IMAGE, 16 * MB + 1, 64, "f has more than 16 MB: WhatsApp accepts no larger image"),
        (
            MediaKind.DOCUMENT,
            64 * MB + 1,
            64,
            "f has more than 64 MB: HOLDFAST_MEDIA_MAX_MB allows no larger document",
        ),
        (MediaKind.DOCUMENT, 100 * MB + 1, 500, "f has more than 100 MB: WhatsApp accepts no larger document"),
        (MediaKind.VIDEO, 8 * MB + 1, 8, "f has more than 8 MB: HOLDFAST_MEDIA_MAX_MB allows no larger video"),
    ],
)
def test_a_medium_that_is_empty_or_too_large_is_refused(
    kind: MediaKind, size: int, limit_mb: int, sentence: str
) -> None:
    """The error says whose limit it is."""
    with pytest.raises(BadInput, match=f"^{sentence}$"):
        check_size(kind, size, limit_bytes=limit_mb * MB, field="f")
    check_size(kind, 1, limit_bytes=limit_mb * MB, field="f")


def test_a_voice_note_is_ogg() -> None:
    """Phones play no other type as a voice note."""
    check_voice("audio/ogg; codecs=opus", field="audio")
    for mimetype, what in (
        ("audio/mpeg", "audio/mpeg"),
        ("audio/ogg; codecs=vorbis", "Ogg with Vorbis"),
        ("audio/ogg; codecs=speex", "Ogg with Speex"),
        ("audio/ogg; codecs=flac", "Ogg with FLAC"),
        ("audio/ogg", "Ogg with an unknown codec"),
    ):
        with pytest.raises(BadInput) as refused:
            check_voice(mimetype, field="audio")
        assert str(refused.value) == f"audio is {what}: a voice note must be Ogg with Opus, or leave out voice"


def test_an_inbound_medium_is_shown_with_every_field() -> None:
    """Invalid values of the sender are null; the others are shown as they were received."""
    declared = {"mimetype": "audio/ogg", "sizeBytes": 9.0, "seconds": 3, "voice": True}
    assert shown_media(declared, url="u") == {**declared, "sizeBytes": 9, "filename": None, "url": "u"}
    nonsense = {"mimetype": 1, "sizeBytes": "many", "seconds": float("inf"), "voice": "yes", "filename": ["a"], "x": 1}
    assert shown_media(nonsense, url=None) == {
        "mimetype": None, "sizeBytes": None, "filename": None, "seconds": None, "voice": False, "url": None,
    }  # fmt: skip
