"""What people write as a phone number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.base.errors import BadInput
from holdfast.delivery.recipient import jid, phone_number


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("962790000001", "962790000001"),
        ("+962 79 000 0001", "962790000001"),
        ("+962-(79)-000.00/01", "962790000001"),
        ("1234567", "1234567"),
        ("123456789012345", "123456789012345"),
    ],
)
def test_a_number_is_its_digits(text: str, digits: str) -> None:
    """Plus sign and separators are for people."""
    assert phone_number(text, field="to") == digits


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("12ab", 'to "12ab" is not a phone number: give 7 to 15 digits with the country code, such as 962790000001'),
        ("", 'to "" is not a phone number: give 7 to 15 digits with the country code, such as 962790000001'),
        ("123456", 'to "123456" is not a phone number'),
        ("1234567890123456", 'to "1234567890123456" is not a phone number'),
        ("++962790000001", 'to "++962790000001" is not a phone number'),
        ("٩٦٢٧٩٠٠٠٠٠٠١", "is not a phone number"),
        ("9627900000¹", "is not a phone number"),
        ("962790000001@s.whatsapp.net", "is not a phone number"),
        ("x" * 999, f'to "{"x" * 40}" is not a phone number'),
        ("0790000001", 'to "0790000001" begins with 0: give the number with its country code, without leading zeros'),
        ("+00962790000001", "begins with 0"),
    ],
)
def test_what_is_no_number_is_refused_with_the_cure(text: str, sentence: str) -> None:
    """The sentence names the field, shows the value (not all of a long one) and says what to give."""
    with pytest.raises(BadInput) as refused:
        phone_number(text, field="to")
    assert sentence in str(refused.value)
    assert refused.value.field == "to"


@given(st.text() | st.from_regex(r"\A\+?[0-9٣² ()./-]{6,18}\Z"))
def test_whatever_is_written_gives_a_plain_number_or_a_refusal(text: str) -> None:
    """Nothing else gets through: it ends up in a JID."""
    try:
        digits = phone_number(text, field="to")
    except BadInput:
        return
    assert digits.isascii()
    assert digits.isdigit()
    assert 7 <= len(digits) <= 15
    assert phone_number(digits, field="to") == digits


def test_a_person_has_a_jid() -> None:
    """The form that WhatsApp's servers take."""
    assert jid("962790000001") == "962790000001@s.whatsapp.net"
