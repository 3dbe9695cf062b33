"""The log of a full disk is a few lines, not pages."""

from __future__ import annotations

import logging
import sqlite3

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from holdfast.store.database_failures import DatabaseFailures
from holdfast.terminal import LogLines

FULL = OperationalError("COMMIT", None, sqlite3.OperationalError("database or disk is full"), code="e3q8")
DEFECT = IntegrityError("INSERT", None, sqlite3.IntegrityError("UNIQUE constraint failed"))


def logged(sentence: str, *values: object, error: Exception | None = None) -> str:
    trace = None if error is None else (type(error), error, None)
    record = logging.LogRecord("holdfast", logging.ERROR, __file__, 1, sentence, values, trace)
    assert DatabaseFailures().filter(record)
    return LogLines().format(record).split(" ERROR ")[1]


def test_a_failing_database_is_one_line() -> None:
    """As the error of a background task, and as a value in a sentence."""
    assert logged("Retry in %d s", 60, error=FULL) == "Retry in 60 s: database or disk is full"
    assert logged("Database failure: %s", FULL) == "Database failure: database or disk is full"


@pytest.mark.parametrize("error", [DEFECT, LookupError("gone")])
def test_a_defect_keeps_its_trace(error: Exception) -> None:
    """Also one that the database found."""
    first, *trace = logged("Failed", error=error).splitlines()
    assert first == "Failed"
    assert str(error).splitlines()[0] in trace[0]
