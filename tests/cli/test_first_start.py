"""What `holdfast serve` prints at its first start."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from holdfast.cli.serving import FirstStart

KEY, FILE = "hf_generated_by_this_test", Path("data/api-key")
URL = "http://127.0.0.1:3000"


class Terminal(io.StringIO):
    """A standard output that is a terminal."""

    def isatty(self) -> bool:
        return True


def printed(out: io.StringIO, *, is_first: bool = True) -> str:
    with contextlib.redirect_stdout(out):
        start = FirstStart()
        if is_first:
            start.show_key(KEY, FILE)
        start.show_url(URL)
    return out.getvalue()


def test_the_key_is_shown_on_a_terminal() -> None:
    """A person at a terminal sees the generated key, its file and the next steps."""
    shown = printed(Terminal())
    assert KEY in shown
    assert str(FILE) in shown
    assert "holdfast pair" in shown


def test_the_key_is_never_written_to_a_file_or_pipe() -> None:
    """If standard output is a log file, a pipe or a journal, the key's file is named instead."""
    shown = printed(io.StringIO())
    assert KEY not in shown
    assert str(FILE) in shown


def test_a_later_start_prints_only_its_address() -> None:
    """The first line of standard output is the address: programs that start Holdfast read it there."""
    assert printed(io.StringIO(), is_first=False) == f"Holdfast listens on {URL}\n"
