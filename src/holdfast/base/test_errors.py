"""Errors say what is wrong, whose fault it is and, where there is one, which input."""

from __future__ import annotations

import pytest

from holdfast.base.errors import BadInput, Conflict, HoldfastError, Misconfigured, NotFound


@pytest.mark.parametrize(
    ("kind", "code", "fault"),
    [
        (HoldfastError, "internal", "holdfast"),
        (BadInput, "bad-input", "caller"),
        (NotFound, "not-found", "caller"),
        (Conflict, "conflict", "caller"),
        (Misconfigured, "misconfigured", "operator"),
    ],
)
def test_each_kind_has_a_code_and_a_fault(kind: type[HoldfastError], code: str, fault: str) -> None:
    """Programs use the code, people the fault; an error of no specific class is Holdfast's own fault."""
    error = kind('the port "x" is not a number', field="port")
    assert (error.code, error.fault, error.field) == (code, fault, "port")
    assert str(error) == error.sentence == 'the port "x" is not a number'


def test_an_error_need_not_have_a_field() -> None:
    """Without an input at fault there is none to name."""
    assert NotFound("no such company").field is None
