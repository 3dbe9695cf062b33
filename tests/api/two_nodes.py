"""Two nodes of a cluster over one gateway: the owner of every session behind a real socket, and another node."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import cast

from fastapi import FastAPI

from holdfast.api.forwarding import Forwarder
from holdfast.api.server import HttpServer
from holdfast.runtime.gateway import Gateway
from holdfast.runtime.ownership import Ownership
from holdfast.session.stores import ClusterNode, Leases
from tests.api.api_client import ApiClient, make_client
from tests.gateway_harness import GatewayHarness

SECRET = b"the secret of a cluster"
OWNER, OTHER = "owner", "other"


class FakeLeases:
    """The leases as one node sees them; the test decides who owns all sessions."""

    ttl_s = 8.0

    def __init__(self, node_id: str, nodes: dict[str, ClusterNode]) -> None:
        self.node_id = node_id
        self._nodes = nodes
        self.holder: str | None = OWNER

    async def owner(self, company: str) -> ClusterNode | None:
        return None if self.holder is None else self._nodes[self.holder]

    async def nodes(self) -> list[ClusterNode]:
        return list(self._nodes.values())

    async def claim(self, company: str) -> bool:
        return False


class OtherGateway(Gateway):
    """A gateway that runs no session, and is ready."""

    is_ready = True


@dataclass(slots=True)
class Nodes:
    owner: FastAPI
    other: ApiClient
    """Requests to the node that runs no session."""
    known: dict[str, ClusterNode]
    leases: FakeLeases
    """The leases as the other node sees them."""
    server: HttpServer


def leases_of(node_id: str, nodes: dict[str, ClusterNode]) -> tuple[FakeLeases, Leases]:
    made = FakeLeases(node_id, nodes)
    return made, cast("Leases", made)


@contextlib.asynccontextmanager
async def two_nodes(
    harness: GatewayHarness, make: Callable[[GatewayHarness, Gateway, Forwarder], ApiClient] | None = None
) -> AsyncIterator[Nodes]:
    """A harness whose gateway runs. `make`: the application of a node; by default, the API alone."""
    known: dict[str, ClusterNode] = {}
    async with contextlib.AsyncExitStack() as stack:
        clients, seen = {}, {}
        for node_id in (OWNER, OTHER):
            seen[node_id], leases = leases_of(node_id, known)
            ownership = Ownership(leases, clock=harness.clock)
            forwarder = await stack.enter_async_context(Forwarder(ownership, secret=SECRET, clock=harness.clock))
            gateway = harness.gateway
            if node_id == OTHER:
                gateway = OtherGateway(replace(harness.services, ownership=ownership))
            clients[node_id] = (
                make_client(harness, gateway, forwarder=forwarder)
                if make is None
                else make(harness, gateway, forwarder)
            )
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        known.update({OWNER: ClusterNode(id=OWNER, name="a", url=url), OTHER: ClusterNode(id=OTHER, name="b")})
        server = HttpServer(clients[OWNER].api)
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve(sockets=[listener]))
            other = clients[OTHER]
            other.leaps = False
            try:
                yield Nodes(clients[OWNER].api, other, known, seen[OTHER], server)
            finally:
                await stack.aclose()  # connections that are kept alive would delay the stop
                server.stop()
                await asyncio.wait([serving])
                listener.close()
