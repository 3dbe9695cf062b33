"""How nodes share sessions, by literal values, then clusters in which nodes die, come, drain and are replaced."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from holdfast.session.sharing import (
    Balance,
    Cluster,
    ConnectShare,
    SharingPolicy,
    connect_share,
    emptiest_peer,
    expects_sessions,
    max_to_claim,
    members,
    next_transfer,
    shares,
)
from holdfast.session.stores import ClusterNode

POLICY = SharingPolicy()


def node(id_: str, sessions: int = 0, *, capacity: int = 0, drains: bool = False, ago_s: float = 0) -> ClusterNode:
    return ClusterNode(
        id=id_, name=id_, holder=id_, sessions=sessions, capacity=capacity, is_draining=drains, seen_ago_s=ago_s
    )


def cluster(me: str, *nodes: ClusterNode, free: int = 0) -> Cluster:
    own = next(each.sessions for each in nodes if each.id == me)
    return Cluster(me=me, nodes=nodes, own=own, total=sum(each.sessions for each in nodes) + free)


# By literal values.


def test_nodes_that_drain_or_are_silent_get_nothing() -> None:
    """Nor does one of an older version, which publishes no id."""
    nodes = [node("a"), node("b", drains=True), node("c", ago_s=6), replace(node("d"), id="")]
    assert [each.id for each in members(nodes, POLICY)] == ["a"]


def test_shares_are_even_unless_all_nodes_have_a_capacity() -> None:
    """A node without one is taken for as large as the others."""
    assert shares([node("a"), node("b", capacity=300)], 90) == {"a": 45, "b": 45}
    assert shares([node("a", capacity=100), node("b", capacity=300)], 90) == {"a": 22.5, "b": 67.5}


def test_a_node_claims_up_to_its_share() -> None:
    """Rounded up, so that no session stays free; a node that drains claims only what nobody else could."""
    assert max_to_claim(cluster("a", node("a", 10), node("b", 10), free=11), policy=POLICY) == 6
    assert max_to_claim(cluster("a", node("a", 20), node("b", 0), free=5), policy=POLICY) == 0
    assert max_to_claim(cluster("a", node("a", 10, drains=True), node("b", 10), free=10), policy=POLICY) == 0
    assert max_to_claim(cluster("a", node("a", drains=True), free=10), policy=POLICY) == 10


def test_the_first_node_after_all_were_killed_leaves_the_others_their_shares() -> None:
    """For five seconds. Its own predecessor gets none, nor one that died while another ran, nor one that drained."""
    before = [replace(node(f"{name}-before", ago_s=9), name=name) for name in "aabc"]
    back = replace(node("a"), up_s=0)
    assert max_to_claim(cluster("a", back, *before, free=30), policy=POLICY) == 10
    assert max_to_claim(cluster("a", replace(back, up_s=5), *before, free=30), policy=POLICY) == 30
    other = replace(node("b", 10), up_s=1)
    assert max_to_claim(cluster("a", back, other, *before, free=20), policy=POLICY) == 10
    old = replace(node("b", 10), up_s=1000)
    assert max_to_claim(cluster("a", back, old, *before, free=20), policy=POLICY) == 15
    drained = [replace(each, is_draining=True) for each in before]
    assert max_to_claim(cluster("a", back, *drained, free=30), policy=POLICY) == 30


def waiting(id_: str, sessions: int) -> ClusterNode:
    return replace(node(id_, 10), connecting=sessions)


def test_connects_are_divided_among_the_nodes_with_waiting_sessions() -> None:
    """A node that begins to wait takes an equal share for four seconds, until every node knows of every other one."""
    seen = cluster("a", waiting("a", 5), waiting("b", 1), waiting("c", 0), waiting("d", 0))
    share, found = ConnectShare(), []
    for now in (100.0, 103.9, 104.0, 110.0):
        share = connect_share(share, seen, now=now, policy=POLICY)
        found.append(share.nodes)
    assert found == [4, 4, 2, 2]


def test_a_node_without_waiting_sessions_keeps_an_equal_share_of_the_connects() -> None:
    """When sessions of it wait again, the four seconds begin again: what it knew of the others may be old."""
    idle = cluster("a", waiting("a", 0), waiting("b", 9))
    busy = cluster("a", waiting("a", 1), waiting("b", 0))
    share = connect_share(ConnectShare(nodes=1, waiting_since=0), idle, now=50, policy=POLICY)
    assert share == ConnectShare(nodes=2)
    share = connect_share(share, busy, now=51, policy=POLICY)
    assert share == ConnectShare(nodes=2, waiting_since=51)
    assert connect_share(share, busy, now=55, policy=POLICY).nodes == 1


def test_a_node_that_drains_or_is_alone_has_a_share_of_the_connects() -> None:
    draining = replace(node("a", 3, drains=True), connecting=1)
    assert connect_share(ConnectShare(), cluster("a", draining, node("b", 3)), now=0, policy=POLICY).nodes == 1
    assert connect_share(ConnectShare(), cluster("a", waiting("a", 1)), now=0, policy=POLICY).nodes == 1


def decide(balance: Balance, seen: Cluster, now: float) -> tuple[Balance, str | None]:
    balance, to = next_transfer(balance, seen, now=now, policy=POLICY)
    return balance, None if to is None else to.id


def test_moving_begins_when_the_nodes_have_settled() -> None:
    """Then one session at a time goes to the node with the least."""
    seen = cluster("a", node("a", 30), node("b", 12), node("c", 3))
    balance, to = decide(Balance(), seen, 100)
    assert to is None
    balance, to = decide(balance, seen, 109)
    assert to is None
    balance, to = decide(balance, seen, 110)
    assert to == "c"
    assert decide(balance, seen, 110.05)[1] is None
    assert decide(balance, seen, 110.1)[1] == "c"
    other = cluster("a", node("a", 30), node("b", 12), node("d", 3))
    assert decide(balance, other, 111)[1] is None, "another node is there: it starts again"


@pytest.mark.parametrize(("own", "moves"), [(100, False), (105, False), (106, True)])
def test_a_small_excess_moves_nothing(own: int, moves: bool) -> None:
    """Sessions move from 6 % above the share on, and then until the share is reached."""
    seen = cluster("a", node("a", own), node("b", 200 - own))
    settled = Balance(members=frozenset({"a", "b"}), since=0)
    balance, to = decide(settled, seen, 100)
    assert (to is not None) == moves == balance.is_moving
    nearly = cluster("a", node("a", 101), node("b", 99))
    assert decide(replace(settled, is_moving=True), nearly, 100)[1] == "b"
    even = cluster("a", node("a", 100), node("b", 100))
    assert decide(replace(settled, is_moving=True), even, 100)[1] is None


def test_transferred_sessions_count_before_the_other_node_publishes_them() -> None:
    """Otherwise the node that is the emptiest now would get everything."""
    seen, transferred = cluster("a", node("a", 40), node("b", 9), node("c", 11)), []
    balance = Balance(members=frozenset({"a", "b", "c"}), since=0)
    for half in range(6):
        balance, to = decide(balance, seen, 100 + half / 2)
        transferred.append(to)
    assert transferred == ["b", "b", "b", "c", "b", "c"]


def test_a_draining_node_transfers_all_sessions_one_after_another() -> None:
    """Without waiting until the nodes have settled, also to nodes that have their share."""
    seen = cluster("a", node("a", 3, drains=True), node("b", 50), node("c", 50))
    balance, to = decide(Balance(), seen, 100)
    assert to == "b"
    balance, to = decide(balance, seen, 100.2)
    assert to == "c"
    alone = cluster("a", node("a", 3, drains=True), node("b", 50, ago_s=20))
    assert decide(Balance(), alone, 100)[1] is None


def test_nothing_is_transferred_to_a_node_that_may_have_died() -> None:
    """It renews every second; one that has not done so for three may be gone, though it still counts as a member."""
    settled = Balance(members=frozenset({"a", "b", "c"}), since=0)
    assert decide(settled, cluster("a", node("a", 30), node("b", 3, ago_s=2), node("c", 12)), 100)[1] == "b"
    assert decide(settled, cluster("a", node("a", 30), node("b", 3, ago_s=3), node("c", 12)), 100)[1] == "c"
    drains = cluster("a", node("a", 3, drains=True), node("b", 3, ago_s=3))
    assert decide(Balance(), drains, 100)[1] is None


def test_nothing_is_transferred_to_a_node_that_fails_to_connect_its_sessions() -> None:
    """Except by one that drains, where all others are like that. A node that is not able to start a session passes it
    on by the same rule."""
    slow, other = replace(node("b", 3), connecting=11), node("c", 12)
    settled = Balance(members=frozenset({"a", "b", "c"}), since=0)
    assert decide(settled, cluster("a", node("a", 30), slow, other), 100)[1] == "c"
    assert decide(settled, cluster("a", node("a", 30), replace(slow, connecting=10), other), 100)[1] == "b"
    assert decide(Balance(), cluster("a", node("a", 3, drains=True), slow), 100)[1] == "b"
    assert emptiest_peer(cluster("a", node("a", 30), slow, other), policy=POLICY) == other
    assert emptiest_peer(cluster("a", node("a", 30), slow), policy=POLICY) is None


def test_a_node_renews_more_often_while_it_may_get_sessions() -> None:
    """Not one that has its share already."""
    drains = cluster("a", node("a", 10), node("b", 10, drains=True))
    assert expects_sessions(drains, policy=POLICY)
    assert expects_sessions(cluster("a", node("a", 10), node("b", 30)), policy=POLICY)
    assert not expects_sessions(cluster("a", node("a", 10), node("b", 10)), policy=POLICY)
    assert not expects_sessions(cluster("b", node("a", 10), node("b", 30)), policy=POLICY)
    assert not expects_sessions(cluster("a", node("a", 10), node("b", 0, drains=True)), policy=POLICY)


# Clusters.


@dataclass
class Member:
    id: str
    name: str
    sessions: set[str] = field(default_factory=set)
    order: list[str] = field(default_factory=list)
    published: int = 0
    seen_at: float = 0
    drains: bool = False
    balance: Balance = field(default_factory=Balance)
    looks_at: float = 0
    started_at: float = 0


class Simulated:
    """Nodes that look every two seconds, or every half while they expect sessions, and act by what is published."""

    def __init__(self, sessions: int, *nodes: str) -> None:
        self.now = 1000.0
        self.free = {f"{number:04}" for number in range(sessions)}
        self.total = sessions
        self.moves = dict.fromkeys(self.free, 0)
        self.nodes: dict[str, Member] = {}
        self.killed: list[Member] = []
        self.flows: list[tuple[float, str]] = []
        for each in nodes:
            self.start(each)
        self.run(4)
        self.moves = dict.fromkeys(self.moves, 0)

    def start(self, id_: str) -> None:
        self.nodes[id_] = Member(id_, id_, looks_at=self.now, seen_at=self.now, started_at=self.now)

    def kill(self, id_: str) -> None:
        killed = self.nodes.pop(id_)
        self.free |= killed.sessions
        self.killed.append(replace(killed, id=f"{id_}-killed"))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += 0.1
            for each in list(self.nodes.values()):
                self._act(each)

    def _cluster(self, member: Member) -> Cluster:
        nodes = tuple(
            ClusterNode(
                id=each.id,
                name=each.name,
                sessions=each.published,
                is_draining=each.drains,
                up_s=self.now - each.started_at,
                seen_ago_s=self.now - each.seen_at,
            )
            for each in (*self.nodes.values(), *self.killed)
        )
        return Cluster(me=member.id, nodes=nodes, own=len(member.sessions), total=self.total)

    def _act(self, member: Member) -> None:
        if self.now >= member.looks_at:
            member.published, member.seen_at = len(member.sessions), self.now
            limit = max_to_claim(self._cluster(member), policy=POLICY)
            for company in sorted(self.free)[:limit]:
                self._own(member, company)
            self.free -= member.sessions
            member.looks_at = self.now + (0.5 if expects_sessions(self._cluster(member), policy=POLICY) else 2)
        member.balance, to = next_transfer(member.balance, self._cluster(member), now=self.now, policy=POLICY)
        if to is not None and to.id in self.nodes:
            company = member.order.pop(0)
            member.sessions.remove(company)
            self._own(self.nodes[to.id], company)
            self.flows.append((self.now, to.id))

    def _own(self, member: Member, company: str) -> None:
        member.sessions.add(company)
        member.order.append(company)
        self.moves[company] += 1

    @property
    def counts(self) -> dict[str, int]:
        return {each.id: len(each.sessions) for each in self.nodes.values()}

    def is_even(self, within: float = 0.15) -> bool:
        share = self.total / len(self.nodes)
        return not self.free and all(abs(count - share) <= within * share for count in self.counts.values())


def test_the_sessions_of_a_node_that_dies_are_shared_at_once() -> None:
    """Nothing else moves."""
    made = Simulated(300, "a", "b", "c")
    assert made.counts == {"a": 100, "b": 100, "c": 100}
    made.kill("b")
    made.run(8)
    assert made.is_even(0.02)
    made.run(120)
    assert max(made.moves.values()) == 1
    assert sum(made.moves.values()) == 100


def test_nodes_that_are_all_killed_get_their_shares_when_they_are_back() -> None:
    """Within three seconds of each other, each session is moved by being claimed, and no more."""
    made = Simulated(300, "a", "b", "c")
    for each in "abc":
        made.kill(each)
    made.run(8)
    for each in "abc":
        made.start(each)
        made.run(1.5)
    assert made.is_even(0.02)
    made.run(60)
    assert made.is_even(0.02)
    assert set(made.moves.values()) == {1}


def test_a_node_that_is_back_alone_takes_all_sessions_in_the_end() -> None:
    """The others were killed at the same time, and do not come back."""
    made = Simulated(300, "a", "b", "c")
    for each in "abc":
        made.kill(each)
    made.run(8)
    made.start("a")
    made.run(4)
    assert made.counts == {"a": 100}
    made.run(4)
    assert made.counts == {"a": 300}


def test_a_node_that_comes_gets_its_share_within_a_minute() -> None:
    """Each session moves once at most, no more than the share moves, and never more than a few a second."""
    made = Simulated(300, "a", "b")
    made.start("c")
    made.run(60)
    assert made.is_even()
    made.run(600)
    assert max(made.moves.values()) == 1
    assert sum(made.moves.values()) <= 105
    assert max(sum(at <= later < at + 1 for later, _ in made.flows) for at, _ in made.flows) <= 6


def test_two_nodes_that_join_a_full_one_get_their_shares_within_a_minute() -> None:
    """Each of the two gets a few sessions a second."""
    made = Simulated(300, "a")
    made.start("b")
    made.start("c")
    made.run(60)
    assert made.is_even()
    assert max(made.moves.values()) == 1
    for id_ in ("b", "c"):
        times = [at for at, to in made.flows if to == id_]
        assert max(sum(at <= later < at + 1 for later in times) for at in times) <= 6


def test_many_nodes_do_not_flood_one_that_comes() -> None:
    """Twenty nodes give it a few sessions a second together."""
    made = Simulated(1000, *(f"{number:02}" for number in range(20)))
    made.start("new")
    made.run(120)
    assert made.is_even()
    first = min(at for at, _ in made.flows)
    assert sum(first <= at < first + 5 for at, _ in made.flows) <= 5 * POLICY.inflow_per_s + 20


def test_a_drained_node_is_empty_and_stays_so() -> None:
    """The others have equally many, and each session moved once."""
    made = Simulated(300, "a", "b", "c")
    made.nodes["a"].drains = True
    made.run(30)
    assert made.counts == {"a": 0, "b": 150, "c": 150}
    made.run(60)
    assert made.counts["a"] == 0
    assert max(made.moves.values()) == 1


def test_replacing_nodes_one_by_one_moves_each_session_once() -> None:
    """A new node is started for each that is drained: it gets all sessions of that one, and nothing else moves."""
    made = Simulated(300, "a", "b", "c")
    for old, new in (("a", "d"), ("b", "e"), ("c", "f")):
        made.start(new)
        made.run(3)
        made.nodes[old].drains = True
        made.run(30)
        assert made.counts[old] == 0
        made.kill(old)
    made.run(120)
    assert made.is_even()
    assert max(made.moves.values()) == 1


def test_a_node_that_comes_and_goes_moves_nothing() -> None:
    """It is never there for long enough."""
    made = Simulated(300, "a", "b", "c")
    for _ in range(20):
        made.start("d")
        made.run(5)
        made.kill("d")
        made.run(5)
    assert sum(made.moves.values()) == 0
