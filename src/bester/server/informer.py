"""The informer: what handlers may ask about this server (docs/protocol.md, section 9)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from bester.core.drops import Drop
from bester.errors import BesterError, Overloaded
from bester.protocol.informer import Query, answer, decode_query, event, failed
from bester.server import views
from bester.server.connection import Connection
from bester.server.whole import Whole

if TYPE_CHECKING:
    from bester.server.hall import Hall

MAX_WAITING = 1024
MAX_SIZE = 64 * 1024


class _Refused(Exception):
    """The command is unknown, or its data is not of the right kind."""


class InformerConnection(Connection):
    """One handler's connection: each frame is a command, answered in order."""

    kind = "informer"

    def __init__(self, hall: Hall) -> None:
        super().__init__(hall, MAX_SIZE, self._received)
        self._waiting: deque[bytes] = deque()
        self._input_ended = False
        self._watching = False

    def _received(self, body: bytes) -> None:
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded(f"more than {MAX_WAITING} commands are waiting")
        self._waiting.append(body)
        if len(self._waiting) == 1:
            self.hall.spawn(self._run())

    def finish_input(self) -> bool:
        self._input_ended = True
        return bool(self._waiting)

    def closed(self) -> None:
        self.hall.exchange.counters.drops.count(Drop.COMMAND_ABANDONED, len(self._waiting))
        self._waiting.clear()
        if self._watching:
            self._watching = False
            self._unwatch()

    async def _run(self) -> None:
        while self._waiting and not self.ended:
            await self._answer(self._waiting[0])
            if self._waiting:  # else it is closed
                self._waiting.popleft()
        if self._input_ended and not self.ended:
            self.end()

    async def _answer(self, body: bytes) -> None:
        try:
            query = decode_query(body)
            data = await self._look_up(query)
        except (_Refused, BesterError, msgspec.DecodeError):
            self.write([failed()])
            return
        self.write([answer(data)])
        if query.type == "quit":
            self.end()

    async def _look_up(self, query: Query) -> Any:
        hall, whole = self.hall, Whole(self.hall)
        match query.type:
            case "listClients":
                return await whole.usernames()
            case "isClient":
                return await whole.is_online(_name(query))
            case "isAccount":
                return await hall.accounts.exists(_name(query))
            case "rolesOf":
                return await hall.accounts.roles(_name(query))
            case "serverInfo":
                # COMPAT: the reference daemon's count is a string.
                info = await whole.server_info()
                return info | {"clientCount": str(info["clientCount"]), "name": hall.config.server.name}
            case "listTypes":
                return views.types(hall)
            case "listServers":
                return [server["name"] for server in views.servers(hall)]
            case "watchClients":
                return await self._watch()
            case "quit":
                return None
            case _:
                raise _Refused

    async def _watch(self) -> list[str]:
        nodes = self.hall.nodes
        if self._watching or self.ended:
            return await Whole(self.hall).usernames()
        if nodes is None:
            self._watching = True
            self.hall.presence_watchers.append(self._presence_changed)
            return self.hall.exchange.presence.usernames()
        found = await nodes.watching.join(self._presence_changed)
        self._watching = True
        if self.ended:  # it was closed meanwhile
            self.closed()
        return found

    def _unwatch(self) -> None:
        if self.hall.nodes is None:
            self.hall.presence_watchers.remove(self._presence_changed)
        else:
            self.hall.nodes.watching.leave(self._presence_changed)

    def _presence_changed(self, username: str, online: bool) -> None:
        self.write([event(username, online)])


def _name(query: Query) -> str:
    if not len(query.raw):
        raise _Refused
    return msgspec.json.decode(query.raw, type=str)
