"""Parses a phone number in the forms in which people copy it, and returns its digits with the country code.

It accepts a text only when the number in it is unambiguous and never guesses: an ambiguous number is rejected with an
error that also shows invisible characters.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import parse_qs, unquote, urlsplit

from holdfast.base.errors import BadInput

SHORTEST, LONGEST = 7, 15
"""Digits of an international phone number (ITU-T E.164 sets the upper bound)."""

_HYPHENS = "-‐‑‒–—―−﹘﹣－⁃ー"
_DOTS = ".·•․‧∙⋅・．"
_SLASHES = "/⁄∕／"
_SIGNS = {
    **dict.fromkeys(map(ord, _HYPHENS), "-"),
    **dict.fromkeys(map(ord, _DOTS), "-"),
    **dict.fromkeys(map(ord, _SLASHES), "-"),
    **{ord(sign): "+" for sign in "＋﹢"},
    **{ord(sign): "(" for sign in "（﹙"},
    **{ord(sign): ")" for sign in "）﹚"},
    ord("\t"): " ",
}
_PLAIN = re.compile(rf"\+?[1-9][0-9]{{{SHORTEST - 1},{LONGEST - 1}}}")
"""Digits alone, as most programs send them: nothing in them has to be interpreted."""
_REVERSES = "\u202e"
"""Right-to-left override: it displays the digits in the opposite order, so either order may be the wrong one."""
_IGNORED = frozenset({"\u034f", "\u115f", "\u1160", "\u17b4", "\u17b5", "\u3164", "\uffa0"}) | {
    chr(code)
    for first, last in ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
    for code in range(first, last + 1)
}
"""Invisible besides the formatting characters (Unicode's Default_Ignorable_Code_Point), such as the variation selectors
that keyboards with emoji insert."""
_BLANK = "\u2800"
"""The Braille pattern without dots: a symbol that looks like a space."""
_SCHEMES = ("tel:", "callto:")
_WHATSAPP = "whatsapp:"
_LINK_HOSTS = frozenset({"wa.me", "www.wa.me", "api.whatsapp.com", "web.whatsapp.com", "wa.link", "chat.whatsapp.com"})
_SEND_HOSTS = frozenset({"api.whatsapp.com", "web.whatsapp.com"})
_JID_OF_A_PERSON = re.compile(r"(?P<number>[^@]+?)([._]\d{1,3})?(:\d{1,3})?@(s\.whatsapp\.net|c\.us)", re.IGNORECASE)
_TRUNK_ZERO = re.compile(r"(?P<code>[\d -]+)\([ -]*0[ -]*\)(?P<rest>[\d ()-]+)")
_DECIMAL = re.compile(r"[+\d ]*\d{7}[.]\d{1,2}")
"""A number that a spreadsheet turned into a decimal: `962790000001.0`."""
_SECOND_ENDING = re.compile(rf"(?P<number>.+)(?:[{_SLASHES}](?P<ending>[\s\d-]+)|\(\s*\d{{1,3}}\s*\))")
"""A number with another last part (`… 78/79`) or with a note (`… 78 (2)`)."""
_CODE_IN_PARENTHESES = re.compile(r"^\( *(\+|00)")
"""As in `(+962) 79 …`."""
_SEPARATORS = str.maketrans("", "", " ()-")
_TRUNK_PREFIX = re.compile(r"\([ -]*([08])[ -]*\)")
"""A trunk prefix in parentheses. Russia and its neighbours dial 8: `+7 (8) 495 …`."""
_SHORT_CODES = frozenset(
    {"1", "7", "20", "27", "30", "31", "32", "33", "34", "36", "39", "40", "41", "43", "44", "45", "46", "47", "48"}
    | {"49", "51", "52", "53", "54", "55", "56", "57", "58", "60", "61", "62", "63", "64", "65", "66", "81", "82"}
    | {"84", "86", "90", "91", "92", "93", "94", "95", "98"}
)
"""Country codes of one and two digits; all others have three (ITU-T E.164, list of assigned codes)."""
_ZERO_BELONGS = frozenset({"39", "225", "229", "241", "242", "378", "379"})
"""Country codes after which numbers also begin with 0: Italy, Côte d'Ivoire, Benin, Gabon, Congo, San Marino and the
Vatican."""


def phone_number(text: str, *, field: str) -> str:
    """The digits of an international phone number: `+962 (0)79 000 0001` → `962790000001`.

    It also accepts `tel:` and `whatsapp:` URIs, links to wa.me and api.whatsapp.com, and the JID of a person. Raises
    `BadInput`, naming `field`.
    """
    if _PLAIN.fullmatch(text) is not None:
        return _without_trunk_zero(text.removeprefix("+"), text, field=field)
    if _REVERSES in text:
        raise BadInput(
            f'{field} "{shown(text)}" contains U+202E, which shows digits in reverse order: type the number again',
            field=field,
        )
    given = visible(text)
    if "@" in given and (jid := _JID_OF_A_PERSON.fullmatch(given)) is not None:
        # WhatsApp itself wrote this number, so the rules for numbers that people write do not apply.
        return _checked(_plain(jid["number"]).removeprefix("+"), text, field=field)
    written = _without_address(given, text, field=field)
    _check_one_number(written, text, field=field)
    plain = _plain(written)
    plain = _CODE_IN_PARENTHESES.sub(r"\1(", plain)
    plain = plain.removeprefix("+" if plain.startswith("+") else "00")
    if plain.lstrip("( -").startswith("0"):
        raise BadInput(
            f'{field} "{shown(text)}" begins with 0: give the number with its country code, without leading zeros',
            field=field,
        )
    return _without_trunk_zero(_checked(_digits(plain, text, field=field), text, field=field), text, field=field)


def _check_one_number(written: str, text: str, *, field: str) -> None:
    """Refuse a text with digits that are not part of the number but would be read as such."""
    if _DECIMAL.fullmatch(written):
        raise BadInput(
            f'{field} "{shown(text)}" is a decimal number, as spreadsheets make it: give the phone number as text',
            field=field,
        )
    found = _SECOND_ENDING.fullmatch(written)
    if found is not None and _count_digits(found["number"]) > SHORTEST and _count_digits(found["ending"] or "") <= 3:
        raise BadInput(
            f'{field} "{shown(text)}" is more than one number, or a number with a note: give one number alone',
            field=field,
        )


def _count_digits(text: str) -> int:
    return sum(char.isdecimal() for char in text)


def visible(text: str) -> str:
    """The text without invisible characters (such as direction marks) and without surrounding spaces."""
    if text.isascii():
        return text.strip()
    return "".join(char for char in text if unicodedata.category(char) != "Cf" and char not in _IGNORED).strip()


def shown(text: str, *, limit: int = 40) -> str:
    """The text with names for its invisible characters: `<U+200E>+962…`."""
    return "".join(char if _is_seen(char) else f"<U+{ord(char):04X}>" for char in text[:limit])


def _is_seen(char: str) -> bool:
    if char in _IGNORED or char == _BLANK:
        return False
    return char == " " or unicodedata.category(char) not in {"Cf", "Cc", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"}


def _plain(text: str) -> str:
    """Normalise: digits of every script to ASCII; hyphens, dots and slashes to one hyphen; spaces to one space."""
    if text.isascii():
        return text.translate(_SIGNS).strip()
    return "".join(_plain_char(char) for char in text).strip()


def _plain_char(char: str) -> str:
    digit = unicodedata.decimal(char, None)
    if digit is not None:
        return str(digit)
    return " " if unicodedata.category(char) == "Zs" else _SIGNS.get(ord(char), char)


def _digits(plain: str, text: str, *, field: str) -> str:
    """Remove separators, and a `(0)` that directly follows the country code."""
    if (trunk := _TRUNK_ZERO.fullmatch(plain)) is not None:
        code = re.sub(r"\D", "", trunk["code"])
        if code == _country_code(code) and code not in _ZERO_BELONGS:
            plain = trunk["code"] + trunk["rest"]
    if (prefix := _TRUNK_PREFIX.search(plain)) is not None:
        digit = "an 8" if prefix[1] == "8" else "a 0"
        raise BadInput(
            f'{field} "{shown(text)}" has {digit} in parentheses, which some countries dial and others do not: give '
            "the digits that are dialled from abroad, such as 962790000001",
            field=field,
        )
    return plain.translate(_SEPARATORS)


def _checked(digits: str, text: str, *, field: str) -> str:
    if not digits.isascii() or not digits.isdigit() or not SHORTEST <= len(digits) <= LONGEST:
        raise BadInput(
            f'{field} "{shown(text)}" is not a phone number: give {SHORTEST} to {LONGEST} digits '
            "with the country code, such as 962790000001",
            field=field,
        )
    if digits.startswith("0"):
        raise BadInput(f'{field} "{shown(text)}" begins with 0, but no international number does', field=field)
    return digits


def _without_trunk_zero(number: str, text: str, *, field: str) -> str:
    code = _country_code(number)
    if code not in _ZERO_BELONGS and number[len(code)] == "0":
        raise BadInput(
            f'{field} "{shown(text)}" has a 0 after the country code {code}, which is dialled only within the '
            "country: leave it out",
            field=field,
        )
    return number


def _country_code(digits: str) -> str:
    return next((digits[:size] for size in (1, 2) if digits[:size] in _SHORT_CODES), digits[:3])


def _without_address(text: str, raw: str, *, field: str) -> str:
    """The number in a `tel:` URI or a WhatsApp link; any other text unchanged."""
    lower = text.lower()
    for scheme in _SCHEMES:
        if lower.startswith(scheme):
            return _without_extension(unquote(text[len(scheme) :]).removeprefix("//"), raw, field=field)
    if lower.startswith((f"{_WHATSAPP}/", "http://", "https://")) or lower.partition("/")[0] in _LINK_HOSTS:
        return _of_link(text, raw, field=field)
    return text[len(_WHATSAPP) :] if lower.startswith(_WHATSAPP) else text


def _without_extension(number: str, raw: str, *, field: str) -> str:
    if ";" in number:
        raise BadInput(
            f'{field} "{shown(raw, limit=80)}" has an extension or a parameter after ";": WhatsApp numbers have '
            "none, give the number without it",
            field=field,
        )
    return number


def _of_link(text: str, raw: str, *, field: str) -> str:
    try:
        link = urlsplit(text if "://" in text else f"https://{text.removeprefix(_WHATSAPP)}")
        host = (link.hostname or "").removeprefix("www.")
        phones = parse_qs(link.query, max_num_fields=50).get("phone", [])
    except ValueError:
        host, phones = "", []
    else:
        path = unquote(link.path).strip("/")
        if link.scheme.lower() == "whatsapp" and (host, path) in {("send", ""), ("", "send")}:
            return _the_one(phones, raw, field=field)
        if host in _SEND_HOSTS and path == "send":
            return _the_one(phones, raw, field=field)
        if host == "wa.me" and path and not any(char.isalpha() or char == "/" for char in path):
            return path
    raise _no_number(raw, field=field)


def _the_one(phones: list[str], raw: str, *, field: str) -> str:
    """The single number of a query. A `+` that was not percent-encoded has been decoded as a space."""
    if len(phones) != 1:
        raise _no_number(raw, field=field)
    return visible(phones[0])


def _no_number(raw: str, *, field: str) -> BadInput:
    return BadInput(
        f'{field} "{shown(raw, limit=80)}" is a link without a phone number: give the number itself, '
        "or a link such as https://wa.me/962790000001",
        field=field,
    )
