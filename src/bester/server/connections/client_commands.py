"""The built-in commands of one client's session, carried out in order (docs/protocol.md, section 5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bester.core.session import Session
from bester.errors import Throttled
from bester.protocol import frames
from bester.protocol.builtin import ends_session
from bester.protocol.messages import Payload
from bester.server.admin.commands import CommandCall
from bester.server.connections.command_queue import CommandQueue
from bester.server.connections.connection import SHARE_FRAMES
from bester.server.connections.conversation import Conversation


class ClientCommands:
    """The commands that wait, and the one that is carried out.

    Args:
        connection: the client's, whose endpoint is its session.
        receive: takes the frames behind a command that did not end the session.
        done: called when no command waits any more.
    """

    __slots__ = ("_call", "_connection", "_done", "_may_end_session", "_queue", "_quiet", "_receive", "_runtime")

    def __init__(self, connection: Conversation, receive: Callable[[bytes], None], done: Callable[[], None]) -> None:
        self._connection = connection
        self._runtime = connection.runtime
        self._receive = receive
        self._done = done
        self._queue: CommandQueue[Payload] = CommandQueue(self, self._runtime.spawn)
        self._call: CommandCall | None = None
        """The command that is carried out, or was the last one."""
        self._quiet: asyncio.Future[None] | None = None
        """Set while a command waits for the outstanding messages."""
        self._may_end_session = False
        """Whether the command ends the session, unless it is refused."""

    def add(self, session: Session, command: Payload) -> None:
        """Carries out a command after those before it, or refuses it if too many wait."""
        limit = self._runtime.config.limits.max_in_flight
        if len(self._queue) >= limit:
            error = Throttled(f"at most {limit} built-in commands may be under way")
            self._connection.refuse_message(session, frames.encode_text(command.id), error)
            return
        if ends_session(command.data):
            self._connection.hold_frames()
        self._queue.add(command)

    def clear(self) -> int:
        """Drops what waits, because the session is gone; returns how many commands there were."""
        return self._queue.clear()

    def __len__(self) -> int:
        return len(self._queue)

    def messages_done(self) -> bool:
        """Notes that no message of the session is under way; returns whether a command has waited for that."""
        if self._quiet is None or self._quiet.done():
            return False
        self._quiet.set_result(None)
        return True

    # -- what the queue asks for (CommandOwner) ----------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        session = self._connection.endpoint
        return not isinstance(session, Session) or session.closed

    async def carry_out(self, command: Payload) -> bytes:
        session = self._connection.endpoint
        assert isinstance(session, Session)
        self._may_end_session = ends_session(command.data)
        if self._may_end_session:
            await self._outstanding_done(session)
        self._call = CommandCall(self._connection.services.admin, session, self._connection.remote)
        return await self._call.run(command)

    def answer(self, frame: bytes) -> None:
        connection, call = self._connection, self._call
        assert connection.endpoint is not None
        assert call is not None
        self._runtime.turn().batch.write(connection.endpoint, frame)
        if call.closes:
            connection.end()
        elif call.logged_out:
            connection.flush_out()
            connection.leave()
            connection.start_over()
        elif self._may_end_session:
            connection.go_on(self._receive, SHARE_FRAMES)  # it was refused

    def commands_done(self) -> None:
        self._done()

    async def _outstanding_done(self, session: Session) -> None:
        """Waits until all that the session sent before has its report."""
        if session.busy:
            self._quiet = asyncio.get_running_loop().create_future()
            session.closing = True
            await self._quiet
            session.closing = self._connection.input_ended
