"""What a handler may answer, as typed values, and how that is written (docs/protocol.md, section 3).

A command without ``data`` carries the data of the message that it answers, byte for byte; one without ``type``
carries the type of the handler that answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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


def commands_in(response: Response) -> list[Command]:
    """Returns a response's commands; their recipients are checked when they are written.

    Raises:
        TypeError: it, or something in it, is no command.
    """
    if response is None:
        return []
    commands = [response] if isinstance(response, Command) else response
    if not isinstance(commands, list | tuple):
        raise TypeError(f"a handler answers a command, a list of commands, or None; not {response!r:.200}")
    for command in commands:
        if type(command) not in _WRITERS:
            raise TypeError(f"not a command: {command!r:.200}")
    return list(commands)


def _names(to: Sequence[str]) -> bytes:
    if isinstance(to, str):
        raise TypeError(f"the recipients must be a list of strings, not the string {to!r:.200}")
    for name in to:
        if not isinstance(name, str):
            raise TypeError(f"the recipients must be strings, not {name!r:.200}")
    return encode_text(to if type(to) is list else list(to))


def _send_clients(command: SendClients) -> bytes:
    once = b',"transient":true' if command.transient else b""
    return b'"type":"sendClients","data":' + _names(command.to) + once


def _send_servers(command: SendServers) -> bytes:
    once = b',"transient":true' if command.transient else b""
    return b'"type":"sendServers","data":' + _names(command.to) + once


def _send_handler(command: SendHandler) -> bytes:
    if not isinstance(command.to, str):
        raise TypeError(f"the recipient of sendHandler must be one type, not {command.to!r:.200}")
    return b'"type":"sendHandler","data":' + encode_text(command.to)


def _reply(command: Reply) -> bytes:
    return b'"type":"reply"'


def _done(command: Done) -> bytes:
    return b'"type":"done"'


_WRITERS: dict[type[Command], Callable[[Any], bytes]] = {
    SendClients: _send_clients,
    SendServers: _send_servers,
    SendHandler: _send_handler,
    Reply: _reply,
    Done: _done,
}
"""What a command says without what it carries, as the members of a JSON object."""
_NOTHING_TO_DO = b'"command":{"type":"done"}'
_REPLY = b'"command":{"type":"reply"}'
KINDS = frozenset(_WRITERS)
"""The classes of commands."""


class Written(Struct, gc=False):
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
    write = _WRITERS.get(type(response))  # type: ignore[arg-type]
    if write is None:
        commands = commands_in(response)
        if len(commands) > 1:
            # Whatever says nothing else carries the message's own data, which is then written only once.
            inner = b",".join([_member(command, default_type) for command in commands])
            shares = any(getattr(command, "data", None) is UNSET for command in commands)
            return Written(b'"commands":[' + inner + b"]", default_type, own if shares else b"")
        response = commands[0] if commands else Done()
        write = _WRITERS[type(response)]
    if write is _done:
        return Written(_NOTHING_TO_DO, None, b"")
    command: Any = response
    what = _REPLY if write is _reply else b'"command":{' + write(command) + b"}"
    type_name = default_type if write is _send_handler else command.type or default_type
    data = command.data
    return Written(what, type_name, own if data is UNSET else encode_data(data))


def _member(command: Command, default_type: str | None) -> bytes:
    """One of several commands; what it carries is written into it only where it differs from what all carry."""
    data = getattr(command, "data", UNSET)
    type_name = getattr(command, "type", None)
    own = b""
    if data is not UNSET:
        own = b',"payload":' + _payload(type_name or default_type, encode_data(data))
    elif type_name is not None:
        own = b',"payload":{"type":' + encode_text(type_name) + b"}"
    return b"{" + _WRITERS[type(command)](command) + own + b"}"


def _payload(type: str | None, data: Raw | bytes) -> bytes:
    if type is None:
        return b"".join((b'{"data":', data, b"}"))
    return b"".join((b'{"type":', encode_text(type), b',"data":', data, b"}"))
