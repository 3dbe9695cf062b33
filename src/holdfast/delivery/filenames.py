"""Names of files: from `Content-Disposition`, from an address, or made for a type."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from urllib.parse import unquote_to_bytes

from holdfast.delivery.file_types import extension_of, suffix_of

LONGEST = 255
"""Bytes of UTF-8 in a name: what file systems take."""
_RESERVED = re.compile(r"con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]", re.IGNORECASE)
"""Devices of Windows: no file there may have such a name, whatever its suffix."""
_SCRIPTS = frozenset({".php", ".asp", ".aspx", ".ashx", ".jsp", ".cgi", ".do", ".pl", ".py"})
"""Of programs that answer with a file of another type."""
_ATTRIBUTE = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf';\s*({_ATTRIBUTE})\s*=\s*("(?:[^"\\]|\\.)*"|[^;"]*)', re.ASCII)
_EXTENDED = re.compile(r"([A-Za-z0-9_.:-]*)'[^']*'(.*)", re.DOTALL)
_SEPARATORS = re.compile(r"[/\\]")
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
"""Control characters, and those that change the direction: they can make `exe.fdp` look like `pdf.exe`."""


def from_disposition(header: str | None) -> str | None:
    """`filename*` of a `Content-Disposition`, else `filename` (RFC 6266); None where neither is of use."""
    if not header:
        return None
    found: dict[str, str] = {}
    for name, value in _PARAMETER.findall(f";{header}" if "=" in header.partition(";")[0] else header):
        found.setdefault(name.lower(), value.strip())
    extended, plain = _extended(found.get("filename*", "")), _plain(found.get("filename", ""))
    return cleaned(extended) or cleaned(_continued(found)) or cleaned(plain)


def from_paths(paths: Sequence[str]) -> str | None:
    """The last segment of the first path that has a suffix, else of the first that has a segment at all."""
    names = [name for path in paths if (name := cleaned(_decoded(path.rpartition("/")[2])))]
    return next((name for name in names if suffix_of(name)), names[0] if names else None)


def with_suffix(name: str, mimetype: str) -> str:
    """The name with the suffix of the type where it has none, or that of a script: phones open files by it."""
    suffix, extension = suffix_of(name), extension_of(mimetype)
    if suffix.lower() in _SCRIPTS and extension:
        return name.removesuffix(suffix) + extension
    return name if suffix else name + extension


def made_for(mimetype: str) -> str:
    """`document.pdf`"""
    return f"document{extension_of(mimetype)}"


def cleaned(name: str | None) -> str | None:
    """A name that every phone can save: one segment, without characters that nobody sees."""
    if name is None:
        return None
    last = next((part for part in reversed(_SEPARATORS.split(name)) if part.strip(" .")), "")
    kept = _UNSEEN.sub("", last).strip().lstrip(".").strip()
    if _RESERVED.fullmatch(kept.partition(".")[0].strip()):
        kept = f"_{kept}"
    if len(kept.encode("utf-8", "replace")) > LONGEST:
        suffix = suffix_of(kept)
        room = LONGEST - len(suffix.encode())
        kept = kept.removesuffix(suffix).encode("utf-8", "replace")[:room].decode("utf-8", "ignore").rstrip() + suffix
    return kept or None


def _extended(value: str) -> str | None:
    """`UTF-8'en'%e2%82%ac.pdf` (RFC 8187)"""
    found = _EXTENDED.fullmatch(value.strip('"'))
    if found is None:
        return None
    try:
        return unquote_to_bytes(found[2]).decode(found[1] or "utf-8")
    except (LookupError, UnicodeDecodeError, ValueError):
        return None


def _continued(parameters: Mapping[str, str]) -> str | None:
    """A name in parts, as mail programs write it: `filename*0*=UTF-8''%e2%82%ac; filename*1="uro.pdf"` (RFC 2231)."""
    charset, name = "utf-8", b""
    for number in range(len(parameters)):
        encoded, quoted = parameters.get(f"filename*{number}*"), parameters.get(f"filename*{number}")
        if encoded is not None:
            value = encoded.strip('"')
            if number == 0 and (head := _EXTENDED.fullmatch(value)) is not None:
                charset, value = head[1] or charset, head[2]
            name += unquote_to_bytes(value)
        elif quoted is not None:
            name += _unquoted(quoted).encode("utf-8", "surrogateescape")
        else:
            break
    try:
        return name.decode(charset) or None
    except (LookupError, ValueError):
        return None


def _plain(value: str) -> str:
    """Quoted or not. Bytes beyond ASCII are read as UTF-8, which servers send, or else as Latin-1, the standard."""
    value = _from_mail(_readable(_unquoted(value).encode("utf-8", "surrogateescape")))
    return _decoded(value) if re.search(r"%[0-9A-Fa-f]{2}", value) else value


def _from_mail(value: str) -> str:
    """`=?UTF-8?B?w6kucGRm?=` (RFC 2047), which some servers write although it is for mail."""
    if not value.startswith("=?"):
        return value
    try:
        return str(make_header(decode_header(value)))
    except (LookupError, ValueError, HeaderParseError):
        return value


def _unquoted(value: str) -> str:
    return re.sub(r'\\(["\\])', r"\1", value[1:-1]) if value.startswith('"') else value


def _decoded(text: str) -> str:
    return _readable(unquote_to_bytes(text))


def _readable(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
