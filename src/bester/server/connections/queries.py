"""Looks up what handlers ask the informer (docs/protocol.md, section 9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from bester.errors import BesterError, InvalidName
from bester.protocol.informer import Query, answer, decode_query, failed
from bester.protocol.names import username
from bester.server.admin.handlers import available_types
from bester.server.admin.servers import configured_servers
from bester.server.admin.status import look
from bester.server.connections.services import Services


class _Refused(Exception):
    """The command is unknown, or its data is not of the right kind."""


class Queries:
    """The queries of one connection.

    Args:
        services: those of the server.
        presence_changed: called when an account comes or goes, once the handler watches that.
    """

    def __init__(self, services: Services, presence_changed: Callable[[str, bool], None]) -> None:
        self._runtime = services.runtime
        self._accounts = services.accounts
        self._presence = services.cluster
        self._admin = services.admin
        self._presence_changed = presence_changed
        self._watching = False
        self._closed = False
        self.quits = False
        """Whether the last query was the wish to end."""

    async def answer(self, command: bytes) -> bytes:
        """Returns the frame that answers a query."""
        try:
            query = decode_query(command)
            data = await self._look_up(query)
        except (_Refused, BesterError, msgspec.DecodeError):
            return failed()
        self.quits = query.type == "quit"
        return answer(data)

    def close(self) -> None:
        """Watches no longer, because the connection is closed."""
        self._closed = True
        if self._watching:
            self._watching = False
            self._presence.unwatch(self._presence_changed)

    async def _look_up(self, query: Query) -> Any:
        match query.type:
            case "listClients":
                return await self._presence.usernames()
            case "isClient":
                return await self._is_online(_name(query))
            case "isAccount":
                return await self._accounts.exists(_name(query))
            case "rolesOf":
                return await self._accounts.roles(_name(query))
            case "serverInfo":
                # COMPAT: the reference daemon's count is a string.
                info = await look(self._admin).server_info()
                return info | {"clientCount": str(info["clientCount"]), "name": self._runtime.config.server.name}
            case "listTypes":
                return available_types(self._runtime)
            case "listServers":
                return configured_servers(self._runtime)
            case "watchClients":
                return await self._watch()
            case "quit":
                return None
            case _:
                raise _Refused

    async def _watch(self) -> list[str]:
        if self._watching or self._closed:
            return await self._presence.usernames()
        found = await self._presence.watch(self._presence_changed)
        self._watching = True
        self._unwatch_if_closed()
        return found

    def _unwatch_if_closed(self) -> None:
        if self._closed:  # meanwhile
            self.close()

    async def _is_online(self, name: str) -> bool:
        try:
            return await self._presence.is_online(username(name))
        except InvalidName:
            return False


def _name(query: Query) -> str:
    if not len(query.raw):
        raise _Refused
    return msgspec.json.decode(query.raw, type=str)
