"""The handler's end of its conversation with a server, attached and classic (docs/protocol.md, sections 3 and 6).

An attached handler sends :meth:`HandlerConversation.attach` first; the server answers with a report with the id
:data:`ATTACH_ID`. From then on bodies become :class:`Request` events. The handler answers each of them once, in any
order, with :meth:`~HandlerConversation.answer` or :meth:`~HandlerConversation.fail`. No requests come after the
report on :meth:`~HandlerConversation.detach`.

A classic handler has no conversation: it reads one body (:func:`classic_request`) and writes one frame
(:func:`classic_answer` or :func:`classic_failure`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, field
from msgspec.json import Decoder

from bester.errors import Malformed
from bester.protocol.commands import Response, encode_response
from bester.protocol.frames import encode_text
from bester.protocol.framing import PREFIX, frame
from bester.protocol.messages import NULL
from bester.protocol.refusals import BadPayload, Refuse
from bester.protocol.reports import EmptyHeader, FatalError, Report, ReportError, ReportPayload
from bester.protocol.strictjson import EXTRA_DEPTH, MAX_DEPTH, decode
from bester.protocol.values import WithData, decode_data, decode_quickly

T = TypeVar("T")

ATTACH_ID = "attach"
DETACH_ID = "detach"

_MAX_DEPTH = MAX_DEPTH + EXTRA_DEPTH
_pack = PREFIX.pack


class Sender(Struct, frozen=True, gc=False):
    """The sender of a message as the server knows it; never taken from the message itself."""

    user: str | None = None
    """The authenticated account; None for messages from other servers and from handlers."""
    server: str | None = None
    """The server that the message came from: the account's own server, or another one."""
    verified: bool = False
    """Whether the sender's identity was proven: by a password or a token, or by the other server's certificate."""
    told: bool = True
    """Whether the server named the sender at all; False in a classic handler."""


UNTOLD = Sender(told=False)


class RefusingData(WithData, kw_only=True, eq=False):
    """A message whose data, if invalid, raises :class:`Refuse` when it is read, so that its sender learns why."""

    @property
    def data(self) -> Any:
        """The data as a Python value, decoded when it is first asked for.

        Raises:
            Refuse: Python cannot hold the data, or (only in a classic handler) it is not JSON. If uncaught, it is
                reported to the sender.
        """
        value = self._value
        if value is UNSET:
            try:
                value = self._value = decode_data(self.raw)
            except ValueError as error:
                raise BadPayload(str(error)) from error
        return value

    def read(self, kind: type[T]) -> T:
        """Returns the data as this type, as :meth:`ReceivedMessage.read` does.

        Raises:
            Refuse: the data is not of this type. If uncaught, it is reported to the sender with the reason
                ``badPayload`` and the place. It is also a msgspec.ValidationError.
        """
        try:
            return super().read(kind)
        except msgspec.DecodeError as error:
            raise BadPayload(str(error)) from error


class Request(RefusingData, eq=False):
    """A message that the server sends to a handler."""

    type: str
    id: str = ""
    """The id that the sender gave the message; not unique."""
    sender: Sender = UNTOLD
    """The sender; unknown attributes are None, which in a classic handler are all of them."""
    scope: str = "client"
    """The kind of sender: ``client`` or ``server``."""
    hops: int = 0
    """The number of handlers and servers that the message went through before."""
    dry_run: bool = False
    """Whether this is a dry run: the handler must have no effects other than its answer."""
    traceparent: str = ""
    """The W3C trace that the message belongs to; the server passes it on with every message that the answer causes."""
    request_id: str = ""
    """Matches the answer to the request; has no meaning for handlers."""


Event = Request | Report | FatalError


class _RequestHeader(Struct, gc=False, rename="camel"):
    message_type: str = ""
    id: str = ""
    scope: str = "client"
    sender: Sender | None = field(default=UNTOLD, name="from")
    hops: int = 0
    dry_run: bool = False
    traceparent: str = ""


class _RequestPayload(Struct, gc=False):
    type: str = ""
    id: str = ""
    data: Raw = NULL


class _RequestMessage(Struct, gc=False):
    header: _RequestHeader
    payload: _RequestPayload


class _ReportMessage(Struct):
    header: EmptyHeader
    payload: ReportPayload


_REQUEST = b'{"header":{"messageType":"request"'
"""The start of a request as Bester's server writes it."""
_HEAD = b'{"header":{"id":'
_STATUS = b',"status":"0",'
_request = Decoder(_RequestMessage)
_report = Decoder(_ReportMessage)


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
    ) -> bytes:
        """Returns the first frame, which attaches the handler.

        Args:
            types: the types that the handler serves; at least one.
            name: shown to operators.
            concurrency: how many requests may be outstanding at once.
            features: ``dryRun`` if the handler supports dry runs (section 6).
            dry_types: the types that support dry runs; None means all.
        """
        header: dict[str, object] = {"scope": "handler"}
        asked = list(features)
        if asked:
            header["features"] = asked
        data: dict[str, object] = {"types": list(types), "name": name, "concurrency": concurrency}
        if dry_types is not None:
            data["dryRun"] = list(dry_types)
        return frame(encode_text({"header": header, "payload": {"type": "attach", "id": ATTACH_ID, "data": data}}))

    def detach(self) -> bytes:
        """Returns the frame that ends new requests; answered by a report. Outstanding requests still need answers."""
        return frame(encode_text({"header": {}, "payload": {"type": "detach", "id": DETACH_ID}}))

    def answer(self, request: Request, response: Response) -> bytes:
        """Returns the frame that answers a request.

        Raises:
            TypeError: the response cannot be encoded; the request still needs an answer.
        """
        written = encode_response(response, request.raw)
        id = encode_text(request.request_id)
        if written.type is None and len(written.data):  # by far the most frequent
            body = b"".join((_HEAD, id, _STATUS, written.what, b'},"payload":{"data":', written.data, b"}}"))
        else:
            body = b"".join((_HEAD, id, _STATUS, written.what, b'},"payload":', written.payload(), b"}"))
        return _pack(len(body)) + body

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
        written = encode_response(response, NULL, type)
        head = b'{"header":{"messageType":"push","id":' + encode_text(id) + b","
        if traceparent:
            head += b'"traceparent":' + encode_text(traceparent) + b","
        return frame(b"".join((head, written.what, b'},"payload":', written.payload(), b"}")))

    # -- from the server --------------------------------------------------------------------------------------

    def receive(self, body: bytes) -> Event:
        """Decodes a frame's body into an event.

        Raises:
            Malformed: a server never sends this to a handler; the caller must close the connection.
        """
        if body.startswith(_REQUEST) or b'"request"' in body:  # which may also occur within a report
            message = decode_quickly(_request, body, _MAX_DEPTH)
            header = message.header
            if header.message_type == "request":
                payload = message.payload
                return Request(
                    payload.type,
                    payload.id,
                    header.sender or UNTOLD,
                    header.scope,
                    header.hops,
                    header.dry_run,
                    header.traceparent,
                    header.id,
                    raw=payload.data,
                )
        report = decode(_report, body, _MAX_DEPTH)
        kind = report.header.message_type
        if kind == "statusReport":
            return self._reported(report.payload.report(report.header.status == "good"))
        if kind == "fatal":
            self.closed = True
            return FatalError(report.payload.error or ReportError())
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
    written = encode_response(response, request.raw)
    data = written.data if len(written.data) else b"null"
    payload = b"" if written.type is None else b',"payload":' + written.payload()
    return frame(b"".join((b'{"header":{"status":"0",', written.what, b"}", payload, b',"data":', data, b"}")))


def classic_failure(why: Refuse | None = None) -> bytes:
    """Returns a classic handler's only frame if it could not handle the message."""
    return frame(b'{"header":{' + _failure(why) + b'},"data":null}')


def _failure(why: Refuse | None) -> bytes:
    error = why.as_error() if why is not None else None
    return b'"status":"1"' + (b',"error":' + encode_text(error) if error else b"")
