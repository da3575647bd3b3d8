"""The operator's socket: built-in commands without a password, for this user and root only (sections 10, 12)."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

from bester.core.metrics import Drop
from bester.errors import BadScope, Malformed, NotAllowed, Overloaded
from bester.net.peers import peer_user
from bester.protocol import frames
from bester.protocol.builtin import BUILTIN
from bester.protocol.messages import Payload, decode_first
from bester.server.admin.commands import CommandCall
from bester.server.connections.connection import Connection

if TYPE_CHECKING:
    from bester.server.runtime import Runtime

MAX_WAITING = 256


class ControlConnection(Connection):
    """One operator's connection: each frame is a built-in command, answered in order."""

    kind = "control"

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime, runtime.config.limits.max_message, self._command)
        self._waiting: deque[Payload] = deque()
        self._input_ended = False

    def opened(self) -> None:
        user = peer_user(self.transport.get_extra_info("socket"))
        if user not in (0, os.geteuid()):
            self.fail(NotAllowed("the control socket is for the server's own user and root"))

    def _command(self, body: bytes) -> None:
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
            self.runtime.exchange.counters.drops.count(Drop.MESSAGE_REFUSED, code=NotAllowed.code)
            self.write([frames.report(payload.id, NotAllowed(why))])
            return
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded(f"more than {MAX_WAITING} commands are waiting")
        self._waiting.append(payload)
        if len(self._waiting) == 1:
            self.runtime.spawn(self._run())

    async def _run(self) -> None:
        while self._waiting and not self.ended:
            report = await CommandCall(self.runtime, None, self.remote).run(self._waiting[0])
            if self._waiting:  # else it is closed
                self._waiting.popleft()
            if not self.ended:
                self.write([report])
        if self._input_ended:
            self.end()

    def closed(self) -> None:
        self.runtime.exchange.counters.drops.count(Drop.COMMAND_ABANDONED, len(self._waiting))
        self._waiting.clear()

    def finish_input(self) -> bool:
        self._input_ended = True
        return bool(self._waiting)
