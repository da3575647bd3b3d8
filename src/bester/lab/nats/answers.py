"""JetStream's answers: JSON for requests about streams, and messages with headers for direct reads."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from bester.lab.nats.log import MessageLog, Stored
from bester.lab.nats.streams import Stream
from bester.lab.nats.wire import Message, status, with_headers

NO_TIME = "0001-01-01T00:00:00Z"
RELEASE = "2.15.1"
"""The release of the real server that all this was compared with."""
_CONFIG: dict[str, Any] = {
    "name": "",
    "subjects": [],
    "retention": "limits",
    "max_consumers": -1,
    "max_msgs": -1,
    "max_bytes": -1,
    "max_age": 0,
    "max_msgs_per_subject": -1,
    "max_msg_size": -1,
    "discard": "old",
    "storage": "file",
    "num_replicas": 1,
    "duplicate_window": 120_000_000_000,
    "compression": "none",
    "allow_direct": False,
    "mirror_direct": False,
    "discard_new_per_subject": False,
    "sealed": False,
    "deny_delete": False,
    "deny_purge": False,
    "allow_rollup_hdrs": False,
    "consumer_limits": {},
    "allow_msg_ttl": False,
    "allow_atomic": False,
}
_LEFT_OUT = ("discard_new_per_subject", "allow_atomic")
"""Members that an answer has only if they are true."""


class Wanted(msgspec.Struct):
    """The members of requests about one stream."""

    seq: int = 0
    last_by_subj: str = ""
    next_by_subj: str = ""
    multi_last: list[str] = []
    batch: int = 0
    max_bytes: int = 0
    filter: str = ""
    keep: int = 0
    subjects_filter: str = ""
    offset: int = 0
    config: dict[str, Any] = {}


def complete_config(given: dict[str, Any]) -> dict[str, Any]:
    """Returns a stream's configuration as a real server completes it."""
    found = {name: given.get(name, usual) for name, usual in _CONFIG.items()}
    found["subjects"] = found["subjects"] or [found["name"]]
    for name in ("max_msgs", "max_bytes", "max_msgs_per_subject", "max_msg_size"):
        found[name] = found[name] or -1
    return {name: value for name, value in found.items() if value or name not in _LEFT_OUT}


def time_text(seconds: float) -> str:
    """Returns a time since 1970 as JSON has it."""
    whole = int(seconds)
    stamp = datetime.datetime.fromtimestamp(whole, datetime.UTC)
    return f"{stamp:%Y-%m-%dT%H:%M:%S}.{nanoseconds(seconds) - whole * 1_000_000_000:09d}Z"


def nanoseconds(seconds: float) -> int:
    """Returns a time since 1970 in nanoseconds."""
    return int(seconds * 1_000_000) * 1000


def state_of(stream: Stream, subjects: dict[str, int] | None = None) -> dict[str, Any]:
    """Returns the state of a stream, with the numbers of messages of some subjects."""
    log = stream.log
    oldest = log.oldest()
    state: dict[str, Any] = {
        "messages": len(log.messages),
        "bytes": log.bytes,
        "first_seq": log.first,
        "first_ts": time_text(oldest.time) if oldest is not None else NO_TIME,
        "last_seq": log.last,
        "last_ts": time_text(log.last_time) if log.last else NO_TIME,
    }
    if log.subjects:
        state["num_subjects"] = log.subjects
    if subjects:
        state["subjects"] = subjects
    if log.deleted:
        state["num_deleted"] = log.deleted
    return state | {"consumer_count": len(stream.consumers)}


def stored_message(stored: Stored) -> dict[str, Any]:
    """Returns a message as STREAM.MSG.GET answers with it."""
    found: dict[str, Any] = {"subject": stored.subject, "seq": stored.sequence}
    if stored.headers:
        found["hdrs"] = base64.b64encode(stored.headers).decode()
    if stored.data:
        found["data"] = base64.b64encode(stored.data).decode()
    return found | {"time": time_text(stored.time)}


# -- direct reads ----------------------------------------------------------------------------------------------------


def read_directly(name: str, log: MessageLog, wanted: Wanted, to: str) -> Iterator[Message]:
    """Yields the answers to a DIRECT.GET of what a replica of the stream with a name has."""
    if wanted.multi_last:
        yield from _read_last(name, log, wanted, to)
    elif wanted.batch and wanted.next_by_subj:
        yield from _read_batch(name, log, wanted, to)
    elif not (wanted.seq or wanted.last_by_subj or wanted.next_by_subj):
        yield Message(to, "", status("408 Empty Request"), b"")
    elif (stored := find(log, wanted)) is None:
        yield Message(to, "", status("404 Message Not Found"), b"")
    else:
        yield Message(to, "", with_headers(stored.headers, _about(name, stored)), stored.data)


def find(log: MessageLog, wanted: Wanted) -> Stored | None:
    """Returns the one message that a request asks for."""
    if wanted.last_by_subj:
        return log.last_of(wanted.last_by_subj)
    if wanted.next_by_subj:
        return next(iter(log.after(wanted.seq, wanted.next_by_subj)), None)
    return log.messages.get(wanted.seq)


def _about(name: str, stored: Stored) -> str:
    return (
        f"Nats-Stream: {name}\r\nNats-Subject: {stored.subject}\r\n"
        f"Nats-Sequence: {stored.sequence}\r\nNats-Time-Stamp: {time_text(stored.time)}\r\n"
    )


def _read_batch(name: str, log: MessageLog, wanted: Wanted, to: str) -> Iterator[Message]:
    found = list(log.after(wanted.seq, wanted.next_by_subj))
    if not found:
        yield Message(to, "", status("404 Message Not Found"), b"")
        return
    yield from _batch(name, found, wanted, to)


def _read_last(name: str, log: MessageLog, wanted: Wanted, to: str) -> Iterator[Message]:
    by_sequence = {one.sequence: one for pattern in wanted.multi_last for one in log.last_of_each(pattern)}
    if not by_sequence:
        yield Message(to, "", status("404 No Results"), b"")
        return
    found = [by_sequence[sequence] for sequence in sorted(by_sequence)]
    yield from _batch(name, found, wanted, to, UpTo_Sequence=log.last)


def _batch(name: str, found: list[Stored], wanted: Wanted, to: str, **end: int) -> Iterator[Message]:
    """Yields messages within the limits of a request, and the end, which says how many are left."""
    left, last, size = len(found), 0, 0
    for stored in islice(found, wanted.batch or None):
        size += stored.size
        if last and 0 < wanted.max_bytes < size:
            break
        left -= 1
        lines = f"{_about(name, stored)}Nats-Num-Pending: {left}\r\nNats-Last-Sequence: {last}\r\n"
        yield Message(to, "", with_headers(stored.headers, lines), stored.data)
        last = stored.sequence
    yield Message(to, "", status("204 EOB", Num_Pending=left, Last_Sequence=last, **end), b"")
