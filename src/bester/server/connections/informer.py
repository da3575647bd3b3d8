"""The informer: what handlers may ask about this server (docs/protocol.md, section 9)."""

from __future__ import annotations

from typing import Any

import msgspec

from bester.core.metrics import Drop
from bester.errors import BesterError, InvalidName
from bester.protocol.informer import Query, answer, decode_query, event, failed
from bester.protocol.names import username
from bester.server.admin.handlers import available_types
from bester.server.admin.servers import configured_servers
from bester.server.admin.status import look
from bester.server.connections.command_queue import CommandQueue
from bester.server.connections.connection import Connection
from bester.server.connections.services import Services

MAX_WAITING = 1024
MAX_SIZE = 64 * 1024


class _Refused(Exception):
    """The command is unknown, or its data is not of the right kind."""


class InformerConnection(Connection):
    """One handler's connection: each frame is a command, answered in order."""

    kind = "informer"

    def __init__(self, services: Services) -> None:
        runtime = services.runtime
        super().__init__(runtime, services.connections, MAX_SIZE, self._command)
        self._accounts = services.accounts
        self._presence = services.cluster
        self._admin = services.admin
        self._commands: CommandQueue[bytes] = CommandQueue(self, runtime.spawn, MAX_WAITING)
        self._input_ended = False
        self._quits = False
        self._watching = False

    def _command(self, body: bytes) -> None:
        self._commands.add(body)

    def finish_input(self) -> bool:
        self._input_ended = True
        return len(self._commands) > 0

    def closed(self) -> None:
        self.runtime.exchange.batch.counters.drops.count(Drop.COMMAND_ABANDONED, self._commands.clear())
        if self._watching:
            self._watching = False
            self._presence.unwatch(self._presence_changed)

    async def carry_out(self, command: bytes) -> bytes:
        try:
            query = decode_query(command)
            data = await self._look_up(query)
        except (_Refused, BesterError, msgspec.DecodeError):
            return failed()
        self._quits = query.type == "quit"
        return answer(data)

    def answer(self, frame: bytes) -> None:
        self.write([frame])
        if self._quits:
            self.end()

    def commands_done(self) -> None:
        if self._input_ended:
            self.end()

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
                return info | {"clientCount": str(info["clientCount"]), "name": self.runtime.config.server.name}
            case "listTypes":
                return available_types(self.runtime)
            case "listServers":
                return configured_servers(self.runtime)
            case "watchClients":
                return await self._watch()
            case "quit":
                return None
            case _:
                raise _Refused

    async def _watch(self) -> list[str]:
        if self._watching or self.ended:
            return await self._presence.usernames()
        found = await self._presence.watch(self._presence_changed)
        self._watching = True
        if self.ended:  # it was closed meanwhile
            self.closed()
        return found

    async def _is_online(self, name: str) -> bool:
        try:
            return await self._presence.is_online(username(name))
        except InvalidName:
            return False

    def _presence_changed(self, name: str, online: bool) -> None:
        self.write([event(name, online)])


def _name(query: Query) -> str:
    if not len(query.raw):
        raise _Refused
    return msgspec.json.decode(query.raw, type=str)
