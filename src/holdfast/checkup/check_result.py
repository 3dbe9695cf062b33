"""The result of checking one part of an installation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CheckState(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """It works, but somebody should look at it."""
    PROBLEM = "problem"
    """It does not work, or will not work after the next start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    what: str
    """The part, in a word or two."""
    state: CheckState
    sentence: str
    cure: str = ""
    """What to do; empty when nothing needs doing."""


def ok(what: str, sentence: str) -> CheckResult:
    return CheckResult(what=what, state=CheckState.OK, sentence=sentence)


def warning(what: str, sentence: str, cure: str) -> CheckResult:
    return CheckResult(what=what, state=CheckState.WARNING, sentence=sentence, cure=cure)


def problem(what: str, sentence: str, cure: str) -> CheckResult:
    return CheckResult(what=what, state=CheckState.PROBLEM, sentence=sentence, cure=cure)
