"""The handler's end of its conversation with a server, attached and classic (docs/protocol.md, sections 3 and 6).

An attached handler's first frame is :meth:`HandlerConversation.attach`, answered by a report with the id
:data:`ATTACH_ID`. From then on bodies become :class:`Request` events, each to be answered once, in any order, with
:meth:`~HandlerConversation.answer` or :meth:`~HandlerConversation.fail`. After :meth:`~HandlerConversation.detach`
and its report there are no further requests.

A classic handler has no conversation: one body in (:func:`classic_request`), one frame out
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
    """Who sent a message, as the server knows it; never taken from the message itself."""

    user: str | None = None
    """The authenticated account; None for what other servers and handlers send."""
    server: str | None = None
    """The server that the message came from; the account's own, or the other one."""
    verified: bool = False
    """Whether that was proven: by a password or a token, or by the other server's certificate."""
    told: bool = True
    """Whether the server said anything of it; False in a classic handler, which is not told."""


UNTOLD = Sender(told=False)


class Asked(WithData, kw_only=True, eq=False):
    """A message whose reader refuses it where the data is not what it should be."""

    @property
    def data(self) -> Any:
        """The data as a Python value, decoded when it is first asked for.

        Raises:
            Refuse: it cannot be held, or (possible only in a classic handler) is no JSON; the sender is told so.
        """
        value = self._value
        if value is UNSET:
            try:
                value = self._value = decode_data(self.raw)
            except ValueError as error:
                raise BadPayload(str(error)) from error
        return value

    def read(self, kind: type[T]) -> T:
        """As :meth:`ReceivedMessage.read`.

        Raises:
            Refuse: the data is not of this type: uncaught, the sender is told so, with the reason ``badPayload`` and
                the place. It is a msgspec.ValidationError too.
        """
        try:
            return super().read(kind)
        except msgspec.DecodeError as error:
            raise BadPayload(str(error)) from error


class Request(Asked, eq=False):
    """A message that a handler is asked to handle."""

    type: str
    id: str = ""
    """The sender's own tag of the message; not unique."""
    sender: Sender = UNTOLD
    """What is not known of it is None; in a classic handler that is everything."""
    scope: str = "client"
    """``client`` or ``server``: who speaks at the other end."""
    hops: int = 0
    """How many handlers and servers the message went through before."""
    dry_run: bool = False
    """Only asked what would be done: there must be no effects beside the answer."""
    traceparent: str = ""
    """The W3C trace that the message belongs to; a server passes it on with what the answer leads to."""
    request_id: str = ""
    """What the answer is matched by; of no meaning to handlers."""


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
"""How our server writes the begin of a request."""
_HEAD = b'{"header":{"id":'
_STATUS = b',"status":"0",'
_request = Decoder(_RequestMessage)
_report = Decoder(_ReportMessage)


class HandlerConversation:
    """One attached connection's conversation; see the module's text."""

    __slots__ = ("attached", "closed", "detached")

    def __init__(self) -> None:
        self.attached = False
        """Whether the server reported the attachment good."""
        self.detached = False
        """Whether the server reported the detachment: no further requests come."""
        self.closed = False
        """Whether the server said that it closes the connection."""

    # -- to the server ----------------------------------------------------------------------------------------

    def attach(
        self,
        types: Sequence[str],
        name: str = "",
        concurrency: int = 64,
        features: Iterable[str] = (),
        dry_types: Sequence[str] | None = None,
    ) -> bytes:
        """The first frame: what we serve.

        Args:
            types: at least one.
            name: for the operator's eyes.
            concurrency: how many requests may be outstanding at once.
            features: ``dryRun``, if the handler can say what it would do without doing it (section 6).
            dry_types: the types for which it can; None: all.
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
        """Asks for no new requests; answered by a report. The outstanding ones are still to be answered."""
        return frame(encode_text({"header": {}, "payload": {"type": "detach", "id": DETACH_ID}}))

    def answer(self, request: Request, response: Response) -> bytes:
        """Answers a request.

        Raises:
            TypeError: the response has no form on the wire; the request is still to be answered.
        """
        written = encode_response(response, request.raw)
        id = encode_text(request.request_id)
        if written.type is None and len(written.data):  # by far the most frequent
            body = b"".join((_HEAD, id, _STATUS, written.what, b'},"payload":{"data":', written.data, b"}}"))
        else:
            body = b"".join((_HEAD, id, _STATUS, written.what, b'},"payload":', written.payload(), b"}"))
        return _pack(len(body)) + body

    def fail(self, request: Request, why: Refuse | None = None) -> bytes:
        """Answers that the message could not be handled; its sender is reported ``handlerError``, and why."""
        return frame(b'{"header":{"id":' + encode_text(request.request_id) + b"," + _failure(why) + b"}}")

    def push(self, id: str, response: Response, type: str | None = None, traceparent: str = "") -> bytes:
        """Speaks first; answered by a report with this id.

        Args:
            id: ours, different from the pushes that have no report yet.
            response: the commands; one without data carries null.
            type: of what is sent, where a command does not say; None: the first attached one.
            traceparent: the W3C trace that it belongs to; ``""``: the server begins one.

        Raises:
            TypeError: the commands have no form on the wire.
        """
        written = encode_response(response, NULL, type)
        head = b'{"header":{"messageType":"push","id":' + encode_text(id) + b","
        if traceparent:
            head += b'"traceparent":' + encode_text(traceparent) + b","
        return frame(b"".join((head, written.what, b'},"payload":', written.payload(), b"}")))

    # -- from the server --------------------------------------------------------------------------------------

    def receive(self, body: bytes) -> Event:
        """Returns what a frame's body says.

        Raises:
            Malformed: nothing that a server says to a handler; the connection is of no more use.
        """
        if body.startswith(_REQUEST) or b'"request"' in body:  # in the header, or else somewhere in a report
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
        told = decode(_report, body, _MAX_DEPTH)
        kind = told.header.message_type
        if kind == "statusReport":
            return self._reported(told.payload.report(told.header.status == "good"))
        if kind == "fatal":
            self.closed = True
            return FatalError(told.payload.error or ReportError())
        raise Malformed(f"the server sent a message of an unknown kind, {kind!r}")

    def _reported(self, report: Report) -> Report:
        if report.id == ATTACH_ID:
            self.attached = report.good
        elif report.id == DETACH_ID:
            self.detached = True
        return report


# -- the classic form -------------------------------------------------------------------------------------------


def classic_request(type: str, body: bytes) -> Request:
    """Returns what a classic handler is asked; nobody checked that ``body`` is JSON."""
    return Request(type, raw=Raw(body))


def classic_answer(request: Request, response: Response) -> bytes:
    """A classic handler's only frame.

    COMPAT: the data stands at the top level, where the reference daemon looks for it, and in the payload as well only
    where there is more to say than the data.

    Raises:
        TypeError: the response has no form on the wire.
    """
    written = encode_response(response, request.raw)
    data = written.data if len(written.data) else b"null"
    payload = b"" if written.type is None else b',"payload":' + written.payload()
    return frame(b"".join((b'{"header":{"status":"0",', written.what, b"}", payload, b',"data":', data, b"}")))


def classic_failure(why: Refuse | None = None) -> bytes:
    """A classic handler's only frame where it could not handle the message."""
    return frame(b'{"header":{' + _failure(why) + b'},"data":null}')


def _failure(why: Refuse | None) -> bytes:
    error = why.as_error() if why is not None else None
    return b'"status":"1"' + (b',"error":' + encode_text(error) if error else b"")
