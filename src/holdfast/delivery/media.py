"""Which media WhatsApp takes: types and sizes for each kind of message, and types told by a file's first bytes."""

from __future__ import annotations

import math
import re

from holdfast.base.errors import BadInput
from holdfast.delivery.content import Content, Kind

MB = 1024 * 1024
HEAD_BYTES = 64
"""So many of a medium's first bytes tell its type."""

_MOST = {Kind.IMAGE: 16 * MB, Kind.VIDEO: 16 * MB, Kind.AUDIO: 16 * MB, Kind.STICKER: 1 * MB, Kind.DOCUMENT: 100 * MB}
"""WhatsApp's limits (source: Cloud API reference for video, audio and document; its apps for images and stickers)."""
MEDIA_TYPES = {
    Kind.IMAGE: ("image/jpeg", "image/png"),
    Kind.VIDEO: ("video/mp4", "video/3gpp"),
    Kind.AUDIO: ("audio/ogg", "audio/mpeg", "audio/mp4", "audio/aac", "audio/amr"),
    Kind.STICKER: ("image/webp",),
}
"""What phones play or show (same source); a document may be anything."""
_NAMES = {
    Kind.IMAGE: "JPEG or PNG, or send it as a document",
    Kind.VIDEO: "MP4 (H.264, AAC) or 3GP, or send it as a document",
    Kind.AUDIO: "Ogg (Opus), MP3, M4A, AAC or AMR, or send it as a document",
    Kind.STICKER: "WebP",
}
_OTHER_NAMES = {
    "image/jpg": "image/jpeg",
    "audio/mp3": "audio/mpeg",
    "audio/x-m4a": "audio/mp4",
    "audio/m4a": "audio/mp4",
    "audio/opus": "audio/ogg",
    "application/ogg": "audio/ogg",
    "audio/x-aac": "audio/aac",
    "audio/3gpp": "audio/mp4",
    "video/3gp": "video/3gpp",
}
_SAYS_NOTHING = frozenset({"application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded"})
_MIMETYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}( *;[ -~]{1,200})?")
_CODECS = re.compile(
    r';\s*codecs\s*=\s*"?([A-Za-z0-9.\-]{1,40}(?:, ?[A-Za-z0-9.\-]{1,40}){0,3})"?\s*(?=;|$)', re.IGNORECASE
)

_BEGINNINGS = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF8", "image/gif"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
    (b"\xff\xf1", "audio/aac"),
    (b"\xff\xf9", "audio/aac"),
    (b"#!AMR", "audio/amr"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1aE\xdf\xa3", "video/webm"),
)


def most_bytes(kind: Kind, *, limit_bytes: int) -> int:
    """The largest medium of this kind: WhatsApp's limit, or the operator's."""
    return min(_MOST[kind], limit_bytes)


def _size_shown(size_bytes: int) -> str:
    """`16 MB`, `1.5 MB`"""
    return f"{size_bytes / MB:.1f}".removesuffix(".0") + " MB"


def check_size(kind: Kind, size_bytes: int, *, limit_bytes: int, field: str) -> None:
    """Raises `BadInput` for what is empty or too large."""
    if size_bytes == 0:
        raise BadInput(f"{field} is empty: give at least one byte", field=field)
    if size_bytes > most_bytes(kind, limit_bytes=limit_bytes):
        raise too_large(kind, limit_bytes=limit_bytes, field=field)


def too_large(kind: Kind, *, limit_bytes: int, field: str) -> BadInput:
    most, whose = most_bytes(kind, limit_bytes=limit_bytes), "WhatsApp takes no larger"
    if most == limit_bytes:
        whose = "HOLDFAST_MEDIA_MAX_MB allows no larger"
    return BadInput(f"{field} has more than {_size_shown(most)}: {whose} {kind}", field=field)


def check_voice(mimetype: str, *, field: str) -> None:
    """Phones play a voice note only when it is Ogg with Opus (source: Cloud API reference)."""
    if mimetype.partition(";")[0] != "audio/ogg":
        raise BadInput(f"{field} is {mimetype}: a voice note must be Ogg with Opus, or leave out voice", field=field)


def shown_media(described: Content, *, url: str | None) -> Content:
    """A medium that came in, as events and the inbox show it: every field, none of a type that its sender made up."""
    words = {name: _word(described.get(name)) for name in ("mimetype", "filename")}
    numbers = {name: _whole(described.get(name)) for name in ("sizeBytes", "seconds")}
    return {**words, **numbers, "voice": described.get("voice") is True, "url": url}


def _word(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: object) -> int | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return int(value) if is_number else None  # type: ignore[call-overload]  # it is a number


def sniffed(head: bytes) -> str | None:
    """The type that a file's first bytes tell; None where they tell nothing."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp":
        return _of_brand(head[8:12])
    return next((mimetype for beginning, mimetype in _BEGINNINGS if head.startswith(beginning)), None)


def _of_brand(brand: bytes) -> str:
    """MP4 and its relatives tell their kind by four letters (ISO 14496-12)."""
    match brand[:3]:
        case b"M4A" | b"M4B":
            return "audio/mp4"
        case b"3gp" | b"3g2":
            return "video/3gpp"
        case b"qt ":
            return "video/quicktime"
        case b"hei" | b"hev" | b"mif":
            return "image/heic"
        case b"avi":
            return "image/avif"
    return "video/mp4"


def checked_mimetype(text: str, *, field: str) -> str:
    """A type as it is kept: lower case, by its usual name. Raises `BadInput`."""
    mimetype = text.strip().lower()
    if not text.isascii() or not _MIMETYPE.fullmatch(mimetype):
        raise BadInput(f'{field} "{text[:60]}" is no media type: give one such as image/jpeg', field=field)
    name, _, parameters = mimetype.partition(";")
    name = _OTHER_NAMES.get(name.strip(), name.strip())
    return f"{name}; {parameters.strip()}" if parameters else name


def bare_mimetype(text: str) -> str:
    """Type and subtype, with `codecs` at most: browsers may read other parameters as a second type."""
    name, _, parameters = text.partition(";")
    name = name.strip().lower()
    if not _MIMETYPE.fullmatch(name):
        return "application/octet-stream"
    codecs = _CODECS.search(f";{parameters}")
    if codecs is None:
        return name
    value = f'"{codecs[1]}"' if "," in codecs[1] else codecs[1]
    return f"{name}; codecs={value}"


def settled_mimetype(kind: Kind, said: str | None, head: bytes, *, field: str) -> str:
    """The type that a medium is sent with: what was said, if it is of use, or what its bytes tell.

    Raises `BadInput` for what phones would not show as this kind, also when the bytes belie what was said.
    """
    found = sniffed(head)
    if said is None or said.partition(";")[0] in _SAYS_NOTHING:
        said = found or "application/octet-stream"
    allowed = MEDIA_TYPES.get(kind)
    if allowed is None:
        return said
    if said.partition(";")[0] not in allowed:
        raise BadInput(f"{field} is {said[:80]}: {_article(kind)} must be {_NAMES[kind]}", field=field)
    if not _agrees(kind, found):
        what = "what WhatsApp does not take" if found is None else found
        raise BadInput(
            f"{field} is said to be {said[:80]}, but is {what}: {_article(kind)} must be {_NAMES[kind]}", field=field
        )
    return said if kind is Kind.AUDIO or found is None else found


def _agrees(kind: Kind, found: str | None) -> bool:
    """MP3, AAC and audio in MP4 may begin in many ways; pictures and films tell what they are."""
    if kind is Kind.AUDIO:
        return found is None or found.startswith("audio/") or found in {"video/mp4", "video/3gpp"}
    return found in MEDIA_TYPES[kind]


def _article(kind: Kind) -> str:
    return f"an {kind}" if kind in {Kind.IMAGE, Kind.AUDIO} else f"a {kind}"
