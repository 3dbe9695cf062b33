"""What commands show in a terminal: tables, QR codes, errors. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import segno
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDE = 1000
"""Columns for a table that no terminal shows: a program that reads it wants a row on a line."""

_AROUND_QR = 2
"""Lines above and below a QR code: what to do with it, and the cursor."""

out = Console(width=None if sys.stdout.isatty() else _WIDE)
err = Console(stderr=True)


def say(text: str) -> None:
    out.print(text, highlight=False, markup=False, soft_wrap=True)


def tell(text: str) -> None:
    """Progress of long work, to stderr."""
    err.print(text, highlight=False, markup=False, soft_wrap=True)


def show_json(value: object) -> None:
    """One JSON document."""
    sys.stdout.write(json.dumps(value, indent=None if not sys.stdout.isatty() else 2, ensure_ascii=False) + "\n")


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # As text: in a str rich takes [fe80::1] for a style and [/x] for an error.
        table.add_row(*(Text("–" if cell is None else printable(str(cell))) for cell in row))
    out.print(table)


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
