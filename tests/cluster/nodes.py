"""Several nodes of one server, in this process, over a real NATS server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any

from tests.nats import NatsServer
from tests.server.peers import Stage
from tests.waiting import until

from bester.server.cluster.membership import Member
from bester.server.cluster.node import ClusterNode
from bester.testing import server

_numbers = count(1)


@asynccontextmanager
async def nodes(nats: NatsServer, many: int = 2, **overrides: Any) -> AsyncIterator[list[Stage]]:
    """Runs nodes that know each other, and whose server has a name that no other test's has."""
    name = f"s{next(_numbers)}.example"
    async with AsyncExitStack() as stack:
        stages = [
            await stack.enter_async_context(node(nats.url, name, f"n{number}", **overrides)) for number in range(many)
        ]
        for stage in stages:
            await until(lambda stage=stage: len(others(stage)) == many - 1)
            stage.runtime.exchange.dispatcher.unsure_until = 0.0  # as if it had been there for a while
        yield stages


@asynccontextmanager
async def node(url: str, server_name: str, name: str, **overrides: Any) -> AsyncIterator[Stage]:
    """Runs one node; whoever is connected to it leaves before it stops."""
    cluster = {"nats": [url], "node": name} | overrides.pop("cluster", {})
    tree = {"server": {"name": server_name}, "cluster": cluster} | overrides
    async with server(tree) as running, AsyncExitStack() as closing:
        yield Stage(running, closing)


def joined(stage: Stage) -> ClusterNode:
    """What joins a node with the others."""
    assert stage.server.node is not None
    return stage.server.node


def others(stage: Stage) -> dict[str, Member]:
    return joined(stage).membership.others


async def serves(stage: Stage, type: str, available: bool = True) -> None:
    """Waits until a node knows that a type has a handler somewhere, or has none."""
    types = stage.runtime.exchange.dispatcher.types
    await until(lambda: (type in types and types[type].available) is available)


async def shared(stage: Stage, username: str, wanted: bool = True) -> None:
    """Waits until a node knows that an account has sessions on other nodes too, or not."""
    presence = stage.runtime.exchange.presence
    await until(lambda: presence.find(username), lambda account: account is not None and account.shared is wanted)
