"""Kills the processes that a trial may lose at any moment: the gateway, or its engine hosts."""

from __future__ import annotations

import os
import signal

from tests.served import Served, eventually


async def kill_gateway(gateway: Served) -> None:
    """Kill the gateway, and start it again when its engine hosts have ended."""
    await gateway.kill()
    for pid in gateway.processes():
        os.kill(pid, signal.SIGCONT)

    async def look() -> bool:
        return not gateway.processes()

    await eventually(look, within_s=5, what="the end of the killed gateway's engine host")
    await gateway.start()


async def kill_hosts(gateway: Served) -> None:
    for host in gateway.hosts():
        os.kill(host, signal.SIGKILL)


def send_signal(pids: list[int], what: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, what)
        except ProcessLookupError:
            continue  # it was the victim
