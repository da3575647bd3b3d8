"""The handler's end of its conversation with a server, attached and classic (docs/protocol.md, sections 3 and 6).

An attached handler sends :meth:`HandlerConversation.attach` first; the server answers with a report with the id
:data:`ATTACH_ID`. From then on bodies become :class:`Request` events. The handler answers each of them, in any order,
with :meth:`~HandlerConversation.answer` or :meth:`~HandlerConversation.fail`: once, or, if the request takes parts, as
often with ``more`` as :attr:`Request.parts` and :class:`MoreParts` events allow, and then once without. A
:class:`Cancel` changes none of that. No requests come after the report on :meth:`~HandlerConversation.detach`.

A classic handler has no conversation: it reads one body (:func:`classic_request`) and writes one frame
(:func:`classic_answer` or :func:`classic_failure`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Raw

from bester.errors import Malformed
from bester.protocol.commands import Response
from bester.protocol.descriptions import Description
from bester.protocol.frames import encode_text
from bester.protocol.framing import PREFIX, frame
from bester.protocol.messages import NULL
from bester.protocol.refusals import Refuse
from bester.protocol.reports import FatalError, Report, ReportError
from bester.protocol.requests import Cancel, MoreParts, Request, decode_other, decode_request
from bester.protocol.responses import encode_payload, encode_response

ATTACH_ID: Final = "attach"
DETACH_ID: Final = "detach"

_pack = PREFIX.pack


Event = Request | Report | MoreParts | Cancel | FatalError


_REQUEST: Final = b'{"header":{"messageType":"request"'
"""The start of a request as Bester's server writes it."""
_HEAD: Final = b'{"header":{"id":'
_STATUS: Final = b',"status":"0",'
_PAYLOAD: Final = b'},"payload":{"data":'
_END: Final = b"}}"
_MORE: Final = b',"status":"0","more":true,'
_AROUND: Final = len(_HEAD) + len(_PAYLOAD) + len(_END)


class HandlerConversation:
    """The state of one attached connection; the module's docstring gives the order of calls."""

    __slots__ = ("attached", "closed", "detached")

    def __init__(self) -> None:
        self.attached = False
        """Whether the server accepted the attachment."""
        self.detached = False
        """Whether the server reported the detachment: no further requests come."""
        self.closed = False
        """Whether the server announced that it closes the connection."""

    # -- to the server ----------------------------------------------------------------------------------------

    def attach(
        self,
        types: Sequence[str],
        name: str = "",
        concurrency: int = 64,
        features: Iterable[str] = (),
        dry_types: Sequence[str] | None = None,
        described: Mapping[str, Description] | None = None,
        authentication: Mapping[str, str] | None = None,
    ) -> bytes:
        """Returns the first frame, which attaches the handler.

        Args:
            types: the types that the handler serves; at least one.
            name: shown to operators.
            concurrency: how many requests may be outstanding at once.
            features: ``dryRun``, ``parts`` and ``cancel``, as far as the handler supports them (section 6).
            dry_types: the types that support dry runs; None means all.
            described: what is said of some of the types (section 6.9).
            authentication: who the handler is, for a server on another machine (section 6.10).
        """
        header: dict[str, object] = {"scope": "handler"}
        if authentication is not None:
            header["authentication"] = dict(authentication)
        asked = list(features)
        if asked:
            header["features"] = asked
        data: dict[str, object] = {"types": list(types), "name": name, "concurrency": concurrency}
        if dry_types is not None:
            data["dryRun"] = list(dry_types)
        if described:
            data["describe"] = dict(described)
        return frame(encode_text({"header": header, "payload": {"type": "attach", "id": ATTACH_ID, "data": data}}))

    def detach(self) -> bytes:
        """Returns the frame that ends new requests; answered by a report. Outstanding requests still need answers."""
        return frame(encode_text({"header": {}, "payload": {"type": "detach", "id": DETACH_ID}}))

    def answer(self, request: Request, response: Response, more: bool = False) -> bytes:
        """Returns the frame that answers a request.

        Args:
            request: the request; it takes parts if ``more`` is set.
            response: the commands; they are carried out at once.
            more: the request stays outstanding: another answer follows.

        Raises:
            TypeError: the response cannot be encoded; the request still needs an answer.
        """
        id = encode_text(request.request_id)
        status = _MORE if more else _STATUS
        commands, type, data = encode_response(response, request.raw)
        if type is None and len(data):  # by far the most frequent
            size = len(id) + len(status) + len(commands) + len(data) + _AROUND
            return b"".join((_pack(size), _HEAD, id, status, commands, _PAYLOAD, data, _END))
        return frame(b"".join((_HEAD, id, status, commands, b'},"payload":', encode_payload(type, data), b"}")))

    def fail(self, request: Request, why: Refuse | None = None) -> bytes:
        """Returns the frame that answers a request with a failure; the report says ``handlerError``, and why."""
        return frame(b'{"header":{"id":' + encode_text(request.request_id) + b"," + _failure(why) + b"}}")

    def push(self, id: str, response: Response, type: str | None = None, traceparent: str = "") -> bytes:
        """Returns a push, commands that answer no request; the server answers it with a report with this id.

        Args:
            id: chosen by the handler; must differ from the ids of all pushes that have no report yet.
            response: the commands; a command without data carries null.
            type: the type for commands without a type; None means the first attached type.
            traceparent: the W3C trace that the push belongs to; ``""`` lets the server start one.

        Raises:
            TypeError: the commands cannot be encoded.
        """
        commands, type, data = encode_response(response, NULL, type)
        head = b'{"header":{"messageType":"push","id":' + encode_text(id) + b","
        if traceparent:
            head += b'"traceparent":' + encode_text(traceparent) + b","
        return frame(b"".join((head, commands, b'},"payload":', encode_payload(type, data), b"}")))

    # -- from the server --------------------------------------------------------------------------------------

    def receive(self, body: bytes) -> Event:
        """Decodes a frame's body into an event.

        Raises:
            Malformed: a server never sends this to a handler; the caller must close the connection.
        """
        if body.startswith(_REQUEST) or b'"request"' in body:  # which may also occur within a report
            request = decode_request(body)
            if request is not None:
                return request
        other = decode_other(body)
        header = other.header
        kind = header.message_type
        if kind == "statusReport":
            return self._reported(other.payload.report(header.status == "good"))
        if kind == "more":
            return MoreParts(header.id, header.parts)
        if kind == "cancel":
            return Cancel(header.id)
        if kind == "fatal":
            self.closed = True
            return FatalError(other.payload.error or ReportError())
        raise Malformed(f"the server sent a message of an unknown kind, {kind!r}")

    def _reported(self, report: Report) -> Report:
        if report.id == ATTACH_ID:
            self.attached = report.good
        elif report.id == DETACH_ID:
            self.detached = True
        return report


# -- the classic form -------------------------------------------------------------------------------------------


def classic_request(type: str, body: bytes) -> Request:
    """Returns the request to a classic handler; nothing has checked that ``body`` is JSON."""
    return Request(type, raw=Raw(body))


def classic_answer(request: Request, response: Response) -> bytes:
    """Returns a classic handler's only frame.

    COMPAT: the data is at the top level, where the reference daemon expects it; it is also in the payload, but only
    if the payload has a type.

    Raises:
        TypeError: the response cannot be encoded.
    """
    commands, type, data = encode_response(response, request.raw)
    payload = b"" if type is None else b',"payload":' + encode_payload(type, data)
    return frame(b"".join((b'{"header":{"status":"0",', commands, b"}", payload, b',"data":', data or b"null", b"}")))


def classic_failure(why: Refuse | None = None) -> bytes:
    """Returns a classic handler's only frame if it could not handle the message."""
    return frame(b'{"header":{' + _failure(why) + b'},"data":null}')


def _failure(why: Refuse | None) -> bytes:
    error = why.as_error() if why is not None else None
    return b'"status":"1"' + (b',"error":' + encode_text(error) if error else b"")
