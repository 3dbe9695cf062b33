"""Detects the type of a container file: ZIP (Office, OpenDocument, EPUB, APK, JAR), OLE (Office up to 2003) and Ogg.

The functions get only the first and the last bytes of a file. They must never use a length from the file to read
beyond these bytes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_EMPTY_ZIP = _END
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OFFICE = "application/vnd.openxmlformats-officedocument."
ZIP, OLE = "application/zip", "application/x-ole-storage"
_MAX_ENTRIES = 20_000
_DECLARED = re.compile(rb"application/[a-z0-9][a-z0-9.+-]{1,80}")

OPUS = "audio/ogg; codecs=opus"
_OGG_CODECS = (
    (b"OpusHead", OPUS),
    (b"\x01vorbis", "audio/ogg; codecs=vorbis"),
    (b"Speex   ", "audio/ogg; codecs=speex"),
    (b"\x7fFLAC", "audio/ogg; codecs=flac"),
    (b"\x80theora", "video/ogg"),
)


# ZIP.


def is_zip(head: bytes) -> bool:
    return head.startswith((_LOCAL, _EMPTY_ZIP))


def type_in_zip(head: bytes, tail: bytes) -> str:
    """The MIME type of a ZIP file: that of its package format, or `application/zip` for a plain archive."""
    if (declared := _declared(head)) is not None:
        return declared
    return _by_entries(_entries(head, tail))


def _declared(head: bytes) -> str | None:
    """The type that OpenDocument and EPUB files declare in their first entry, the uncompressed `mimetype`."""
    if len(head) < 30 or head[26:28] != b"\x08\x00" or head[30:38] != b"mimetype" or head[8:10] != b"\0\0":
        return None
    begin = 38 + int.from_bytes(head[28:30], "little")
    size = int.from_bytes(head[18:22], "little")
    content = head[begin : begin + size] if size else head[begin:].partition(b"PK")[0]
    found = _DECLARED.fullmatch(content.strip())
    return None if found is None else found[0].decode()


def _by_entries(names: set[str]) -> str:
    folders = {name.partition("/")[0] for name in names if "/" in name}
    if "[Content_Types].xml" in names or "_rels/.rels" in names:
        macros = any(name.endswith("/vbaProject.bin") for name in names)
        if "word" in folders:
            return (
                "application/vnd.ms-word.document.macroEnabled.12" if macros else f"{_OFFICE}wordprocessingml.document"
            )
        if "xl" in folders:
            if "xl/workbook.bin" in names:
                return "application/vnd.ms-excel.sheet.binary.macroEnabled.12"
            return "application/vnd.ms-excel.sheet.macroEnabled.12" if macros else f"{_OFFICE}spreadsheetml.sheet"
        if "ppt" in folders:
            name = "application/vnd.ms-powerpoint.presentation.macroEnabled.12"
            return name if macros else f"{_OFFICE}presentationml.presentation"
        if "visio" in folders:
            return "application/vnd.visio"
    if "AndroidManifest.xml" in names and ("classes.dex" in names or "resources.arsc" in names):
        return "application/vnd.android.package-archive"
    if "META-INF/MANIFEST.MF" in names:
        return "application/java-archive"
    return "application/vnd.google-earth.kmz" if "doc.kml" in names else ZIP


def _entries(head: bytes, tail: bytes) -> set[str]:
    """The names of entries in the available part of the central directory, and of the entries at the beginning."""
    return {name.decode("utf-8", "replace") for name in (*_local(head), *_directory(head, tail))}


def _local(head: bytes) -> Iterator[bytes]:
    at = 0
    for _ in range(_MAX_ENTRIES):
        if head[at : at + 4] != _LOCAL or len(head) < at + 30:
            return
        flags, size, name, extra = struct.unpack_from("<6xH10xI4xHH", head, at)
        yield head[at + 30 : at + 30 + name]
        if flags & 0x08:  # the entry's size follows its data
            return
        at += 30 + name + extra + size


def _directory(head: bytes, tail: bytes) -> Iterator[bytes]:
    end = tail or head
    last = end.rfind(_END)
    if last < 0 or len(end) < last + 22:
        return
    size = int.from_bytes(end[last + 12 : last + 16], "little")
    at = last - size if size <= last else end.find(_CENTRAL)
    for _ in range(_MAX_ENTRIES):
        if at < 0 or end[at : at + 4] != _CENTRAL or len(end) < at + 46:
            return
        name, extra, comment = struct.unpack_from("<28xHHH", end, at)
        yield end[at + 46 : at + 46 + name]
        at += 46 + name + extra + comment


# OLE.


def is_ole(head: bytes) -> bool:
    return head.startswith(_OLE)


_STREAMS = (
    ("PowerPoint Document", "application/vnd.ms-powerpoint"),
    ("WordDocument", "application/msword"),
    ("Workbook", "application/vnd.ms-excel"),
    ("Book", "application/vnd.ms-excel"),
    ("VisioDocument", "application/vnd.visio"),
    ("__nameid_version1.0", "application/vnd.ms-outlook"),
)


def type_in_ole(head: bytes, tail: bytes) -> str:
    """The MIME type by the names of streams in the directory: UTF-16 in fields of 64 bytes (source: MS-CFB)."""
    found = {mimetype for name, mimetype in _STREAMS if any(_field(name) in part for part in (head, tail))}
    return next((mimetype for _, mimetype in _STREAMS if mimetype in found), OLE)


def _field(name: str) -> bytes:
    return name.encode("utf-16-le") + b"\0\0"


# Ogg.


def ogg_type(head: bytes) -> str:
    """The MIME type by the first packet of each stream (RFC 3533); `audio/ogg` when no codec is recognised.

    A file with a video stream is a video, whatever audio streams it has.
    """
    types = [mimetype for packet in _first_packets(head) for codec, mimetype in _OGG_CODECS if packet.startswith(codec)]
    if "video/ogg" in types:
        return "video/ogg"
    return types[0] if types else "audio/ogg"


def ogg_codec_is_unreadable(head: bytes) -> bool:
    """Whether the file has no first packet that could name a codec."""
    return not any(_first_packets(head))


def _first_packets(head: bytes) -> Iterator[bytes]:
    at = 0
    while head[at : at + 4] == b"OggS" and len(head) >= at + 27 and head[at + 5] & 0x02:
        segments = head[at + 27 : at + 27 + head[at + 26]]
        begin = at + 27 + head[at + 26]
        yield head[begin : begin + sum(segments)]
        at = begin + sum(segments)
