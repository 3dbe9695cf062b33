"""Reading the client version from what WhatsApp publishes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.session.client_version import (
    ENGINE_REVISION,
    MAX_AHEAD,
    OLDEST,
    ClientVersion,
    choose,
    pinned_revision,
    revision_in,
    revision_of,
)

KNOWN = ClientVersion(revision=1_045_000_000, origin="stored", read_at="2026-11-28T00:00:00.000Z")


@pytest.mark.parametrize(
    "script",
    ['{"client_revision":1045000001,"x":1}', r"JSON.parse('{\"client_revision\": 1045000001}')"],
)
def test_the_revision_is_found_in_the_script(script: str) -> None:
    """The revision is found in plain form, and in a JSON text inside a string."""
    assert revision_in(script) == 1_045_000_001


@pytest.mark.parametrize(
    "script",
    [
        "",
        "<html>Log in to the network</html>",
        '{"client_revision":1}',
        '{"client_revision":99999999999}',
        '{"client_revision":"1045000001"}',
        f'{{"client_revision":{ENGINE_REVISION + MAX_AHEAD + 1}}}',
    ],
)
def test_an_invalid_revision_is_ignored(script: str) -> None:
    """A portal's page, a number out of bounds and a number far ahead of today's are all rejected."""
    assert revision_in(script) is None


@given(st.text())
def test_any_text_gives_a_revision_within_bounds_or_none(script: str) -> None:
    """Hostile scripts never cause an error or an invalid revision."""
    found = revision_in(script)
    assert found is None or OLDEST <= found <= ENGINE_REVISION + MAX_AHEAD


def version(revision: int) -> ClientVersion:
    return ClientVersion(revision=revision, origin="whatsapp", read_at="2026-11-28T00:00:00.000Z")


OLD, WORKED, FOUND = ENGINE_REVISION - 1, ENGINE_REVISION + 1, ENGINE_REVISION + 2


@pytest.mark.parametrize(
    ("found", "worked", "refused", "chosen"),
    [
        (None, None, [], ENGINE_REVISION),
        (FOUND, None, [], FOUND),
        (FOUND, WORKED, [], FOUND),
        (WORKED, FOUND, [], FOUND),
        (OLD, None, [], ENGINE_REVISION),
        (None, OLD, [], ENGINE_REVISION),
        (FOUND, WORKED, [FOUND], WORKED),
        (FOUND, None, [FOUND], ENGINE_REVISION),
        (FOUND, OLD, [FOUND], ENGINE_REVISION),
        (WORKED, WORKED, [WORKED], WORKED),
        (FOUND, WORKED, [WORKED], FOUND),
        (FOUND, WORKED, [FOUND, WORKED], FOUND),
        (FOUND, None, [FOUND, ENGINE_REVISION], FOUND),
    ],
)
def test_the_newest_version_that_is_not_refused_is_used(
    found: int | None, worked: int | None, refused: list[int], chosen: int
) -> None:
    """An old script from a cache changes nothing. A refused version from the script is replaced by the one that worked,
    and then by the engine's own. If the version that worked is refused, it is outdated, and nothing older is tried."""
    seen = [None if each is None else version(each) for each in (found, worked)]
    assert revision_of(choose(*seen, refused=refused)) == chosen


@pytest.mark.parametrize(("text", "revision"), [("2.3000.1045000001", 1_045_000_001), ("auto", None), ("2.2.1", None)])
def test_a_pinned_version_is_read(text: str, revision: int | None) -> None:
    """`2.3000.N` pins a version; `auto` and anything else pin none."""
    assert pinned_revision(text) == revision


def test_it_is_shown_as_whatsapp_writes_it() -> None:
    assert (KNOWN.text, tuple(KNOWN.numbers)) == ("2.3000.1045000000", (2, 3000, 1_045_000_000))
