"""What people write as a phone number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.base.errors import BadInput
from holdfast.delivery.recipient import jid, parse_recipient, phone_number


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


@pytest.mark.parametrize(
    ("text", "recipient", "chat"),
    [
        ("+962 79 000 0001", "962790000001", "962790000001@s.whatsapp.net"),
        ("962790000001@s.whatsapp.net", "962790000001", "962790000001@s.whatsapp.net"),
        ("120363012345678901@g.us", "120363012345678901@g.us", "120363012345678901@g.us"),
        ("962790000001-1446600000@g.us", "962790000001-1446600000@g.us", "962790000001-1446600000@g.us"),
        (" 123456789012345@lid ", "123456789012345@lid", "123456789012345@lid"),
    ],
)
def test_a_recipient_is_a_number_a_group_or_a_hidden_id(text: str, recipient: str, chat: str) -> None:
    """As it is shown, and as WhatsApp wants it."""
    assert parse_recipient(text, field="to") == (recipient, chat)


@pytest.mark.parametrize(
    "text",
    [
        "status@broadcast",
        "1@newsletter",
        "a@g.us",
        "@g.us",
        "962790000001:3@s.whatsapp.net",
        "1-2@lid",
        "1@G.US",
        "12@",
    ],
)
def test_a_chat_that_nobody_writes_to_is_refused(text: str) -> None:
    """With the three forms that there are."""
    with pytest.raises(BadInput) as refused:
        parse_recipient(text, field="to")
    assert str(refused.value).startswith(f'to "{text}" is no chat that can be written to: give a phone number, a group')


def test_a_number_in_a_jid_is_checked_too() -> None:
    """It is a phone number all the same."""
    with pytest.raises(BadInput, match=r'^to "12" is not a phone number'):
        parse_recipient("12@s.whatsapp.net", field="to")
