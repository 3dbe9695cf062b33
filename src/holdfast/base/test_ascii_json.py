"""Every value arrives as it was sent."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from holdfast.base.ascii_json import ascii_json

TEXTS = st.text(st.characters(exclude_categories=[]), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)


@given(VALUES)
def test_any_value_is_encoded_in_one_line_of_ascii(value: object) -> None:
    """Texts in every script, halves of surrogate pairs and huge numbers included."""
    encoded = ascii_json(value)
    assert json.loads(encoded) == value
    assert encoded.isascii()
    assert "\n" not in encoded
