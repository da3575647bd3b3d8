"""Reports: each recipient's result, the status report to the sender, and the receipt (docs/protocol.md, sections 2, 7).

An :class:`~bester.core.model.Envelope` has pending steps. When the last one is done, the envelope is finished: its
sender gets the report, the receipt is kept, and the sender may have another message under way. An envelope that only
waits for recipients no longer counts against its sender's ``maxInFlight``.
"""

from __future__ import annotations

from bester.core.batch import Batch
from bester.core.effects import Remember, TellNode
from bester.core.endpoint import NodePeer
from bester.core.metrics import Drop
from bester.core.model import Envelope
from bester.core.once import OnceMemory, OnceRecord
from bester.core.receipts import MAX_NAMES, MAX_REPORT_BYTES, Entry, Large, Receipts, counts_of
from bester.core.streams import Streams
from bester.core.traces import Traces
from bester.errors import BesterError, Dropped
from bester.protocol import frames


class Reports:
    """Collects the results of messages under way, and reports them.

    Args:
        batch: takes the reports.
        server_name: this server's name in the routes that are reported.
        traces: gives messages their traceparents.
        once: remembers the reports of ``once`` messages.
        streams: ends those of messages that are finished.
    """

    __slots__ = ("batch", "once", "receipts", "server_name", "streams", "traces")

    def __init__(self, batch: Batch, server_name: str, traces: Traces, once: OnceMemory, streams: Streams) -> None:
        self.batch = batch
        self.streams = streams
        self.server_name = server_name
        self.traces = traces
        self.once = once
        self.receipts = Receipts()

    @property
    def under_way(self) -> int:
        """How many messages and pushes have no report yet, including other nodes' requests."""
        counters = self.batch.counters
        own = counters.accepted + counters.pushes - counters.good - counters.bad_total
        return own + counters.for_nodes - counters.for_nodes_done

    # -- recipients ----------------------------------------------------------------------------------------------

    def note(self, envelope: Envelope, error: BesterError) -> None:
        """Notes an envelope's error; only the first one is reported."""
        if envelope.error is None:
            error.forget_frames()  # one of which may have the envelope: a circle that nobody else breaks (model.py)
            envelope.error = error

    def await_result(self, envelope: Envelope) -> int:
        """Adds a place for one recipient's result, and returns its index."""
        envelope.pending += 1
        if envelope.results is None:
            envelope.results = []
        envelope.results.append(b"")
        return len(envelope.results) - 1

    def add_result(self, envelope: Envelope, to: str, status: str, error: BesterError) -> None:
        """Adds one recipient whose result is known at once."""
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
        """A recipient has its result.

        Args:
            envelope, slot, to: the recipient.
            status, error: its result; the status is one of section 2.
            route: the other server's steps as JSON, checked, if it sent them.
        """
        assert envelope.results is not None
        if envelope.trail is not None:
            envelope.trail.settled(slot, self.batch.now, route)
        envelope.results[slot] = frames.result(to, status, error)
        if status in ("stored", "queued"):
            envelope.durable = True
        if error is not None:
            self.note(envelope, error)
            self.count_lost(envelope, error)
        elif status == "skipped":
            self.count_lost(envelope, None)
        self.step_done(envelope)

    def count_lost(self, envelope: Envelope, error: BesterError | None, number: int = 1) -> None:
        """Counts recipients that do not get the message, as the report says; without an error they were away."""
        trail = envelope.trail
        if trail is None or not trail.dry:
            drop = Drop.RECIPIENT_AWAY if error is None else Drop.RECIPIENT_FAILED
            self.batch.counters.drops.count(drop, number, code=error.code if error is not None else "")

    # -- steps ---------------------------------------------------------------------------------------------------

    def step_done(self, envelope: Envelope) -> None:
        """Counts off a pending step; after the last one the envelope is reported."""
        pending = envelope.pending = envelope.pending - 1
        if not pending:
            self.finish(envelope)
        elif pending == envelope.awaiting:
            self.release_slot(envelope)

    def release_slot(self, envelope: Envelope) -> None:
        """Lets the sender of an envelope that only waits for recipients have another message under way."""
        if not envelope.slot_released:
            envelope.slot_released = True
            origin = envelope.origin
            origin.waiting += 1
            origin.in_flight -= 1
            self.batch.fewer_under_way(origin)

    # -- the report ----------------------------------------------------------------------------------------------

    def finish(self, envelope: Envelope) -> None:
        """Writes the status report of an envelope that has no pending steps."""
        if not envelope.untracked:
            self._finish_tracked(envelope)
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
                self.batch.dirty.append(origin)
        else:
            self.batch.counters.drops.count(Drop.REPORT_UNWANTED)
        self._close(envelope, frame)

    def _finish_tracked(self, envelope: Envelope) -> None:
        """Finishes a tracked envelope."""
        self.streams.finished(envelope)
        if isinstance(envelope.origin, NodePeer):
            self._finish_for_node(envelope.origin, envelope)
            return
        error, results, trail = envelope.error, envelope.results, envelope.trail
        if envelope.answered_locally:
            assert envelope.origin.order is not None
            envelope.origin.order.answered_locally -= 1
        fields = b""
        if trail is not None and trail.told:
            fields = b',"route":' + trail.as_json(self.server_name, results)
            if trail.dry:
                results = None
        if isinstance(error, Dropped):
            error = None  # its sender must not see it
        frame = frames.report(envelope.id, error, results, envelope.data, fields)
        record = envelope.once
        if record is None:
            self.batch.tell(envelope.origin, frame)
            self._close_traced(envelope, frame)
        elif envelope.durable and (error is None or not error.temporary):
            # Some of it outlives a restart, so the report must, too: else a repeat would be handled again.
            self.batch.effects.append(Remember(record, envelope, frame))
        else:
            self.finish_once(record, envelope, frame)

    def _finish_for_node(self, node: NodePeer, envelope: Envelope) -> None:
        """Tells the node that asked, which writes the report and the receipt, and counts the message."""
        self.batch.counters.for_nodes_done += 1
        if envelope.slot_released:
            node.waiting -= 1
        else:
            node.in_flight -= 1
        self.batch.effects.append(TellNode(node.node, envelope))

    # -- once ----------------------------------------------------------------------------------------------------

    def finish_once(self, record: OnceRecord, envelope: Envelope, report: bytes) -> None:
        """Reports a ``once`` message to its sender, and to everyone who sent it again."""
        error = envelope.error
        if error is not None and error.temporary:
            self.once.forget(record)
        else:
            self.once.finish(record, report)
        self.batch.tell(envelope.origin, report)
        self.tell_repeats(record, report)
        self._close_traced(envelope, report)

    def tell_repeats(self, record: OnceRecord, report: bytes) -> None:
        """Reports to everyone who sent a ``once`` message again before its report was known."""
        waiting, record.waiting = record.waiting, []
        for origin in waiting:
            origin.in_flight -= 1
            self.batch.tell(origin, report)
            self.batch.fewer_under_way(origin)

    # -- after the report ----------------------------------------------------------------------------------------

    def _close_traced(self, envelope: Envelope, report: bytes) -> None:
        if self.traces.recorder is not None:
            self.traces.recorder.end(envelope, self.batch.now)
        self._close(envelope, report)

    def _close(self, envelope: Envelope, report: bytes) -> None:
        """Counts a message whose report is written, keeps its receipt, and releases its slot."""
        receipts = self.receipts
        if envelope.error is None:
            envelope.metrics.good += 1
            if receipts.good_left:
                receipts.good_left -= 1
                self._keep_receipt(envelope, report)
        else:
            bad = envelope.metrics.bad
            bad[envelope.error.code] = bad.get(envelope.error.code, 0) + 1
            if receipts.bad_left:
                receipts.bad_left -= 1
                self._keep_receipt(envelope, report)
        origin = envelope.origin
        if envelope.slot_released:
            origin.waiting -= 1
        else:
            origin.in_flight -= 1
        if origin.backlog or origin.closing:
            self.batch.fewer_under_way(origin)

    def _keep_receipt(self, envelope: Envelope, report: bytes) -> None:
        """Appends a receipt, undecoded: decoding is left to a thread, so that this costs next to nothing."""
        large: Large | None = None
        error = envelope.error
        if len(report) > MAX_REPORT_BYTES or isinstance(error, Dropped):
            told = (error.code, error.explained) if error is not None else None
            large = Large(told, counts_of(report), (envelope.results or [])[:MAX_NAMES])
            report = b""
        if not envelope.trace:
            envelope.trace = self.traces.new()
        self.receipts.entries.append(
            Entry(
                self.batch.now,
                envelope.since,
                envelope.origin,
                envelope.type,
                envelope.id,
                envelope.trace,
                report,
                large,
            )
        )
