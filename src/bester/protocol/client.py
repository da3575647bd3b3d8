"""The client's end of its conversation with a server (docs/protocol.md, sections 2, 4, 5).

The methods named after frames return the frames to send; :meth:`ClientConversation.receive` turns each received body
into an event. The first frame is :meth:`~ClientConversation.hello`; the caller must send nothing else until it has
received the report on it (with the id :data:`AUTHENTICATION_ID`).

The caller matches reports to messages by their ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from bester.errors import Malformed, TooLarge
from bester.protocol.frames import encode_text
from bester.protocol.framing import PREFIX, frame
from bester.protocol.messages import NULL
from bester.protocol.received import Pong, ReceivedMessage, decode_part, decode_received, decode_server_message
from bester.protocol.reports import FatalError, Report, ReportError
from bester.protocol.values import encode_data

AUTHENTICATION_ID: Final = "auth_special"
"""The id of the report on the message that authenticates a session."""
DEFAULT_MAX_MESSAGE: Final = 1024 * 1024
"""The largest body in bytes if the server states no limit."""

_MAX_HEADS: Final = 1000
_pack = PREFIX.pack


Event = Report | ReceivedMessage | Pong | FatalError

# How Bester's server writes the most frequent messages; other spellings are decoded too, only more slowly.
_RECEIVED: Final = b'{"header":{"messageType":"receivedMessage"},"payload":{"type":'
_PART: Final = b'{"header":{"messageType":"receivedMessage","partOf":"'
_GOOD: Final = b'{"header":{"messageType":"statusReport","status":"good"},"payload":{"id":"'
_GOOD_SIZE: Final = len(_GOOD)
_GOOD_END: Final = b'"}}'
_DATA: Final = b',"data":'
_END: Final = b"}}"
_AROUND: Final = len(_DATA) + len(_END)


class ClientConversation:
    """The state of one connection; the module's docstring gives the order of calls."""

    __slots__ = ("_heads", "authenticated", "closed", "features", "max_message", "server")

    def __init__(self) -> None:
        self.authenticated = False
        """Whether messages may be sent; false again after a :meth:`logged_out`."""
        self.closed = False
        """Whether the server announced that it closes the connection."""
        self.features: tuple[str, ...] = ()
        """The features that the server granted."""
        self.server: str | None = None
        """The server's name, if it sent one."""
        self.max_message = DEFAULT_MAX_MESSAGE
        self._heads: dict[str, bytes] = {}

    # -- to the server ----------------------------------------------------------------------------------------

    def hello(
        self,
        username: str,
        *,
        password: str | None = None,
        token: str | None = None,
        features: Iterable[str] = (),
        mail: bool | Iterable[str] = True,
        register: bool = False,
        again: bool = False,
    ) -> bytes:
        """Returns the first frame, which authenticates the session.

        Args:
            username: the account.
            password: required unless ``token`` is given.
            token: from an earlier session's report, with the feature ``token``.
            features: the features that the session asks for.
            mail: whether the session receives the account's messages, or the types that it receives.
            register: create the account first, if the server lets anyone do that; needs the password.
            again: the session follows a logout on the same connection; needs the password.
        """
        credentials = {"username": username} | ({"token": token} if token is not None else {"password": password or ""})
        header: dict[str, object] = {"scope": "client"}
        asked = list(features)
        if asked:
            header["features"] = asked
        if mail is not True:
            header["mail"] = mail if mail is False else list(mail)
        payload: dict[str, object] = {"type": "dummy", "id": "", "data": None}
        if register or again:
            payload = _command("register" if register else "login", AUTHENTICATION_ID, credentials)
        else:
            header["authentication"] = credentials
        return frame(encode_text({"header": header, "payload": payload}))

    def message(
        self,
        type: str,
        id: str,
        data: object,
        *,
        once: bool = False,
        route: bool = False,
        dry_run: bool = False,
        traceparent: str = "",
        parts: int = 0,
    ) -> bytes:
        """Returns the frame of a message; the server answers it with a :class:`Report` with the same id.

        Args:
            type: names the handler.
            id: chosen by the sender; must differ from the ids of all messages that have no report yet.
            data: a JSON value, or :class:`msgspec.Raw`.
            once: a resend with the same id and data is not handled twice (section 4).
            route: the report contains the message's route (section 7; needs the feature ``route``).
            dry_run: nothing is delivered; the report contains the route that the message would take.
            traceparent: the W3C trace that the message belongs to; ``""`` lets the server start one.
            parts: how many parts of the answer the client takes now (needs the feature ``parts``); more by
                :meth:`more`. 0: the handler has one answer.

        Raises:
            TooLarge: the frame exceeds the server's limit; the server would end the connection.
            TypeError: ``data`` has no JSON form.
        """
        if once or route or dry_run or traceparent or parts:
            flags = {"once": once, "route": route, "dryRun": dry_run, "traceparent": traceparent, "parts": parts}
            header = encode_text({name: value for name, value in flags.items() if value})
            head = b'{"header":' + header + b',"payload":{"type":' + encode_text(type) + b',"id":'
        else:
            head = self._heads.get(type) or self._head(type)
        name = encode_text(id)
        value = encode_data(data)
        size = len(head) + len(name) + len(value) + _AROUND
        if size > self.max_message:
            raise TooLarge(f"a frame of {size} bytes; the server takes at most {self.max_message}")
        return b"".join((_pack(size), head, name, _DATA, value, _END))

    def _head(self, type: str) -> bytes:
        # COMPAT: the header is optional, but the reference daemon requires one.
        head = b'{"header":{},"payload":{"type":' + encode_text(type) + b',"id":'
        if len(self._heads) < _MAX_HEADS:
            self._heads[type] = head
        return head

    def builtin(self, command: str, id: str, args: Mapping[str, Any]) -> bytes:
        """Returns the frame of a built-in command (section 5); the report's ``data`` holds its result."""
        return frame(encode_text({"header": {}, "payload": _command(command, id, args)}))

    def ping(self, id: str) -> bytes:
        """Returns the frame of a ping; the server answers at once with a :class:`Pong` with this id."""
        return frame(encode_text({"header": {}, "payload": {"type": "dummy", "id": id, "data": None}}))

    def ack(self, ids: list[str]) -> bytes:
        """Returns the frame that acknowledges these delivery ids (section 4); the server does not answer it."""
        return frame(encode_text({"header": {"messageType": "ack"}, "payload": {"ids": ids}}))

    def more(self, id: str, parts: int) -> bytes:
        """Returns the frame that takes this many further parts of the answer to a message; it is not answered."""
        return frame(encode_text({"header": {"messageType": "more"}, "payload": {"id": id, "parts": parts}}))

    def cancel(self, id: str) -> bytes:
        """Returns the frame that gives up a message; it is not answered, but the message still gets its report."""
        return frame(encode_text({"header": {"messageType": "cancel"}, "payload": {"id": id}}))

    # -- from the server --------------------------------------------------------------------------------------

    def receive(self, body: bytes) -> Event:
        """Decodes a frame's body into an event.

        Raises:
            Malformed: a server never sends this to a client; the caller must close the connection.
        """
        if body.startswith(_GOOD):
            id = body[_GOOD_SIZE:-3]  # only if this is the shortest report, by far the most frequent; checked next
            if id.isalnum() and body.endswith(_GOOD_END):
                return Report(id=id.decode(), good=True)
        elif body.startswith(_RECEIVED):
            return decode_received(body)
        elif body.startswith(_PART):
            return decode_part(body)
        message = decode_server_message(body)
        kind = message.header.message_type
        payload = message.payload
        if kind == "statusReport":
            return self._reported(payload.report(message.header.status == "good"))
        if kind == "receivedMessage":
            data = payload.data if len(payload.data) else NULL
            part_of = message.header.part_of
            return ReceivedMessage(payload.type, payload.delivery_id, payload.reply_to, part_of, raw=data)
        if kind == "fatal":
            self.closed = True
            return FatalError(payload.error or ReportError())
        if not kind and payload.type == "dummy":
            return Pong(payload.id)
        raise Malformed(f"the server sent a message of an unknown kind, {kind!r}")

    def logged_out(self) -> None:
        """A logout was reported good: the next message must be a login, with the id :data:`AUTHENTICATION_ID`."""
        self.authenticated = False

    def _reported(self, report: Report) -> Report:
        if report.id == AUTHENTICATION_ID and report.good:
            self.authenticated = True
            self.features = report.features
            self.server = report.server
            if report.limits is not None and report.limits.max_message is not None:
                self.max_message = report.limits.max_message
        return report


def _command(command: str, id: str, args: Mapping[str, Any]) -> dict[str, object]:
    named = {"type": command, "args": args} if args else {"type": command}
    return {"type": "builtin", "id": id, "data": {"command": named}}
