"""Measures how many messages wasim relays per CPU second, and the CPU time of a login, without sockets.

    uv run python bench/wasim_relay.py [MESSAGES]

Each message is encrypted for the recipient's linked device, the recipient's phone and the sender's own phone. It is
acked, both phones decrypt it, and four receipts return, which are acked. Prints one JSON line.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from wasim.server.conftest import Client, ClientDevice, ServerHarness
from wasim.store import Store
from wasim.wire.content import Content, DeviceSent
from wasim.wire.nodes import Node

PN = "@s.whatsapp.net"
BATCH = 4
"""Messages between two commits, as on a busy event loop."""
LOGINS = 200


def main(messages: int) -> None:
    harness = ServerHarness()
    alice, alice_client = harness.online("962302")
    bob, bob_client = harness.online("962303")
    rounds = [prepare(harness, alice, alice_client, bob, bob_client, n) for n in range(messages)]
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder)) as store:
        relay_s = relay(harness, store, alice_client, bob_client, rounds)
        login_ms = log_in(harness, store) * 1000
    counts = harness.server.phone_clients.decryption_counts("962303")
    assert (counts.decrypted, counts.undecryptable) == (messages, 0)
    print(
        json.dumps({"messages": messages, "perCpuSecond": round(messages / relay_s), "loginCpuMs": round(login_ms, 2)})
    )


def prepare(
    harness: ServerHarness, alice: ClientDevice, alice_client: Client, bob: ClientDevice, bob_client: Client, n: int
) -> tuple[bytes, bytes, bytes]:
    """Return the bytes of a message, of its receipt from Bob's device, and of the acks for four receipts."""
    id_, content = f"3EB0{n:018X}", Content(conversation="a text of usual length, as people write them")
    copy = Content(device_sent=DeviceSent(destination=f"962303{PN}", message=content))
    encs = {
        bob.jid: Node("enc", {"v": "2", "type": "msg"}, bytes(200)),
        f"962303{PN}": harness.encrypt(alice, alice_client, f"962303{PN}", content),
        f"962302{PN}": harness.encrypt(alice, alice_client, f"962302{PN}", copy),
    }
    recipients = [Node("to", {"jid": jid}, [enc]) for jid, enc in encs.items()]
    message = Node("message", {"to": f"962303{PN}", "id": id_, "type": "text"}, [Node("participants", {}, recipients)])
    ack = Node("ack", {"to": bob.jid, "id": id_, "class": "receipt"})
    return (
        alice_client.link.send(message),
        bob_client.link.send(Node("receipt", {"to": alice.lid, "id": id_})),
        b"".join(alice_client.link.send(ack) for _ in range(4)),
    )


def relay(
    harness: ServerHarness, store: Store, alice: Client, bob: Client, rounds: list[tuple[bytes, bytes, bytes]]
) -> float:
    """Return the seconds for all rounds."""
    server, now, began = harness.server, harness.now, time.process_time()
    for n, (message, receipt, acks) in enumerate(rounds):
        server.receive(alice.id, message, now=now)
        server.receive(bob.id, receipt, now=now)
        server.tick(now=now + 1)
        server.receive(alice.id, acks, now=now)
        if n % BATCH == BATCH - 1:
            store.write(server.directory.take_changes())
            server.take_output()
    return time.process_time() - began


def log_in(harness: ServerHarness, store: Store) -> float:
    """Return the seconds of a login without pending messages; half of it is the client's."""
    linked, _ = harness.online("962304")
    began = time.process_time()
    for _ in range(LOGINS):
        harness.log_in(linked)
        store.write(harness.server.directory.take_changes())
    return (time.process_time() - began) / LOGINS


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3000)
