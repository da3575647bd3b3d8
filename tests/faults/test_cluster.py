"""Nodes and NATS servers that are killed; all of it is ``make faults``."""

from __future__ import annotations

from faults.scenarios.cluster import killed
from faults.short import short


def test_nodes_and_nats_servers_that_are_killed_lose_nothing() -> None:
    # How long the others wait on a machine that is busy with tests, is the full scenario's business.
    missed = short("cluster", lambda run: killed(run, 3, 2))
    assert [one for one in missed if not one.startswith(("the longest wait", "cluster: "))] == []
