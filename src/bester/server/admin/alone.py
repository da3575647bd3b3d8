"""A server without a cluster, as operators see and control it."""

from __future__ import annotations

from typing import Any

from bester.errors import BadArguments, UnknownAccount
from bester.server.admin import clients, descriptions, handlers, numbers, problems, servers
from bester.server.admin.services import AdminServices


class AloneStatus:
    """A look at a server without a cluster; :class:`~bester.server.admin.cluster_status.ClusterStatus` with one.

    Each public method returns the result of a built-in command or a part of the console's events.
    """

    def __init__(self, services: AdminServices) -> None:
        self._services = services
        self.missing: frozenset[str] = frozenset()
        """No node can be missing."""

    # -- clients ---------------------------------------------------------------------------------------------------

    async def server_info(self) -> dict[str, Any]:
        return clients.server_info(self._services, self._services.cluster.counted_here())

    async def clients(self, after: str, limit: int | None) -> list[dict[str, Any]]:
        return clients.connected(self._services, after, limit)

    async def accounts(self, after: str, limit: int) -> list[dict[str, Any]]:
        return await clients.accounts(self._services, after, limit)

    async def kick(self, name: str) -> int:
        ended = clients.kick(self._services, name)
        if not ended:
            raise UnknownAccount("no session of this account is connected")
        return ended

    # -- handlers --------------------------------------------------------------------------------------------------

    async def handlers(self) -> list[dict[str, Any]]:
        return handlers.types(self._services)

    async def descriptions(self, types: list[str]) -> list[dict[str, Any]]:
        return descriptions.at_node(self._services, types)

    async def start_handler(self, type: str, node: str | None) -> object:
        _check_no_node(node)
        return await self._services.supervisor.start_type(type)

    async def stop_handler(self, type: str, node: str | None) -> object:
        _check_no_node(node)
        return await self._services.supervisor.stop_type(type)

    async def drain_handler(self, type: str, node: str | None) -> object:
        _check_no_node(node)
        return self._services.supervisor.drain_type(type)

    async def handler_log(self, type: str, lines: int, node: str | None) -> object:
        _check_no_node(node)
        return self._services.supervisor.output(type, lines)

    # -- servers ---------------------------------------------------------------------------------------------------

    async def servers(self) -> list[dict[str, Any]]:
        return servers.servers(self._services, await self._services.messages.queue_sizes())

    async def disconnect_server(self, server: str) -> int:
        return self._services.federation.disconnect(server)

    # -- everything ------------------------------------------------------------------------------------------------

    async def problems(self) -> list[dict[str, Any]]:
        return await problems.find(self._services)

    async def status(self) -> dict[str, Any]:
        services = self._services
        return {
            **numbers.process(services),
            **numbers.numbers(services),
            "disk": numbers.disk(services),
            "stored": await numbers.stored(services),
            "handlers": handlers.types(services),
            "servers": await self.servers(),
            "problems": await problems.find(services),
        }

    async def glance(self) -> dict[str, Any]:
        return numbers.glance(self._services) | {"problems": problems.of_process(self._services)}

    async def history(self) -> list[list[float | None]]:
        return list(self._services.rates.history)

    async def unrecorded(self) -> int:
        await self._services.receipts.settle()
        return self._services.receipts.unrecorded

    async def reload(self, all_nodes: bool) -> dict[str, Any]:
        return await self._services.reload()


def _check_no_node(node: str | None) -> None:
    if node is not None:
        raise BadArguments("this server is no cluster, and has no nodes")
