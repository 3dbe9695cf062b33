"""How commands end: exit codes, and errors as one sentence with a cure.

Exit codes: 0 good, 1 the thing asked about is not good, 2 wrong use, 3 no server.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from holdfast import terminal
from holdfast.base.errors import HoldfastError
from holdfast.client import NoServer
from holdfast.settings import BadSetting

GOOD, NOT_GOOD, WRONG_USE, NO_SERVER = 0, 1, 2, 3


class WrongUse(HoldfastError):
    """A command that makes no sense in this place."""

    code = "wrong-use"


@contextmanager
def sentences() -> Iterator[None]:
    """Errors that a person can mend end the process with their sentence and exit code; others are bugs and show all."""
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
    codes = {NoServer: NO_SERVER, BadSetting: WRONG_USE, WrongUse: WRONG_USE}
    raise SystemExit(codes.get(type(error), NOT_GOOD))


def _first_known(group: BaseExceptionGroup[BaseException]) -> HoldfastError | None:
    """The cause that a person can mend, if that is all there is."""
    known, rest = group.split(HoldfastError)
    if known is None or rest is not None:
        return None
    error: BaseException = known
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, HoldfastError) else None
