"""Failures of the database, such as a full disk or a lost connection, in one line: they are no defects of Holdfast."""

from __future__ import annotations

import logging

from sqlalchemy.exc import OperationalError


def cause_of(error: BaseException) -> str:
    """The database's own sentence, without the statement and the library's additions."""
    return str(getattr(error, "orig", None) or error).splitlines()[0]


class DatabaseFailures(logging.Filter):
    """Takes the traces of failures of the database from log records; all other errors keep theirs."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(cause_of(arg) if isinstance(arg, OperationalError) else arg for arg in record.args)
        failed = record.exc_info[1] if record.exc_info else None
        if isinstance(failed, OperationalError):
            record.msg, record.args = "%s: %s", (record.getMessage(), cause_of(failed))
            record.exc_info = None
        return True
