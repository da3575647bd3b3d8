"""Who the other nodes are."""

from __future__ import annotations

from tests.nats import NatsServer
from tests.nodes.nodes import joined, nodes, others

from bester.cluster.items import Hello


async def test_a_node_that_comes_again_under_its_name_is_another_one(nats: NatsServer) -> None:
    """Its death may not have been seen: what was outstanding there is not waited for."""
    async with nodes(nats) as (a, _):
        members = joined(a).members
        gone: list[float] = []
        members._gone = lambda member: gone.append(member.hello.started)
        before = others(a)["n1"].hello
        members.met("n1", Hello(before.version, before.started))
        assert gone == []
        members.met("n1", Hello(before.version, before.started + 1))
        assert gone == [before.started]
        assert others(a)["n1"].hello.started == before.started + 1
