"""`holdfast pair` on a terminal: with a QR code or a pairing code, a phone, and how it ends."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import fcntl
import os
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.terminal import qr_text
from tests.processes import Wasim
from tests.served import Served, served

pytestmark = pytest.mark.slow

COMPANY, NUMBER = "962302", "962790000002"
_OUTPUT_TIMEOUT_S = 30
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def _mind_ctrl_c() -> None:
    """As in a terminal, also when the tests run in the background of a shell, whose children ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """A terminal of 120 columns on which a command runs."""

    def __init__(self) -> None:
        self._ours, self._theirs = os.openpty()
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 120, 0, 0))
        os.set_blocking(self._ours, False)
        self.shown = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._news = asyncio.Event()
        self._command: asyncio.subprocess.Process | None = None
        asyncio.get_running_loop().add_reader(self._ours, self._read)

    def _read(self) -> None:
        # Reading a pseudo-terminal whose other side is closed fails.
        with contextlib.suppress(BlockingIOError, OSError):
            self.shown += self._decoder.decode(os.read(self._ours, 65536))
            self._news.set()

    async def shows(self, words: str) -> None:
        """Wait until the terminal shows these words, whatever their colours."""
        try:
            async with asyncio.timeout(_OUTPUT_TIMEOUT_S):
                while words not in self.text:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"the terminal does not show {words!r} but {self.text!r}") from None

    @property
    def text(self) -> str:
        return _COLOUR.sub("", self.shown).replace("\r\n", "\n")

    async def run(self, *arguments: str, **settings: str) -> asyncio.subprocess.Process:
        mine = ("HOLDFAST_", "COLUMNS", "LINES")  # the size is the terminal's, whatever the tests run in
        others = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
        self._command = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "holdfast", *arguments,
            env={**others, "TERM": "xterm-256color", **settings},
            stdin=self._theirs, stdout=self._theirs, stderr=self._theirs,
            preexec_fn=_mind_ctrl_c,
        )  # fmt: skip
        return self._command

    async def close(self) -> None:
        if self._command is not None and self._command.returncode is None:
            self._command.kill()
            await self._command.wait()
        asyncio.get_running_loop().remove_reader(self._ours)
        os.close(self._ours)
        os.close(self._theirs)


@pytest.fixture
async def terminal() -> AsyncIterator[Terminal]:
    made = Terminal()
    yield made
    await made.close()


@pytest.fixture
async def gateway(tmp_path: Path, wasim: Wasim) -> AsyncIterator[Served]:
    async with served(tmp_path, wasim=wasim) as running:
        yield running


async def test_a_phone_is_linked_by_the_qr_code_in_the_terminal(
    gateway: Served, wasim: Wasim, terminal: Terminal
) -> None:
    """The complete code is drawn, dark on light; when the phone has scanned it, the command ends."""
    command = await terminal.run("pair", COMPANY, **gateway.settings_of_commands)
    await terminal.shows(f"Company {COMPANY}: WhatsApp → Linked devices → Link a device")
    code = (await gateway.client.get(f"/v1/sessions/{COMPANY}/qr"))["qr"]
    await terminal.shows(qr_text(code))
    assert "\x1b[38;5;231;48;5;16m" in terminal.shown
    await wasim.post(f"/phones/{NUMBER}/scan", {"qr": code})
    assert await asyncio.wait_for(command.wait(), _OUTPUT_TIMEOUT_S) == 0
    await terminal.shows(f"Company {COMPANY} is linked and connected.")
    assert "Traceback" not in terminal.text


async def test_a_phone_is_linked_by_a_pairing_code(gateway: Served, wasim: Wasim, terminal: Terminal) -> None:
    """The code is printed once, and links the phone on which it is typed."""
    command = await terminal.run("pair", COMPANY, "--phone", f"+{NUMBER}", **gateway.settings_of_commands)
    await terminal.shows("WhatsApp → Linked devices → Link with phone number: ")
    code = terminal.text.rpartition(": ")[2].strip()
    await wasim.post(f"/phones/{NUMBER}/code", {"code": code})
    assert await asyncio.wait_for(command.wait(), _OUTPUT_TIMEOUT_S) == 0
    await terminal.shows(f"Company {COMPANY} is linked and connected.")
    assert terminal.text.count("Link with phone number") == 1


async def test_pairing_a_linked_company_ends_at_once(gateway: Served, wasim: Wasim, terminal: Terminal) -> None:
    """No code is shown, and the exit code is 0."""
    await gateway.pair(COMPANY, NUMBER, wasim)
    command = await terminal.run("pair", COMPANY, **gateway.settings_of_commands)
    assert await asyncio.wait_for(command.wait(), _OUTPUT_TIMEOUT_S) == 0
    assert terminal.text == f"Company {COMPANY} is linked and connected.\n"


async def test_ctrl_c_ends_the_wait(gateway: Served, terminal: Terminal) -> None:
    """No traceback is printed; the session still shows codes to others."""
    command = await terminal.run("pair", COMPANY, **gateway.settings_of_commands)
    await terminal.shows(f"Company {COMPANY}: ")
    command.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(command.wait(), _OUTPUT_TIMEOUT_S) == 130  # what a shell expects of Ctrl-C
    assert "Traceback" not in terminal.text
    assert (await gateway.session(COMPANY))["state"] == "pairing"
