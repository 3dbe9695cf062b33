"""Media of unmodified Baileys through wasim's media host, over TLS with a certificate of wasim's own authority."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.processes import running_wasim

SCRIPT = Path(__file__).with_name("wasim_media.mjs")
SIZE = 16 * 1024 * 1024
pytestmark = pytest.mark.slow


async def test_media_is_uploaded_and_downloaded(node_bin: Path, baileys_dir: Path, tmp_path: Path) -> None:
    """16 MB arrive complete in both directions; a refused upload fails, and an interrupted download does not look
    complete.
    """
    async with running_wasim(tmp_path) as wasim:
        process = await asyncio.create_subprocess_exec(
            str(node_bin), str(SCRIPT), str(baileys_dir), wasim.url, wasim.control, str(SIZE),
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"NODE_EXTRA_CA_CERTS": wasim.ca},
        )  # fmt: skip
        out, _ = await process.communicate()
        told: dict[str, dict[str, Any]] = {one["event"]: one for one in map(json.loads, out.splitlines())}
        assert process.returncode == 0, told
        faults = await wasim.get("/faults", all="true")
    assert (told["down"]["size"], told["down"]["sha"]) == (SIZE, told["up"]["sha"])
    assert told["refused"]["outcome"] == "Media upload failed on all hosts"
    assert told["cut"]["outcome"] == "broken off"
    assert {fault["kind"]: fault["hits"] for fault in faults} == {"media-refuse": 1, "media-cut": 1}
    assert len(list((tmp_path / "media").iterdir())) == 1
