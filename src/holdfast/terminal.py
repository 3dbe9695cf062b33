"""What commands show in a terminal: tables, QR codes, errors. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDE = 1000
"""Columns for a table that no terminal shows: a program that reads it wants a row on a line."""

_AROUND_QR = 2
"""Lines above and below a QR code: what to do with it, and the cursor."""

_GAP = 2
"""Blanks between two columns of a table."""

_READABLE = 16
"""Columns of text that are narrower than this are hard to read."""

_INDENT = 2

out = Console(width=None if sys.stdout.isatty() else _WIDE)
err = Console(stderr=True)


def print_stdout(text: str) -> None:
    out.print(text, highlight=False, markup=False, soft_wrap=True)


def print_stderr(text: str) -> None:
    """Progress of long work, to stderr."""
    err.print(text, highlight=False, markup=False, soft_wrap=True)


def show_json(value: object) -> None:
    """One JSON document."""
    sys.stdout.write(json_text(value, indent=2 if sys.stdout.isatty() else None) + "\n")


def json_text(value: object, *, indent: int | None = None) -> str:
    """JSON in the characters that standard output can represent."""
    is_utf8 = (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8"
    return json.dumps(value, indent=indent, ensure_ascii=not is_utf8)


def replace_unencodable() -> None:
    """Show `?` for a character that the encoding of the locale lacks, instead of failing. Python does so for stderr."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, width: int | None = None) -> None:
    """Print rows under their headings. Where a terminal is too narrow for whole words side by side, print each row as
    a block: its first cell as the heading, then a line for each other cell. `width` None: that of the terminal. In a
    file or pipe, the cells of a row are side by side in any case.
    """
    cells = [["–" if cell is None else printable(str(cell)) for cell in row] for row in rows]
    room = (width or out.width) - _GAP * (len(columns) - 1)
    widths = _column_widths([columns, *cells], room)
    if widths is None and any(columns) and (width is not None or out.is_terminal):
        _show_blocks(columns, cells, width)
        return
    table = _bare_table(show_header=any(columns))
    for index, column in enumerate(columns):
        table.add_column(column, overflow="fold", width=None if widths is None else widths[index])
    for row in cells:
        table.add_row(*map(Text, row))  # in a str rich takes [fe80::1] for a style and [/x] for an error
    _print_rows(table, width)


def _print_rows(table: Table, width: int | None) -> None:
    """Print a table. Rich fills each line up with blanks, which would be part of a file or a pasted report."""
    if out.is_terminal:
        out.print(table, width=width)
        return
    with out.capture() as capture:
        out.print(table, width=width)
    print_stdout("\n".join(line.rstrip() for line in capture.get().splitlines()))


def _bare_table(*, show_header: bool) -> Table:
    return Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold", show_header=show_header)


def _show_blocks(columns: Sequence[str], rows: Iterable[Sequence[str]], width: int | None) -> None:
    label_width = max(map(len, columns[1:]), default=0)
    for first, *rest in rows:
        out.print(Text(first, "bold"), width=width, overflow="fold")
        block = _bare_table(show_header=False)
        block.add_column("", width=label_width + _INDENT)
        block.add_column("", overflow="fold")
        for column, cell in zip(columns[1:], rest, strict=True):
            if cell != "–":
                block.add_row(Text(" " * _INDENT + column), Text(cell))
        out.print(block, width=width)


def _column_widths(rows: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """Widths in which words stay whole and texts readable, None where `width` is too small for that. Columns that need
    little more than the least get it first.
    """
    by_column = list(zip(*rows, strict=True))
    wanted = [max(map(cell_len, column)) for column in by_column]
    longest_words = [
        max((cell_len(word) for cell in column for word in cell.split()), default=1) for column in by_column
    ]
    widths = [max(word, min(want, _READABLE)) for word, want in zip(longest_words, wanted, strict=True)]
    spare = width - sum(widths)
    if spare < 0:
        return None
    by_need = sorted(range(len(widths)), key=lambda index: wanted[index] - widths[index])
    for left, index in zip(range(len(widths), 0, -1), by_need, strict=True):
        extra = min(wanted[index] - widths[index], spare // left)
        widths[index] += extra
        spare -= extra
    return widths


def goals(rows: Iterable[tuple[str, str, str, bool]]) -> Table:
    """What was measured, the goal, and whether it holds: a tick or a cross for each."""
    table = Table("", "measured", "goal", "", box=None, pad_edge=False)
    for what, measured, goal, holds in rows:
        table.add_row(what, measured, goal, Text("✓", "green") if holds else Text("✗", "red"))
    return table


def show_qr(content: str, *, columns: int | None = None, lines: int | None = None) -> None:
    """Draw a QR code for a person, if it fits whole. `columns`, `lines` None: as many as the terminal has."""
    drawn = qr_text(content).split("\n")
    columns, lines = columns or out.width, lines or out.height
    needed = len(drawn[0]), len(drawn) + _AROUND_QR
    if columns < needed[0] or lines < needed[1]:
        complain(
            f"this terminal has {columns} columns and {lines} lines, "
            f"and the QR code needs {needed[0]} and {needed[1]}: "
            "enlarge the window or make its font smaller, or link without a QR code with --phone NUMBER, "
            "or scan it in the dashboard"
        )
        return
    out.print(qr_picture(content), soft_wrap=True)


def qr_picture(content: str) -> Text:
    """The code dark on light, whatever the terminal's colours are."""
    return Text(qr_text(content), style="color(231) on color(16)")


def qr_text(content: str) -> str:
    """A QR code of half blocks in which a block is light: white on black, one line for two rows of it."""
    import segno

    text = io.StringIO()
    segno.make_qr(content, error="l").terminal(text, compact=True, border=2)
    return text.getvalue().rstrip("\n")


def complain(sentence: str) -> None:
    """An error, to stderr: `holdfast: …`."""
    err.print(f"holdfast: {sentence}", style="red", highlight=False, markup=False, soft_wrap=True)


class LogLines(logging.Formatter):
    """`2026-11-22T10:56:00.000Z INFO Session 962302 …`: one line for each event, whatever a value holds."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = f"{at} {record.levelname} {printable(record.getMessage())}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def printable(text: str) -> str:
    """Line ends and other control characters spelt out: what came from outside must not look like a line of ours."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(LogLines())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for talkative in ("alembic", "uvicorn.error", "asyncio"):
        logging.getLogger(talkative).setLevel(logging.WARNING)


def filter_log(records: logging.Filter) -> None:
    """Pass all records to this filter before they are printed."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(records)
