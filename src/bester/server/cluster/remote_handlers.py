"""Handlers of other nodes, and handlers here for other nodes (docs/scale.md).

A node *asks*; the other one hands the request to a handler of its own. If what that answers is for clients of that
node alone, that node carries it out, and says what became of it: it is *done*, or, where that takes a while, *answered*
first. Otherwise the *answer* comes back as it is.
"""

from __future__ import annotations

from msgspec import Raw

from bester.cluster.items import Ask, Done, Failed, Kind, More, read
from bester.core.effects import AskRemote, TellHandler, TellPart
from bester.core.endpoint import NodePeer
from bester.core.metrics import Drop, TypeMetrics
from bester.core.model import Relayed
from bester.core.routing import RemoteHandler, Request
from bester.errors import BesterError, Internal, error_of
from bester.protocol.frames import answer_body
from bester.protocol.messages import HandlerMessage, decode_handler_message
from bester.server.cluster.batcher import Batcher
from bester.server.runtime import Runtime

SPARE = 1000
"""How many requests may be known beyond those that are under way, before the others are forgotten."""


class RemoteHandlers:
    """Asks handlers of other nodes, and lets other nodes ask the handlers here.

    Args:
        runtime: its exchange has the requests.
        batcher: how the other nodes are reached.
    """

    def __init__(self, runtime: Runtime, batcher: Batcher) -> None:
        self._runtime = runtime
        self._batcher = batcher
        self.count = 0
        """Requests that handlers of other nodes were asked, since the start."""
        self.served_elsewhere: dict[TypeMetrics, TypeMetrics] = {}
        """The requests that other nodes' handlers answered for this one, by the type's own metrics."""
        self._asked: dict[int, RemoteHandler] = {}
        """By the request's number: the handler that stands for the node that was asked."""

    # -- what others are asked -----------------------------------------------------------------------------------

    def ask(self, effect: AskRemote) -> None:
        """Asks another node."""
        self.count += 1
        self._asked[effect.number] = effect.handler
        dry, order, epoch, parts = effect.dry, effect.order, effect.epoch, effect.parts
        note = Ask(effect.type, len(effect.head), dry, order, epoch, parts, effect.guards, effect.sent_on)
        self._batcher.to_node(effect.handler.node, Kind.ASK, effect.number, note, effect.head, effect.data)

    def tell_handler(self, effect: TellHandler) -> None:
        """Tells another node that its handler may send more parts, or that its request is cancelled."""
        node = effect.handler.node
        if effect.parts:
            self._batcher.to_node(node, Kind.MORE, effect.number, More(effect.parts))
        else:
            self._batcher.to_node(node, Kind.CANCEL, effect.number)

    def answer(self, number: int, body: bytes) -> None:
        """Carries out the answer of a handler there, or a part of it."""
        exchange = self._runtime.exchange
        handler, request = self._find(number)
        if handler is None or request is None:
            exchange.batch.counters.drops.count(Drop.ANSWER_LATE)
            return
        message = decode_handler_message(body)
        assert isinstance(message, HandlerMessage)
        metrics = request.route.metrics
        failed = metrics.failed
        exchange.answer(handler, message)
        if str(number) in handler.outstanding:
            return  # it was a part
        if metrics.failed == failed:
            self._took(request)
        else:
            self._tally(request).failed += 1
        self._over(number, handler)

    def answered(self, number: int) -> None:
        """Notes that a handler there answered, and that node carries the answer out."""
        handler, request = self._find(number)
        if handler is None or request is None:
            self._runtime.exchange.batch.counters.drops.count(Drop.ANSWER_LATE)
            return
        self._took(request)
        self._runtime.exchange.remote.answered_remotely(handler, str(number))

    def done(self, number: int, note: bytes, results: bytes) -> None:
        """Notes that that node has carried out an answer."""
        handler, request = self._find(number)
        if handler is None:
            self._runtime.exchange.batch.counters.drops.count(Drop.ANSWER_LATE)
            return
        if request is not None:
            self._took(request)
        error = None
        if note:
            done = read(note, Done)
            error = error_of(done.code, done.message, done.reason, done.temporary)
        self._runtime.exchange.remote.carried_out(handler, str(number), results, error)
        self._over(number, handler)

    def failed(self, number: int, note: bytes) -> None:
        """Notes that no handler there answered as it should."""
        failed = read(note, Failed)
        handler, request = self._find(number)
        if handler is None or request is None:
            self._runtime.exchange.batch.counters.drops.count(Drop.ANSWER_LATE)
            return
        self._tally(request).failed += 1
        error = error_of(failed.code, failed.message, failed.reason, failed.temporary)
        self._runtime.exchange.answer_failed(handler, str(number), error)
        self._over(number, handler)

    def _find(self, number: int) -> tuple[RemoteHandler | None, Request | None]:
        """Returns the handler that was asked, and the request, if it waits for an answer."""
        handler = self._asked.get(number)
        return handler, handler.outstanding.get(str(number)) if handler is not None else None

    def _over(self, number: int, handler: RemoteHandler) -> None:
        """Forgets a request; with the last one, also the handler for a node that no longer serves the type."""
        self._asked.pop(number, None)
        if handler.detached and not handler.outstanding and not handler.carrying and not handler.closed:
            self._runtime.exchange.dispatcher.remove(handler)

    def _tally(self, request: Request) -> TypeMetrics:
        metrics = request.route.metrics
        other = self.served_elsewhere.get(metrics)
        if other is None:
            other = self.served_elsewhere[metrics] = TypeMetrics()
        return other

    def _took(self, request: Request) -> None:
        self._tally(request).took(self._runtime.exchange.batch.now - request.since)

    def sweep(self) -> None:
        """Forgets requests that failed without an answer; called a few times a second."""
        for metrics in self.served_elsewhere.values():
            metrics.sweep()
        asked = self._asked
        under_way = sum(len(handler.outstanding) + len(handler.carrying) for handler in set(asked.values()))
        if len(asked) > under_way + SPARE:
            self._asked = {
                number: handler
                for number, handler in asked.items()
                if (id := str(number)) in handler.outstanding or id in handler.carrying
            }

    # -- what others ask -----------------------------------------------------------------------------------------

    def asked(self, node: NodePeer, number: int, note: bytes, body: bytes) -> None:
        """Lets another node ask a handler here."""
        ask = read(note, Ask)
        head, data = body[: ask.head], Raw(body[ask.head :])
        self._runtime.exchange.remote.ask(
            node,
            number,
            ask.type,
            head,
            data,
            dry=ask.dry,
            guards=ask.guards,
            sent_on=ask.sent_on,
            order=ask.order,
            epoch=ask.epoch,
            parts=ask.parts,
        )

    def more(self, node: NodePeer, number: int, note: bytes) -> None:
        """Lets a handler here send more parts to another node."""
        self._runtime.exchange.streams.grant(node, b"%d" % number, read(note, More).parts)

    def cancelled(self, node: NodePeer, number: int) -> None:
        """Cancels another node's request."""
        self._runtime.exchange.parts.cancel(node, b"%d" % number)

    def tell_part(self, effect: TellPart) -> None:
        """Tells the node that asked a part of the answer."""
        envelope = effect.envelope
        node, number = envelope.origin, envelope.number
        assert isinstance(node, NodePeer)
        body = answer_body(str(number), effect.message, more=True)
        self._batcher.to_node(node.node, Kind.ANSWER, number, None, body)

    def tell_answered(self, node: str, envelope: Relayed) -> None:
        """Tells that node that its request is answered; the outcome comes later."""
        self._batcher.to_node(node, Kind.ANSWERED, envelope.number)

    def tell(self, node: str, envelope: Relayed) -> None:
        """Tells that node the outcome of its request."""
        number, error = envelope.number, envelope.error
        if envelope.carried:
            note = Done(*_told(error)) if error is not None else None
            self._batcher.to_node(node, Kind.DONE, number, note, b",".join(envelope.results or ()))
        elif envelope.answer is not None:
            self._batcher.to_node(node, Kind.ANSWER, number, None, answer_body(str(number), envelope.answer))
        else:
            error = error or Internal()
            self._batcher.to_node(node, Kind.FAILED, number, Failed(*_told(error)))


def _told(error: BesterError) -> tuple[str, str, str, bool]:
    return error.code, error.message, error.reason, error.temporary
