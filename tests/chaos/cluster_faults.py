"""The faults of a cluster: each breaks a part of it and repairs it, and returns when its cause is over.

The order of `Cluster.nodes` decides which nodes they hit.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

from tests.chaos.nodes import Cluster
from tests.served import eventually


async def kill(cluster: Cluster) -> None:
    """kill -9 of one node, which is started again."""
    await cluster.nodes[0].kill()
    await asyncio.sleep(12)
    await cluster.nodes[0].start()


async def sigterm(cluster: Cluster) -> None:
    """A graceful stop of one node, which is started again."""
    await cluster.nodes[1].stop()
    await asyncio.sleep(5)
    await cluster.nodes[1].start()


async def sigstop(cluster: Cluster) -> None:
    """One node is suspended for 20 s."""
    cluster.nodes[2].freeze()
    await asyncio.sleep(20)
    cluster.nodes[2].thaw()


async def roll(cluster: Cluster) -> None:
    """Each node is stopped and started, one after the other."""
    for node in cluster.nodes:
        await node.stop()
        await node.start()
        await asyncio.sleep(3)


async def pg_restart(cluster: Cluster) -> None:
    """PostgreSQL is restarted."""
    await asyncio.to_thread(cluster.postgres.stop)
    await asyncio.to_thread(cluster.postgres.start)


async def pg_kill(cluster: Cluster) -> None:
    """PostgreSQL crashes and is back after two seconds."""
    await asyncio.to_thread(cluster.postgres.stop, mode="immediate")
    await asyncio.sleep(2)
    await asyncio.to_thread(cluster.postgres.start)


async def pg_stop(cluster: Cluster) -> None:
    """PostgreSQL is suspended for 15 s."""
    cluster.postgres.freeze()
    await asyncio.sleep(15)
    cluster.postgres.thaw()


async def lock(cluster: Cluster) -> None:
    """The outbox is locked for 10 s, as by CREATE INDEX."""

    def hold() -> None:
        with cluster.postgres.operator(cluster.database_url) as connection, connection.transaction():
            connection.execute("LOCK TABLE outbox IN SHARE MODE")
            connection.execute("SELECT pg_sleep(10)")

    await asyncio.to_thread(hold)


async def db_stall(cluster: Cluster) -> None:
    """One node reaches WhatsApp, but not the database, for 20 s: its connections hang."""
    cluster.to_database.stall()
    await asyncio.sleep(20)
    cluster.to_database.heal()


async def db_oneway(cluster: Cluster) -> None:
    """The database's answers to one node do not arrive for 20 s, although it may have executed the statements."""
    cluster.to_database.stall("back")
    await asyncio.sleep(20)
    cluster.to_database.heal()


async def wa_stall(cluster: Cluster) -> None:
    """One node reaches the database, but not WhatsApp, for 20 s."""
    cluster.to_whatsapp.stall()
    await asyncio.sleep(20)
    cluster.to_whatsapp.heal()


async def hosts_kill(cluster: Cluster) -> None:
    """kill -9 of the engine hosts of one node."""
    for pid in cluster.nodes[0].hosts():
        os.kill(pid, signal.SIGKILL)


async def all_kill(cluster: Cluster) -> None:
    """kill -9 of all nodes, which are started again at once."""
    await asyncio.gather(*(node.kill() for node in cluster.nodes))
    await asyncio.gather(*(node.start() for node in cluster.nodes))


async def drain(cluster: Cluster) -> None:
    """One node is drained, stopped and started."""
    node = cluster.nodes[0]
    await node.client.post("/v1/drain")

    async def is_empty() -> bool:
        return not (await node.client.get("/v1/drain"))["sessions"]

    try:
        await eventually(is_empty, within_s=60, what="the end of the drain")
    finally:
        await node.stop()
        await node.start()


async def wa_restart(cluster: Cluster) -> None:
    """WhatsApp restarts: all links end, and its port is closed for 2 s."""
    await cluster.wasim.fault("restart", downS=2)
    await asyncio.sleep(2)


async def wa_refuse(cluster: Cluster) -> None:
    """WhatsApp cuts all links and answers 503 to new connections for 10 s."""
    await cluster.wasim.fault("refuse", status=503, seconds=10)
    await cluster.wasim.fault("cut")
    await asyncio.sleep(10)


async def redis_kill(cluster: Cluster) -> None:
    """Redis is unavailable for 10 s."""
    await cluster.redis.kill()
    await asyncio.sleep(10)
    await cluster.redis.start()


FAULTS: dict[str, Callable[[Cluster], Awaitable[None]]] = {
    "kill": kill,
    "sigterm": sigterm,
    "sigstop": sigstop,
    "roll": roll,
    "pg-restart": pg_restart,
    "pg-kill": pg_kill,
    "pg-stop15": pg_stop,
    "lock10": lock,
    "redis-kill": redis_kill,
    "db-stall": db_stall,
    "db-oneway": db_oneway,
    "wa-stall": wa_stall,
    "wa-restart": wa_restart,
    "wa-refuse": wa_refuse,
    "hosts-kill": hosts_kill,
    "all-kill": all_kill,
    "drain": drain,
}
BACK_SINCE_END = {"pg-stop15", "pg-kill", "pg-restart", "wa-stall", "wa-restart", "wa-refuse"}
"""Faults whose recovery time counts from their end, because no session can reconnect earlier."""
