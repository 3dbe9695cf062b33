from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from holdfast.cli.serving import allow_open_files


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_limit_of_open_files_is_raised_up_to_the_hard_limit(limits: tuple[int, int]) -> None:
    """Up to the wanted number, at most to the hard limit; a higher limit is kept."""
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (600, hard))
    allow_open_files(700)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (700, hard)
    allow_open_files(650)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (700, hard)
