"""What can be wrong with a backup or with a folder of another program; each error is a sentence with its cure."""

from __future__ import annotations

from holdfast.base.errors import Fault, HoldfastError


class BadBackup(HoldfastError):
    """A file that is no backup, is damaged, or can't be opened with the key at hand."""

    code = "bad-backup"
    fault = Fault.OPERATOR

    def __init__(self, sentence: str, *, why: str | None = None) -> None:
        """`why`: the same without the file's name and the cure, where a list has those already."""
        super().__init__(sentence)
        self.why = why or sentence


class Locked(BadBackup):
    """An encrypted file, and nothing at hand to open it with."""

    code = "backup-encrypted"


class CantBackUp(HoldfastError):
    """No backup was made; what was there before is untouched."""

    code = "backup-failed"
    fault = Fault.OPERATOR


class CantRestore(HoldfastError):
    """Nothing was restored; what was there before is untouched."""

    code = "restore-refused"
    fault = Fault.OPERATOR
