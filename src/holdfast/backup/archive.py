"""The file format of a backup: a ZIP archive with `manifest.json` and one JSON Lines member for each table.

The first line of a member names the columns and each further line is a row; bytes are base64. The manifest has the
SHA-256 of each member, and the archive's comment has the SHA-256 of the manifest, so `check` detects every change. The
format does not depend on the database.

The checksums do not authenticate a file: anybody can make a file with matching checksums. A file is therefore untrusted
input: members, their sizes and each line are limited before they are read into memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from holdfast.backup.cancellation import CancelToken
from holdfast.backup.errors import BadBackup
from holdfast.backup.manifest import FORMAT, Manifest, Member
from holdfast.store.tables import metadata

ArchiveRow = Sequence[Any]
"""JSON values and bytes."""

_MANIFEST = "manifest.json"
_LEVEL = 3
"""zlib level: twice as fast as the default, and keys hardly compress anyway."""
_CHUNK = 1 << 20
_LARGEST_MANIFEST = 32 << 20
_LONGEST_LINE = 64 << 20
_DENSEST = 200
"""Highest compression ratio of a large member. Rows of Holdfast compress 5 to 20 times, a ZIP bomb a thousand times."""
_MAY_BE_DENSE = 64 << 20
_Value = str | int | float | bool | None


class ArchiveWriter:
    """Writes the members one after the other, then the manifest."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL)

    def __enter__(self) -> ArchiveWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def add(self, table: str, columns: Sequence[str], rows: Iterable[ArchiveRow]) -> Member:
        digest, count = hashlib.sha256(), 0
        with self._zip.open(_part(table), "w", force_zip64=True) as part:
            for line in _lines(columns, rows):
                digest.update(line)
                part.write(line)
                count += 1
        return Member(rows=count - 1, sha256=digest.hexdigest())

    def finish(self, manifest: Manifest) -> None:
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        self._zip.writestr(_MANIFEST, text)
        self._zip.comment = hashlib.sha256(text).hexdigest().encode()


class ArchiveReader:
    """An open backup. Its methods raise `BadBackup`, which names the file and what is wrong with it."""

    def __init__(self, path: Path, *, name: str) -> None:
        """`name`: the file name for error messages."""
        self._name = name
        self._parts = contextlib.ExitStack()
        """Closes the members whose rows were not read to the end."""
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise BadBackup(f'there is no backup "{name}": `holdfast backup list` lists all') from None
        except OSError as error:
            raise BadBackup(f'the backup "{name}" can\'t be read: {error.strerror}') from error
        except zipfile.BadZipFile as error:
            raise self._bad("it is not a backup, or was not copied completely") from error
        try:
            members = self._members()
            self.manifest = self._manifest()
            self._check_listed(members)
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> ArchiveReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parts.close()
        self._zip.close()

    def _members(self) -> set[str]:
        known = {_MANIFEST, *(_part(name) for name in metadata.tables)}
        seen: set[str] = set()
        for member in self._zip.infolist():
            if member.filename not in known or member.filename in seen:
                raise self._bad(f"it has an unknown part {member.filename[:80]!r}")
            seen.add(member.filename)
            largest = max(_DENSEST * member.compress_size, _MAY_BE_DENSE)
            if member.file_size > (_LARGEST_MANIFEST if member.filename == _MANIFEST else largest):
                raise self._bad(f"the part {member.filename} would unpack to {member.file_size >> 20} MB")
        return seen

    def _check_listed(self, members: set[str]) -> None:
        """Refuse members that the manifest does not list: they have no checksum."""
        if others := members - {_MANIFEST, *map(_part, self.manifest.tables)}:
            raise self._bad(f"its manifest does not list the part {min(others)}")

    def check(self, cancel_token: CancelToken) -> None:
        """Read every member and compare it with its checksum."""
        for table, part in self.manifest.tables.items():
            digest, lines = hashlib.sha256(), 0
            for chunk in cancel_token.each(self._chunks(_part(table))):
                digest.update(chunk)
                lines += chunk.count(b"\n")
            if digest.hexdigest() != part.sha256 or lines != part.rows + 1:
                raise self._bad(f"the part {_part(table)} does not match its checksum")

    def rows(self, table: str) -> tuple[list[str], Iterator[list[_Value]]]:
        """Return the columns and the rows of a table; bytes are still base64. Call `check` first."""
        lines = self._text_lines(_part(table))
        try:
            columns = msgspec.json.decode(next(lines, b""), type=list[str])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._bad(f"the part {_part(table)} does not begin with its columns") from error
        if len(set(columns)) != len(columns):
            raise self._bad(f"the part {_part(table)} has a column twice")
        return columns, (self._row(line, table, len(columns)) for line in lines)

    def _row(self, line: bytes, table: str, count: int) -> list[_Value]:
        try:
            row = msgspec.json.decode(line, type=list[_Value])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._bad(f"the part {_part(table)} has a row that can't be understood") from error
        if len(row) != count:
            raise self._bad(f"the part {_part(table)} has a row of {len(row)} values for {count} columns")
        return row

    def _manifest(self) -> Manifest:
        text = b"".join(self._chunks(_MANIFEST))
        if hashlib.sha256(text).hexdigest().encode() != self._zip.comment:
            raise self._bad("its manifest does not match its checksum")
        try:
            version = msgspec.json.decode(text)["format"]
            if version > FORMAT:
                raise self._bad(
                    f"it has format {str(version)[:20]} and this Holdfast knows up to {FORMAT}: update Holdfast"
                )
            return msgspec.json.decode(text, type=Manifest)
        except (msgspec.DecodeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise self._bad(f"its manifest can't be understood ({str(error)[:200]})") from error

    def _chunks(self, member: str) -> Iterator[bytes]:
        try:
            with self._zip.open(member) as part:
                self._parts.callback(part.close)
                while chunk := part.read(_CHUNK):
                    yield chunk
        except KeyError:
            raise self._bad(f"the part {member} is missing") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
            raise self._bad(f"the part {member} can't be read ({error})") from error

    def _text_lines(self, member: str) -> Iterator[bytes]:
        rest = b""
        for chunk in self._chunks(member):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
            if len(rest) > _LONGEST_LINE:
                raise self._bad(f"the part {member} has a row of more than {_LONGEST_LINE >> 20} MB")

    def _bad(self, why: str) -> BadBackup:
        return BadBackup(f'the backup "{self._name}" can\'t be used: {why}; nothing was changed, use another', why=why)


def _lines(columns: Sequence[str], rows: Iterable[ArchiveRow]) -> Iterator[bytes]:
    encoder = msgspec.json.Encoder()
    yield encoder.encode([str(name) for name in columns]) + b"\n"
    for row in rows:
        yield encoder.encode(tuple(row)) + b"\n"


def _part(table: str) -> str:
    return f"tables/{table}.jsonl"
