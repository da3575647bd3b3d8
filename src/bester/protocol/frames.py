"""The frames that a server sends (docs/protocol.md, sections 2, 3, 6, 8).

The constant parts are precomputed bytes; ``data`` is copied in unchanged. Functions return a complete frame with its
length prefix, except those named after a part of a frame.
"""

from __future__ import annotations

from msgspec import Raw
from msgspec.json import Decoder, Encoder

from bester.errors import BesterError
from bester.protocol.framing import PREFIX, frame
from bester.protocol.messages import NOTHING, Command, Data, HandlerMessage, OutgoingPayload

_FEW_RESULTS = 4096
"""Joined results up to this size, in bytes, are not split."""
_decode_list = Decoder(list[Raw]).decode
encode_text = Encoder().encode
"""Encodes a Python value as compact JSON."""
decode_id = Decoder(str).decode
"""Decodes a message's id, which most functions here take as JSON, so that it is only copied."""

_GOOD = b'{"header":{"messageType":"statusReport","status":"good"},"payload":{"id":'
_GOOD_HEADS = [PREFIX.pack(len(_GOOD) + size + 2) + _GOOD for size in range(128)]
"""The start of a good report, by the length of its id as JSON."""
_BAD = b'{"header":{"messageType":"statusReport","status":"bad"},"payload":{"id":'


def report(
    id: bytes,
    error: BesterError | None = None,
    results: list[bytes] | None = None,
    data: Data | None = None,
    fields: bytes = b"",
) -> bytes:
    """Returns a status report (section 2), which is bad if there is an ``error``.

    Args:
        id: the id of the message that the report is about, as JSON.
        error: why the report is bad.
        results: entries made by :func:`result`.
        data: the ``payload.data``, as JSON.
        fields: further JSON members of the payload, each with a comma before it.
    """
    parts: list[Data] = [_GOOD if error is None else _BAD, id]
    if error is not None:
        parts += (b',"error":', error_part(error))
    if results:
        parts += (b',"results":[', b",".join(results), b"]")
    if data is not None:
        parts += (b',"data":', data)
    parts += (fields, b"}}")
    return frame(b"".join(parts))


def good_report(id: bytes) -> bytes:
    """Returns the shortest status report: good, without further members; ``id`` is JSON."""
    size = len(id)
    if size < len(_GOOD_HEADS):
        return b"".join((_GOOD_HEADS[size], id, b"}}"))
    return report(id)


def error_part(error: BesterError) -> bytes:
    """Returns an error as JSON, without its cause, which stays inside the server."""
    members: dict[str, str | bool] = {"code": error.code, "message": error.message, "temporary": error.temporary}
    if error.reason:
        members["reason"] = error.reason
    return encode_text(members)


def result(to: str, status: str, error: BesterError | None = None) -> bytes:
    """Returns one recipient's outcome as JSON, for a report's ``results`` (section 2)."""
    if error is None:
        return b'{"to":' + encode_text(to) + b',"status":"' + status.encode() + b'"}'
    return b"".join(
        (b'{"to":', encode_text(to), b',"status":"', status.encode(), b'","error":', error_part(error), b"}")
    )


def results_of(joined: bytes) -> list[bytes]:
    """Splits joined results into a list; a short string stays in one piece, since only a report takes it."""
    return [joined] if len(joined) <= _FEW_RESULTS else [bytes(one) for one in _decode_list(b"[%b]" % joined)]


def fatal(error: BesterError) -> bytes:
    """Returns the last frame that is sent before an error closes a connection (section 2)."""
    return frame(b'{"header":{"messageType":"fatal","status":"bad"},"payload":{"error":' + error_part(error) + b"}}")


def pong(id: bytes) -> bytes:
    """Returns the answer to a message of type ``dummy`` (section 2); ``id`` is JSON."""
    return frame(b'{"header":{"status":"0"},"payload":{"type":"dummy","data":null,"id":' + id + b"}}")


def received_head(type: str) -> bytes:
    """Returns a received message's body up to its data (section 2); :func:`received` adds the rest."""
    return b'{"header":{"messageType":"receivedMessage"},"payload":{"type":' + encode_text(type) + b',"data":'


def received(head: bytes, data: Data) -> bytes:
    """Returns a handler's message to a client."""
    return frame(head, data, b"}}")


def received_once(head: bytes, data: Data, delivery_id: str, reply_to: bytes | None = None) -> bytes:
    """Returns a handler's message to a session that acknowledges messages (section 4).

    ``reply_to`` has the meaning that it has in :func:`received_reply`.
    """
    reply = b"" if reply_to is None else b',"replyTo":' + reply_to
    return frame(head, data, b',"deliveryId":', encode_text(delivery_id), reply, b"}}")


def received_reply(head: bytes, data: Data, reply_to: bytes) -> bytes:
    """Returns a handler's reply that names the message that it answers by its id, which is JSON (section 2.4)."""
    return frame(head, data, b',"replyTo":', reply_to, b"}}")


def received_part(type: str, data: Data, part_of: bytes) -> bytes:
    """Returns a handler's reply that is a part of the answer to a message, whose id is JSON (section 2.9)."""
    return frame(
        b'{"header":{"messageType":"receivedMessage","partOf":',
        part_of,
        b',"more":true},"payload":{"type":',
        encode_text(type),
        b',"data":',
        data,
        b"}}",
    )


def origin_part(scope: str, user: str | None, server: str | None, verified: bool) -> bytes:
    """Returns the part of a request that names the sender (section 6); all messages of a session share it."""
    sender = encode_text({"user": user, "server": server, "verified": verified})
    return b'","scope":"' + scope.encode() + b'","from":' + sender + b',"hops":'


def type_part(type: str) -> bytes:
    """Returns the part of a request that names its type; all messages of a type share it."""
    return b'},"payload":{"type":' + encode_text(type) + b',"id":'


def request(id: str, origin: bytes, hops: int, type: bytes, client_id: bytes, data: Data, more: bytes = b"") -> bytes:
    """Returns a request to an attached handler (section 6).

    Args:
        id: matches the answer to the request; digits only.
        origin: made by :func:`origin_part`.
        hops: the number of handlers and servers that the message went through.
        type: made by :func:`type_part`.
        client_id: the id that the sender gave the message, as JSON.
        data: copied unchanged.
        more: further members of the header, made by :func:`request_part`.
    """
    return frame(
        b'{"header":{"messageType":"request","id":"',
        id.encode(),
        origin,
        b"%d" % hops,
        more,
        type,
        client_id,
        b',"data":',
        data,
        b"}}",
    )


def request_head(origin: bytes, hops: int, type: bytes, client_id: bytes, more: bytes) -> bytes:
    """Returns the part of a request between its id and its data, for another node; see :func:`request`."""
    return b"".join((origin, b"%d" % hops, more, type, client_id, b',"data":'))


def relayed_request(id: str, head: bytes, data: Data, parts: int = -1) -> bytes:
    """Returns a request to an attached handler, with a ``head`` that another node made with :func:`request_head`.

    ``parts`` has the meaning that it has in :func:`request_part`.
    """
    if parts >= 0:
        head = b'","parts":%d,%b' % (parts, head[2:])  # in front of its first member, a comma and a quotation mark on
    return frame(b'{"header":{"messageType":"request","id":"', id.encode(), head, data, b"}}")


def request_part(trace: str, dry_run: bool = False, parts: int = -1, guards: str = "") -> bytes:
    """Returns the optional members of a request's header.

    Args:
        trace: its traceparent.
        dry_run: whether it is a dry run.
        parts: how many parts of an answer are granted (section 6.7); -1 if it must have one answer.
        guards: the type of the message about which it asks a guard.
    """
    more = b',"dryRun":true' if dry_run else b""
    if parts >= 0:
        more += b',"parts":%d' % parts
    if guards:
        more += b',"guards":' + encode_text(guards)
    return b',"traceparent":' + encode_text(trace) + more


def more(id: str, parts: int) -> bytes:
    """Returns what tells a handler that more parts are granted for a request (section 6.7)."""
    return frame(b'{"header":{"messageType":"more","id":"%b","parts":%d}}' % (id.encode(), parts))


def cancel(id: str) -> bytes:
    """Returns what tells a handler that a request is cancelled (section 6.8)."""
    return frame(b'{"header":{"messageType":"cancel","id":"%b"}}' % id.encode())


def traced_request(
    id: str, origin: bytes, hops: int, head: bytes, tail: bytes, type: bytes, client_id: bytes, data: Data
) -> bytes:
    """Returns a request, as :func:`request` does, with a traceparent that ends in the request's own id.

    Every message takes this path, so nothing is formatted: the id is copied into the frame twice.

    Args:
        id, origin, hops, type, client_id, data: as for :func:`request`.
        head: made by :func:`trace_head`.
        tail: made by :func:`trace_tail`.
    """
    number = id.encode()
    return frame(
        head,
        number,
        tail,
        number,
        origin,
        b"%d" % hops if hops else b"0",
        type,
        client_id,
        b',"data":',
        data,
        b"}}",
    )


def trace_head(start: str) -> bytes:
    """Returns a request's body up to the id within the traceparent; ``start`` is the traceparent up to that id."""
    return b'{"header":{"messageType":"request","traceparent":"' + start.encode()


def trace_part_head(start: str) -> bytes:
    """Returns the start of a :func:`request_part`, up to the id; ``start`` is as for :func:`trace_head`."""
    return b',"traceparent":"' + start.encode()


def trace_part_tail(end: str) -> bytes:
    """Returns the rest of a :func:`request_part`, after the id; ``end`` is as for :func:`trace_tail`."""
    return end.encode() + b'"'


def trace_tail(end: str) -> bytes:
    """Returns a request's bytes between its two ids; ``end`` is the traceparent after the first id."""
    return end.encode() + b'","id":"'


def answer_body(id: str, message: HandlerMessage, more: bool = False) -> bytes:
    """Returns the body of a handler's answer with another id, for the node that asked; without a length prefix.

    ``more`` says whether it is a part, and others follow.
    """
    header = message.header
    members: dict[str, object] = {"id": id, "status": header.status}
    if more:
        members["more"] = True
    if header.command is not None:
        members["command"] = _command(header.command)
    if header.commands is not None:
        members["commands"] = [_command(command) for command in header.commands]
    answer: dict[str, object] = {"header": members}
    if message.payload is not None:
        answer["payload"] = _outgoing(message.payload)
    if message.data is not NOTHING:
        answer["data"] = message.data
    return encode_text(answer)


def _command(command: Command) -> dict[str, object]:
    members: dict[str, object] = {"type": command.type, "data": command.data}
    if command.payload is not None:
        members["payload"] = _outgoing(command.payload)
    if command.transient:
        members["transient"] = True
    return members


def _outgoing(payload: OutgoingPayload) -> dict[str, object]:
    members: dict[str, object] = {}
    if payload.type is not None:
        members["type"] = payload.type
    if payload.data is not NOTHING:
        members["data"] = payload.data
    return members


def to_server(type: str, id: str, data: Data, hops: int) -> bytes:
    """Returns a message to another server in its classic form (section 8).

    COMPAT: the id is always present, because the reference daemon drops a message without one; ``hops`` is an
    extension that it ignores.
    """
    return frame(
        b'{"header":{"scope":"server","hops":%d},"payload":{"type":' % hops,
        encode_text(type),
        b',"id":',
        encode_text(id),
        b',"data":',
        data,
        b"}}",
    )
