"""Derives file names: from `Content-Disposition`, from a URL, or from a MIME type."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from urllib.parse import unquote_to_bytes

from holdfast.delivery.file_types import extension_of, suffix_of

LONGEST = 255
"""The maximum length of a name in bytes of UTF-8, which is the limit of file systems."""
_RESERVED = re.compile(r"con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]", re.IGNORECASE)
"""Device names that Windows reserves: no file may have such a name, whatever its suffix."""
_SCRIPTS = frozenset({".php", ".asp", ".aspx", ".ashx", ".jsp", ".cgi", ".do", ".pl", ".py"})
"""Suffixes of server-side scripts, whose responses are files of another type."""
_CODING_SUFFIXES = {
    ".tgz": (b"\x1f\x8b", ".tar"),
    ".svgz": (b"\x1f\x8b", ".svg"),
    ".gz": (b"\x1f\x8b", ""),
    ".zst": (b"\x28\xb5\x2f\xfd", ""),
    ".br": (b"", ""),
}
"""For each suffix of a compressed file: its signature, and the suffix of its content."""
_ATTRIBUTE = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf';\s*({_ATTRIBUTE})\s*=\s*("(?:[^"\\]|\\.)*(?:"|$)|[^;"]*)', re.ASCII)
_EXTENDED = re.compile(r"([A-Za-z0-9_.:-]*)'[^']*'(.*)", re.DOTALL)
_SEPARATORS = re.compile(r"[/\\]")
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
"""Control characters and bidirectional marks: the latter can make `exe.fdp` look like `pdf.exe`."""


def from_dispositions(headers: Sequence[str]) -> str | None:
    """The first name that any of several `Content-Disposition` headers has: proxies add one without a name."""
    return next((name for header in headers if (name := from_disposition(header))), None)


def from_disposition(header: str) -> str | None:
    """The `filename*` of a `Content-Disposition`, or else its `filename` (RFC 6266); None when neither is usable."""
    found: dict[str, str] = {}
    for name, value in _PARAMETER.findall(f";{header}" if "=" in header.partition(";")[0] else header):
        found.setdefault(name.lower(), value.strip())
    extended, plain = _extended(found.get("filename*", "")), _plain(found.get("filename", ""))
    return cleaned(extended) or cleaned(_continued(found)) or cleaned(plain)


def from_paths(paths: Sequence[str]) -> str | None:
    """The last segment of the first path with a suffix, or else of the first path with any segment."""
    names = [name for path in paths if (name := _of_path(path))]
    return next((name for name in names if suffix_of(name)), names[0] if names else None)


def _of_path(path: str) -> str | None:
    """The name in the last segment. Some sites put a slash after a file name; on others that is a folder."""
    within = cleaned(_decoded(path.rstrip("/").rpartition("/")[2]))
    return within if within is None or not path.endswith("/") or suffix_of(within) else None


def with_suffix(name: str, mimetype: str) -> str:
    """The name with the suffix of the type when it has no suffix or that of a script. Phones open files by suffix."""
    suffix, extension = suffix_of(name), extension_of(mimetype)
    if suffix.lower() in _SCRIPTS and extension:
        return name.removesuffix(suffix) + extension
    return name if suffix else name + extension


def without_coding(name: str, head: bytes) -> str:
    """The name of a file after decompression, such as `a.csv` for `a.csv.gz`.

    `head`: the first bytes of the file. One that is still compressed was compressed twice, and keeps its name.
    """
    for suffix, (signature, plain) in _CODING_SUFFIXES.items():
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name if signature and head.startswith(signature) else name[: -len(suffix)] + plain
    return name


def made_for(mimetype: str) -> str:
    """A default name for a MIME type, such as `document.pdf`."""
    return f"document{extension_of(mimetype)}"


def cleaned(name: str | None) -> str | None:
    """A name that every phone can save: one path segment without invisible characters."""
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
    """Decode an extended value such as `UTF-8'en'%e2%82%ac.pdf` (RFC 8187)."""
    found = _EXTENDED.fullmatch(value.strip('"'))
    if found is None:
        return None
    try:
        return unquote_to_bytes(found[2]).decode(found[1] or "utf-8")
    except (LookupError, UnicodeDecodeError, ValueError):
        return None


def _continued(parameters: Mapping[str, str]) -> str | None:
    """Join a name in parts, as mail programs write it: `filename*0*=UTF-8''%e2%82%ac; filename*1="uro.pdf"`.

    Source: RFC 2231.
    """
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
    """Decode a plain value, quoted or not.

    Bytes beyond ASCII are decoded as UTF-8, which servers send in practice, or else as Latin-1, which is the standard.
    """
    value = _from_mail(_readable(_unquoted(value).encode("utf-8", "surrogateescape")))
    return _decoded(value) if re.search(r"%[0-9A-Fa-f]{2}", value) else value


def _from_mail(value: str) -> str:
    """Decode an encoded word such as `=?UTF-8?B?w6kucGRm?=` (RFC 2047): meant for mail, but some servers send it."""
    if not value.startswith("=?"):
        return value
    try:
        return str(make_header(decode_header(value)))
    except (LookupError, ValueError, HeaderParseError):
        return value


def _unquoted(value: str) -> str:
    """Remove quotes, including single ones, which are not in the standard, and double ones that are not closed."""
    if value.startswith('"'):
        return re.sub(r'\\(["\\])', r"\1", value[1:].removesuffix('"'))
    return value[1:-1] if len(value) > 2 and value[0] == value[-1] == "'" else value


def _decoded(text: str) -> str:
    return _readable(unquote_to_bytes(text))


def _readable(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
