"""What people see: log lines that can't be forged, QR codes that can be scanned."""

from __future__ import annotations

import io
import json
import logging

import pytest
import segno
from rich.console import Console

from holdfast import terminal
from holdfast.terminal import LogLines, qr_text

CONTENT = "2@" + "kAyXw3/Zq+" * 22
"""As long as WhatsApp's."""


def line(message: str, *values: object) -> str:
    record = logging.LogRecord("holdfast", logging.INFO, __file__, 1, message, values, None)
    record.created = 1_774_177_000.25
    return LogLines().format(record)


def test_a_log_line_has_time_level_and_event() -> None:
    """UTC with milliseconds and `Z`, as in every record."""
    assert line("Session %s connected → reconnecting", 962302) == (
        "2026-03-22T10:56:40.250Z INFO Session 962302 connected → reconnecting"
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\n2026-01-01T00:00:00.000Z INFO forged", r"a\n2026-01-01T00:00:00.000Z INFO forged"),
        ("a\r\x1b[2Kb", r"a\r\x1b[2Kb"),
        ("a\u2028b\u202eb", r"a\u2028b\u202eb"),
        ("مرحبا – ok", "مرحبا – ok"),
    ],
)
def test_a_value_from_outside_cannot_begin_a_line(value: str, shown: str) -> None:
    """Line ends, escapes and direction marks are spelt out; letters of any script stay."""
    assert line("refused: %s", value).endswith(f"INFO refused: {shown}")


def test_a_defect_keeps_its_trace() -> None:
    """On lines of its own, behind the event."""
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "failed", (), (LookupError, LookupError("gone"), None))
    assert LogLines().format(record).splitlines()[1:] == ["LookupError: gone"]


def test_a_table_shows_values_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """What callers gave styles nothing, moves no cursor and breaks nothing."""
    terminal.show_table(("a", "b"), [("http://[fe80::1]/[/x]", "a\x1b[2Jb"), (None, 1)])
    rows = [row.split() for row in capsys.readouterr().out.splitlines()]
    assert rows == [["a", "b"], ["http://[fe80::1]/[/x]", r"a\x1b[2Jb"], ["–", "1"]]


def test_a_table_in_a_file_has_no_blanks_at_the_ends_of_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """One long value would else make every line as long, also in a report that somebody pastes."""
    terminal.show_table(("name", "value"), [("state", "connected"), ("health", "unhealthy " * 30)])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [line.rstrip() for line in lines]
    assert len(lines) == 3


ROWS = [
    ("962401 Bakery Irbid +962790000401", "reconnecting", "not connected for 3 min because of WhatsApp (503)", None),
    ("962400 مخبز الزرقاء +962790000400", "connected", None, "12 h 3 min"),
]


@pytest.mark.parametrize("width", [200, 100, 80, 60, 40])
def test_a_table_breaks_no_word_in_any_terminal(capsys: pytest.CaptureFixture[str], width: int) -> None:
    """Side by side where there is room for whole words, else each row as a block with the names of its columns."""
    terminal.show_table(("company", "state", "why", "for"), ROWS, width=width)
    lines = capsys.readouterr().out.splitlines()
    shown = [word for line in lines for word in line.split()]
    assert {word for row in ROWS for cell in row if cell is not None for word in cell.split()} <= set(shown)
    assert max(map(len, lines)) <= width
    assert shown.count("state") == (1 if width >= 60 else 2)


def test_a_word_longer_than_the_terminal_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """Over several lines, such as a webhook's address."""
    address = f"https://example.org/{'a-long-address/' * 12}"
    terminal.show_table(("endpoint", "url"), [("default", address)], width=60)
    assert address in "".join(capsys.readouterr().out.split())


def modules(text: str) -> list[list[int]]:
    """The matrix that half blocks show, 1 for dark; a block is light."""
    rows: list[list[int]] = []
    for drawn in text.splitlines():
        rows.append([int(block in " ▄") for block in drawn])
        rows.append([int(block in " ▀") for block in drawn])
    return rows


def test_a_qr_code_of_half_blocks_is_the_whole_code() -> None:
    """Module by module, with two light ones around it."""
    wanted = [list(row) for row in segno.make_qr(CONTENT, error="l").matrix_iter(border=2)]
    assert modules(qr_text(CONTENT))[: len(wanted)] == wanted


def test_a_qr_code_is_drawn_in_its_own_colours() -> None:
    """White on black whatever the terminal's colours are: half the terminals would show it inverted."""
    console = Console(force_terminal=True, color_system="256", width=200)
    with console.capture() as captured:
        console.print(terminal.qr_picture(CONTENT), soft_wrap=True)
    drawn = captured.get()
    assert "\x1b[38;5;231;48;5;16m" in drawn
    assert qr_text(CONTENT).splitlines()[5] in drawn


@pytest.mark.parametrize(("columns", "lines"), [(40, 60), (100, 24), (40, 24)])
def test_in_a_terminal_that_is_too_small_nothing_is_drawn(
    capsys: pytest.CaptureFixture[str], columns: int, lines: int
) -> None:
    """A code that is wrapped, or whose top has scrolled away, can't be scanned. The error says how much room is needed,
    and how else to link."""
    terminal.show_qr(CONTENT, columns=columns, lines=lines)
    shown = capsys.readouterr()
    drawn = qr_text(CONTENT).splitlines()
    assert shown.out == ""
    needed = f"the QR code needs {len(drawn[0])} and {len(drawn) + 2}"
    assert f"has {columns} columns and {lines} lines, and {needed}: enlarge the window" in shown.err
    assert "--phone NUMBER" in shown.err


def test_a_locale_without_unicode_ends_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables show `?` for a character that it lacks; JSON escapes it, so that nothing is lost."""
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="iso-8859-1", write_through=True))
    terminal.replace_unencodable()
    terminal.show_table(("company", "label"), [("962302", "Müller → –")])
    assert written.getvalue().decode("iso-8859-1").split() == ["company", "label", "962302", "Müller", "?", "?"]
    written.truncate(0)
    written.seek(0)
    terminal.show_json({"label": "Müller – ☎"})
    assert json.loads(written.getvalue().decode("iso-8859-1")) == {"label": "Müller – ☎"}
