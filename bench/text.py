"""A text from the wish to WhatsApp's ack, at a low rate: Holdfast beside bare Baileys, in turn, against one wasim.

    uv run bench/text.py [--texts 40] [--json]

Holdfast: from the POST to the moment at which the gateway learned of the ack (`sentAt`). In between the text goes to
disk twice, and the step of the ratchet before its frame leaves: from the 202 on it survives any crash. Bare Baileys:
from `sendMessage` to the raw ack, with the state in files and no promise. Both write to the same contact, whose devices
they know already.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.bare import bare_baileys
from bench.figures import Row, Spread, table
from tests.parts import running_wasim
from tests.served import Served, served

CONTACT = "962790000099"
NAME = "bench"
PAUSE_S = 0.25
"""Between two texts: four a second."""
_WARM_UP = 5
_ACKED_S = 20.0


async def measure(texts: int) -> Row:
    async with AsyncExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
        wasim = await held.enter_async_context(running_wasim(folder / "wasim"))
        gateway = await held.enter_async_context(served(folder, wasim=wasim))
        bare = await held.enter_async_context(bare_baileys(folder / "bare", wasim))
        await wasim.post("/phones", {"number": CONTACT})
        await gateway.pair(NAME, "962780000001", wasim)
        await bare.pair(NAME, "962790000001")
        await bare.open(NAME)
        ours, theirs = [], []
        for n in range(_WARM_UP + texts):
            ours.append(await _text(gateway, n))
            await asyncio.sleep(PAUSE_S)
            theirs.append(await bare.send(NAME, CONTACT, f"text {n}", whatsapp_id=f"3EB0BE{n:016}"))
            await asyncio.sleep(PAUSE_S)
    return Row(
        key="textToAckMs",
        what="text, wish → WhatsApp's ack",
        unit="ms",
        holdfast=Spread(ours[_WARM_UP:]),
        bare=Spread(theirs[_WARM_UP:]),
    )


async def _text(gateway: Served, n: int) -> float:
    began = datetime.now(UTC)
    sent = await gateway.send(NAME, CONTACT, f"text {n}")
    message = await gateway.until_message(sent["id"], "sent", "delivered", "read", within_s=_ACKED_S)
    return (datetime.fromisoformat(message["sentAt"]) - began).total_seconds() * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=40)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    row = asyncio.run(measure(options.texts))
    if options.json:
        print(json.dumps({"texts": options.texts, row.key: row.as_json()}))
        return
    print(f"{options.texts} texts of each, in turn, two a second; median (min–max)\n\n{table([row])}")


if __name__ == "__main__":
    main()
