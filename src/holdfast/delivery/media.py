"""Which media WhatsApp accepts: the types and sizes for each kind of message, and the MIME type that a medium is sent
with."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from holdfast.base.errors import BadInput
from holdfast.delivery.containers import OLE, OPUS, ZIP, ogg_codec_is_unreadable
from holdfast.delivery.content import Content, MediaKind
from holdfast.delivery.file_types import sniffed, text_type, type_by_name

MB = 1024 * 1024
HEAD_BYTES = 512 * 1024
TAIL_BYTES = 128 * 1024
"""How many of the first and how many of the last bytes of a medium are examined to detect its type."""

_MAX_BYTES = {
    MediaKind.IMAGE: 16 * MB,
    MediaKind.VIDEO: 16 * MB,
    MediaKind.AUDIO: 16 * MB,
    MediaKind.STICKER: 1 * MB,
    MediaKind.DOCUMENT: 100 * MB,
}
"""WhatsApp's size limits (source: Cloud API reference for video, audio and documents; its apps for the others)."""
MEDIA_TYPES = {
    MediaKind.IMAGE: ("image/jpeg", "image/png"),
    MediaKind.VIDEO: ("video/mp4", "video/3gpp"),
    MediaKind.AUDIO: ("audio/ogg", "audio/mpeg", "audio/mp4", "audio/aac", "audio/amr"),
    MediaKind.STICKER: ("image/webp",),
}
"""MIME types that phones play or display (source: Cloud API reference). A document may have any type."""
_NAMES = {
    MediaKind.IMAGE: "JPEG or PNG, or send it as a document",
    MediaKind.VIDEO: "MP4 (H.264, AAC) or 3GP, or send it as a document",
    MediaKind.AUDIO: "Ogg (Opus), MP3, M4A, AAC or AMR, or send it as a document",
    MediaKind.STICKER: "WebP",
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
_GENERIC_TYPES = frozenset(
    {"application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded", "multipart/form-data"}
    | {"application/force-download", "application/x-force-download", "application/download", "application/x-download"}
    | {"application/unknown", "application/x-unknown", "application/binary", "application/x-binary", "unknown/unknown"}
    | {"application/x-octet-stream", "application/save", "file/download", "*/*", "text/x-unknown"}
)
_VAGUE_TYPES = frozenset(
    {"text/plain", "application/zip", "application/x-zip", "application/x-zip-compressed", "application/x-compressed"}
    | {"application/x-ole-storage", "application/vnd.ms-office", "application/cdfv2", "application/x-cfb"}
)
"""Generic types that servers send for any text or any container. The bytes and the name are more specific."""
_TEXT_TYPES = frozenset({"application/json", "application/xml", "application/javascript", "application/xhtml+xml"})
_PICTURES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_MIMETYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}( *;[ -~]{1,200})?")
_OGG_CODEC_NAMES = {
    "audio/ogg": "an unknown codec",
    "audio/ogg; codecs=vorbis": "Vorbis",
    "audio/ogg; codecs=speex": "Speex",
    "audio/ogg; codecs=flac": "FLAC",
}
_SIGNED = frozenset(
    {"application/pdf", "application/gzip", "application/vnd.rar", "application/x-7z-compressed", "application/x-tar"}
    | {"text/plain", "text/csv", "text/html", "application/json", "application/xml"}
)
"""Types whose files are never ZIP or OLE containers."""
_OFFICE_PROGRAMS = {
    "word": ("wordprocessingml", "ms-word"),
    "excel": ("spreadsheetml", "ms-excel"),
    "powerpoint": ("presentationml", "ms-powerpoint"),
}
_CODECS = re.compile(
    r';\s*codecs\s*=\s*"?([A-Za-z0-9.\-]{1,40}(?:, ?[A-Za-z0-9.\-]{1,40}){0,3})"?\s*(?=;|$)', re.IGNORECASE
)


def max_bytes(kind: MediaKind, *, limit_bytes: int) -> int:
    """The largest size of a medium of this kind in bytes: the lower of WhatsApp's limit and the operator's."""
    return min(_MAX_BYTES[kind], limit_bytes)


def _size_shown(size_bytes: int) -> str:
    """A size for people, such as `16 MB` or `1.5 MB`."""
    return f"{size_bytes / MB:.1f}".removesuffix(".0") + " MB"


def check_size(kind: MediaKind, size_bytes: int, *, limit_bytes: int, field: str) -> None:
    """Raises `BadInput` for a medium that is empty or too large."""
    if size_bytes == 0:
        raise BadInput(f"{field} is empty: give at least one byte", field=field)
    if size_bytes > max_bytes(kind, limit_bytes=limit_bytes):
        raise too_large(kind, limit_bytes=limit_bytes, field=field)


def too_large(kind: MediaKind, *, limit_bytes: int, field: str) -> BadInput:
    limit, whose = max_bytes(kind, limit_bytes=limit_bytes), "WhatsApp accepts no larger"
    if limit == limit_bytes:
        whose = "HOLDFAST_MEDIA_MAX_MB allows no larger"
    return BadInput(f"{field} has more than {_size_shown(limit)}: {whose} {kind}", field=field)


def check_voice(mimetype: str, *, field: str) -> None:
    """Raises `BadInput` unless the type is Ogg with Opus: phones play no other voice notes (source: Cloud API)."""
    if mimetype != OPUS:
        codec = _OGG_CODEC_NAMES.get(mimetype)
        what = mimetype if codec is None else f"Ogg with {codec}"
        raise BadInput(f"{field} is {what}: a voice note must be Ogg with Opus, or leave out voice", field=field)


def shown_media(described: Content, *, url: str | None) -> Content:
    """An inbound medium as events and the inbox show it: every field, with values of the expected types only."""
    words = {name: _word(described.get(name)) for name in ("mimetype", "filename")}
    numbers = {name: _whole(described.get(name)) for name in ("sizeBytes", "seconds")}
    return {**words, **numbers, "voice": described.get("voice") is True, "url": url}


def _word(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: object) -> int | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return int(value) if is_number else None  # type: ignore[call-overload]  # it is a number


def checked_mimetype(text: str, *, field: str) -> str:
    """The MIME type in the form that is stored: lower case, by its usual name. Raises `BadInput`."""
    mimetype = text.strip().lower()
    if not text.isascii() or not _MIMETYPE.fullmatch(mimetype):
        raise BadInput(f'{field} "{text[:60]}" is not a media type: give one such as image/jpeg', field=field)
    name, _, parameters = mimetype.partition(";")
    name = _OTHER_NAMES.get(name.strip(), name.strip())
    return f"{name}; {parameters.strip()}" if parameters else name


def bare_mimetype(text: str) -> str:
    """Type and subtype, with no parameter but `codecs`: browsers may read other parameters as a second type."""
    name, _, parameters = text.partition(";")
    name = name.strip().lower()
    if not _MIMETYPE.fullmatch(name):
        return "application/octet-stream"
    codecs = _CODECS.search(f";{parameters}")
    if codecs is None:
        return name
    value = f'"{codecs[1]}"' if "," in codecs[1] else codecs[1]
    return f"{name}; codecs={value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known about a file apart from the MIME type that came with it."""

    head: bytes
    tail: bytes = b""
    """The last bytes of the file; empty if `head` is the whole file."""
    is_whole: bool = True
    """Whether `head` is the whole file."""
    filename: str | None = None


def resolved_mimetype(
    kind: MediaKind, declared: str | None, evidence: Evidence, *, field: str, is_callers: bool = True
) -> str:
    """The MIME type that a medium is sent with: the given one if it is specific, or else the type by bytes and name.

    `is_callers`: the caller gave the type, not a server. Raises `BadInput` for a medium that phones would not display
    as this kind, and when the bytes contradict the given type.
    """
    found = sniffed(evidence.head, evidence.tail)
    allowed = MEDIA_TYPES.get(kind)
    if declared is not None and not is_callers and _is_contradicted(declared, found, evidence):
        declared = None
    if allowed is None:
        return _document_type(declared, found, evidence, is_callers=is_callers)
    if declared is None or declared.partition(";")[0] in _GENERIC_TYPES:
        declared = found or "application/octet-stream"
    if declared.partition(";")[0] not in allowed:
        raise BadInput(f"{field} is {declared[:80]}: {_article(kind)} must be {_NAMES[kind]}", field=field)
    if not _agrees(kind, found, declared):
        what = "a type that WhatsApp does not accept" if found is None else found
        raise BadInput(
            f"{field} is declared as {declared[:80]}, but is {what}: {_article(kind)} must be {_NAMES[kind]}",
            field=field,
        )
    if kind is MediaKind.AUDIO:
        return _audio_type(declared, found, evidence.head)
    return declared if found is None else found


_PRINTABLE = frozenset({"application/pdf", "application/postscript"})
"""Types with an unmistakable signature whose files may be text throughout."""


def _is_contradicted(declared: str, detected: str | None, evidence: Evidence) -> bool:
    """Whether the file's signature contradicts the server's type: programs that set no type send text/html."""
    name = declared.partition(";")[0]
    if detected is None:
        return False
    if name.startswith("text/") or name in _TEXT_TYPES:
        # Many signatures are letters, with which a text may begin as well.
        return detected in _PRINTABLE or text_type(evidence.head, is_whole=evidence.is_whole) is None
    return name in _PICTURES and detected in _PICTURES


def _document_type(declared: str | None, detected: str | None, evidence: Evidence, *, is_callers: bool) -> str:
    name = None if declared is None else declared.partition(";")[0]
    if declared is not None and name not in _GENERIC_TYPES and (is_callers or name not in _VAGUE_TYPES):
        return declared
    by_name = type_by_name(evidence.filename)
    if detected is not None and not (by_name is not None and _refines(by_name, detected)):
        return detected.partition(";")[0]
    fallback = declared if declared is not None and name in _VAGUE_TYPES else "application/octet-stream"
    return by_name or text_type(evidence.head, is_whole=evidence.is_whole) or fallback


def _refines(by_name: str, detected: str) -> bool:
    """Whether the name is more specific than the bytes. Several package formats have the same signature."""
    if detected in {ZIP, OLE}:
        return by_name not in _SIGNED
    if detected.startswith("application/vnd.openxml") or "macroEnabled" in detected:
        return _office_program(by_name) == _office_program(detected)
    return detected == "application/vnd.ms-excel" and by_name == "application/msword"


def _office_program(mimetype: str) -> str | None:
    for program, marks in _OFFICE_PROGRAMS.items():
        if any(mark in mimetype for mark in marks):
            return program
    return None


def _audio_type(declared: str, detected: str | None, head: bytes) -> str:
    """The type of an audio file. Phones play a voice note only under the long form of its type, with the codec."""
    if detected is None or not detected.startswith("audio/ogg"):
        return detected or declared if declared.startswith("audio/ogg") else declared
    if detected == OPUS or (detected == "audio/ogg" and ogg_codec_is_unreadable(head)):
        return OPUS
    return detected


def _agrees(kind: MediaKind, detected: str | None, declared: str) -> bool:
    """Whether the bytes allow the given type. Images, videos and Ogg have signatures; MP3, AAC and M4A may not."""
    if kind is MediaKind.AUDIO:
        if detected is None:
            return not declared.startswith("audio/ogg")
        return detected.partition(";")[0] in MEDIA_TYPES[kind] or detected in {"video/mp4", "video/3gpp"}
    return detected in MEDIA_TYPES[kind]


def _article(kind: MediaKind) -> str:
    return f"an {kind}" if kind in {MediaKind.IMAGE, MediaKind.AUDIO} else f"a {kind}"
