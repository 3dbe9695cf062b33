"""The ways in which people write phone numbers."""

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
        ("+962-(79)/000.00-01", "962790000001"),
        ("+49 34298/12345", "493429812345"),
        ("(+962 79 0000 001)", "962790000001"),
        ("+962.79.0000001", "962790000001"),
        ("1234567", "1234567"),
        ("123456789012345", "123456789012345"),
        ("00962790000001", "962790000001"),
        ("00 962 79 000 0001", "962790000001"),
        (" 962790000001\n", "962790000001"),
        ("+962\t790000001", "962790000001"),
        ("\u202a+962\u00a079\u00a0000\u00a00001\u202c", "962790000001"),
        ("\u2066+962 79 000 0001\u2069", "962790000001"),
        ("\u200e+962\u202f79\u200b0000001\u200f\ufeff", "962790000001"),
        ("\u061c+962\u2060790000001", "962790000001"),
        ("+962\u00ad79\u00ad0000001", "962790000001"),
        ("+962790000001\ufe0f", "962790000001"),
        ("\u3164+962\u034f790000001\U000e0100", "962790000001"),
        ("962\u201179\u2010000\u22120001", "962790000001"),
        ("962\u201379\u2014000\u2015\uff0d0001", "962790000001"),
        ("+962\u00b779\u2022000\u2024\uff0e0001", "962790000001"),
        ("+962\u204479\uff0f000\u22150001", "962790000001"),
        ("\uff0b962\uff0879\uff090000001", "962790000001"),
        ("٩٦٢٧٩٠٠٠٠٠٠١", "962790000001"),
        ("+۹۶۲ ۷۹ ۰۰۰ ۰۰۰۱", "962790000001"),
        ("९६२७९०००००٠१", "962790000001"),
        ("９６２７９０００００01", "962790000001"),
        ("+962 (0)79 000 0001", "962790000001"),
        ("+962(0)790000001", "962790000001"),
        ("(+962) 79 0000001", "962790000001"),
        ("(00962) 790000001", "962790000001"),
        ("00962 (0) 79 000 0001", "962790000001"),
        ("962 ( 0 ) 79 000 0001", "962790000001"),
        ("+962-(0)-79-0000001", "962790000001"),
        ("\u200e+٩٦٢ (٠)٧٩٠٠٠٠٠٠١", "962790000001"),
        ("+44 (0)20 7946 0958", "442079460958"),
        ("+1 (202) 555-0123", "12025550123"),
        ("+39 06 1234 5678", "390612345678"),
        ("+225 07 12 34 56 78", "2250712345678"),
        ("tel:+962-79-000-0001", "962790000001"),
        ("TEL:+962790000001", "962790000001"),
        ("tel:%2B962790000001", "962790000001"),
        ("callto:+962790000001", "962790000001"),
        ("whatsapp:+962790000001", "962790000001"),
        ("whatsapp://send?phone=962790000001&text=hello", "962790000001"),
        ("whatsapp://send/?phone=%2B962790000001", "962790000001"),
        ("https://wa.me/962790000001", "962790000001"),
        ("http://wa.me/+962790000001?text=I%20am%201234567", "962790000001"),
        ("wa.me/962790000001/", "962790000001"),
        ("https://api.whatsapp.com/send?phone=962790000001", "962790000001"),
        ("https://api.whatsapp.com/send/?phone=+962%2079-000-0001&type=phone_number&app_absent=0", "962790000001"),
        ("https://web.whatsapp.com/send?phone=962790000001", "962790000001"),
        ("api.whatsapp.com/send?text=x&phone=962790000001", "962790000001"),
        ("962790000001@c.us", "962790000001"),
        ("962790000001@s.whatsapp.net", "962790000001"),
        ("+962790000001@s.whatsapp.net", "962790000001"),
        ("962790000001:12@s.whatsapp.net", "962790000001"),
        ("962790000001.0:12@s.whatsapp.net", "962790000001"),
        ("962790000001_1:12@s.whatsapp.net", "962790000001"),
        ("\u200e962790000001@C.US\u202c", "962790000001"),
        ("2250712345678@c.us", "2250712345678"),
    ],
)
def test_a_number_is_its_digits(text: str, digits: str) -> None:
    """Signs, separators, scripts and surrounding addresses are removed, and invisible characters ignored."""
    assert phone_number(text, field="to") == digits


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("12ab", 'to "12ab" is not a phone number: give 7 to 15 digits with the country code, such as 962790000001'),
        ("", 'to "" is not a phone number: give 7 to 15 digits with the country code, such as 962790000001'),
        ("123456", 'to "123456" is not a phone number'),
        ("1234567890123456", 'to "1234567890123456" is not a phone number'),
        ("++962790000001", 'to "++962790000001" is not a phone number'),
        ("962790000001\n962790000002", 'to "962790000001<U+000A>962790000002" is not a phone number'),
        ("1234567\n1234567", 'to "1234567<U+000A>1234567" is not a phone number'),
        ("962790000001;962790000002", "is not a phone number"),
        ("962,790000001", "is not a phone number"),
        ("962790000001 x12", "is not a phone number"),
        ("\u200e9627", 'to "<U+200E>9627" is not a phone number'),
        ("962790000001\u2800", 'to "962790000001<U+2800>" is not a phone number'),
        ("\u260e\ufe0f 962790000001", 'to "\u260e<U+FE0F> 962790000001" is not a phone number'),
        ("\u202a079\u00a0000\u00a00001\u202c", 'to "<U+202A>079<U+00A0>000<U+00A0>0001<U+202C>" begins with 0'),
        ("\u202e1000000972690\u202c", "contains U+202E, which shows digits in reverse order: type the number again"),
        ("(0)79 000 0001", "begins with 0"),
        ("٠٧٩٠٠٠٠٠٠١", "begins with 0"),
        ("000962790000001", "begins with 0"),
        ("962790000001+", "is not a phone number"),
        ("+962 79 (0)000 0001", "has a 0 in parentheses"),
        ("+39 (0)6 1234 5678", "has a 0 in parentheses"),
        ("+962 (0)(0)79 000 0001", "has a 0 in parentheses"),
        ("+7 (8) 495 123 45 67", "has an 8 in parentheses, which some countries dial and others do not"),
        (
            "962790000001.0",
            'to "962790000001.0" is a decimal number, as spreadsheets make it: give the phone number as',
        ),
        ("\u200e+962790000001.00", "is a decimal number"),
        ("٩٦٢٧٩٠٠٠٠٠٠١.٠", "is a decimal number"),
        ("9.62790000001E+11", "is not a phone number"),
        ("+45 12 34 56 78/79", "is more than one number, or a number with a note: give one number alone"),
        ("+44 20 7946 0958 / 9", "is more than one number"),
        ("+962 79 000 0001 (2)", "is more than one number"),
        ("tel:+962-79-000-0001(2)", "is more than one number"),
        ("+962 079 000 0001", "has a 0 after the country code 962, which is dialled only within the country: leave"),
        ("+44 (020) 7946 0958", "has a 0 after the country code 44"),
        ("tel:+962790000001;ext=12", 'has an extension or a parameter after ";"'),
        ("tel:790000001;phone-context=+962", 'has an extension or a parameter after ";"'),
        ("tel:0790000001", "begins with 0"),
        ("https://wa.me/0790000001", "begins with 0"),
        ("https://wa.me/message/ABCDEF1234567", "is a link without a phone number"),
        ("https://wa.me/qr/1234567", "is a link without a phone number"),
        ("https://wa.me/", "is a link without a phone number"),
        ("https://wa.me.example.com/962790000001", "is a link without a phone number"),
        ("https://example.com/962790000001", "is a link without a phone number"),
        ("https://api.whatsapp.com/send?text=962790000001", "is a link without a phone number"),
        ("https://api.whatsapp.com/send?phone=962790000001&phone=962790000002", "is a link without a phone number"),
        ("https://chat.whatsapp.com/ABCDEF1234567", "is a link without a phone number"),
        ("https://[::1/962790000001", "is a link without a phone number"),
        ("0790000001@c.us", "begins with 0"),
        ("120363012345678901@g.us", "is not a phone number"),
        ("9627900000¹", "is not a phone number"),
        ("x" * 999, f'to "{"x" * 40}" is not a phone number'),
        ("0790000001", 'to "0790000001" begins with 0: give the number with its country code, without leading zeros'),
        ("+00962790000001", "begins with 0"),
    ],
)
def test_an_invalid_number_is_refused_with_the_valid_format(text: str, sentence: str) -> None:
    """The sentence names the field, shows the value (not all of a long one) and says what to give."""
    with pytest.raises(BadInput) as refused:
        phone_number(text, field="to")
    assert sentence in str(refused.value)
    assert refused.value.field == "to"


@given(st.text() | st.from_regex(r"\A(tel:|\+|00|wa\.me/)?[0-9٣²\u200e ()./-]{6,18}(@c\.us|:1@lid)?\Z"))
def test_any_input_gives_a_plain_number_or_a_refusal(text: str) -> None:
    """Nothing else is accepted, because the result becomes part of a JID."""
    try:
        digits = phone_number(text, field="to")
    except BadInput:
        return
    assert digits.isascii()
    assert digits.isdigit()
    assert 7 <= len(digits) <= 15
    assert phone_number(digits, field="to") == digits


@given(st.from_regex(r"\A\+?[0-9]{5,17}\Z"))
def test_digits_alone_are_read_as_digits_with_spaces(text: str) -> None:
    """The same number, or a refusal for the same reason."""

    def read(written: str) -> str:
        try:
            return phone_number(written, field="to")
        except BadInput as error:
            return error.sentence.partition('" ')[2]

    assert read(text) == read(f"{text[:-2]} {text[-2:]}")


def test_a_person_has_a_jid() -> None:
    """The form that WhatsApp's servers expect."""
    assert jid("962790000001") == "962790000001@s.whatsapp.net"


@pytest.mark.parametrize(
    ("text", "recipient", "chat"),
    [
        ("+962 79 000 0001", "962790000001", "962790000001@s.whatsapp.net"),
        ("962790000001@s.whatsapp.net", "962790000001", "962790000001@s.whatsapp.net"),
        ("120363012345678901@g.us", "120363012345678901@g.us", "120363012345678901@g.us"),
        ("962790000001-1446600000@g.us", "962790000001-1446600000@g.us", "962790000001-1446600000@g.us"),
        (" 123456789012345@lid ", "123456789012345@lid", "123456789012345@lid"),
        ("123456789012345:12@lid", "123456789012345@lid", "123456789012345@lid"),
        ("123456789012345@LID", "123456789012345@lid", "123456789012345@lid"),
        ("\u200e120363012345678901@g.us\u200e", "120363012345678901@g.us", "120363012345678901@g.us"),
        ("962790000001:3@s.whatsapp.net", "962790000001", "962790000001@s.whatsapp.net"),
        ("962790000001@c.us", "962790000001", "962790000001@s.whatsapp.net"),
        ("https://wa.me/962790000001", "962790000001", "962790000001@s.whatsapp.net"),
    ],
)
def test_a_recipient_is_a_number_a_group_or_a_hidden_id(text: str, recipient: str, chat: str) -> None:
    """The result has the form for display and WhatsApp's form."""
    assert parse_recipient(text, field="to") == (recipient, chat)


@pytest.mark.parametrize(
    "text",
    [
        "status@broadcast",
        "1@newsletter",
        "a@g.us",
        "@g.us",
        "1-2@lid",
        "1:2@g.us",
        "962790000001@hosted",
        "0@broadcast",
        "12@",
    ],
)
def test_an_invalid_chat_is_refused(text: str) -> None:
    """The error lists the three valid forms."""
    with pytest.raises(BadInput) as refused:
        parse_recipient(text, field="to")
    assert str(refused.value).startswith(f'to "{text}" is not a valid recipient: give a phone number, a group')


def test_a_number_in_a_jid_is_checked_too() -> None:
    """The number in a JID follows the same rules."""
    with pytest.raises(BadInput, match=r'^to "12@s.whatsapp.net" is not a phone number'):
        parse_recipient("12@s.whatsapp.net", field="to")
