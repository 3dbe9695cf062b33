"""Let whatsmeow, which checks what Baileys does not, link to a running wasim and exchange texts, also in a group.

    wasim serve --port 8090 --control-port 8091
    uv run --isolated --no-project --with neonize==0.5.2 --with 'protobuf>=7.34.1' \\
        python scripts/try_whatsmeow.py ws://127.0.0.1:8090/ws/chat http://127.0.0.1:8091

neonize (whatsmeow's Python binding) has no option for another server. So a copy of it in a temporary folder gets the
server's URL and the root of its certificate chain; nothing else of it is touched. Prints one JSON line; exit code 0
when every text arrived.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from foreign_clients import Control, prepare

NUMBER, CONTACT = "962310", "962311"
TEXTS = ["one", "two", "three"]
DEADLINE_S = 30.0


def talk(control: Control, folder: Path) -> None:
    from neonize.client import NewClient  # type: ignore[import-not-found]
    from neonize.events import ConnectedEv, MessageEv  # type: ignore[import-not-found]
    from neonize.utils import build_jid  # type: ignore[import-not-found]

    client = NewClient(str(folder / "whatsmeow.db"))
    awaited = {"hello whatsmeow": threading.Event(), "hello group": threading.Event()}

    @client.qr  # type: ignore[untyped-decorator]
    def scan(_: Any, code: bytes) -> None:
        control.post(f"/phones/{NUMBER}/scan", {"qr": code.decode()})

    @client.event(MessageEv)  # type: ignore[untyped-decorator]
    def hear(_: Any, message: Any) -> None:
        if message.Message.conversation in awaited:
            awaited[message.Message.conversation].set()

    @client.event(ConnectedEv)  # type: ignore[untyped-decorator]
    def connected(_: Any, __: Any) -> None:
        threading.Thread(target=exchange).start()

    def exchange() -> None:
        control.post("/phones", {"number": CONTACT})
        group = control.post("/groups", {"subject": "Team", "members": [NUMBER, CONTACT]})["id"]
        for text in TEXTS:
            client.send_message(build_jid(CONTACT), text)
            client.send_message(build_jid(group.partition("@")[0], "g.us"), text)
        control.post(f"/phones/{CONTACT}/send", {"to": NUMBER, "text": "hello whatsmeow"})
        control.post(f"/phones/{CONTACT}/send", {"to": group, "text": "hello group"})
        heard = [event.wait(timeout=5) for event in awaited.values()]
        inbox = sorted((letter["group"] == group, letter["text"]) for letter in control.get(f"/phones/{CONTACT}/inbox"))
        stats = control.get("/stats")
        report = {"heard": heard, "inbox": inbox, "unknownQueries": stats["unknownQueries"]}
        print(json.dumps(report), flush=True)
        wanted = sorted((in_group, text) for in_group in (False, True) for text in TEXTS)
        os._exit(0 if all(heard) and inbox == wanted else 1)

    threading.Timer(DEADLINE_S, lambda: os._exit(1)).start()
    client.connect()


def main(url: str, control_url: str) -> None:
    control = Control(control_url)
    with tempfile.TemporaryDirectory() as folder:
        prepare("neonize", "neonize-linux-*.so", url, control.root, Path(folder))
        talk(control, Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
