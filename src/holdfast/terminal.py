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

out = Console()
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
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*("–" if cell is None else str(cell) for cell in row))
    out.print(table)


def qr_text(content: str) -> str:
    """A QR code of half blocks, dark on light whatever the terminal's colours are."""
    text = io.StringIO()
    segno.make_qr(content, error="l").terminal(text, compact=True, border=2)
    return text.getvalue()


def complain(sentence: str) -> None:
    """An error, to stderr: `holdfast: …`."""
    err.print(f"holdfast: {sentence}", style="red", highlight=False, markup=False, soft_wrap=True)


class LogLines(logging.Formatter):
    """`2026-11-22T10:56:00.000Z INFO Session 962302 …`: one line for each event."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = f"{at} {record.levelname} {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(LogLines())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for talkative in ("alembic", "uvicorn.error", "asyncio"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
