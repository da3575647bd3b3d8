"""Small worlds of the scale scenarios: nothing is lost, and one seed gives one result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from lab.scale.calibration import MEASURED, compared
from lab.scale.costs import Costs
from lab.scale.network import world as earth
from lab.scale.scenarios import crowd, founding, hub, mesh, partition, power_law, two_tiers
from lab.scale.topologies import over, relay
from lab.scale.world import World

Scenario = Callable[[int, int], dict[str, Any]]


@pytest.mark.parametrize("scenario", [founding, hub, two_tiers, mesh, power_law])
def test_all_comes_once_and_in_order(scenario: Scenario) -> None:
    found = scenario(20, 1)
    assert found["faults"] == []
    assert found["good"] == found["messages"] == found["deliveries"]


def test_a_seed_has_one_result() -> None:
    assert hub(20, 1) | {"wallS": 0} != hub(20, 2) | {"wallS": 0}
    first, second = mesh(20, 3), mesh(20, 3)
    assert first["digest"] == second["digest"] != mesh(20, 4)["digest"]
    for name in ("events", "rate", "busy", "latencyMs", "dials"):
        assert first[name] == second[name]


def test_a_row_of_five_takes_five_hops() -> None:
    found = founding(10, 1)
    assert set(found["hops"]) == {"5"}  # to the English handler, and to four servers
    assert found["links"] == {"mean": 0.8, "most": 1}


def test_a_group_has_what_each_member_writes() -> None:
    found = crowd(40, 1, writers=5)
    assert (found["messages"], found["deliveries"], found["faults"]) == (5, 100, [])


@pytest.mark.parametrize("hubs", [0, 1])
def test_a_partition_heals(hubs: int) -> None:
    found = partition(30, 1, hubs, rate=0.2)
    assert found["faults"] == []
    assert found["storedMost"] > 0
    assert found["good"] == found["messages"]
    assert 0 < found["lastLateS"] < 30
    assert found["storedCurve"][-1][1] == 0


def test_a_server_that_turns_others_away_loses_nothing() -> None:
    with World(1000, 1, earth, Costs(dial=20e-6)) as world:
        relay(world, over(0))
        for sender in range(1, world.count):
            world.engine.at(1.0, world.send, sender, "english", 0)
        world.run(2.0)
        assert world.servers[0].runtime.counts.refused["overloaded"] > 0
        world.run_until_quiet(60.0)
        assert world.ledger.faults() == []
        assert world.ledger.count(1) == len(world.ledger.latencies) == world.count - 1


def test_simulated_servers_cost_what_real_ones_do() -> None:
    for name, real, simulated in compared(MEASURED, Costs()):
        assert simulated == pytest.approx(real, rel=0.15), name
