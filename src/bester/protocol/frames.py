"""The frames that a server sends (docs/protocol.md, sections 2, 3, 6, 8).

The constant parts are bytes already; ``data`` is copied in as it came. Every function returns a whole frame, with
its length, but those that are named for a part.
"""

from __future__ import annotations

from msgspec import Raw
from msgspec.json import Decoder, Encoder

from bester.errors import BesterError
from bester.protocol.framing import PREFIX
from bester.protocol.messages import NOTHING, Command, HandlerMessage, OutgoingPayload

_pack = PREFIX.pack
_FEW_RESULTS = 4096
"""In bytes."""
_decode_list = Decoder(list[Raw]).decode
encode_text = Encoder().encode
"""A Python value as compact JSON."""

_GOOD = b'{"header":{"messageType":"statusReport","status":"good"},"payload":{"id":'
_GOOD_SIZE = len(_GOOD) + 2
_BAD = b'{"header":{"messageType":"statusReport","status":"bad"},"payload":{"id":'


def report(
    id: str,
    error: BesterError | None = None,
    results: list[bytes] | None = None,
    data: Raw | bytes | None = None,
    fields: bytes = b"",
) -> bytes:
    """A status report (section 2); bad if there is an ``error``.

    Args:
        id: the id of the message that is reported.
        error: why it is bad.
        results: made by :func:`result`.
        data: the ``payload.data``, as JSON.
        fields: more of the payload, as JSON members, each with a comma before it.
    """
    parts: list[Raw | bytes] = [_GOOD if error is None else _BAD, encode_text(id)]
    if error is not None:
        parts += (b',"error":', error_part(error))
    if results:
        parts += (b',"results":[', b",".join(results), b"]")
    if data is not None:
        parts += (b',"data":', data)
    parts += (fields, b"}}")
    body = b"".join(parts)
    return _pack(len(body)) + body


def good_report(id: str) -> bytes:
    """The shortest status report: good, with nothing more to say."""
    shown = encode_text(id)
    return b"".join((_pack(_GOOD_SIZE + len(shown)), _GOOD, shown, b"}}"))


def error_part(error: BesterError) -> bytes:
    """An error as JSON; without its cause, which stays inside."""
    told: dict[str, str | bool] = {"code": error.code, "message": error.message, "temporary": error.temporary}
    if error.reason:
        told["reason"] = error.reason
    return encode_text(told)


def result(to: str, status: str, error: BesterError | None = None) -> bytes:
    """One recipient's outcome as JSON, an entry of a report's results (section 2)."""
    if error is None:
        return b'{"to":' + encode_text(to) + b',"status":"' + status.encode() + b'"}'
    return b"".join(
        (b'{"to":', encode_text(to), b',"status":"', status.encode(), b'","error":', error_part(error), b"}")
    )


def results_of(joined: bytes) -> list[bytes]:
    """Results as a list again; few enough may stay together, since nobody but a report takes them."""
    return [joined] if len(joined) <= _FEW_RESULTS else [bytes(one) for one in _decode_list(b"[%b]" % joined)]


def fatal(error: BesterError) -> bytes:
    """The last frame before a connection is closed for an error (section 2)."""
    body = b'{"header":{"messageType":"fatal","status":"bad"},"payload":{"error":' + error_part(error) + b"}}"
    return _pack(len(body)) + body


def pong(id: str) -> bytes:
    """The answer to a message of type dummy (section 2)."""
    body = b'{"header":{"status":"0"},"payload":{"type":"dummy","data":null,"id":' + encode_text(id) + b"}}"
    return _pack(len(body)) + body


def received_head(type: str) -> bytes:
    """All of a received message's body before its data (section 2); :func:`received` adds the rest."""
    return b'{"header":{"messageType":"receivedMessage"},"payload":{"type":' + encode_text(type) + b',"data":'


def received(head: bytes, data: Raw | bytes) -> bytes:
    """A handler's message for a client."""
    body = b"".join((head, data, b"}}"))
    return _pack(len(body)) + body


def received_once(head: bytes, data: Raw | bytes, delivery_id: str, reply_to: str | None = None) -> bytes:
    """The same for a session that acknowledges it (section 4); ``reply_to``: as for :func:`received_reply`."""
    told = b"" if reply_to is None else b',"replyTo":' + encode_text(reply_to)
    body = b"".join((head, data, b',"deliveryId":', encode_text(delivery_id), told, b"}}"))
    return _pack(len(body)) + body


def received_reply(head: bytes, data: Raw | bytes, reply_to: str) -> bytes:
    """A handler's reply, for a session that is told which of its messages it answers (section 2.4)."""
    body = b"".join((head, data, b',"replyTo":', encode_text(reply_to), b"}}"))
    return _pack(len(body)) + body


def origin_part(scope: str, user: str | None, server: str | None, verified: bool) -> bytes:
    """The part of a request that says who sent it (section 6), the same for all messages of a session."""
    who = encode_text({"user": user, "server": server, "verified": verified})
    return b'","scope":"' + scope.encode() + b'","from":' + who + b',"hops":'


def type_part(type: str) -> bytes:
    """The part of a request that says its type, the same for all messages of a type."""
    return b'},"payload":{"type":' + encode_text(type) + b',"id":'


def request(
    id: str, origin: bytes, hops: int, type: bytes, client_id: str, data: Raw | bytes, more: bytes = b""
) -> bytes:
    """A request to an attached handler (section 6).

    Args:
        id: what the answer is matched by: digits only.
        origin: made by :func:`origin_part`.
        hops: how many handlers and servers the message went through.
        type: made by :func:`type_part`.
        client_id: the sender's own id of the message.
        data: as it came.
        more: of the header, made by :func:`request_part`.
    """
    body = b"".join(
        (
            b'{"header":{"messageType":"request","id":"',
            id.encode(),
            origin,
            b"%d" % hops,
            more,
            type,
            encode_text(client_id),
            b',"data":',
            data,
            b"}}",
        )
    )
    return _pack(len(body)) + body


def request_head(origin: bytes, hops: int, type: bytes, client_id: str, more: bytes) -> bytes:
    """The part of a request between its id and its data, for another node: made of what :func:`request` takes."""
    return b"".join((origin, b"%d" % hops, more, type, encode_text(client_id), b',"data":'))


def relayed_request(id: str, head: bytes, data: Raw | bytes) -> bytes:
    """A request to an attached handler, whose ``head`` another node has made by :func:`request_head`."""
    body = b"".join((b'{"header":{"messageType":"request","id":"', id.encode(), head, data, b"}}"))
    return _pack(len(body)) + body


def request_part(trace: str, dry_run: bool = False) -> bytes:
    """What a request's header says beside the usual: its traceparent, and whether it is a dry run."""
    return b',"traceparent":' + encode_text(trace) + (b',"dryRun":true' if dry_run else b"")


def traced_request(
    id: str, origin: bytes, hops: int, head: bytes, tail: bytes, type: bytes, client_id: str, data: Raw | bytes
) -> bytes:
    """The same as :func:`request`, where the traceparent is made from the request's own id.

    Every message comes this way, so nothing is formatted: the id stands in the frame a second time.

    Args:
        id, origin, hops, type, client_id, data: as for :func:`request`.
        head: made by :func:`trace_head`.
        tail: made by :func:`trace_tail`.
    """
    number = id.encode()
    body = b"".join(
        (
            head,
            number,
            tail,
            number,
            origin,
            b"%d" % hops if hops else b"0",
            type,
            encode_text(client_id),
            b',"data":',
            data,
            b"}}",
        )
    )
    return _pack(len(body)) + body


def trace_head(start: str) -> bytes:
    """All of a request before the id that ends the trace's; ``start``: of the traceparent, up to there."""
    return b'{"header":{"messageType":"request","traceparent":"' + start.encode()


def trace_part_head(start: str) -> bytes:
    """What :func:`request_part` says, up to the id that ends the trace's; ``start``: as for :func:`trace_head`."""
    return b',"traceparent":"' + start.encode()


def trace_part_tail(end: str) -> bytes:
    """What it says behind that id; ``end``: as for :func:`trace_tail`."""
    return end.encode() + b'"'


def trace_tail(end: str) -> bytes:
    """What stands between the two ids; ``end``: of the traceparent, from there."""
    return end.encode() + b'","id":"'


def answer_body(id: str, message: HandlerMessage) -> bytes:
    """A handler's answer as it came, with another id, for the node that asked; without a length."""
    header = message.header
    told: dict[str, object] = {"id": id, "status": header.status}
    if header.command is not None:
        told["command"] = _command(header.command)
    if header.commands is not None:
        told["commands"] = [_command(command) for command in header.commands]
    whole: dict[str, object] = {"header": told}
    if message.payload is not None:
        whole["payload"] = _outgoing(message.payload)
    if message.data is not NOTHING:
        whole["data"] = message.data
    return encode_text(whole)


def _command(command: Command) -> dict[str, object]:
    told: dict[str, object] = {"type": command.type, "data": command.data}
    if command.payload is not None:
        told["payload"] = _outgoing(command.payload)
    if command.transient:
        told["transient"] = True
    return told


def _outgoing(payload: OutgoingPayload) -> dict[str, object]:
    told: dict[str, object] = {}
    if payload.type is not None:
        told["type"] = payload.type
    if payload.data is not NOTHING:
        told["data"] = payload.data
    return told


def to_server(type: str, id: str, data: Raw | bytes, hops: int) -> bytes:
    """A message for another server in its classic form (section 8).

    COMPAT: the id is always there, because the reference daemon drops a message without one; ``hops`` is an
    extension that it ignores.
    """
    body = b"".join(
        (
            b'{"header":{"scope":"server","hops":%d},"payload":{"type":' % hops,
            encode_text(type),
            b',"id":',
            encode_text(id),
            b',"data":',
            data,
            b"}}",
        )
    )
    return _pack(len(body)) + body
