"""Let whatsapp-rust link two devices to a running wasim, send between them, and resume.

    wasim serve --port 8090 --control-port 8091
    uv run --isolated --no-project --with wars==0.1.4 \\
        python scripts/try_whatsapp_rust.py ws://127.0.0.1:8090/ws/chat http://127.0.0.1:8091

wars is a Python binding of whatsapp-rust. It sends only to linked devices that the recipient's phone has listed and
signed, and after the first login it resumes with the server's remembered key. A copy of it in a temporary folder gets
the server's URL and the root of its certificate chain. Prints one JSON line; exit code 0 when every text arrived and
the handshakes were as expected.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from foreign_clients import Control, prepare

ALICE, BOB = "962320", "962321"
DEADLINE_S = 60.0
LOGIN_S = 30.0
ARRIVAL_S = 10.0


class Device:
    def __init__(self, control: Control, number: str, folder: Path) -> None:
        self._control = control
        self.number = number
        self._file = str(folder / f"{number}.db")
        self.texts: list[str] = []
        self._client: Any = None

    def connect(self) -> str:
        """Log in, linking the device first if necessary; returns the pattern of the handshake."""
        from wars import WhatsApp  # type: ignore[import-not-found]

        self._client = WhatsApp(self._file)
        self._client.on_qr(lambda code: self._control.post(f"/phones/{self.number}/scan", {"qr": code}))
        self._client.on_message(lambda message: self.texts.append(message.text))
        self._client.connect()
        self._client.wait_until_ready(LOGIN_S)
        links = [link for link in self._control.get("/links") if link["number"] == self.number]
        return str(links[-1]["handshake"])

    def disconnect(self) -> None:
        self._client.disconnect()

    def send(self, to: str, text: str) -> None:
        self._client.send_text(to, text)

    def receives(self, text: str) -> bool:
        """Whether this text arrives in time."""
        end = time.monotonic() + ARRIVAL_S
        while text not in self.texts and time.monotonic() < end:
            time.sleep(0.05)
        return text in self.texts


def talk(control: Control, folder: Path) -> bool:
    alice, bob = (Device(control, number, folder) for number in (ALICE, BOB))
    handshakes = [alice.connect(), bob.connect()]
    alice.send(BOB, "one")
    arrived = [bob.receives("one")]
    bob.send(ALICE, "two")
    arrived.append(alice.receives("two"))
    control.post(f"/phones/{BOB}/send", {"to": ALICE, "text": "three"})
    arrived.append(alice.receives("three"))
    alice.disconnect()
    handshakes.append(alice.connect())
    alice.send(BOB, "four")
    arrived.append(bob.receives("four"))
    control.post("/faults", {"kind": "refuse-resuming", "seconds": LOGIN_S})
    alice.disconnect()
    handshakes.append(alice.connect())
    inbox = [message["text"] for message in control.get(f"/phones/{BOB}/inbox")]
    unknown = control.get("/stats")["unknownQueries"]
    report = {"arrived": arrived, "handshakes": handshakes, "inbox": inbox, "unknownQueries": unknown}
    print(json.dumps(report), flush=True)
    return all(arrived) and handshakes == ["XX", "XX", "IK", "XXfallback"] and inbox == ["one", "four"]


def main(url: str, control_url: str) -> None:
    control = Control(control_url)
    threading.Timer(DEADLINE_S, lambda: os._exit(1)).start()
    with tempfile.TemporaryDirectory() as folder:
        prepare("wars", "_wars.abi3.so", url, control.root, Path(folder))
        os._exit(0 if talk(control, Path(folder)) else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
