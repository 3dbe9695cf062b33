"""How the nodes of a cluster share sessions: who claims free ones, and who transfers one to whom.

Every node decides for itself, by what all nodes publish about themselves; nobody coordinates them. A node claims free
sessions up to its share, and transfers one at a time while it has clearly more than its share. It must never decide
by the momentary state alone: moving begins only when the same nodes have been there for some time, and when a node
is well above its share, so that sessions don't move back and forth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from holdfast.session.stores import ClusterNode


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingPolicy:
    """Seconds unless the name says otherwise."""

    alive_s: float = 5
    """A node that has not renewed its leases for this long gets no sessions. It renews every second."""
    fresh_s: float = 2.5
    """A node that has not renewed its leases for this long gets no session at the moment: it may just have died."""
    max_connecting: int = 10
    """A node with more sessions than this waiting to start or connect gets none: it, or WhatsApp, is slow."""
    return_s: float = 5
    """After all nodes were killed at once, the first to be back leaves the others their shares for this long."""
    settle_s: float = 10
    """Moving begins when the nodes have been the same for this long."""
    tolerance: float = 0.06
    """Moving begins when a node is this part of its share above it, or below it, and stops at the share."""
    min_excess: int = 2
    """The difference must also be at least this many sessions, which matters in a small cluster."""
    inflow_per_s: float = 5
    """The number of sessions per second that one node should get from all others together."""
    demand_known_s: float = 4
    """After this every node knows which others have waiting sessions: two renewals, and as much for a slow database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What one node knows at a moment."""

    me: str
    """Its id."""
    nodes: tuple[ClusterNode, ...]
    """All nodes, itself included."""
    own: int
    """Sessions that it owns."""
    total: int
    """Sessions of all nodes, and those that nobody owns."""

    @property
    def is_draining(self) -> bool:
        return any(node.is_draining for node in self.nodes if node.id == self.me)


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What a node remembers between two decisions."""

    members: frozenset[str] = frozenset()
    """Ids of the nodes that share sessions."""
    since: float = 0
    """When `members` last changed."""
    is_moving: bool = False
    next_at: float = 0
    """When the next session may be transferred."""
    transferred: Mapping[str, int] = field(default_factory=dict)
    """Sessions transferred to each node that it has not published yet."""
    published: Mapping[str, int] = field(default_factory=dict)
    """What each node published when `transferred` was counted."""


def members(nodes: Sequence[ClusterNode], policy: SharingPolicy) -> list[ClusterNode]:
    """The nodes that share all sessions."""
    return [node for node in nodes if node.id and not node.is_draining and node.seen_ago_s < policy.alive_s]


def shares(nodes: Sequence[ClusterNode], total: int) -> dict[str, float]:
    """How many of all sessions each of these nodes should run: by capacity if all have published one, else evenly."""
    known = all(node.capacity > 0 for node in nodes)
    weights = {node.id: node.capacity if known else 1 for node in nodes}
    whole = sum(weights.values())
    return {id_: total * weight / whole for id_, weight in weights.items()}


def max_to_claim(cluster: Cluster, *, policy: SharingPolicy) -> int:
    """How many free sessions the node may claim. The shares of all are rounded up, so nothing stays free."""
    sharing = members(cluster.nodes, policy)
    if all(node.id != cluster.me for node in sharing):
        return 0 if sharing else cluster.total  # a node that drains, while no other could take them
    wanted = shares([*sharing, *_returning(cluster.nodes, sharing, policy)], cluster.total)
    return max(math.ceil(wanted[cluster.me]) - cluster.own, 0)


def _returning(
    nodes: Sequence[ClusterNode], sharing: Sequence[ClusterNode], policy: SharingPolicy
) -> list[ClusterNode]:
    """The nodes that probably restart now, as these did. One that died while another one ran is not waited for."""
    longest_up_s = max(node.up_s for node in sharing)
    if longest_up_s >= policy.return_s:
        return []
    names = {node.name for node in nodes if node.seen_ago_s < policy.alive_s}
    gone = (node for node in nodes if node.id and not node.is_draining and node.name not in names)
    return list({node.name: node for node in gone if node.seen_ago_s > longest_up_s}.values())


def expects_sessions(cluster: Cluster, *, policy: SharingPolicy) -> bool:
    """Whether another node is about to transfer sessions that this one may get."""
    sharing = members(cluster.nodes, policy)
    wanted = shares(sharing, cluster.total)
    if cluster.me not in wanted or cluster.own >= math.ceil(wanted[cluster.me]) + policy.min_excess:
        return False
    lacks = _exceeds(wanted[cluster.me], cluster.own, policy)
    others = [node for node in cluster.nodes if node.id != cluster.me and node.seen_ago_s < policy.alive_s]
    return any(
        node.sessions > 0 if node.is_draining else lacks or _exceeds(node.sessions, wanted[node.id], policy)
        for node in others
        if node.is_draining or node.id in wanted
    )


def next_transfer(
    balance: Balance, cluster: Cluster, *, now: float, policy: SharingPolicy
) -> tuple[Balance, ClusterNode | None]:
    """The node to which one of this node's sessions should move now; None: no move is due."""
    sharing = members(cluster.nodes, policy)
    balance = _observe(balance, sharing, now)
    wanted = shares(sharing, cluster.total)
    has_settled = cluster.is_draining or now - balance.since >= policy.settle_s
    balance = replace(balance, is_moving=has_settled and _is_moving(balance, cluster, wanted, policy))
    others = _able(cluster, sharing, policy)
    if not balance.is_moving or not others or now < balance.next_at:
        return balance, None
    below = [node for node in others if _count(balance, node) < wanted[node.id]]
    if not below and not cluster.is_draining:
        return balance, None
    to = min(below or others, key=lambda node: (_count(balance, node) / max(wanted[node.id], 1), node.id))
    transferred = {**balance.transferred, to.id: balance.transferred.get(to.id, 0) + 1}
    pause_s = _pause_s(cluster, sharing, wanted, below or others, policy)
    return replace(balance, transferred=transferred, next_at=now + pause_s), to


def emptiest_peer(cluster: Cluster, *, policy: SharingPolicy) -> ClusterNode | None:
    """The node that should get a session which this one is not able to run."""
    sharing = members(cluster.nodes, policy)
    able, wanted = _able(cluster, sharing, policy), shares(sharing, cluster.total)
    return min(able, key=lambda node: (node.sessions / max(wanted[node.id], 1), node.id), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectShare:
    """Among how many nodes the connects of a second are divided, as one of them sees it."""

    nodes: int = 1
    waiting_since: float | None = None
    """Since when the node has published that sessions of its own wait to connect."""


def connect_share(before: ConnectShare, cluster: Cluster, *, now: float, policy: SharingPolicy) -> ConnectShare:
    """A node starts with an equal share: others may have begun to wait in the same moment, as when WhatsApp restarts.
    Once all know of each other, only nodes with waiting sessions divide the connects."""
    sharing = members(cluster.nodes, policy)
    if not any(node.id == cluster.me and node.connecting for node in sharing):
        return ConnectShare(nodes=max(len(sharing), 1))
    since = now if before.waiting_since is None else before.waiting_since
    if now - since < policy.demand_known_s:
        return ConnectShare(nodes=len(sharing), waiting_since=since)
    return ConnectShare(nodes=sum(node.connecting > 0 for node in sharing), waiting_since=since)


def _able(cluster: Cluster, sharing: Sequence[ClusterNode], policy: SharingPolicy) -> list[ClusterNode]:
    """The other nodes that can accept sessions now. If all of them are slow, a draining node uses any of them."""
    fresh = [node for node in sharing if node.id != cluster.me and node.seen_ago_s < policy.fresh_s]
    able = [node for node in fresh if node.connecting <= policy.max_connecting]
    return able or (fresh if cluster.is_draining else [])


def _observe(balance: Balance, sharing: Sequence[ClusterNode], now: float) -> Balance:
    """Read what the nodes publish: it includes by now what was transferred before."""
    ids = frozenset(node.id for node in sharing)
    if ids != balance.members:
        balance = replace(balance, members=ids, since=now)
    published = {node.id: node.sessions for node in sharing}
    transferred = {
        id_: count for id_, count in balance.transferred.items() if published.get(id_) == balance.published.get(id_)
    }
    return replace(balance, published=published, transferred=transferred)


def _is_moving(balance: Balance, cluster: Cluster, shares: Mapping[str, float], policy: SharingPolicy) -> bool:
    """A node far above its share moves sessions, and so does each that is above it while another one is far below:
    one that is new to a large cluster gets a few from each."""
    if cluster.is_draining:
        return cluster.own > 0
    share = shares.get(cluster.me, math.inf)
    lacks = any(_exceeds(shares[node.id], _count(balance, node), policy) for node in cluster.nodes if node.id in shares)
    if cluster.own <= (share if lacks else math.ceil(share)):
        return False
    return balance.is_moving or lacks or _exceeds(cluster.own, share, policy)


def _exceeds(sessions: float, other: float, policy: SharingPolicy) -> bool:
    return sessions - other >= max(policy.min_excess, other * policy.tolerance)


def _count(balance: Balance, node: ClusterNode) -> int:
    return node.sessions + balance.transferred.get(node.id, 0)


def _pause_s(
    cluster: Cluster,
    sharing: Sequence[ClusterNode],
    shares: Mapping[str, float],
    receivers: Sequence[ClusterNode],
    policy: SharingPolicy,
) -> float:
    """Long enough that all nodes that transfer sessions together don't flood those that get them."""
    senders = sum(node.sessions > shares[node.id] for node in sharing if node.id != cluster.me) + 1
    return senders / (len(receivers) * policy.inflow_per_s)
