"""What a handler may answer, as typed values, and how that is written (docs/protocol.md, section 3).

A command without ``data`` carries the data of the message that it answers, byte for byte; one without ``type``
carries the type of the handler that answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec import UNSET, Raw, Struct

from bester.protocol.frames import encode_text
from bester.protocol.values import encode_data


class Command(Struct, frozen=True):
    """The base of all commands."""


class SendClients(Command, frozen=True):
    """To every session of each of these accounts on this server; stored for those that are away."""

    to: Sequence[str]
    data: Any = UNSET
    type: str | None = None
    transient: bool = False
    """Only to those who are connected; nothing is stored."""


class SendServers(Command, frozen=True):
    """To each of these other servers, for its handler of the same type."""

    to: Sequence[str]
    """``host:port``, ``[v6]:port``, ``unix:/path`` or a server's name."""
    data: Any = UNSET
    type: str | None = None
    transient: bool = False
    """One try; nothing is kept for a server that cannot be reached."""


class SendHandler(Command, frozen=True):
    """To the handler of another type on this server; what that answers is executed in turn."""

    to: str
    """The type."""
    data: Any = UNSET


class Reply(Command, frozen=True):
    """To the session that asked, only; for a server, in its status report."""

    data: Any = UNSET
    type: str | None = None


class Done(Command, frozen=True):
    """Nothing is to be sent. The same as answering nothing."""


Response = Command | Sequence[Command] | None
"""What a handler may answer: a command, several (executed in order), or nothing."""

_NAMES: dict[type[Command], str] = {
    SendClients: "sendClients",
    SendServers: "sendServers",
    SendHandler: "sendHandler",
    Reply: "reply",
    Done: "done",
}


def commands_in(response: Response) -> list[Command]:
    """Returns a response's commands, checked.

    Raises:
        TypeError: something in it is no command, or its recipients are not a list of strings (``SendHandler``: one).
    """
    if response is None:
        return []
    commands = [response] if isinstance(response, Command) else response
    if not isinstance(commands, list | tuple):
        raise TypeError(f"a handler answers a command, a list of commands, or None; not {response!r:.200}")
    for command in commands:
        if type(command) not in _NAMES:
            raise TypeError(f"not a command: {command!r:.200}")
        if isinstance(command, SendClients | SendServers):
            if isinstance(command.to, str) or not all(isinstance(to, str) for to in command.to):
                raise TypeError(f"the recipients of {_NAMES[type(command)]} must be a list of strings")
        elif isinstance(command, SendHandler) and not isinstance(command.to, str):
            raise TypeError("the recipient of sendHandler must be one type")
    return list(commands)


class Written(NamedTuple):
    """A response as JSON, in parts."""

    what: bytes
    """The header's members that say what is to be done."""
    type: str | None
    data: Raw | bytes
    """What all commands carry that say nothing else; no bytes if there are none."""

    def payload(self) -> bytes:
        """Returns the response's ``payload``."""
        return _payload(self.type, self.data) if len(self.data) else b"null"


def encode_response(response: Response, own: Raw | bytes, default_type: str | None = None) -> Written:
    """Writes a response.

    Args:
        response: the commands.
        own: what a command without data carries: the data of the message that is answered.
        default_type: what a command without a type carries; None leaves it to the server.

    Raises:
        TypeError: see :func:`commands_in`; or some data has no JSON form.
    """
    commands = commands_in(response)
    if len(commands) > 1:
        # Whatever says nothing else carries the message's own data, which is then written only once.
        inner = b",".join([_member(command, default_type) for command in commands])
        shares = any(getattr(command, "data", None) is UNSET for command in commands)
        return Written(b'"commands":[' + inner + b"]", default_type, own if shares else b"")
    command = commands[0] if commands else Done()
    what = b'"command":{' + _inner(command) + b"}"
    data = getattr(command, "data", None)
    if isinstance(command, Done):
        return Written(what, None, b"")
    return Written(what, _type_of(command) or default_type, own if data is UNSET else encode_data(data))


def _type_of(command: Command) -> str | None:
    return getattr(command, "type", None)


def _inner(command: Command) -> bytes:
    start = b'"type":"' + _NAMES[type(command)].encode() + b'"'
    if isinstance(command, SendHandler):
        return start + b',"data":' + encode_text(command.to)
    if isinstance(command, SendClients | SendServers):
        return (
            start + b',"data":' + encode_text(list(command.to)) + (b',"transient":true' if command.transient else b"")
        )
    return start


def _member(command: Command, default_type: str | None) -> bytes:
    """One of several commands; what it carries is written into it only where it differs from what all carry."""
    data = getattr(command, "data", UNSET)
    type = _type_of(command)
    own = b""
    if data is not UNSET:
        own = b',"payload":' + _payload(type or default_type, encode_data(data))
    elif type is not None:
        own = b',"payload":{"type":' + encode_text(type) + b"}"
    return b"{" + _inner(command) + own + b"}"


def _payload(type: str | None, data: Raw | bytes) -> bytes:
    if type is None:
        return b"".join((b'{"data":', data, b"}"))
    return b"".join((b'{"type":', encode_text(type), b',"data":', data, b"}"))
