"""The receivers of webhooks that the docs show run as they are pasted, with nothing installed."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from holdfast.base.ids import SystemRandomSource
from holdfast.engine.node import find_node
from holdfast.notify.signing import sign
from tests.pasted import blocks

SECRET = SystemRandomSource().webhook_secret()
BODY = json.dumps({
    "type": "message.received", "timestamp": "2026-11-22T15:06:36.012Z",
    "data": {"sender": "962790000002@s.whatsapp.net", "text": "Is it ready? جاهز"},
}).encode()  # fmt: skip


class Receiver:
    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.folder = folder
        said = self.line()
        assert said.startswith("listening on port "), said
        self._url = f"http://127.0.0.1:{said.split()[-1]}/whatsapp"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def post(self, id_: str, *, ago_s: int = 0, signature: str | None = None) -> int:
        timestamp = int(datetime.now(UTC).timestamp()) - ago_s
        headers = {
            "Content-Type": "application/json", "webhook-id": id_, "webhook-timestamp": str(timestamp),
            "webhook-signature": signature or sign(SECRET, id_=id_, timestamp=timestamp, body=BODY),
        }  # fmt: skip
        request = urllib.request.Request(self._url, data=BODY, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def stored(self) -> list[str]:
        """Ids in the receiver's own file."""
        lines = self.folder / "events.jsonl"
        if lines.exists():
            return [json.loads(line)["id"] for line in lines.read_text("utf-8").splitlines()]
        code = (
            "import sqlite3; print(*[row[0] for row in sqlite3.connect('events.db').execute('SELECT id FROM events')])"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout.split()


@pytest.fixture(params=["python", "node"])
def receiver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Receiver]:
    if request.param == "python":
        command, file, block = (
            [sys.executable, "-I"],
            "receiver.py",
            blocks("docs/receiving.md", "python", heading="A receiver that runs")[0],
        )
    else:
        command, file, block = (
            [str(find_node(None).executable)],
            "receiver.mjs",
            blocks("docs/webhooks.md", "js", heading="Verifying")[0],
        )
    (tmp_path / file).write_text(block, "utf-8")
    process = subprocess.Popen(
        [*command, file], cwd=tmp_path, env={"WEBHOOK_SECRET": SECRET, "PORT": "0"}, stdout=subprocess.PIPE, text=True,
        encoding="utf-8",
    )  # fmt: skip
    try:
        yield Receiver(process, tmp_path)
    finally:
        process.kill()
        process.communicate()


def test_a_pasted_receiver_takes_what_is_signed_and_stores_it_once(receiver: Receiver) -> None:
    """204 for an event and for its retry; 401 for another secret's signature, for one that can't be read and for one
    that is too old. What people write is printed."""
    assert [receiver.post("evt_1"), receiver.post("evt_1"), receiver.post("evt_2")] == [204, 204, 204]
    other = sign(SystemRandomSource().webhook_secret(), id_="evt_3", timestamp=0, body=BODY)
    assert receiver.post("evt_3", signature=other) == 401
    assert receiver.post("evt_4", signature="nonsense") == 401
    assert receiver.post("evt_5", ago_s=3600) == 401
    assert receiver.line() == "962790000002@s.whatsapp.net Is it ready? جاهز"
    assert receiver.stored() == ["evt_1", "evt_2"]
