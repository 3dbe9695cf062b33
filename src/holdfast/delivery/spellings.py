"""Second spellings of phone numbers: some countries changed their mobile numbers, and WhatsApp keeps either form.

Which of the two an account has depends on when it was registered, so only WhatsApp knows. These rules only say which
numbers reach the same phone.
"""

from __future__ import annotations

import re

_RULES = (
    # Brazil added a 9 before mobile numbers, which had eight digits and began with 6 to 9.
    (re.compile(r"(55\d\d)9([6-9]\d{7})"), r"\1\2"),
    (re.compile(r"(55\d\d)([6-9]\d{7})"), r"\g<1>9\2"),
    # Mexico removed the 1 that was dialled before mobile numbers.
    (re.compile(r"521(\d{10})"), r"52\1"),
    (re.compile(r"52(\d{10})"), r"521\1"),
    # Argentina: the 9 before mobile numbers is dialled from abroad only.
    (re.compile(r"549(\d{10})"), r"54\1"),
    (re.compile(r"54(\d{10})"), r"549\1"),
)


def second_spelling(number: str) -> str | None:
    """The other spelling of a number (digits) that reaches the same phone; None for most numbers."""
    for pattern, other in _RULES:
        if (found := pattern.fullmatch(number)) is not None:
            return found.expand(other)
    return None
