"""API keys: what is a valid key, what it allows, and that it is never shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdfast.api.keys import FILE, KeyGrant, NoKey, NotAllowed, first_key, make_key, parse, stored_key
from holdfast.base.errors import BadSetting, Misconfigured
from holdfast.base.ids import SystemRandomSource

ALL = "a-key-for-all-companies"
TWO = "a-key-for-two-companies"


def test_a_key_covers_the_companies_in_its_entry() -> None:
    """One key covers all companies, one covers two; spaces around them are ignored."""
    keys = parse(f" {ALL} , {TWO} = 962302 | 962303 ")
    assert keys.grant(ALL) == KeyGrant(None)
    assert keys.grant(TWO) == KeyGrant(frozenset({"962302", "962303"}))


def test_a_limited_grant_refuses_every_other_company() -> None:
    """It does so whether or not the company exists; a long name is truncated in the error."""
    grant = KeyGrant(frozenset({"962302"}))
    grant.check("962302")
    KeyGrant(None).check("anything")
    with pytest.raises(NotAllowed) as caught:
        grant.check("x" * 200)
    assert caught.value.sentence == f'this API key has no access to company "{"x" * 80}"'


@pytest.mark.parametrize("wrong", ["", ALL[:-1], ALL + "x", ALL.upper(), TWO + "=962302", "ключ-ключ-ключ-ключ"])
def test_another_key_is_unknown(wrong: str) -> None:
    """Neither a part of a key, nor a key with its limit, nor a key that isn't ASCII is accepted."""
    with pytest.raises(NoKey, match="is unknown"):
        parse(f"{ALL},{TWO}=962302").grant(wrong)


def test_the_error_without_a_key_says_how_to_send_one() -> None:
    """The sentence names both headers."""
    with pytest.raises(NoKey, match="`Authorization: Bearer KEY` or `X-API-Key: KEY`"):
        parse(ALL).grant(None)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("short", "HOLDFAST_API_KEY has 5 characters: give at least 16"),
        (f"{ALL},short=962302", "HOLDFAST_API_KEY: key 2 has 5 characters: give at least 16"),
        (f"{ALL},", "HOLDFAST_API_KEY: key 2 has 0 characters: give at least 16"),
        ("a key with spaces in it", "HOLDFAST_API_KEY has a space or a character that is not ASCII: leave those out"),
        ("a-key-with-ümlaut", "HOLDFAST_API_KEY has a space or a character that is not ASCII: leave those out"),
        ("a-key-with-a\nline-end", "HOLDFAST_API_KEY has a space or a character that is not ASCII: leave those out"),
        (f"{ALL},{ALL}=962302", "HOLDFAST_API_KEY has the same key twice: give each key once, with all its companies"),
        (f"{TWO}=", "HOLDFAST_API_KEY has a key with = but no company id after it: write KEY=962302|962303, and no = "),
        ("QUJDREVGR0hJSktMTU5P==", "HOLDFAST_API_KEY has a key with = but no company id after it"),
        (f"{TWO}=962302|../etc", "HOLDFAST_API_KEY has a key with = but no company id after it"),
    ],
)
def test_keys_that_cannot_be_used_are_refused_and_not_shown(text: str, sentence: str) -> None:
    """This includes keys in base64, whose = would otherwise silently limit them to a company of that name."""
    with pytest.raises(BadSetting) as caught:
        parse(text)
    assert caught.value.sentence.startswith(sentence)
    assert text.partition("=")[0] not in caught.value.sentence


def test_keys_are_stored_only_as_hashes() -> None:
    """Printing the valid keys shows no key."""
    assert ALL not in repr(parse(ALL))


@pytest.mark.parametrize(
    ("text", "first"), [(ALL, ALL), (f"{TWO}=962302, {ALL}", ALL), (f"{TWO}=962302", TWO), (f"{ALL}, {TWO}", ALL)]
)
def test_commands_use_the_first_key_for_all_companies(text: str, first: str) -> None:
    """They don't use the whole setting, which no server accepts as a key."""
    assert first_key(text) == first
    parse(text).grant(first)


def test_a_generated_key_is_readable_only_for_its_owner(tmp_path: Path) -> None:
    """The file has mode 0600 and is found again; the server accepts the key; half a file of an earlier attempt is
    replaced."""
    (tmp_path / f".{FILE}.new").write_text("hf_ha")
    key = make_key(tmp_path, SystemRandomSource())
    assert stored_key(tmp_path) == key
    assert os.stat(tmp_path / FILE).st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == [FILE]
    parse(key).grant(key)


def test_a_folder_without_a_key_has_none(tmp_path: Path) -> None:
    """This includes a folder that does not exist."""
    assert stored_key(tmp_path) is None
    assert stored_key(tmp_path / "missing") is None


def test_a_key_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """A folder in its place, another encoding, a path through a file, and a truncated file have errors that name it."""
    (tmp_path / FILE).mkdir()
    with pytest.raises(Misconfigured, match=r'the API key in ".*api-key" can\'t be read'):
        stored_key(tmp_path)
    with pytest.raises(Misconfigured, match=r'the API key can\'t be stored in ".*api-key": '):
        make_key(tmp_path, SystemRandomSource())
    (tmp_path / FILE).rmdir()
    (tmp_path / FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(Misconfigured, match=r'the API key in ".*api-key" can\'t be read'):
        stored_key(tmp_path)
    (tmp_path / FILE).write_text("hf_ha")
    with pytest.raises(BadSetting, match=r"^/data/api-key has 5 characters"):
        parse(stored_key(tmp_path) or "", source="/data/api-key")
