"""Detects MIME types of files by their bytes (including the content of containers) and by the suffix of their name.

It must never guess a type from ambiguous bytes: text is recognised only after the suffix and the server's type.
"""

from __future__ import annotations

import json
import re

from holdfast.delivery.containers import is_ole, is_zip, ogg_type, type_in_ole, type_in_zip

_OFFICE = "application/vnd.openxmlformats-officedocument."
_BY_SUFFIX = {
    ".pdf": "application/pdf",
    ".docx": f"{_OFFICE}wordprocessingml.document",
    ".dotx": f"{_OFFICE}wordprocessingml.template",
    ".docm": "application/vnd.ms-word.document.macroEnabled.12",
    ".xlsx": f"{_OFFICE}spreadsheetml.sheet",
    ".xltx": f"{_OFFICE}spreadsheetml.template",
    ".xlsm": "application/vnd.ms-excel.sheet.macroEnabled.12",
    ".xlsb": "application/vnd.ms-excel.sheet.binary.macroEnabled.12",
    ".pptx": f"{_OFFICE}presentationml.presentation",
    ".ppsx": f"{_OFFICE}presentationml.slideshow",
    ".potx": f"{_OFFICE}presentationml.template",
    ".pptm": "application/vnd.ms-powerpoint.presentation.macroEnabled.12",
    ".vsdx": "application/vnd.visio",
    ".doc": "application/msword",
    ".dot": "application/msword",
    ".xls": "application/vnd.ms-excel",
    ".xlt": "application/vnd.ms-excel",
    ".ppt": "application/vnd.ms-powerpoint",
    ".pps": "application/vnd.ms-powerpoint",
    ".msg": "application/vnd.ms-outlook",
    ".msi": "application/x-msi",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".odp": "application/vnd.oasis.opendocument.presentation",
    ".odg": "application/vnd.oasis.opendocument.graphics",
    ".epub": "application/epub+zip",
    ".apk": "application/vnd.android.package-archive",
    ".jar": "application/java-archive",
    ".kmz": "application/vnd.google-earth.kmz",
    ".kml": "application/vnd.google-earth.kml+xml",
    ".xps": "application/vnd.ms-xpsdocument",
    ".pages": "application/vnd.apple.pages",
    ".numbers": "application/vnd.apple.numbers",
    ".key": "application/vnd.apple.keynote",
    ".pkpass": "application/vnd.apple.pkpass",
    ".mobi": "application/x-mobipocket-ebook",
    ".azw3": "application/vnd.amazon.ebook",
    ".p7m": "application/pkcs7-mime",
    ".p7s": "application/pkcs7-signature",
    ".p12": "application/x-pkcs12",
    ".pfx": "application/x-pkcs12",
    ".cer": "application/pkix-cert",
    ".sqlite": "application/vnd.sqlite3",
    ".parquet": "application/vnd.apache.parquet",
    ".exe": "application/vnd.microsoft.portable-executable",
    ".dmg": "application/x-apple-diskimage",
    ".iso": "application/x-iso9660-image",
    ".ttf": "font/ttf",
    ".otf": "font/otf",
    ".stl": "model/stl",
    ".step": "model/step",
    ".stp": "model/step",
    ".glb": "model/gltf-binary",
    ".zip": "application/zip",
    ".rar": "application/vnd.rar",
    ".7z": "application/x-7z-compressed",
    ".tar": "application/x-tar",
    ".gz": "application/gzip",
    ".tgz": "application/gzip",
    ".bz2": "application/x-bzip2",
    ".xz": "application/x-xz",
    ".zst": "application/zstd",
    ".rtf": "application/rtf",
    ".ps": "application/postscript",
    ".eps": "application/postscript",
    ".json": "application/json",
    ".geojson": "application/geo+json",
    ".xml": "application/xml",
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".txt": "text/plain",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".html": "text/html",
    ".htm": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".sql": "application/sql",
    ".vcf": "text/vcard",
    ".ics": "text/calendar",
    ".eml": "message/rfc822",
    ".srt": "application/x-subrip",
    ".gpx": "application/gpx+xml",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".heic": "image/heic",
    ".avif": "image/avif",
    ".psd": "image/vnd.adobe.photoshop",
    ".dwg": "image/vnd.dwg",
    ".dxf": "image/vnd.dxf",
    ".ico": "image/vnd.microsoft.icon",
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
    ".aac": "audio/aac",
    ".amr": "audio/amr",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".mid": "audio/midi",
    ".aiff": "audio/aiff",
    ".wma": "audio/x-ms-wma",
    ".mp4": "video/mp4",
    ".3gp": "video/3gpp",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".avi": "video/x-msvideo",
    ".mpg": "video/mpeg",
    ".mpeg": "video/mpeg",
    ".wmv": "video/x-ms-wmv",
    ".ogv": "video/ogg",
}
"""MIME types by file name suffix (source: IANA's registry of media types; the usual type where IANA has none)."""
_SUFFIXES: dict[str, str] = {}
for _suffix, _mimetype in _BY_SUFFIX.items():
    _SUFFIXES.setdefault(_mimetype, _suffix)

_BEGINNINGS = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF8", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"8BPS", "image/vnd.adobe.photoshop"),
    (b"AC10", "image/vnd.dwg"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
    (b"\xff\xf1", "audio/aac"),
    (b"\xff\xf9", "audio/aac"),
    (b"#!AMR", "audio/amr"),
    (b"fLaC", "audio/flac"),
    (b"MThd", "audio/midi"),
    (b"%PDF-", "application/pdf"),
    (b"%!PS", "application/postscript"),
    (b"{\\rtf", "application/rtf"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"\x1f\x8b", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"\x1aE\xdf\xa3", "video/webm"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_TEXTS = (
    (re.compile(rb"<!doctype html|<html[\s>]", re.IGNORECASE), "text/html"),
    (re.compile(rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!DOCTYPE svg[^>]*>\s*)?<svg[\s>]", re.DOTALL), "image/svg+xml"),
    (re.compile(rb"<\?xml\s"), "application/xml"),
    (re.compile(rb"BEGIN:VCARD\s", re.IGNORECASE), "text/vcard"),
    (re.compile(rb"BEGIN:VCALENDAR\s", re.IGNORECASE), "text/calendar"),
)
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
"""The byte order marks of UTF-8 and UTF-16."""
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def sniffed(head: bytes, tail: bytes = b"") -> str | None:
    """The MIME type by the signature of a file; None when no signature matches. `tail`: the file's last bytes."""
    if head.startswith(b"OggS"):
        return ogg_type(head)
    if is_zip(head):
        return type_in_zip(head, tail)
    if is_ole(head):
        return type_in_ole(head, tail)
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    if head[4:8] == b"ftyp":
        return _of_brand(head[8:12])
    if head[257:262] == b"ustar":
        return "application/x-tar"
    return next((mimetype for beginning, mimetype in _BEGINNINGS if head.startswith(beginning)), None)


def text_type(head: bytes, *, is_whole: bool) -> str | None:
    """The MIME type of a text file by its beginning; None when it is not text. `is_whole`: `head` is the whole file."""
    if head.startswith(_MARKS[1:]):
        return "text/plain"
    body = head.removeprefix(_MARKS[0])
    if not body.strip() or _NO_TEXT.search(body) or not _is_utf8(body, is_whole=is_whole):
        return None
    begun = body.lstrip()
    for pattern, mimetype in _TEXTS:
        if pattern.match(begun):
            return mimetype
    if is_whole and begun[:1] in b"{[" and _is_json(body):
        return "application/json"
    return "text/plain"


def suffix_of(name: str) -> str:
    """The suffix of a file name as it is written, such as `.pdf`; empty when there is none."""
    found = re.search(r"[^.](\.[A-Za-z0-9]{1,10})$", name)
    return found[1] if found and not found[1][1:].isdigit() else ""


def type_by_name(name: str | None) -> str | None:
    return None if name is None else _BY_SUFFIX.get(suffix_of(name).lower())


def extension_of(mimetype: str) -> str:
    """The file name suffix for a MIME type, such as `.pdf`; empty for a type without one."""
    return _SUFFIXES.get(mimetype.partition(";")[0].strip(), "")


def _of_brand(brand: bytes) -> str:
    """The MIME type by the four-letter brand of an MP4-like file (ISO 14496-12)."""
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


def _is_utf8(body: bytes, *, is_whole: bool) -> bool:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        return not is_whole and error.start >= len(body) - 3 and error.end == len(body)
    return True


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True
