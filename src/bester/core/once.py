"""Records of ``once`` messages, by which a repeat is recognised and not handled again (docs/protocol.md, section 4).

A record is made when the message comes in, and gets the report when the message is finished. Records are bounded, in
all and for each sender; the oldest are forgotten first. The disk may know them for longer (``Remember``, ``Recall``).
"""

from __future__ import annotations

from hashlib import blake2b

from msgspec import Struct

from bester.core.endpoint import Endpoint
from bester.core.trail import Trail
from bester.protocol.frames import decode_id, encode_text
from bester.protocol.messages import Data

MAX_RECORDS = 100_000
MAX_BYTES = 64 * 1024 * 1024
"""How many records, and bytes of their reports, are kept in memory; the oldest make room."""
MAX_OF_SENDER = 10_000
"""How many records one sender has, so that it cannot displace the others'."""
MAX_REPEATED_BYTES = 8 * 1024 * 1024
"""How many bytes of reports are written to repeats in one batch."""
_OVERHEAD = 400
"""About how many bytes a record takes beside its report."""


class OnceRecord:
    """One ``once`` message: first under way, then with its report."""

    __slots__ = (
        "answer",
        "aside",
        "digest",
        "id",
        "key",
        "nodes",
        "origin",
        "recalled_for",
        "recalling",
        "replied",
        "replies",
        "report",
        "sender",
        "under_way_remotely",
        "waiting",
    )

    def __init__(self, key: bytes, digest: bytes, origin: bytes, sender: bytes = b"") -> None:
        self.key = key
        """16 bytes that stand for the sender and its id."""
        self.digest = digest
        """16 bytes that stand for the type and the data."""
        self.origin = origin
        """Sender and id, from which its delivery ids follow, also after a restart."""
        self.sender = sender
        self.id = encode_text(origin[len(sender) + 1 :].decode())
        """The id that the sender gave it, as JSON."""
        self.recalled_for: Endpoint | None = None
        """The endpoint that sent it first, while it is recalled; a repeat may come from another session."""
        self.recalling = False
        """Whether the disk and the other nodes are being asked about it; later messages of its sender wait."""
        self.under_way_remotely = False
        """Whether another node has it under way; then later messages of its sender do not wait."""
        self.aside: Waiting | None = None
        """The message, while it waits for that node."""
        self.answer = b""
        """The frame that answers the message instead of a handler, if the disk knew it."""
        self.report: bytes | None = None
        """The report's frame, when it is known."""
        self.waiting: list[Endpoint] = []
        """Endpoints that sent it again before its report was known."""
        self.replies: list[tuple[str, Data]] = []
        """The types and data of handlers' replies, until its report is known."""
        self.replied: list[Endpoint] = []
        """The sessions that have these replies."""
        self.nodes: dict[str, int] = {}
        """The other nodes that wait for its report, and the numbers by which they asked."""

    def forget_replies(self) -> None:
        """Forgets the replies of handlers that have forgotten the message; their next replies are new ones."""
        self.replies = []
        self.replied = []

    def delivery_id(self, place: str, recipient: str) -> str:
        """Returns the id of a delivery, or of a message to another server; it is equal each time that this is handled.

        Args:
            place: the place of its command among all commands of the handlers' answers.
            recipient: the account or the address.
        """
        text = b"\0".join((self.origin, place.encode(), recipient.encode("utf-8", "surrogatepass")))
        return blake2b(text, digest_size=16).hexdigest()


class Waiting(Struct, gc=False, eq=False):
    """A message that has not been admitted yet, such as one beyond its sender's ``maxInFlight``."""

    type: str
    id: bytes
    """The id that the sender gave it, as JSON."""
    data: Data
    size: int
    """The size of its frame, in bytes."""
    hops: int
    trace: str
    """The W3C traceparent that came with it."""
    trail: Trail | None
    """Its route, if the sender asked for it or the message is traced."""
    record: OnceRecord | None = None
    """Its record, if it is a ``once`` message."""
    parts: bool = False
    """Whether it has a stream, because its sender takes the answer in parts (:mod:`bester.core.streams`)."""


class OnceMemory:
    """The records of one server, in memory, bounded."""

    def __init__(self) -> None:
        self.replied: list[tuple[OnceRecord, int, str, Data]] = []
        """Replies to ``once`` messages that other nodes wait for, with index, type and data; emptied by the server."""
        self._records: dict[bytes, OnceRecord] = {}
        self._by_sender: dict[bytes, dict[bytes, None]] = {}
        self._bytes = 0
        self.settled: list[OnceRecord] = []
        """Records that other nodes wait for and that got their report, or were forgotten; emptied by the server."""
        self._repeated_at = 0.0
        self._repeated_bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    def find(self, key: bytes) -> OnceRecord | None:
        """Returns the record with this key, if it is in memory."""
        return self._records.get(key)

    def add(self, record: OnceRecord) -> None:
        """Adds the record of a message that is under way now."""
        self._records[record.key] = record
        of_sender = self._by_sender.setdefault(record.sender, {})
        of_sender[record.key] = None
        self._bytes += _OVERHEAD
        if len(of_sender) > MAX_OF_SENDER:
            self.forget(self._records[next(iter(of_sender))])
        self._make_room()

    def finish(self, record: OnceRecord, report: bytes) -> None:
        """Gives a record its report."""
        record.report = report
        record.forget_replies()
        if record.nodes:
            self.settled.append(record)
        if self._records.get(record.key) is record:
            self._bytes += len(report)
            self._make_room()

    def forget(self, record: OnceRecord) -> None:
        """Forgets a record: the next message with its id is a new one."""
        if self._records.get(record.key) is record:
            del self._records[record.key]
            of_sender = self._by_sender[record.sender]
            del of_sender[record.key]
            if not of_sender:
                del self._by_sender[record.sender]
            self._bytes -= _OVERHEAD + len(record.report or b"")
            if record.nodes:
                self.settled.append(record)

    def forget_sender(self, sender: bytes) -> None:
        """Forgets all records of a sender that sends nothing any more."""
        for key in list(self._by_sender.get(sender, ())):
            self.forget(self._records[key])

    def may_repeat(self, size: int, now: float) -> bool:
        """Tells whether a repeat may get a report of this size now.

        This bounds what the server writes for repeats, which can be much more than what it reads of them.
        """
        if self._repeated_at != now:
            self._repeated_at = now
            self._repeated_bytes = 0
        self._repeated_bytes += size
        return self._repeated_bytes <= MAX_REPEATED_BYTES

    def _make_room(self) -> None:
        while len(self._records) > MAX_RECORDS or self._bytes > MAX_BYTES:
            # The oldest is forgotten even if it is under way; its repeat would be handled again.
            self.forget(next(iter(self._records.values())))


def new_record(sender: bytes, type: str, id: bytes, data: Data) -> OnceRecord:
    """Returns the record of a message.

    Args:
        sender: identifies the sender (``Endpoint.sender``).
        type, id, data: the message; the id as JSON.
    """
    origin = sender + b"\0" + decode_id(id).encode()
    encoded = type.encode()
    # The type's length keeps type and data apart.
    digest = blake2b(b"%d\0%b" % (len(encoded), encoded), digest_size=16)
    digest.update(data)
    return OnceRecord(blake2b(origin, digest_size=16).digest(), digest.digest(), origin, sender)
