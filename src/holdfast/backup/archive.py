"""The file of a backup: a ZIP with `manifest.json` and a part for each table, rows as JSON lines.

The first line of a part names its columns, each further one is a row; bytes are base64. The manifest has the SHA-256 of
each part, and the archive's comment that of the manifest, so that `check` finds whatever changed on the way. Nothing
in it depends on the kind of database that it came from.
"""

from __future__ import annotations

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

ArchiveRow = Sequence[Any]
"""Values as JSON has them, and bytes."""

_MANIFEST = "manifest.json"
_LEVEL = 3
"""Of zlib: twice as fast as its default, and keys hardly shrink anyway."""
_CHUNK = 1 << 20


class ArchiveWriter:
    """Writes parts one after the other, then the manifest."""

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
    """An opened backup. Raises `BadBackup`, which names the file and what is wrong with it."""

    def __init__(self, path: Path, *, name: str) -> None:
        """`name` is what people know the file by."""
        self._name = name
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise BadBackup(f'there is no backup "{name}": `holdfast backup list` shows those there are') from None
        except OSError as error:
            raise BadBackup(f'the backup "{name}" can\'t be read: {error.strerror}') from error
        except zipfile.BadZipFile as error:
            raise self._bad("it is no backup, or its end is missing: was it copied whole?") from error
        try:
            self.manifest = self._manifest()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> ArchiveReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def check(self, wanted: CancelToken) -> None:
        """Read every part and compare it with the manifest."""
        for table, part in self.manifest.tables.items():
            digest, lines = hashlib.sha256(), 0
            for chunk in wanted.each(self._chunks(_part(table))):
                digest.update(chunk)
                lines += chunk.count(b"\n")
            if digest.hexdigest() != part.sha256 or lines != part.rows + 1:
                raise self._bad(f"the part {_part(table)} is not what was written")

    def rows(self, table: str) -> tuple[list[str], Iterator[list[Any]]]:
        """Columns and rows; bytes are still base64. Call `check` first."""
        lines = self._text_lines(_part(table))
        columns = msgspec.json.decode(next(lines), type=list[str])
        return columns, (msgspec.json.decode(line, type=list[Any]) for line in lines)

    def _manifest(self) -> Manifest:
        text = b"".join(self._chunks(_MANIFEST))
        if hashlib.sha256(text).hexdigest().encode() != self._zip.comment:
            raise self._bad("its manifest is not what was written")
        try:
            version = msgspec.json.decode(text)["format"]
            if version > FORMAT:
                raise self._bad(f"it has format {version} and this Holdfast knows up to {FORMAT}: update Holdfast")
            return msgspec.json.decode(text, type=Manifest)
        except (msgspec.DecodeError, KeyError, TypeError) as error:
            raise self._bad(f"its manifest can't be understood ({error})") from error

    def _chunks(self, member: str) -> Iterator[bytes]:
        try:
            with self._zip.open(member) as part:
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

    def _bad(self, why: str) -> BadBackup:
        return BadBackup(f'the backup "{self._name}" can\'t be used: {why}; take another, nothing was changed', why=why)


def _lines(columns: Sequence[str], rows: Iterable[ArchiveRow]) -> Iterator[bytes]:
    encoder = msgspec.json.Encoder()
    yield encoder.encode([str(name) for name in columns]) + b"\n"
    for row in rows:
        yield encoder.encode(tuple(row)) + b"\n"


def _part(table: str) -> str:
    return f"tables/{table}.jsonl"
