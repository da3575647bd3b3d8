"""A cluster, as operators see and control it at any of its nodes.

All nodes are asked at once (:mod:`bester.server.admin.answers`), and every row says its node.
"""

from __future__ import annotations

import logging
from typing import Any

from bester.errors import BadArguments, BesterError, Internal, Overloaded, UnknownAccount, UnknownCommand
from bester.server.admin import clients, merge, numbers, problems, servers
from bester.server.admin.services import AdminServices
from bester.store.ports import QueueSize

log = logging.getLogger("bester.commands")

_NO_ANSWERS = (Internal, Overloaded, UnknownCommand)
"""The errors of nodes that are of another release, or have too much to do."""
STOP_S = 10.0
"""How long another node may take to start or stop a process, or to read its configuration."""


class ClusterStatus:
    """A look at all nodes; :class:`~bester.server.admin.alone.AloneStatus` for a server without a cluster.

    Each public method returns the result of a built-in command or a part of the console's events.
    """

    def __init__(self, services: AdminServices) -> None:
        self._services = services
        self._cluster = services.cluster
        self.missing: set[str] = set()
        """The nodes that did not answer in time: the results are without them."""

    async def _ask(
        self, question: str, node: str | None = None, timeout_s: float | None = None, **args: Any
    ) -> list[tuple[str, Any]]:
        cluster = self._cluster
        if node is not None and node != cluster.name and node not in cluster.others:
            known = ", ".join(sorted({cluster.name, *cluster.others}))
            raise BadArguments(f"there is no such node; there are {known}")
        wanted = None if node is None else [node]
        gathered = await cluster.ask(question, args, wanted, timeout_s)
        self.missing.update(gathered.missing)
        self.missing.update(node for node, error in gathered.errors.items() if isinstance(error, _NO_ANSWERS))
        return gathered.value()

    # -- clients ---------------------------------------------------------------------------------------------------

    async def server_info(self) -> dict[str, Any]:
        """Returns the clients of all nodes as a number, and the listeners of this one."""
        gathered = await self._cluster.recent("online")
        self.missing.update(gathered.missing)
        others = sum(count for node, count in gathered.answers.items() if node != self._cluster.name)
        return clients.server_info(self._services, others + self._cluster.counted_here())

    async def clients(self, after: str, limit: int | None) -> list[dict[str, Any]]:
        return merge.clients(await self._ask("clients", after=after, limit=limit), limit)

    async def accounts(self, after: str, limit: int) -> list[dict[str, Any]]:
        rows = await clients.accounts(self._services, after, limit)
        if rows:
            answers = await self._ask("sessions", after=after, last=rows[-1]["username"])
            sessions = merge.added(counts for _, counts in answers)
            rows = [row | {"sessions": sessions.get(row["username"], 0)} for row in rows]
        return rows

    async def kick(self, name: str) -> int:
        ended: int = sum(count for _, count in await self._ask("kick", username=name))
        if not ended:
            raise UnknownAccount("no session of this account is connected")
        return ended

    # -- handlers --------------------------------------------------------------------------------------------------

    async def handlers(self) -> list[dict[str, Any]]:
        return merge.handlers(await self._ask("handlers"))

    async def descriptions(self, types: list[str]) -> list[dict[str, Any]]:
        """Returns what each node knows of types, one node after the other."""
        return [row for _, rows in await self._ask("descriptions", types=types) for row in rows]

    async def start_handler(self, type: str, node: str | None) -> object:
        return merge.starts(await self._ask("startHandler", node, STOP_S, type=type))

    async def stop_handler(self, type: str, node: str | None) -> object:
        return merge.stops(await self._ask("stopHandler", node, STOP_S, type=type))

    async def drain_handler(self, type: str, node: str | None) -> object:
        return merge.stops(await self._ask("drainHandler", node, type=type))

    async def handler_log(self, type: str, lines: int, node: str | None) -> object:
        return merge.outputs(await self._ask("handlerLog", node, type=type, lines=lines), lines)

    # -- servers ---------------------------------------------------------------------------------------------------

    async def servers(self) -> list[dict[str, Any]]:
        return await self._servers(await self._ask("servers"), await self._services.messages.queue_sizes())

    async def _servers(self, answers: merge.Answers, sizes: list[QueueSize]) -> list[dict[str, Any]]:
        others = [(node, rows) for node, rows in answers if node != self._cluster.name]
        holders = await self._cluster.holders()
        rows = merge.servers([(self._cluster.name, servers.servers(self._services, sizes)), *others])
        return [row | {"holder": holders.get(row["name"])} for row in rows]

    async def disconnect_server(self, server: str) -> int:
        return sum(count for _, count in await self._ask("disconnectServer", server=server))

    # -- everything ------------------------------------------------------------------------------------------------

    async def problems(self) -> list[dict[str, Any]]:
        found = self._problems(await self._ask("problems"))
        return [*found, *await problems.of_store(self._services)][: problems.MAX_PROBLEMS]

    def _problems(self, answers: merge.Answers) -> list[dict[str, Any]]:
        """Returns the problems of all nodes' processes, and the nodes that do not answer."""
        found = merge.problems(answers)
        for node in sorted(self.missing):
            found.append({"what": "node", "name": node, "detail": "does not answer", "node": node})
        return found

    async def status(self) -> dict[str, Any]:
        services = self._services
        answers = await self._ask("status")
        of_store = await problems.of_store(services)
        of_nodes = self._problems([(node, one["problems"]) for node, one in answers])
        sizes: list[QueueSize] = []
        stored: dict[str, int] | None = None
        try:
            sizes, stored = await services.messages.queue_sizes(), await numbers.stored(services)
        except BesterError as error:
            log.info("what is kept cannot be told: %s", error.inside)
        return {
            **numbers.process(services),
            "node": self._cluster.name,
            "nodes": [merge.node(node, one) for node, one in answers] + self._missing_nodes(),
            **merge.added(one["numbers"] for _, one in answers),
            "loop": {"worstLagMs": max(one["process"]["loop"]["worstLagMs"] for _, one in answers)},
            "recordings": [
                row | {"node": node} for node, one in answers for row in one["process"].get("recordings", ())
            ],
            "disk": None,
            "stored": stored,
            "handlers": merge.handlers([(node, one["handlers"]) for node, one in answers]),
            "servers": await self._servers([(node, one["servers"]) for node, one in answers], sizes),
            "problems": [*of_nodes, *of_store][: problems.MAX_PROBLEMS],
        }

    def _missing_nodes(self) -> list[dict[str, Any]]:
        others = self._cluster.others
        return [{"node": node, "version": others.get(node), "missing": True} for node in sorted(self.missing)]

    async def glance(self) -> dict[str, Any]:
        own = numbers.glance(self._services)
        answers = await self._ask("glance")
        found = own | merge.glances(answers)
        found["server"] = own["server"] | {"node": self._cluster.name}
        found["nodes"] += self._missing_nodes()
        found["problems"] = self._problems([(node, one["problems"]) for node, one in answers])
        return found

    async def history(self) -> list[list[float | None]]:
        own = list(self._services.rates.history)
        answers = await self._ask("history")
        return merge.histories(own, [rows for node, rows in answers if node != self._cluster.name])

    async def unrecorded(self) -> int:
        return sum(count for _, count in await self._ask("receipts"))

    async def reload(self, all_nodes: bool) -> dict[str, Any]:
        """Reads the configuration again, at this node or at all.

        Raises:
            BadConfiguration: this node's is wrong; nothing has changed here.
        """
        if not all_nodes:
            return await self._services.reload()
        gathered = await self._cluster.ask("reload", timeout_s=STOP_S)
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
