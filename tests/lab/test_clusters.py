"""Plans with clusters: all comes, whoever fails, and what must not be is seen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from lab.clusterorder import in_clusters
from lab.clustertrouble import CLUSTER_KINDS
from lab.draw import draw
from lab.ledger import Attempt, Copy, Handled, Ledger, Receipt
from lab.plan import Account, Errand, Fault, Hand, Message, Plan, Session, Site
from lab.run import run_plan
from lab.shrink import shrink

from bester.config import Config
from bester.net.identity import Identities
from bester.server.cluster.node import ClusterNode
from bester.server.cluster.relays import Relays


def cluster(**changes: object) -> Plan:
    """Returns a plan with three nodes, at two of which there are handlers, and another server."""
    away = ((1.0, 3.0), (5.0, 7.0))
    on = Errand(servers=(1,), clients=("a0", "a1"), then=Errand(clients=("a2",)))
    plan = {
        "seed": 1,
        "servers": (Site(nodes=3, nats=3), Site()),
        "hands": (Hand(0, ("t0",)), Hand(0, ("t0",), node=1), Hand(1, ("t0",))),
        "accounts": (Account(0), Account(0), Account(1)),
        "sessions": (Session(0, node=0), Session(1, away=away), Session(2)),
        "messages": tuple(Message(0.25 * at, at % 2, errand=on) for at in range(32)),
        "proven": True,
        "length_s": 8.0,
    }
    return Plan(**(plan | changes))  # type: ignore[arg-type]


def test_everything_comes_whatever_befalls_a_cluster() -> None:
    faults = [Fault(0.8 * at, kind, for_s=1.0, node=at, amount=0.3) for at, kind in enumerate(CLUSTER_KINDS)]
    faults += [Fault(3.0, "kill", for_s=0.5, node=0), Fault(5.0, "stop", node=1), Fault(6.0, "pause", for_s=6, node=2)]
    outcome = run_plan(cluster(faults=tuple(faults)))
    assert outcome.violations == []
    assert {kind for _, kind in outcome.happened} == {*CLUSTER_KINDS, "kill", "stop", "pause"}
    assert outcome.receipts >= 3 * 32


def test_two_nodes_that_send_to_one_server_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody(*_: object) -> None:
        return None

    monkeypatch.setattr(Relays, "open_relay", nobody)
    monkeypatch.setattr(Relays, "good_until", lambda *_: 1e9)
    assert any(one.startswith("lease: ") for one in run_plan(cluster()).violations)


def test_some_plans_have_clusters_and_all_may() -> None:
    plans = [draw(seed) for seed in range(100)]
    share = sum(any(site.nodes for site in plan.servers) for plan in plans)
    assert 5 < share < 35
    assert all(
        any(site.nodes for site in draw(seed, clusters=True).servers)
        for seed in range(100)
        if len(plans[seed].servers) <= 4
    )
    assert {hand.node for plan in plans for hand in plan.hands} > {0}


def test_a_cluster_becomes_a_single_server_where_that_is_enough() -> None:
    def breaks(plan: Plan) -> list[str]:
        return ["a message: is sent"] if plan.messages else []

    assert shrink(cluster(), ["a message: is sent"], breaks, 20.0).servers == (Site(),)


def test_a_letter_that_comes_late_is_seen_unless_something_was_wrong() -> None:
    plan = cluster(sessions=(Session(0, node=0), Session(1)))
    stage: Any = SimpleNamespace(plan=plan, ledger=Ledger())
    sessions: Any = [SimpleNamespace(session=plan.sessions[1], server=0, account="a1")]
    for number in range(3):
        stage.ledger.sends(number, 0, 1, 10.0 + number)
        stage.ledger.asked(Handled(number, "", 0, 0, 10.0 + number, 2))
        stage.ledger.reported(number, 1, Attempt(True, False, "", ()), 10.5 + number)
    for at, number in enumerate((1, 0, 2)):
        stage.ledger.came(Copy(number, "", 0, "a1"), Receipt(1, "d", 20.0 + at, 3))
    assert len(list(in_clusters(stage, sessions, [(50.0, 60.0)], {}))) == 1
    assert list(in_clusters(stage, sessions, [(5.0, 7.0)], {})) == []
    assert list(in_clusters(stage, sessions, [], {0: [(10.2, 10.3)]})) == []


def test_a_node_knows_identities_before_other_nodes_let_it_send(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    opens = ClusterNode.open

    async def opening(node: ClusterNode) -> None:
        order.append("heard")
        await opens(node)

    def identities(config: Config) -> Identities:
        order.append("identities")
        return Identities(config)

    monkeypatch.setattr(ClusterNode, "open", opening)
    monkeypatch.setattr("bester.server.server.Identities", identities)
    site = (Site(nodes=1),)
    nobody = Plan(seed=1, servers=site, hands=(), accounts=(), sessions=(), messages=(), length_s=0.1)
    assert run_plan(nobody).violations == []
    assert order == ["identities", "heard"]
