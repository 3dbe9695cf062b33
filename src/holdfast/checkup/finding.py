"""What was found out about one part of an installation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """It works, and somebody should look at it."""
    PROBLEM = "problem"
    """It does not work, or will not at the next start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    what: str
    """The part, in a word or two."""
    state: State
    sentence: str
    cure: str = ""
    """What to do; empty where nothing needs doing."""


def ok(what: str, sentence: str) -> Finding:
    return Finding(what=what, state=State.OK, sentence=sentence)


def warning(what: str, sentence: str, cure: str) -> Finding:
    return Finding(what=what, state=State.WARNING, sentence=sentence, cure=cure)


def problem(what: str, sentence: str, cure: str) -> Finding:
    return Finding(what=what, state=State.PROBLEM, sentence=sentence, cure=cure)
