"""Both ends of the informer's conversation (docs/protocol.md, section 9).

A program that queries the informer writes :func:`query` and reads with :func:`decode_answer`; the daemon reads with
:func:`decode_query` and writes :func:`answer`, :func:`failed` and, after a ``watchClients``, :func:`event`. Answers
come in the order of the queries; events may come between them.
"""

from __future__ import annotations

from msgspec import UNSET, Raw, Struct
from msgspec.json import Decoder

from bester.errors import Malformed
from bester.protocol.frames import encode_text
from bester.protocol.framing import frame
from bester.protocol.messages import NOTHING, NULL
from bester.protocol.strictjson import decode
from bester.protocol.values import encode_data
from bester.protocol.withdata import WithData

# -- the daemon's end -------------------------------------------------------------------------------------------


class Query(WithData, eq=False):
    """A query to the informer; ``raw`` is empty if the query has no data."""

    type: str


class _Command(Struct, gc=False):
    type: str
    data: Raw = NOTHING


class _QueryMessage(Struct, gc=False):
    command: _Command


_query = Decoder(_QueryMessage)


def decode_query(body: bytes) -> Query:
    """Decodes a query; the caller must check whether its command exists.

    Raises:
        Malformed: the body does not have the form ``{"command": {"type", "data"?}}``.
    """
    command = decode(_query, body).command
    return Query(command.type, raw=command.data)


def answer(data: object = None) -> bytes:
    """Returns the frame that answers a query; ``data`` is a JSON value, or :class:`msgspec.Raw`."""
    return frame(b"".join((b'{"status":"0","data":', encode_data(data), b"}")))


def failed() -> bytes:
    """Returns the frame that answers a failed or unknown query."""
    return frame(b'{"status":"1","data":null}')


def event(user: str, online: bool) -> bytes:
    """Returns the frame that reports the start of an account's first session, or the end of its last session."""
    return frame(encode_text({"event": "online" if online else "offline", "user": user}))


# -- the end of a program that queries it -----------------------------------------------------------------------


class Answer(WithData, eq=False):
    """The answer to the oldest query without an answer."""

    good: bool


class Presence(Struct, frozen=True):
    """An event: an account's first session started, or its last session ended."""

    user: str
    online: bool


class _Reply(Struct):
    status: object = None
    data: Raw = NULL
    event: str | None = None
    user: str = ""


_reply = Decoder(_Reply)


def query(type: str, data: object = UNSET) -> bytes:
    """Returns the frame of a query; ``data`` is a JSON value, and omitted if not given."""
    if data is UNSET:
        return frame(b'{"command":{"type":' + encode_text(type) + b"}}")
    return frame(b"".join((b'{"command":{"type":', encode_text(type), b',"data":', encode_data(data), b"}}")))


def decode_answer(body: bytes) -> Answer | Presence:
    """Decodes a body that the informer sent.

    Raises:
        Malformed: the body is neither an answer nor an event.
    """
    reply = decode(_reply, body)
    if reply.event is not None:
        if reply.event not in ("online", "offline"):
            raise Malformed(f"the informer told of an unknown event, {reply.event!r}")
        return Presence(reply.user, reply.event == "online")
    if reply.status is None:
        raise Malformed("the informer sent neither a status nor an event")
    return Answer(reply.status == "0" or reply.status == 0, raw=reply.data)
