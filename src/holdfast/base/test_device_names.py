"""What may be the name of a linked device."""

from __future__ import annotations

import pytest

from holdfast.base.device_names import BadDeviceName, device_name


@pytest.mark.parametrize(
    ("given", "used"), [("Ubuntu", "Ubuntu"), (" Büro 2 ", "Büro 2"), ("متجر", "متجر"), ("x" * 50, "x" * 50)]
)
def test_a_name_that_people_can_read_is_used(given: str, used: str) -> None:
    """In any script, without the spaces around it."""
    assert device_name(given) == used


@pytest.mark.parametrize(
    "given", ["", "  ", "x" * 51, "a\nb", "a\x00b", "a\u202eb", "a\u200bb", "\ud800", "a\u2028b", "\x7f"]
)
def test_a_name_that_would_mislead_is_refused(given: str) -> None:
    """Empty, too long, with line ends, or with characters that are invisible or reverse the text."""
    with pytest.raises(BadDeviceName, match="give a name of 1 to 50 visible characters"):
        device_name(given)
