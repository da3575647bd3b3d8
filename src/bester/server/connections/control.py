"""The operator's socket: built-in commands without a password, for this user and root only (sections 10, 12)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any

from bester.core.metrics import Drop
from bester.errors import BadScope, Malformed, NotAllowed
from bester.net.peers import peer_user
from bester.protocol import frames
from bester.protocol.builtin import BUILTIN, cancelled
from bester.protocol.messages import Payload, decode_first
from bester.server.admin.commands import CommandCall
from bester.server.connections.command_queue import CommandQueue
from bester.server.connections.connection import Connection
from bester.server.connections.services import Services

MAX_WAITING = 256


class OperatorCommand:
    """One command, until its report; it is the reader of what the command tells before that."""

    def __init__(self, connection: ControlConnection, payload: Payload) -> None:
        self.payload = payload
        self.id = payload.id
        self.who = connection.remote.address
        self.ended = asyncio.Event()
        self._connection = connection

    @property
    def unread_bytes(self) -> int:
        return self._connection.transport.get_write_buffer_size()

    def write(self, out: list[bytes]) -> None:
        self._connection.write(out)


class ControlConnection(Connection):
    """One operator's connection: each frame is a built-in command, answered in order, or cancels one."""

    kind = "control"

    def __init__(self, services: Services) -> None:
        runtime = services.runtime
        super().__init__(runtime, services.connections, runtime.config.limits.max_message, self._command)
        self._commands: CommandQueue[OperatorCommand] = CommandQueue(self, runtime.spawn, MAX_WAITING)
        self._unreported: list[OperatorCommand] = []
        self._admin = services.admin
        self._input_ended = False

    def opened(self) -> None:
        user = peer_user(self.transport.get_extra_info("socket"))
        if user not in (0, os.geteuid()):
            self.fail(NotAllowed("the control socket is for the server's own user and root"))

    def _command(self, body: bytes) -> None:
        id = cancelled(body)
        if id is not None:
            self._end_readers(id)
            return
        message = decode_first(body)
        if message.header.scope:
            # What clients, servers and handlers write has a scope. Whoever brought it here, even this very server,
            # was not the operator's program.
            raise BadScope("the control socket serves no scope: it takes built-in commands without one")
        payload = message.payload
        if payload is None:
            raise Malformed("the payload is missing")
        if payload.type != BUILTIN or message.header.dry_run:
            dry = payload.type == BUILTIN
            why = "a built-in command has no dry run" if dry else "only built-in commands are served here"
            self.runtime.exchange.batch.counters.drops.count(Drop.MESSAGE_REFUSED, code=NotAllowed.code)
            self.write([frames.report(frames.encode_text(payload.id), NotAllowed(why))])
            return
        command = OperatorCommand(self, payload)
        self._commands.add(command)
        self._unreported.append(command)

    def _end_readers(self, id: str | None = None) -> None:
        """Lets commands tell no more; None: all of them."""
        for command in self._unreported:
            if id is None or command.id == id:
                command.ended.set()

    def carry_out(self, command: OperatorCommand) -> Coroutine[Any, Any, bytes]:
        return CommandCall(self._admin, None, self.remote, command).run(command.payload)

    def answer(self, frame: bytes) -> None:
        del self._unreported[0]
        self.write([frame])

    def commands_done(self) -> None:
        if self._input_ended:
            self.end()

    def closed(self) -> None:
        self.runtime.exchange.batch.counters.drops.count(Drop.COMMAND_ABANDONED, self._commands.clear())
        self._end_readers()

    def finish_input(self) -> bool:
        self._input_ended = True
        self._end_readers()  # an operator who is gone looks the same
        return len(self._commands) > 0
