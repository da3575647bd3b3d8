"""Both ends of the informer's conversation (docs/protocol.md, section 9).

Who asks writes :func:`query` and reads with :func:`decode_told`; the daemon reads with :func:`decode_query` and
writes :func:`answer`, :func:`failed` and, after a ``watchClients``, :func:`event`. Answers come in the order of the
queries; events may stand between them.
"""

from __future__ import annotations

from msgspec import UNSET, Raw, Struct
from msgspec.json import Decoder

from bester.errors import Malformed
from bester.protocol.frames import encode_text
from bester.protocol.framing import frame
from bester.protocol.messages import NOTHING, NULL
from bester.protocol.strictjson import decode
from bester.protocol.values import WithData, encode_data

# -- the daemon's end -------------------------------------------------------------------------------------------


class Query(WithData, eq=False):
    """What somebody asks; ``raw`` has no bytes where no data was given."""

    type: str


class _Command(Struct, gc=False):
    type: str
    data: Raw = NOTHING


class _QueryMessage(Struct, gc=False):
    command: _Command


_query = Decoder(_QueryMessage)


def decode_query(body: bytes) -> Query:
    """Returns a query; whether there is such a command is the caller's to know.

    Raises:
        Malformed: not of the form ``{"command": {"type", "data"?}}``.
    """
    command = decode(_query, body).command
    return Query(command.type, raw=command.data)


def answer(data: object = None) -> bytes:
    """The frame that answers a query; ``data`` is a JSON value, or :class:`msgspec.Raw`."""
    return frame(b"".join((b'{"status":"0","data":', encode_data(data), b"}")))


def failed() -> bytes:
    """The frame that answers a query that failed, or is not known."""
    return frame(b'{"status":"1","data":null}')


def event(user: str, online: bool) -> bytes:
    """The frame that tells of the first session of an account, or of the end of its last."""
    return frame(encode_text({"event": "online" if online else "offline", "user": user}))


# -- the end of those who ask -----------------------------------------------------------------------------------


class Answer(WithData, eq=False):
    """The answer to the oldest query that has none."""

    good: bool


class Presence(Struct, frozen=True):
    """An account came, with its first session, or went, with its last."""

    user: str
    online: bool


class _Told(Struct):
    status: object = None
    data: Raw = NULL
    event: str | None = None
    user: str = ""


_told = Decoder(_Told)


def query(type: str, data: object = UNSET) -> bytes:
    """The frame that asks; ``data`` is a JSON value, and left out where it is not given."""
    if data is UNSET:
        return frame(b'{"command":{"type":' + encode_text(type) + b"}}")
    return frame(b"".join((b'{"command":{"type":', encode_text(type), b',"data":', encode_data(data), b"}}")))


def decode_told(body: bytes) -> Answer | Presence:
    """Returns what the informer says.

    Raises:
        Malformed: neither an answer nor an event.
    """
    told = decode(_told, body)
    if told.event is not None:
        if told.event not in ("online", "offline"):
            raise Malformed(f"the informer told of an unknown event, {told.event!r}")
        return Presence(told.user, told.event == "online")
    if told.status is None:
        raise Malformed("the informer sent neither a status nor an event")
    return Answer(told.status == "0" or told.status == 0, raw=told.data)
