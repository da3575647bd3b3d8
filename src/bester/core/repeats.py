"""Messages that are not handled again (docs/protocol.md, section 4, ``once``).

The first message with an id leaves a record (:mod:`bester.core.once`). Where the disk may know one of an earlier time,
it is asked first, and so are the other nodes of this server; what its sender sent behind it waits. A repeat gets the
first one's report, when there is one. Where another node has the first one under way, the repeat steps aside until that
node has the report, or has forgotten the message.
"""

from __future__ import annotations

from collections.abc import Callable

from bester.core.effects import Recall, Remember
from bester.core.endpoint import Endpoint, Peer
from bester.core.limits import Limits
from bester.core.metrics import Drop
from bester.core.model import Envelope
from bester.core.once import OnceRecord, Waiting, new_record
from bester.core.outcomes import Outcomes
from bester.errors import BesterError, IdConflict, Overloaded
from bester.protocol import frames
from bester.protocol.messages import Payload


class Repeats(Outcomes):
    """Tells repeats from new messages, and remembers what became of the latter."""

    def __init__(self, server_name: str, limits: Limits, boot: str) -> None:
        super().__init__(server_name, limits, boot)
        self.may_recall: Callable[[bytes], bool] = _never
        """Says of a ``once`` message's key whether there may be something on disk."""

    def begin_once(self, origin: Endpoint, payload: Payload) -> OnceRecord | None:
        """A ``once`` message comes in: returns what remembers it; None for a repeat, which needs no more.

        While it is ``recalling`` the message waits, and then what is its ``answer``, if it has one, is all there is.
        """
        unproven = isinstance(origin, Peer) and origin.name is None
        if unproven and not origin.sender:  # its ids count on this connection alone
            origin.sender = self.new_id().encode()
        record = new_record(origin.sender, payload)
        known = self.once.find(record.key)
        if known is not None:
            self._repeated(origin, payload.id, known, record.digest)
            return None
        self.once.add(record)
        if not unproven and self.may_recall(record.key):
            record.recalling = True
            record.recalled_for = origin
            self.effects.append(Recall(record))
        return record

    def forget_unproven(self, peer: Peer) -> None:
        """A server's connection has ended: if it proved no name, nobody can repeat what it sent."""
        if peer.name is None and peer.sender:
            self.once.forget_sender(peer.sender)

    def recalled(self, record: OnceRecord, digest: bytes, report: bytes) -> None:
        """A Recall found what became of the message."""
        conflict = digest != record.digest
        record.answer = report if not conflict else frames.report(record.id, IdConflict())
        record.digest = digest
        self.once.finish(record, report)
        self._recall_ended(record)

    def not_recalled(self, record: OnceRecord, error: BesterError | None = None) -> None:
        """A Recall found nothing; or could not look, and then nobody knows whether the message was handled."""
        if error is not None:
            self.once.forget(record)
            record.answer = frames.report(record.id, error)
        self._recall_ended(record)

    def under_way_remotely(self, record: OnceRecord) -> None:
        """A Recall found that another node has the message under way: it steps aside until that is over."""
        if not record.elsewhere:
            record.elsewhere = True
            assert record.recalled_for is not None
            self.make_progress(record.recalled_for)

    def _recall_ended(self, record: OnceRecord) -> None:
        record.recalling = False
        if record.answer:
            self._tell_waiting(record, record.answer)
        origin, message = record.recalled_for, record.aside
        assert origin is not None
        if message is not None:
            record.aside = None
            origin.in_flight -= 1
            self.let_in(origin, message)
        self.make_progress(origin)

    def let_in(self, origin: Endpoint, message: Waiting) -> None:
        """A message that waited is answered, or taken."""
        raise AssertionError

    def _repeated(self, origin: Endpoint, id: str, known: OnceRecord, digest: bytes) -> None:
        """The same id again: the first one's report, now or when there is one."""
        if known.digest != digest:
            self._refuse_repeat(origin, id, IdConflict())
            return
        self.counters.repeats += 1
        report = known.report
        if report is None and origin.in_flight < self.limits.max_in_flight:
            origin.in_flight += 1
            known.waiting.append(origin)
            if known.replies and origin not in known.replied:
                known.replied.append(origin)
                for type, data in known.replies:
                    self.reply(origin, type, data, id)
        elif report is not None and self.once.may_repeat(len(report), self.now):
            self.tell(origin, report)
        else:
            self._refuse_repeat(origin, id, Overloaded("too many repeats at once"))

    def _refuse_repeat(self, origin: Endpoint, id: str, error: BesterError) -> None:
        self.counters.drops.count(Drop.MESSAGE_REFUSED, code=error.code)
        self.tell(origin, frames.report(id, error))

    def remembered(self, remember: Remember) -> None:
        """What became of a ``once`` message is on disk, or cannot be put there: its sender may know."""
        self.finish_once(remember.record, remember.envelope, remember.report)

    def finish_once(self, record: OnceRecord, envelope: Envelope, report: bytes) -> None:
        error = envelope.error
        if error is not None and error.temporary:
            self.once.forget(record)
        else:
            self.once.finish(record, report)
        self.tell(envelope.origin, report)
        self._tell_waiting(record, report)
        self.close_traced(envelope, report)

    def _tell_waiting(self, record: OnceRecord, report: bytes) -> None:
        waiting, record.waiting = record.waiting, []
        for origin in waiting:
            origin.in_flight -= 1
            self.tell(origin, report)
            self.make_progress(origin)


def _never(key: bytes) -> bool:
    return False
