"""The exchange: takes one event at a time, and decides what is to be done.

It is composed of parts, each of which owns its state and calls only those above it in this list::

    Batch            the output: frames for endpoints, effects for the server
    Streams          messages whose answers come in parts, and their credit
    Reports          results, status reports, receipts
    Dispatcher       types, their handlers, and requests that wait for them
    UnackedWindow    messages that sessions were given and did not acknowledge
    MailboxReplay    mailboxes: messages go into them, and out of them again
    Redelivery       messages that are given once more, and given up at last
    Deliveries       which session gets which message, and when
    Gates            what a message must pass before its handler is asked
    Taps             copies of what handlers are asked and answer
    Admission        maxInFlight, the backlog, once
    CommandExecutor  sendClients, sendServers, sendHandler, reply
    Parts            parts of answers, and what is cancelled
    RemoteRequests   requests of other nodes of this server

Presence, OnceMemory and Traces are state that several of them use; they call none of these.

The way of a message through them::

    untracked_message(), message()   Admission: it becomes an Envelope
      hand(), hand_on()              Dispatcher: its handler is asked now, or it waits in its sender's queue
    answer()                         Exchange: the handler answered, or sent a part of its answer (Parts)
      carry_out(), execute()         CommandExecutor: its commands, in order
        _send_clients()              frames for sessions; Deliveries for accounts that are away or acknowledge
        _send_servers()              each becomes a Forward
        _send_handler()              the next handler is asked, for the same envelope
        _reply()                     a frame for the session that asked
    settled()                        Reports: a recipient has its result
      finish()                       nothing is pending any more: the status report
    settle(), admit_waiting()        Exchange, Admission: messages that wait behind it are taken

The server sets the time (``batch.now``) before each batch of events. At its end it calls :meth:`Exchange.settle`,
carries out the effects, writes the frames of the dirty endpoints, and calls :meth:`Exchange.written`; it repeats this
until there are neither effects nor frames. Other events go directly to the parts. The exchange has no I/O, no clock and
no randomness.
"""

from __future__ import annotations

from bester.core.admission import Admission
from bester.core.batch import Batch
from bester.core.commands import CommandExecutor
from bester.core.delivery import Deliveries
from bester.core.dispatch import Dispatcher
from bester.core.gate import Gates
from bester.core.limits import Limits
from bester.core.metrics import Drop
from bester.core.model import Envelope, Relayed
from bester.core.once import OnceMemory
from bester.core.parts import Parts
from bester.core.presence import Presence
from bester.core.redelivery import Redelivery
from bester.core.remote import RemoteRequests
from bester.core.replay import MailboxReplay
from bester.core.reports import Reports
from bester.core.routing import AttachedHandler, Question, Request
from bester.core.streams import Streams
from bester.core.tap import Taps
from bester.core.traces import Traces
from bester.core.window import UnackedWindow
from bester.errors import BesterError, Cancelled, HandlerFailed
from bester.protocol.answers import check_status, commands_of
from bester.protocol.messages import HandlerMessage
from bester.protocol.names import RESERVED_TYPES
from bester.protocol.plain import PlainAnswer, whole_answer

_DIGITS = "0123456789abcdef" * 3


class Exchange:
    """All of one server's routing; it has no state beside that of its parts.

    Args:
        server_name: this server's name in the routes that are reported.
        limits: the bounds that it keeps.
        boot: the prefix of the ids that are made here; different at each start of a server.
        trace_digits: as for :class:`~bester.core.traces.Traces`.
    """

    __slots__ = (
        "admission",
        "batch",
        "commands",
        "deliveries",
        "dispatcher",
        "gates",
        "once",
        "parts",
        "presence",
        "redelivery",
        "remote",
        "replay",
        "reports",
        "streams",
        "taps",
        "traces",
        "window",
    )

    def __init__(
        self, server_name: str, limits: Limits | None = None, boot: str = "0", trace_digits: str = _DIGITS
    ) -> None:
        self.batch = batch = Batch(limits or Limits(), boot)
        self.traces = traces = Traces(trace_digits)
        self.once = once = OnceMemory()
        self.presence = presence = Presence()
        self.streams = streams = Streams(batch)
        self.reports = reports = Reports(batch, server_name, traces, once, streams)
        self.dispatcher = dispatcher = Dispatcher(batch, reports, traces, streams)
        self.window = window = UnackedWindow(batch, reports)
        self.replay = replay = MailboxReplay(batch, presence, window)
        self.redelivery = redelivery = Redelivery(batch, presence, window, replay)
        self.deliveries = deliveries = Deliveries(batch, reports, presence, window, replay, redelivery)
        self.gates = gates = Gates(dispatcher, reports)
        self.taps = Taps(batch, dispatcher, gates)
        self.admission = admission = Admission(batch, reports, dispatcher, deliveries, traces, once)
        self.commands = commands = CommandExecutor(batch, reports, dispatcher, deliveries, presence, traces, once)
        self.parts = Parts(batch, streams, reports, dispatcher, gates, admission, commands)
        self.remote = RemoteRequests(batch, reports, dispatcher, gates, deliveries, presence, commands)

    # -- handlers' answers ---------------------------------------------------------------------------------------

    def answer(self, handler: AttachedHandler, message: HandlerMessage) -> None:
        """An attached handler has sent an answer or a push."""
        header = message.header
        if header.message_type == "push":
            self.commands.pushed(handler, message)
            return
        request = handler.outstanding.pop(header.id or "", None)
        if request is None:
            self.batch.counters.drops.count(Drop.ANSWER_LATE)
            return
        if header.more is True and self.parts.came(handler, request, message):
            return
        if handler.is_remote:
            self.remote.came_back(request)
        self._answered(request, message)
        for route in handler.types:  # without a call for each message
            if route.ready:
                self.dispatcher.pump_all(handler)
                break

    def plain_answer(self, handler: AttachedHandler, answer: PlainAnswer) -> None:
        """An attached handler has sent a plain answer, as most are."""
        id, kind, to, type, data = answer
        request = handler.outstanding.pop(id, None)
        if request is None:
            self.batch.counters.drops.count(Drop.ANSWER_LATE)
            return
        route = request.route
        expected = route.rules.may.get(kind)
        if (
            not request.envelope.untracked
            or (type is not None and type in RESERVED_TYPES)
            or expected is None
            or (expected is not object and (not isinstance(to, expected) or expected is str))
        ):
            self._answered(request, whole_answer(answer))
        else:
            route.progress = now = self.batch.now
            route.metrics.took(now - request.since)
            self.commands.carry_out_plain(request, kind, to, type, data)
        for route in handler.types:  # without a call for each message
            if route.ready:
                self.dispatcher.pump_all(handler)
                break

    def answer_failed(self, handler: AttachedHandler, id: str, error: BesterError) -> None:
        """An attached handler's answer to a request was malformed."""
        request = handler.outstanding.pop(id, None)
        if request is None:
            self.batch.counters.drops.count(Drop.ANSWER_LATE)
            return
        if not handler.is_remote:
            self.streams.give_up(handler, request, id)  # it may have been a part, with more to come
        self.dispatcher.fail(request, error)
        self.dispatcher.pump_all(handler)

    def classic_answered(self, request: Request, message: HandlerMessage) -> None:
        """A classic handler has answered."""
        self._answered(request, message)
        self.dispatcher.classic_done(request)

    def classic_failed(self, request: Request, error: BesterError) -> None:
        """A classic handler could not be reached, took too long, or sent a malformed answer."""
        self.dispatcher.fail(request, error)
        self.dispatcher.classic_done(request)

    def _answered(self, request: Request, message: HandlerMessage) -> None:
        route = request.route
        envelope = request.envelope
        route.progress = now = self.batch.now
        cancelled = not envelope.untracked and self.streams.answered(request)
        if route.tap is not None:
            if cancelled:
                route.tap.forget(request)  # what is left of it is no outcome of the handler's own
            if route.tap.answered(request, message):
                return
        if not envelope.untracked and self._verdict(envelope, request, message):
            return
        try:
            if message.header.status != "0":
                check_status(message.header)
            commands = commands_of(message, route.rules.may)
        except BesterError as error:
            self.dispatcher.fail(request, Cancelled() if cancelled and isinstance(error, HandlerFailed) else error)
            return
        route.metrics.took(now - request.since)
        if envelope.untracked or not isinstance(envelope, Relayed):
            self.commands.carry_out(request, commands, message)
        else:
            self.remote.answered(envelope, request, commands, message)

    def _verdict(self, envelope: Envelope, request: Request, message: HandlerMessage) -> bool:
        """Takes an answer that is a guard's verdict; returns whether it is one."""
        if isinstance(request, Question):
            assert request.judge is not None
            request.judge(request, message, None)
        elif isinstance(envelope, Relayed) and envelope.guards and not _refuses(message):
            request.route.metrics.took(self.batch.now - request.since)
            self.remote.answered(envelope, request, [], message)
        else:
            return False
        return True

    # -- the batch -----------------------------------------------------------------------------------------------

    def settle(self) -> bool:
        """Takes messages from the backlogs; returns whether the server has anything to carry out or to write."""
        batch = self.batch
        if batch.freed:
            self.parts.settle()
            self.admission.admit_waiting()
        return bool(batch.effects or batch.dirty or batch.awaits_write)

    def written(self) -> None:
        """The frames of all dirty endpoints have been written; messages that sockets took are reported."""
        batch = self.batch
        if batch.awaits_write:
            batch.awaits_write = False
            self.deliveries.written()
            if self.dispatcher.full:
                self.dispatcher.written()

    def sweep(self) -> None:
        """Looks at all deadlines; called a few times a second."""
        self.dispatcher.sweep()
        self.gates.sweep()
        self.deliveries.sweep()
        self.remote.sweep()


def _refuses(message: HandlerMessage) -> bool:
    try:
        check_status(message.header)
    except HandlerFailed:
        return True
    return False
