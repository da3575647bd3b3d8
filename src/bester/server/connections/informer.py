"""The informer: what handlers may ask about this server (docs/protocol.md, section 9)."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from bester.core.metrics import Drop
from bester.protocol.informer import event
from bester.server.connections.command_queue import CommandQueue
from bester.server.connections.connection import Connection
from bester.server.connections.queries import Queries
from bester.server.connections.services import Services

MAX_WAITING = 1024
MAX_SIZE = 64 * 1024


class InformerConnection(Connection):
    """One handler's connection: each frame is a command, answered in order."""

    kind = "informer"

    def __init__(self, services: Services) -> None:
        runtime = services.runtime
        super().__init__(runtime, services.connections, MAX_SIZE, self._command)
        self._queries = Queries(services, self._presence_changed)
        self._commands: CommandQueue[bytes] = CommandQueue(self, runtime.spawn, MAX_WAITING)
        self._input_ended = False

    def _command(self, body: bytes) -> None:
        self._commands.add(body)

    def finish_input(self) -> bool:
        self._input_ended = True
        return len(self._commands) > 0

    def closed(self) -> None:
        self.runtime.exchange.batch.counters.drops.count(Drop.COMMAND_ABANDONED, self._commands.clear())
        self._queries.close()

    def carry_out(self, command: bytes) -> Coroutine[Any, Any, bytes]:
        return self._queries.answer(command)

    def answer(self, frame: bytes) -> None:
        self.write([frame])
        if self._queries.quits:
            self.end()

    def commands_done(self) -> None:
        if self._input_ended:
            self.end()

    def _presence_changed(self, name: str, online: bool) -> None:
        self.write([event(name, online)])
