"""`/v1/nodes`: the nodes of a cluster, and draining the one that answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from holdfast.api.keys import KeyGrant
from holdfast.api.routing import LoadedGateway, for_all_companies, keyed_router
from holdfast.api.schemas import ApiModel, Text
from holdfast.session.stores import ClusterNode

_SILENT_S = 8
"""By then the leases of a node that does not renew them have run out."""


class NodeModel(ApiModel):
    id: Annotated[
        Text, Field(description="random id, new at each start of the process; empty for a process of an older version")
    ]
    name: Annotated[Text, Field(description="HOLDFAST_NODE")]
    url: Annotated[str, Field(description="where the other nodes reach it")]
    state: Annotated[
        Literal["running", "draining", "silent"],
        Field(description="silent: it has not renewed its leases for some seconds"),
    ]
    sessions: Annotated[int, Field(description="how many it runs, as of its last renewal")]
    started_at: str
    is_this: Annotated[bool, Field(description="this node answered the request")]

    @classmethod
    def of(cls, node: ClusterNode, *, this: str, silent_after_s: float) -> NodeModel:
        is_silent = node.seen_ago_s > silent_after_s
        state = "silent" if is_silent else "draining" if node.is_draining else "running"
        return cls.from_fields(node, state=state, is_this=node.id == this)


class NodesModel(ApiModel):
    items: list[NodeModel]
    next: None = None


class DrainModel(ApiModel):
    node: Annotated[str | None, Field(description="name of the node that answers")]
    draining: bool
    sessions: Annotated[int, Field(description="how many still run here; 0: the process can be stopped")]


ForAll = Annotated[
    KeyGrant,
    for_all_companies("this API key is limited to some companies, but a node runs those of all: use one without `=`"),
]

router = keyed_router("nodes")


@router.get("/v1/nodes")
async def list_nodes(_: ForAll, gateway: LoadedGateway) -> NodesModel:
    """The nodes that share the database, oldest first; empty where this process has it for itself."""
    found = await gateway.nodes()
    return NodesModel(items=[NodeModel.of(node, this=gateway.node_id, silent_after_s=_SILENT_S) for node in found])


@router.get("/v1/drain")
async def get_drain(_: ForAll, gateway: LoadedGateway) -> DrainModel:
    """Whether the node that answers is being drained, and how many sessions it still runs."""
    return DrainModel(node=gateway.node, draining=gateway.is_draining, sessions=len(gateway.running))


@router.post("/v1/drain", status_code=202)
async def start_drain(_: ForAll, gateway: LoadedGateway) -> DrainModel:
    """Move all sessions of the node that answers to the other nodes, one after another; it accepts no new ones. When
    none is left, `/readyz` answers 503, and the process can be stopped without disconnecting anybody."""
    await gateway.drain(drains=True)
    return DrainModel(node=gateway.node, draining=True, sessions=len(gateway.running))


@router.delete("/v1/drain")
async def stop_drain(_: ForAll, gateway: LoadedGateway) -> DrainModel:
    """Let the node that answers accept sessions again. It gets its share back within a minute."""
    await gateway.drain(drains=False)
    return DrainModel(node=gateway.node, draining=False, sessions=len(gateway.running))
