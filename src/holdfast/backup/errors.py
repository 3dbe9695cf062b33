"""Errors of backups and restores; each message says what is wrong and how to mend it."""

from __future__ import annotations

from holdfast.base.errors import Fault, HoldfastError


class BadBackup(HoldfastError):
    """The file is not a backup, is damaged, or can't be decrypted with the given key."""

    code = "bad-backup"
    fault = Fault.OPERATOR

    def __init__(self, sentence: str, *, why: str | None = None) -> None:
        """`why`: the fault alone, for lists that already show the file's name."""
        super().__init__(sentence)
        self.why = why or sentence


class Locked(BadBackup):
    """The file is encrypted, and neither a passphrase nor an identity was given."""

    code = "backup-encrypted"


class BackupFailed(HoldfastError):
    """No backup was made; existing backups are unchanged."""

    code = "backup-failed"
    fault = Fault.OPERATOR


class RestoreRefused(HoldfastError):
    """Nothing was restored; the database is unchanged."""

    code = "restore-refused"
    fault = Fault.OPERATOR
