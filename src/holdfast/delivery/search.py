"""What the full-text index holds of a message, and how a search is parsed: both use the same normal form.

A message is found by the beginning of any of its words, by the beginning of its ids, and by any digits of the phone
numbers in it. The index holds tokens: a kind and a value. Letters are compared without case, accents and vowel marks;
Arabic words also without their article; each emoji and each ideograph counts as a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_LONGEST_TOKEN = 32
_MAX_WORDS = 1000
"""Distinct words of one message that are indexed. A very long text is found only by its beginning."""
_MAX_WORDS = 12
_LONGEST_SEARCH = 400
"""Characters of a search that are used; the rest is ignored."""
_LONGEST_TEXT = 20_000
_SHORTEST_DIGITS = 3
_LONGEST_NUMBER = 16
"""Digits of a phone number, or of the id that hides one. Longer ids, those of groups, are found by their beginning."""

_IDEOGRAPHS = "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(f"[{_IDEOGRAPHS}]|[^\\W_{_IDEOGRAPHS}]+|[\u2190-\u2bff\U0001f000-\U0001faff]")
_ARABIC_ARTICLE = re.compile("[وفبك]?ال(?=..)|و?لل(?=..)")
_TATWEEL = "\u0640"
"""A character that stretches an Arabic word; Unicode classifies it as a letter."""
_NO_LETTERS = re.compile(r"[^0-9a-z]+")
_NO_DIGITS = re.compile(r"\D+")
_BETWEEN_DIGITS = re.compile(r"[\s()+./-]+")

_SEARCHED = frozenset({"text", "caption", "filename", "name", "address", "title", "question", "options"})
_REFERENCES = frozenset({"replyTo", "mentions", "raw"})
"""Parts of a stored content that have no text of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Tokens, each of which matches indexed tokens that begin with it. All of `words` must match, or one of `names`."""

    words: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether no message can match this search."""
        return not self.words and not self.names


def parse_search(query: str) -> Search:
    """Parse what somebody typed. Accepts any text, hostile ones included."""
    query = query[:_LONGEST_SEARCH]
    words = dict.fromkeys(f"w{_without_article(word)}" for word in _words(query))
    return Search(words=tuple(words)[:_MAX_WORDS], names=tuple(_searched_names(query)))


def _searched_names(query: str) -> Iterator[str]:
    id_ = _id(query)
    if id_ and not any(each.isspace() for each in query.strip()):
        yield f"i{id_}"
    number = _BETWEEN_DIGITS.sub("", _plain(query))
    if number.isdecimal():
        yield f"n{number[:_LONGEST_TOKEN]}"


def tokens(*, texts: Iterable[str | None], ids: Iterable[str], numbers: Iterable[str]) -> list[str]:
    """The tokens that the index holds of a message.

    numbers: phone numbers or JIDs of sender and recipients.
    """
    found: dict[str, None] = {}
    for text in texts:
        for word in _words((text or "")[:_LONGEST_TEXT]):
            if len(found) >= _MAX_WORDS:
                break
            found[f"w{word}"] = None
            found[f"w{_without_article(word)}"] = None
    found.update((f"i{_id(each)}", None) for each in ids)
    for number in numbers:
        found.update((f"n{part}", None) for part in _parts(number))
    return list(found)


def texts_of(content: Any) -> Iterator[str]:
    """The texts, captions and names in a stored content."""
    if isinstance(content, Mapping):
        for name, part in content.items():
            if isinstance(part, str):
                if name in _SEARCHED:
                    yield part
            elif name not in _REFERENCES:
                yield from texts_of(part)
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, str):
                yield part
            else:
                yield from texts_of(part)


def _words(text: str) -> Iterator[str]:
    return (word[:_LONGEST_TOKEN] for word in _WORD.findall(_plain(text)))


def _plain(text: str) -> str:
    """The text without case, accents, vowel marks and joiners, with digits of every script as 0 to 9."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text).casefold()
    return "".join(_digit(each) for each in decomposed if not _is_mark(each))


def _is_mark(character: str) -> bool:
    return unicodedata.category(character) in {"Mn", "Me", "Cf"} or character == _TATWEEL


def _digit(character: str) -> str:
    return str(unicodedata.decimal(character)) if character.isdecimal() else character


def _without_article(word: str) -> str:
    if word.isascii():
        return word
    article = _ARABIC_ARTICLE.match(word)
    return word if article is None else word[article.end() :]


def _id(text: str) -> str:
    return _NO_LETTERS.sub("", text[:_LONGEST_SEARCH].lower())[:_LONGEST_TOKEN]


def _parts(number: str) -> Iterator[str]:
    """The number and all of its suffixes, so that a prefix search finds any part of the number."""
    digits = _NO_DIGITS.sub("", number.partition("@")[0].partition(":")[0])[:_LONGEST_TOKEN]
    if not digits:
        return
    yield digits
    if len(digits) <= _LONGEST_NUMBER:
        yield from (digits[start:] for start in range(1, len(digits) - _SHORTEST_DIGITS + 1))
