"""What the whole server shows of itself, whichever of its nodes is asked.

Without a cluster all of this is what :mod:`bester.server.admin.node_status` says. With one, all nodes are asked at once
(:mod:`bester.server.cluster.queries`), and every row says its node.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from bester.errors import (
    BadArguments,
    BesterError,
    Internal,
    InvalidName,
    Overloaded,
    UnknownAccount,
    UnknownCommand,
)
from bester.protocol.names import username
from bester.server.admin import merge as joining
from bester.server.admin import node_status as views
from bester.server.admin import problems
from bester.server.admin.answers import kick
from bester.server.admin.overview import glance, online

if TYPE_CHECKING:
    from bester.server.cluster.node import ClusterNode
    from bester.server.runtime import Runtime
    from bester.store.ports import QueueSize

log = logging.getLogger("bester.commands")

_NO_ANSWERS = (Internal, Overloaded, UnknownCommand)
STOP_S = 10.0
"""How long another node may take to start or stop a process, or to read its configuration."""


class ClusterStatus:
    """One look at the whole server."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.missing: set[str] = set()
        """The nodes that did not answer in time, so that what is shown is without them."""

    async def _ask(
        self, nodes: ClusterNode, question: str, node: str | None = None, timeout_s: float | None = None, **args: Any
    ) -> list[tuple[str, Any]]:
        if node is not None and node != nodes.name and node not in nodes.membership.others:
            known = ", ".join(sorted({nodes.name, *nodes.membership.others}))
            raise BadArguments(f"there is no such node; there are {known}")
        wanted = None if node is None else [node]
        gathered = await nodes.queries.ask(question, args, wanted, timeout_s)
        self.missing.update(gathered.missing)
        # Those of another release, or with too much to do.
        self.missing.update(node for node, error in gathered.errors.items() if isinstance(error, _NO_ANSWERS))
        return gathered.value()

    # -- who is connected ----------------------------------------------------------------------------------------

    async def usernames(self) -> list[str]:
        """The accounts with sessions, sorted."""
        if self.runtime.nodes is None:
            return self.runtime.exchange.presence.usernames()
        told = await self._ask(self.runtime.nodes, "usernames")
        return sorted({name for _, names in told for name in names})

    async def is_online(self, name: str) -> bool:
        """Whether an account has a session.

        Raises:
            BusDown: it has none here, and the other nodes cannot be asked.
        """
        if self.runtime.nodes is None:
            return self.runtime.exchange.presence.find(name) is not None
        try:
            return await self.runtime.nodes.presence.is_online(username(name))
        except InvalidName:
            return False

    async def server_info(self) -> dict[str, Any]:
        """What anyone who is logged in may know; the listeners are this node's."""
        if self.runtime.nodes is None:
            return views.server_info(self.runtime, len(self.runtime.exchange.presence.usernames()))
        gathered = await self.runtime.nodes.queries.recent("online")
        self.missing.update(gathered.missing)
        others = {node: count for node, count in gathered.answers.items() if node != self.runtime.nodes.name}
        return views.server_info(self.runtime, sum(others.values()) + online(self.runtime))

    async def clients(self, after: str, limit: int | None) -> list[dict[str, Any]]:
        """The connected accounts with their sessions, sorted: those after a name, and at most so many."""
        if self.runtime.nodes is None:
            return views.clients(self.runtime, after, limit)
        return joining.clients(await self._ask(self.runtime.nodes, "clients", after=after, limit=limit), limit)

    async def accounts(self, after: str, limit: int) -> list[dict[str, Any]]:
        """A page of the accounts, with how many sessions they have and what is in their mailboxes."""
        rows = await views.accounts(self.runtime, after, limit)
        if self.runtime.nodes is not None and rows:
            told = await self._ask(self.runtime.nodes, "sessions", after=after, last=rows[-1]["username"])
            sessions = joining.added(counts for _, counts in told)
            rows = [row | {"sessions": sessions.get(row["username"], 0)} for row in rows]
        return rows

    async def kick(self, name: str) -> int:
        """Ends an account's sessions, and returns how many there were.

        Raises:
            InvalidName, UnknownAccount: not a name, or it has none.
        """
        if self.runtime.nodes is None:
            ended = kick(self.runtime, name)
        else:
            ended = sum(count for _, count in await self._ask(self.runtime.nodes, "kick", username=name))
        if not ended:
            raise UnknownAccount("no session of this account is connected")
        return ended

    # -- handlers ------------------------------------------------------------------------------------------------

    async def handlers(self) -> list[dict[str, Any]]:
        """The types, who serves them, and how it goes."""
        if self.runtime.nodes is None:
            return views.handlers(self.runtime)
        return joining.handlers(await self._ask(self.runtime.nodes, "handlers"))

    async def start_handler(self, type: str, node: str | None) -> object:
        """Lets a type's classic handlers be asked again, where the configuration has one."""
        if self.runtime.nodes is None:
            self._check_alone(node)
            return await self.runtime.supervisor.start_type(type)
        return joining.starts(await self._ask(self.runtime.nodes, "startHandler", node, STOP_S, type=type))

    async def stop_handler(self, type: str, node: str | None) -> object:
        """Stops asking a type's handlers at once."""
        if self.runtime.nodes is None:
            self._check_alone(node)
            return await self.runtime.supervisor.stop_type(type)
        return joining.stops(await self._ask(self.runtime.nodes, "stopHandler", node, STOP_S, type=type))

    async def drain_handler(self, type: str, node: str | None) -> object:
        """Stops asking a type's handlers; what they have is finished."""
        if self.runtime.nodes is None:
            self._check_alone(node)
            return self.runtime.supervisor.drain_type(type)
        return joining.stops(await self._ask(self.runtime.nodes, "drainHandler", node, type=type))

    async def handler_log(self, type: str, lines: int, node: str | None) -> object:
        """The last lines that the processes of a type wrote."""
        if self.runtime.nodes is None:
            self._check_alone(node)
            return self.runtime.supervisor.output(type, lines)
        return joining.outputs(await self._ask(self.runtime.nodes, "handlerLog", node, type=type, lines=lines), lines)

    def _check_alone(self, node: str | None) -> None:
        if node is not None:
            raise BadArguments("this server is no cluster, and has no nodes")

    # -- everything ----------------------------------------------------------------------------------------------

    async def servers(self) -> list[dict[str, Any]]:
        """How it goes with the other servers."""
        nodes = self.runtime.nodes
        if nodes is None:
            return await views.destinations(self.runtime)
        return await self._servers(nodes, await self._ask(nodes, "servers"), await self.runtime.messages.queue_sizes())

    async def _servers(self, nodes: ClusterNode, told: joining.Told, sizes: list[QueueSize]) -> list[dict[str, Any]]:
        others = [(node, rows) for node, rows in told if node != nodes.name]
        holders = await nodes.leases.holders()
        rows = joining.servers([(nodes.name, views.servers_now(self.runtime, sizes)), *others])
        return [row | {"holder": holders.get(row["name"])} for row in rows]

    async def disconnect_server(self, server: str) -> int:
        """Ends the links to and from a server, and returns how many there were."""
        if self.runtime.nodes is None:
            return self.runtime.federation.disconnect(server)
        told = await self._ask(self.runtime.nodes, "disconnectServer", server=server)
        return sum(count for _, count in told)

    async def problems(self) -> list[dict[str, Any]]:
        """What is wrong, or is about to be."""
        nodes = self.runtime.nodes
        if nodes is None:
            return await problems.find(self.runtime)
        own = self._problems(await self._ask(nodes, "problems"))
        return [*own, *await problems.kept(self.runtime)][: problems.MAX_PROBLEMS]

    def _problems(self, told: joining.Told) -> list[dict[str, Any]]:
        found = joining.problems(told)
        for node in sorted(self.missing):
            found.append({"what": "node", "name": node, "detail": "does not answer", "node": node})
        return found

    async def status(self) -> dict[str, Any]:
        """Everything at a glance; the numbers count since the start of each node, and are added up."""
        runtime, nodes = self.runtime, self.runtime.nodes
        if nodes is None:
            return await views.status(runtime)
        told = await self._ask(nodes, "status")
        kept = await problems.kept(runtime)
        own = self._problems([(node, one["problems"]) for node, one in told])
        sizes: list[QueueSize] = []
        stored: dict[str, int] | None = None
        try:
            sizes, stored = await runtime.messages.queue_sizes(), await views.stored(runtime)
        except BesterError as error:
            log.info("what is kept cannot be told: %s", error.inside)
        return {
            **views.process(runtime),
            "node": nodes.name,
            "nodes": [_node(node, one) for node, one in told] + self._not_there(nodes),
            **joining.added(one["numbers"] for _, one in told),
            "loop": {"worstLagMs": max(one["process"]["loop"]["worstLagMs"] for _, one in told)},
            "disk": None,
            "stored": stored,
            "handlers": joining.handlers([(node, one["handlers"]) for node, one in told]),
            "servers": await self._servers(nodes, [(node, one["servers"]) for node, one in told], sizes),
            "problems": [*own, *kept][: problems.MAX_PROBLEMS],
        }

    def _not_there(self, nodes: ClusterNode) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for node in sorted(self.missing):
            member = nodes.membership.others.get(node)
            found.append({"node": node, "version": member.hello.version if member else None, "missing": True})
        return found

    async def glance(self) -> dict[str, Any]:
        """What the console shows of all nodes just now; without what is kept."""
        runtime, nodes = self.runtime, self.runtime.nodes
        own = glance(runtime)
        if nodes is None:
            return own
        told = await self._ask(nodes, "glance")
        found = own | joining.glances(told)
        found["server"] = own["server"] | {"node": nodes.name}
        found["nodes"] += self._not_there(nodes)
        found["problems"] = self._problems([(node, one["problems"]) for node, one in told])
        return found

    async def history(self) -> list[list[float | None]]:
        """The rates of the last ten minutes, the oldest first."""
        own = list(self.runtime.rates.history)
        if self.runtime.nodes is None:
            return own
        told = await self._ask(self.runtime.nodes, "history")
        return joining.histories(own, [rows for node, rows in told if node != self.runtime.nodes.name])

    async def unrecorded(self) -> int:
        """Lets go of the receipts of the last second, and returns how many messages have none."""
        if self.runtime.nodes is None:
            await self.runtime.receipts.settle()
            return self.runtime.receipts.unrecorded
        return sum(count for _, count in await self._ask(self.runtime.nodes, "receipts"))

    async def reload(self, all: bool) -> dict[str, Any]:
        """Lets this node, or all, read its configuration again.

        Raises:
            BadConfiguration: this node's is wrong; nothing has changed here.
        """
        nodes = self.runtime.nodes
        if nodes is None or not all:
            return await self.runtime.reload()
        gathered = await nodes.queries.ask("reload", timeout_s=STOP_S)
        self.missing.update(gathered.missing)
        rows: list[dict[str, Any]] = [{"node": node} | one for node, one in gathered.answers.items()]
        for node, error in gathered.errors.items():
            rows.append({"node": node, "error": {"code": error.code, "message": error.message}})
        answers = gathered.answers.values()
        return {
            "restartNeeded": sorted({key for one in answers for key in one["restartNeeded"]}),
            "warnings": sorted({line for one in answers for line in one["warnings"]}),
            "nodes": sorted(rows, key=lambda row: str(row["node"])),
        }


def _node(node: str, told: dict[str, Any]) -> dict[str, Any]:
    numbers, process = told["numbers"], told["process"]
    return {
        "node": node,
        "version": told["version"],
        "uptime": process["uptime"],
        "pid": process["pid"],
        "listeners": process["listeners"],
        "connections": numbers["connections"],
        "accounts": told["accounts"],
        "sessions": numbers["sessions"],
        "underWay": numbers["underWay"],
        "messages": numbers["messages"],
        "problems": len(told["problems"]),
    }
