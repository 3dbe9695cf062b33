"""Encrypts backups with age: to recipients (`age1…`), or with a passphrase. The `age` command can decrypt them.

Files for recipients are streamed, whatever their size. With a passphrase the library holds the whole file in memory, so
large ones are refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BufferedWriter
from pathlib import Path

import pyrage

from holdfast.backup.cancellation import CancellableFile, CancelToken
from holdfast.backup.errors import BackupFailed, BadBackup, Locked
from holdfast.base.errors import BadSetting

SUFFIX = ".age"
_HEADER = b"age-encryption.org/"
_LARGEST_WITH_PASSPHRASE = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupEncryption:
    """How backups are encrypted. Without passphrase and recipients they are not."""

    passphrase: str | None = field(default=None, repr=False)
    recipients: tuple[str, ...] = ()

    @property
    def is_used(self) -> bool:
        return bool(self.passphrase or self.recipients)


NO_ENCRYPTION = BackupEncryption()


def read_encryption(*, passphrase: str | None, recipients: str | None) -> BackupEncryption:
    """Parse the settings. Raises `BadSetting` for an invalid recipient, and when both are set."""
    names = tuple((recipients or "").replace(",", " ").split())
    if passphrase and names:
        raise BadSetting(
            "HOLDFAST_BACKUP_PASSPHRASE and HOLDFAST_BACKUP_RECIPIENTS are both set: set only one of them",
            field="HOLDFAST_BACKUP_RECIPIENTS",
        )
    for name in names:
        _recipient(name)
    return BackupEncryption(passphrase=passphrase, recipients=names)


def _recipient(name: str) -> pyrage.x25519.Recipient:
    try:
        return pyrage.x25519.Recipient.from_str(name)
    except pyrage.RecipientError as error:
        raise BadSetting(
            f'HOLDFAST_BACKUP_RECIPIENTS has "{name[:80]}": give public keys of age, which begin with age1',
            field="HOLDFAST_BACKUP_RECIPIENTS",
        ) from error


def encrypt_file(plain: Path, encrypted: Path, encryption: BackupEncryption, cancel_token: CancelToken) -> None:
    """Encrypt a file into a new one."""
    if encryption.recipients:
        with plain.open("rb") as source, _new(encrypted) as target:
            pyrage.encrypt_io(
                CancellableFile(source, cancel_token), target, [_recipient(name) for name in encryption.recipients]
            )
        return
    assert encryption.passphrase is not None
    if plain.stat().st_size > _LARGEST_WITH_PASSPHRASE:
        raise BackupFailed(
            "the backup is larger than 512 MB, and with a passphrase it is encrypted in memory: "
            "use HOLDFAST_BACKUP_RECIPIENTS (`age-keygen` makes such keys)"
        )
    with _new(encrypted) as target:
        target.write(pyrage.passphrase.encrypt(plain.read_bytes(), encryption.passphrase))


def is_encrypted_file(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_HEADER)) == _HEADER


def decrypt_file(encrypted: Path, plain: Path, *, passphrase: str | None, identity: Path | None) -> None:
    """Decrypt a file into a new one. Raises `BadBackup` with the cure."""
    try:
        _decrypting(encrypted, passphrase, identity)(plain)
    except pyrage.DecryptError as error:
        raise BadBackup(
            f'the backup "{encrypted}" can\'t be decrypted ({error}): it is damaged, or encrypted for another key'
        ) from error


def _decrypting(encrypted: Path, passphrase: str | None, identity: Path | None) -> Callable[[Path], None]:
    if identity is not None:
        identities = _identities(identity)

        def by_identity(plain: Path) -> None:
            with encrypted.open("rb") as source, _new(plain) as target:
                pyrage.decrypt_io(source, target, identities)

        return by_identity
    if passphrase is None:
        raise Locked(
            f'the backup "{encrypted}" is encrypted: set HOLDFAST_BACKUP_PASSPHRASE, or name the file with the secret '
            "key of age with --identity"
        )

    def by_passphrase(plain: Path) -> None:
        with _new(plain) as target:
            target.write(pyrage.passphrase.decrypt(encrypted.read_bytes(), passphrase))

    return by_passphrase


def _identities(file: Path) -> Sequence[pyrage.x25519.Identity]:
    try:
        lines = [line.strip() for line in file.read_text().splitlines()]
        return [pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except (OSError, UnicodeDecodeError, pyrage.IdentityError) as error:
        raise BadBackup(
            f'"{file}" holds no secret key of age ({error}): give the file that `age-keygen` made'
        ) from error


def _new(path: Path) -> BufferedWriter:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
