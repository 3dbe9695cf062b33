"""Ends commands: with an exit code, and on an error with one sentence that says what to do.

Exit codes: 0 good, 1 the thing asked about is not good, 2 wrong use, 3 no server.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from holdfast import terminal
from holdfast.base.errors import BadSetting, HoldfastError
from holdfast.client import NoServer

GOOD, NOT_GOOD, WRONG_USE, NO_SERVER = 0, 1, 2, 3


class UsageError(HoldfastError):
    """The command can't be used like this."""

    code = "usage-error"


@contextmanager
def sentences() -> Iterator[None]:
    """End the process with sentence and exit code on errors that a person can fix; others are bugs and show a trace."""
    try:
        yield
    except HoldfastError as error:
        _end(error)
    except BaseExceptionGroup as group:
        known = _first_known(group)
        if known is None:
            raise
        _end(known)


def _end(error: HoldfastError) -> NoReturn:
    terminal.complain(error.sentence)
    codes = {NoServer: NO_SERVER, BadSetting: WRONG_USE, UsageError: WRONG_USE}
    raise SystemExit(codes.get(type(error), NOT_GOOD))


def _first_known(group: BaseExceptionGroup[BaseException]) -> HoldfastError | None:
    """The error that a person can fix; None when the group holds any other error."""
    known, rest = group.split(HoldfastError)
    if known is None or rest is not None:
        return None
    error: BaseException = known
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, HoldfastError) else None
