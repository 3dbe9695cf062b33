"""`holdfast …` as a person types it, in a folder and an environment that a test controls completely."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast import cli


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The JSON document on standard output, which contains nothing else."""
        assert self.out.endswith("\n")
        return json.loads(self.out)

    def refused(self, code: int) -> str:
        """The error of a failed command: one line on standard error, nothing on standard output, no traceback."""
        assert (self.code, self.out) == (code, ""), self
        assert self.err.startswith("holdfast: "), self
        assert self.err.count("\n") == 1, self.err
        return self.err.removeprefix("holdfast: ").rstrip("\n")


class Command:
    """Runs commands in `folder` with `settings`, in this process, because a new process needs a second for imports.
    `tests/acceptance/test_serve.py` runs the same entry point as a program.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self.settings = dict(settings)
        self._one_at_a_time = asyncio.Lock()

    async def __call__(self, *arguments: str, **settings: str) -> Ran:
        async with self._one_at_a_time:  # they share the standard streams
            return await asyncio.to_thread(self._run, arguments, {**self.settings, **settings})

    def _run(self, arguments: Sequence[str], settings: Mapping[str, str]) -> Ran:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), self._key_of_file(settings):
            try:
                cli.main(arguments)
            except SystemExit as end:
                code = end.code
        assert isinstance(code, int)
        return Ran(code=code, out=out.getvalue(), err=err.getvalue())

    @contextlib.contextmanager
    def _key_of_file(self, settings: Mapping[str, str]) -> Iterator[None]:
        """The environment and the folder that `settings.load` finds; both are read at the start of each command."""
        before = dict(os.environ)
        others = {name: value for name, value in before.items() if not name.startswith("HOLDFAST_")}
        try:
            os.environ.clear()
            os.environ.update({**others, **settings})
            with contextlib.chdir(self.folder):
                yield
        finally:
            os.environ.clear()
            os.environ.update(before)
