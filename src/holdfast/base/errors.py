"""The root of Holdfast's errors. Each says whose fault it is, what is wrong and what to do about it."""

from __future__ import annotations

from enum import StrEnum


class Fault(StrEnum):
    """Whose fault an error is: who can mend it."""

    CALLER = "caller"
    OPERATOR = "operator"
    HOLDFAST = "holdfast"
    ENGINE = "engine"
    WHATSAPP = "whatsapp"


class HoldfastError(Exception):
    """An error for people: `str()` is a whole sentence with the value, the state and the cure.

    `code` is a short stable word for programs; `field` names the input at fault, where there is one.
    """

    code = "internal"
    fault = Fault.HOLDFAST

    def __init__(self, sentence: str, *, field: str | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.field = field


class BadInput(HoldfastError):
    """A value that the caller gave can't be used."""

    code = "bad-input"
    fault = Fault.CALLER


class NotFound(HoldfastError):
    """The thing asked about does not exist."""

    code = "not-found"
    fault = Fault.CALLER


class Conflict(HoldfastError):
    """The request is well-formed, but the state of things forbids it."""

    code = "conflict"
    fault = Fault.CALLER


class Misconfigured(HoldfastError):
    """Something of this installation keeps Holdfast from starting: a setting, a folder, a port, a missing program."""

    code = "misconfigured"
    fault = Fault.OPERATOR


class BadSetting(Misconfigured):
    """A setting that does not exist, or an invalid value."""

    code = "bad-setting"
