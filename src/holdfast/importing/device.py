"""Chooses a session in the store of another program and checks what is imported from it.

All input is untrusted: sizes and counts are bounded, and each value passes the same checks as in an imported folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from holdfast.backup.auth_values import MAX_KEYS_BYTES, Damaged, credentials_text, key_text, split_name
from holdfast.backup.baileys import unescaped
from holdfast.backup.company import Device
from holdfast.backup.ratchets import RatchetKey
from holdfast.base.errors import Fault, HoldfastError

MAX_KEYS = 200_000
"""Upper bound of the entries of one session. Real sessions have a few thousand."""
MAX_SESSIONS = 10_000
_SHOWN = 20


class ImportRefused(HoldfastError):
    """A source can't be imported. Nothing was imported."""

    code = "import-failed"
    fault = Fault.OPERATOR

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, field="SOURCE")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSession:
    """A session in a source."""

    name: str
    """The name that the program shows to its users."""
    id: str
    """The key by which the program finds it in its store."""
    about: str = ""
    """A detail that helps people to recognise it, such as its status."""

    @property
    def names(self) -> set[str]:
        return {self.name, self.id, self.name.removeprefix("+")}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedDevice:
    """A device that has passed every check."""

    device: Device
    session: str
    """The name of the device's session in the source."""
    skipped: tuple[str, ...] = ()
    """Damaged keys that were left out at the caller's request, each with its fault."""
    ignored: tuple[str, ...] = ()
    """Names of entries that don't belong to a linked device."""
    in_use: tuple[str, ...] = ()
    """Signs that another program still uses the device, which the caller chose to ignore."""


class Source(Protocol):
    """An open store of another program. Every method may raise `ImportRefused`."""

    @property
    def shown(self) -> str:
        """The source's name for error messages, without a password."""

    def sessions(self) -> Sequence[StoredSession]: ...

    def signs_of_use(self, session: StoredSession, *, now: datetime) -> Sequence[str]:
        """Signs that the program still runs, phrased to follow a colon."""

    def read(self, session: StoredSession, *, now: datetime, skip_damaged: bool) -> ImportedDevice: ...


def import_from(
    source: Source, *, session_name: str | None, now: datetime, force: bool = False, skip_damaged: bool = False
) -> ImportedDevice:
    """Read the device of one session. Raises `ImportRefused`, also if another program seems to use the device.

    `session_name`: None if the source has only one session. `force`: import a device that is in use.
    """
    session = _chosen(source, session_name)
    signs = tuple(source.signs_of_use(session, now=now))
    if signs and not force:
        raise ImportRefused(
            f'session "{session.name}" in {source.shown} seems to be in use: {"; ".join(signs)}. Stop that program '
            "first, because two programs on one device disconnect each other (440). If it is stopped, repeat this with "
            "--force; chats then get new keys before Holdfast sends"
        )
    read = source.read(session, now=now, skip_damaged=skip_damaged)
    return ImportedDevice(
        device=read.device, session=session.name, skipped=read.skipped, ignored=read.ignored, in_use=signs
    )


def _chosen(source: Source, session_name: str | None) -> StoredSession:
    sessions = source.sessions()
    matching = [each for each in sessions if session_name is None or session_name.removeprefix("+") in each.names]
    if len(matching) == 1:
        return matching[0]
    if not sessions:
        raise ImportRefused(
            f"{source.shown} holds no session: check that it is the store of the program that you named"
        )
    listed = ", ".join(f'"{each.name}"{f" ({each.about})" if each.about else ""}' for each in sessions[:_SHOWN])
    listed += f" and {len(sessions) - _SHOWN} more" if len(sessions) > _SHOWN else ""
    if session_name is None:
        raise ImportRefused(f"{source.shown} holds {len(sessions)} sessions: name one with --session: {listed}")
    problem = (
        f'has no session "{session_name[:80]}"'
        if not matching
        else f'has {len(matching)} sessions "{session_name[:80]}"'
    )
    raise ImportRefused(f"{source.shown} {problem}: it has {listed}")


def checked_device(
    credentials: bytes | None,
    entries: Iterable[tuple[str, bytes]],
    *,
    session: StoredSession,
    shown: str,
    skip_damaged: bool,
) -> ImportedDevice:
    """Check the credentials and keys of a session. Raises `ImportRefused`.

    `entries` have names such as `pre-key-12`.
    """
    where = f'session "{session.name}" in {shown}'
    if credentials is None:
        raise ImportRefused(f"{where} has no credentials: it was never linked, or it was logged out; link it again")
    try:
        text = credentials_text(credentials)
    except Damaged as error:
        raise ImportRefused(f"the credentials of {where}: the value {error}. Nothing was imported") from error
    keys, damaged, ignored = list[RatchetKey](), list[str](), list[str]()
    for name, content in entries:
        place = split_name(name)
        if place is None:
            ignored.append(name[:80])
            continue
        try:
            key_place = unescaped(*place)
            keys.append(RatchetKey(*key_place, key_text(*key_place, content)))
        except Damaged as error:
            damaged.append(f"{name[:80]} {error}")
    if damaged and not skip_damaged:
        raise _too_damaged(where, damaged)
    device = Device(credentials=text, keys=tuple(_unique(keys)))
    return ImportedDevice(device=device, session=session.name, skipped=tuple(damaged), ignored=tuple(ignored))


def _unique(keys: Iterable[RatchetKey]) -> Iterable[RatchetKey]:
    """Remove duplicates. Two versions of a program may have stored a key under two names; the last value is kept."""
    return {(key.type, key.id): key for key in keys}.values()


def _too_damaged(source: str, damaged: Sequence[str]) -> ImportRefused:
    shown = "; ".join(damaged[:5]) + (f"; and {len(damaged) - 5} more" if len(damaged) > 5 else "")
    return ImportRefused(
        f"{source} has {len(damaged)} damaged key{'s' if len(damaged) > 1 else ''}: {shown}. Nothing was imported; "
        "with --skip-damaged these are left out, and their chats get new keys"
    )


def check_size(count: int, size: int, largest: int, *, session: StoredSession, shown: str) -> None:
    """Refuse a session that is larger than a device can be, before its values are read. Raises `ImportRefused`.

    `size` is that of all entries and `largest` that of the largest one, in bytes.
    """
    if count > MAX_KEYS or size > MAX_KEYS_BYTES or largest > MAX_KEYS_BYTES // 8:
        raise ImportRefused(
            f'session "{session.name}" in {shown} has {count} entries with {size} bytes, the largest with {largest}: '
            f"{MAX_KEYS} entries with {MAX_KEYS_BYTES} bytes are allowed, {MAX_KEYS_BYTES // 8} for one"
        )
