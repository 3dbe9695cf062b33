"""Which tokens a message has, and which searches find it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.delivery.search import Search, parse_search, texts_of, tokens


def finds(asked: str, text: str) -> bool:
    """Does the search find a message with this text? Compares prefixes of tokens, as the databases' indexes do."""
    search = parse_search(asked)
    indexed = tokens(texts=[text], ids=["msg_01HZ"], numbers=["962790000001"])

    def is_there(asked: str) -> bool:
        return any(token.startswith(asked) for token in indexed)

    return any(map(is_there, search.names)) or (bool(search.words) and all(map(is_there, search.words)))


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ("order", "Your ORDER is ready"),
        ("ready ord", "Your order is ready"),
        ("café", "the CAFE opens"),
        ("cafe", "le café"),
        ("straße", "STRASSE 5"),
        ("فاتورة", "الفاتورة جاهزة"),
        ("والفاتورة", "فاتورة رقم ٥"),
        ("رقم 5", "فاتورة رقم ٥"),
        ("محمد", "مُحَمَّد"),
        ("احمد", "أحمد"),
        ("محمد", "محـــمد"),
        ("horse", "ℌorse"),
        ("👍", "well done 👍🏽"),
        ("订单", "您的订单已发货"),
        ("e-mail", "by e mail"),
        ("snake", "in snake_case"),
        ("%order%", "Your order"),
        ("msg_01", ""),
        ("+962 79 000", ""),
        ("0000", ""),
        ("0001", ""),
    ],
)
def test_a_message_is_found_by_beginnings_of_words_and_by_its_number(asked: str, text: str) -> None:
    """Case, accents, vowel marks, the Arabic article and the script of digits make no difference."""
    assert finds(asked, text)


@pytest.mark.parametrize(
    ("asked", "text"),
    [("rder", "order"), ("order late", "order"), ("...", "a ..."), ("'\"*()", "quotes"), ("", "text"), ("00012", "")],
)
def test_a_message_is_not_found_by_words_that_it_does_not_have(asked: str, text: str) -> None:
    """The middle of a word, punctuation, or one word too many finds nothing."""
    assert not finds(asked, text)


def test_a_search_without_letters_digits_or_symbols_matches_nothing() -> None:
    """The database is not queried."""
    assert parse_search(" ?!\x00\u200d ").is_empty
    assert parse_search("\ud800") == Search(words=(), names=())


def test_a_long_search_and_a_long_message_are_cut() -> None:
    """A megabyte of either costs little; long words are truncated on both sides, so that they are still found."""
    search = parse_search("word " * 200_000 + " 1" * 9)
    assert len(search.words) <= 12
    many = tokens(texts=[" ".join(f"w{n}" for n in range(100_000))], ids=[], numbers=[])
    assert len(many) <= 1001
    assert finds("x" * 500, f"see {'x' * 1000} there")


def test_the_texts_of_a_content_are_its_words_and_names() -> None:
    """Field names, file addresses and the quoted message are not included."""
    content = {
        "document": {"media": "med_1", "caption": "the bill", "filename": "bill.pdf", "mimetype": "application/pdf"},
        "poll": {"question": "When?", "options": ["today", "tomorrow"]},
        "contacts": [{"name": "Amal", "vcard": "BEGIN"}],
        "replyTo": {"text": "quoted"},
    }
    assert list(texts_of(content)) == ["the bill", "bill.pdf", "When?", "today", "tomorrow", "Amal"]


@given(st.text(), st.text())
def test_no_text_breaks_the_databases_query_languages(asked: str, text: str) -> None:
    """Tokens have only letters, digits and symbols: no quote, space, backslash or NUL."""
    search = parse_search(asked)
    for token in (*search.words, *search.names, *tokens(texts=[text], ids=[text], numbers=[text])):
        assert not set("'\"\\ \t\n\x00*&|:") & set(token)
        token.encode()


@given(st.text(min_size=1))
def test_every_word_of_a_message_finds_it(text: str) -> None:
    """Messages and searches use the same normal form."""
    words = parse_search(text).words
    assert all(any(token.startswith(word) for token in tokens(texts=[text], ids=[], numbers=[])) for word in words)
