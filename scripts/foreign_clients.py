"""What the scripts for foreign clients share: wasim's control interface, and copies of libraries that talk to it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import urllib.request
from pathlib import Path
from typing import Any

REAL_URL = b"wss://web.whatsapp.com/ws/chat"
REAL_SCRIPT = b"https://web.whatsapp.com/sw.js"
REAL_ROOT = bytes.fromhex("142375574d0a587166aae71ebe516437c4a28b73e3695c6ce1f7f9545da8ee6b")


class Control:
    def __init__(self, base: str) -> None:
        self._base = base

    def get(self, path: str) -> Any:
        return json.load(urllib.request.urlopen(self._base + path))

    def get_bytes(self, path: str) -> bytes:
        with urllib.request.urlopen(self._base + path) as response:
            return bytes(response.read())

    def post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(self._base + path, data=json.dumps(body).encode(), method="POST")
        return json.load(urllib.request.urlopen(request))

    @property
    def root(self) -> bytes:
        """The root of the server's certificate chain."""
        return bytes.fromhex(self.get("/certificate")["rootKey"])


def prepare(package: str, library: str, url: str, root: bytes, folder: Path) -> None:
    """A copy of an installed package whose library talks to `url` and trusts `root`, in front of the import path."""
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin is not None
    copy = shutil.copytree(Path(found.origin).parent, folder / package)
    (file,) = copy.glob(library)
    code = file.read_bytes()
    script = url.replace("ws", "http", 1).replace("/ws/chat", "/sw.js")
    for real, own in (
        (REAL_URL, _padded(url, REAL_URL)),
        (REAL_ROOT, root),
        (REAL_SCRIPT, _padded(script, REAL_SCRIPT)),
    ):
        assert code.count(real) == 1 or real == REAL_SCRIPT
        code = code.replace(real, own)
    file.write_bytes(code)
    sys.path.insert(0, str(folder))


def _padded(url: str, real: bytes) -> bytes:
    """The URL with a query that makes it as long as the real one."""
    padded = url.encode() + b"?".ljust(len(real) - len(url), b"a")
    assert len(padded) == len(real), f"the URL {url} is longer than WhatsApp's own"
    return padded
