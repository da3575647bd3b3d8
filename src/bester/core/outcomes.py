"""What becomes of messages: each recipient's outcome, the status report, and room for what waits behind it.

An :class:`~bester.core.model.Envelope` has steps that are pending. With the last one it is finished: its sender gets
the report, the receipt is kept, and the next message of that sender is let in. Where it only waits for recipients, it
no longer counts against its sender's ``maxInFlight``.
"""

from __future__ import annotations

from collections import deque

from msgspec import Raw

from bester.core.dispatch import Dispatch
from bester.core.effects import Finished, Remember, TellNode
from bester.core.endpoint import Endpoint, NodePeer
from bester.core.limits import Limits
from bester.core.metrics import Drop
from bester.core.model import Envelope
from bester.core.once import OnceMemory, OnceRecord, Waiting
from bester.core.receipts import MAX_NAMES, MAX_REPORT_BYTES, Entry, Large, Receipts, counts_of
from bester.errors import BesterError
from bester.protocol import frames


class Outcomes(Dispatch):
    """Which messages are under way, and how they end."""

    def __init__(self, server_name: str, limits: Limits, boot: str) -> None:
        super().__init__(limits)
        self.server_name = server_name
        self.boot = boot
        """What begins the ids that are made here: different each time that a server starts."""
        self._last_number = 0
        self.receipts = Receipts()
        self.once = OnceMemory()

    @property
    def under_way(self) -> int:
        """Messages and pushes without their report, and what other nodes wait for."""
        counters = self.counters
        own = counters.accepted + counters.pushes - counters.good - counters.bad_total
        return own + counters.for_nodes - counters.for_nodes_done

    def count_lost(self, envelope: Envelope, error: BesterError | None, number: int = 1) -> None:
        """So many recipients do not get the message, and the report says so; without an error, they are away."""
        trail = envelope.trail
        if trail is None or not trail.dry:
            drop = Drop.RECIPIENT_AWAY if error is None else Drop.RECIPIENT_FAILED
            self.counters.drops.count(drop, number, code=error.code if error is not None else "")

    def new_id(self) -> str:
        """Returns an id that no other message has, over restarts too."""
        return f"{self.boot}-{self.new_number():x}"

    def new_number(self) -> int:
        """Returns a number that is larger than those before it."""
        self._last_number += 1
        return self._last_number

    def write(self, endpoint: Endpoint, frame: bytes) -> None:
        """Lets a whole frame be written to an endpoint, after what is already there."""
        endpoint.out.append(frame)
        if not endpoint.listed:
            endpoint.listed = True
            self.dirty.append(endpoint)

    def tell(self, origin: Endpoint, report: bytes) -> None:
        """Writes a report to its sender, if it is still there."""
        if not origin.closed:
            self.write(origin, report)
        else:
            self.counters.drops.count(Drop.REPORT_UNWANTED)

    def reply(self, session: Endpoint, type: str, data: Raw, asked: str) -> None:
        """Writes a handler's reply to the session that asked under this id."""
        raise AssertionError

    # -- recipients ----------------------------------------------------------------------------------------------

    def note(self, envelope: Envelope, error: BesterError) -> None:
        """Something went wrong with an envelope."""
        if envelope.error is None:
            envelope.error = error

    def await_result(self, envelope: Envelope) -> int:
        """Makes place for one recipient's outcome, and returns where it is."""
        envelope.pending += 1
        if envelope.results is None:
            envelope.results = []
        envelope.results.append(b"")
        return len(envelope.results) - 1

    def add_result(self, envelope: Envelope, to: str, status: str, error: BesterError) -> None:
        """One more recipient, whose outcome is known at once."""
        if envelope.results is None:
            envelope.results = []
        envelope.results.append(frames.result(to, status, error))
        self.note(envelope, error)
        self.count_lost(envelope, error)

    def settled(
        self,
        envelope: Envelope,
        slot: int,
        to: str,
        status: str,
        error: BesterError | None = None,
        route: bytes = b"",
    ) -> None:
        """One recipient has its outcome: one of the statuses of section 2.

        Args:
            envelope, slot, to, status, error: which recipient, and what became of it.
            route: the other server's steps as JSON, checked, where it told them.
        """
        assert envelope.results is not None
        if envelope.trail is not None:
            envelope.trail.settled(slot, self.now, route)
        envelope.results[slot] = frames.result(to, status, error)
        if status in ("stored", "queued"):
            envelope.durable = True
        if error is not None:
            self.note(envelope, error)
            self.count_lost(envelope, error)
        elif status == "skipped":
            self.count_lost(envelope, None)
        self.step_done(envelope)

    # -- the report ----------------------------------------------------------------------------------------------

    def step_done(self, envelope: Envelope) -> None:
        """One of an envelope's steps is finished."""
        pending = envelope.pending = envelope.pending - 1
        if not pending:
            self.finish(envelope)
        elif pending == envelope.awaiting:
            self.only_waits(envelope)

    def only_waits(self, envelope: Envelope) -> None:
        """Nothing of an envelope is left to be done, but recipients do not have it yet."""
        if not envelope.let_go:
            envelope.let_go = True
            origin = envelope.origin
            origin.waiting += 1
            origin.in_flight -= 1
            self.make_progress(origin)

    def finish(self, envelope: Envelope) -> None:
        """Everything is done: the status report, and room for what waited behind it."""
        if not envelope.plain:
            self._finish_traced(envelope)
            return
        error = envelope.error
        if error is None and not envelope.results and envelope.data is None:
            frame = frames.good_report(envelope.id)
        else:
            frame = frames.report(envelope.id, error, envelope.results, envelope.data)
        origin = envelope.origin
        if not origin.closed:
            origin.out.append(frame)
            if not origin.listed:
                origin.listed = True
                self.dirty.append(origin)
        else:
            self.counters.drops.count(Drop.REPORT_UNWANTED)
        self.close_envelope(envelope, frame)

    def _finish_traced(self, envelope: Envelope) -> None:
        """The same for one that is remembered, traced, another node's, or whose route is reported."""
        if isinstance(envelope.origin, NodePeer):
            self._finish_for_node(envelope.origin, envelope)
            return
        error, results, trail = envelope.error, envelope.results, envelope.trail
        if envelope.left:
            assert envelope.origin.order is not None
            envelope.origin.order.left -= 1
        fields = b""
        if trail is not None and trail.told:
            fields = b',"route":' + trail.as_json(self.server_name, results)
            if trail.dry:
                results = None
        frame = frames.report(envelope.id, error, results, envelope.data, fields)
        record = envelope.once
        if record is None:
            self.tell(envelope.origin, frame)
            self.close_traced(envelope, frame)
        elif envelope.durable and (error is None or not error.temporary):
            self.effects.append(Remember(record, envelope, frame))
        else:
            self.finish_once(record, envelope, frame)

    def _finish_for_node(self, node: NodePeer, envelope: Envelope) -> None:
        """The node that asked is told; the report, the receipt and the counting are its own."""
        self.counters.for_nodes_done += 1
        if envelope.let_go:
            node.waiting -= 1
        else:
            node.in_flight -= 1
        self.effects.append(TellNode(node.node, envelope))

    def finish_once(self, record: OnceRecord, envelope: Envelope, report: bytes) -> None:
        """A ``once`` message is done: its sender is told, and others that sent it too."""
        raise AssertionError

    def close_traced(self, envelope: Envelope, report: bytes) -> None:
        """The same as :meth:`close_envelope`, for one that may have spans."""
        if self.traces.traced is not None:
            self.traces.traced.end(envelope, self.now)
        self.close_envelope(envelope, report)

    def close_envelope(self, envelope: Envelope, report: bytes) -> None:
        """The report is written: the message is counted, and there is room for another one."""
        if envelope.error is None:
            envelope.metrics.good += 1
            if self.receipts.good_left:
                self.receipts.good_left -= 1
                self._keep_receipt(envelope, report)
        else:
            bad = envelope.metrics.bad
            bad[envelope.error.code] = bad.get(envelope.error.code, 0) + 1
            if self.receipts.bad_left:
                self.receipts.bad_left -= 1
                self._keep_receipt(envelope, report)
        origin = envelope.origin
        if envelope.let_go:
            origin.waiting -= 1
        else:
            origin.in_flight -= 1
        if origin.backlog or origin.closing:
            self.make_progress(origin)

    def _keep_receipt(self, envelope: Envelope, report: bytes) -> None:
        """Appends what is known; it is taken apart elsewhere, so that this costs next to nothing."""
        large: Large | None = None
        if len(report) > MAX_REPORT_BYTES:
            error = envelope.error
            told = (error.code, error.explained) if error is not None else None
            large = Large(told, counts_of(report), (envelope.results or [])[:MAX_NAMES])
            report = b""
        if not envelope.trace:
            envelope.trace = self.traces.new()
        self.receipts.entries.append(
            Entry(self.now, envelope.since, envelope.origin, envelope.type, envelope.id, envelope.trace, report, large)
        )

    # -- what waits behind it ------------------------------------------------------------------------------------

    def make_progress(self, origin: Endpoint) -> None:
        """Fewer messages of an endpoint are under way: lets in what waits, or tells that there is nothing more."""
        if origin.backlog:
            if not origin.admitting:
                self.admit(origin, origin.backlog)
        elif origin.closing:
            self.close_if_quiet(origin)

    def admit(self, origin: Endpoint, backlog: deque[Waiting]) -> None:
        """Lets in what waits, while there is room."""
        raise AssertionError

    def close_if_quiet(self, origin: Endpoint) -> None:
        """An endpoint that is to be closed has perhaps nothing under way any more."""
        if not origin.busy and not origin.admitting:
            self.effects.append(Finished(origin))
