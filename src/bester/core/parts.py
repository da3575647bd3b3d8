"""Answers in parts, and cancelled messages (docs/protocol.md, sections 2.9, 2.10, 6.7 and 6.8).

A part is carried out at once, or goes back to the node that asked, which carries it out. What is to be cancelled in one
batch is looked for at its end, in one pass over everything that waits and all that handlers have.
"""

from __future__ import annotations

from bester.core.admission import Admission
from bester.core.batch import Batch
from bester.core.commands import CommandExecutor
from bester.core.dispatch import Dispatcher
from bester.core.effects import TellPart
from bester.core.endpoint import Endpoint
from bester.core.gate import Gates
from bester.core.model import Relayed
from bester.core.reports import Reports
from bester.core.routing import AttachedHandler, Request
from bester.core.streams import Streams
from bester.errors import BesterError, Cancelled
from bester.protocol.answers import commands_of
from bester.protocol.messages import Command, HandlerMessage


class Parts:
    """Takes parts from handlers, and cancels messages for their senders."""

    __slots__ = ("_asked", "_left", "admission", "batch", "commands", "dispatcher", "gates", "reports", "streams")

    def __init__(
        self,
        batch: Batch,
        streams: Streams,
        reports: Reports,
        dispatcher: Dispatcher,
        gates: Gates,
        admission: Admission,
        commands: CommandExecutor,
    ) -> None:
        self.batch = batch
        self.streams = streams
        self.reports = reports
        self.dispatcher = dispatcher
        self.gates = gates
        self.admission = admission
        self.commands = commands
        self._asked: dict[Endpoint, set[bytes]] = {}
        """By sender, what it cancels: ids as JSON, or another node's numbers."""
        self._left: dict[Endpoint, None] = {}
        """Senders that have gone, whose streams are to be cancelled."""

    # -- parts ---------------------------------------------------------------------------------------------------

    def came(self, handler: AttachedHandler, request: Request, message: HandlerMessage) -> bool:
        """A handler has said ``more`` in an answer; returns False if it is the last answer all the same.

        The request, which was taken out of what is outstanding, is put back unless it fails.
        """
        status = message.header.status
        if not handler.parts or (status != "0" and (status != 0 or isinstance(status, bool))):
            return False
        id = message.header.id or ""
        request.route.progress = self.batch.now
        try:
            commands = commands_of(message, request.route.rules.may)
            self.streams.take_part(request, _replies(commands), _recipients(commands))
        except BesterError as error:
            self.streams.cancel(handler, request, id)
            self.dispatcher.fail(request, error)
            self.dispatcher.pump_all(handler)
            return True
        handler.outstanding[id] = request
        if request.route.tap is not None:
            request.route.tap.part(request, message)
        if request.step is not None:
            request.step.parts += 1
        if isinstance(request.envelope, Relayed):
            self.batch.effects.append(TellPart(request.envelope, message))
        else:
            self.commands.carry_out_part(request, commands, message)
        return True

    # -- cancelling ----------------------------------------------------------------------------------------------

    def cancel(self, origin: Endpoint, key: bytes) -> None:
        """A sender cancels what it has sent with this id, as JSON; or another node its request with this number."""
        if origin.busy:
            self._asked.setdefault(origin, set()).add(key)
            self.batch.freed[origin] = None

    def left(self, origin: Endpoint) -> None:
        """A sender has gone: its messages that take parts are cancelled."""
        if self.streams.has_any(origin):
            self._left[origin] = None
            self.batch.freed[origin] = None

    def settle(self) -> None:
        """Ends the batch: tells handlers what was granted, and cancels what is to be cancelled."""
        if self._asked or self._left:
            self._cancel_all()
        self.streams.tell_granted()

    def _cancel_all(self) -> None:
        asked, self._asked = self._asked, {}
        left, self._left = self._left, {}
        origins = [*asked, *(one for one in left if one not in asked)]
        cancelled = _Cancelled(self.streams, asked, left)
        for handler in self.dispatcher.handlers:
            for id, request in handler.outstanding.items():
                if cancelled.has(request):
                    self.streams.cancel(handler, request, id)
        for origin in origins:
            self.admission.cancel_waiting(origin, asked.get(origin, set()), streams=origin in left)
        self.gates.cancel(origins, cancelled.has)
        for route in list(self.dispatcher.types.values()):
            for origin in origins:
                queue = route.queues.get(origin)
                if queue is not None:
                    for request in route.withdraw(queue, cancelled.has):
                        self._withdrawn(request)

    def _withdrawn(self, request: Request) -> None:
        """Reports a request that waited for its handler, and is no question to a guard: the gates took those."""
        envelope = request.envelope
        if request.route.tap is not None:
            request.route.tap.forget(request)
        self.batch.release(envelope.origin, request.size)
        if request.step is not None:
            request.step.end(self.batch.now, Cancelled.code)
        self.reports.note(envelope, Cancelled())
        self.reports.step_done(envelope)


class _Cancelled:
    """What is cancelled in one batch."""

    __slots__ = ("_asked", "_left", "_streams")

    def __init__(self, streams: Streams, asked: dict[Endpoint, set[bytes]], left: dict[Endpoint, None]) -> None:
        self._streams = streams
        self._asked = asked
        self._left = left

    def has(self, request: Request) -> bool:
        """Whether a request is one of a cancelled message."""
        envelope = request.envelope
        origin = envelope.origin
        keys = self._asked.get(origin)
        if keys is not None:
            key = b"%d" % envelope.number if isinstance(envelope, Relayed) else envelope.id
            if key in keys:
                return True
        return origin in self._left and self._streams.has(envelope)


def _replies(commands: list[Command]) -> int:
    return sum(one.type == "reply" for one in commands)


def _recipients(commands: list[Command]) -> int:
    return sum(len(one.data) for one in commands if isinstance(one.data, list) and one.type != "reply")
