"""The commands that a handler may answer, and how they are encoded (docs/protocol.md, section 3).

A command without ``data`` carries the data of the message that it answers, byte for byte; a command without ``type``
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
    """Sends to every session of each of these accounts on this server; the server stores it for offline accounts."""

    to: Sequence[str]
    data: Any = UNSET
    type: str | None = None
    transient: bool = False
    """Sends only to connected accounts; the server stores nothing."""


class SendServers(Command, frozen=True):
    """Sends to each of these other servers, for its handler of the same type."""

    to: Sequence[str]
    """``host:port``, ``[v6]:port``, ``unix:/path`` or a server's name."""
    data: Any = UNSET
    type: str | None = None
    transient: bool = False
    """Tries once; nothing is queued for an unreachable server."""


class SendHandler(Command, frozen=True):
    """Sends to the handler of another type on this server; the server then executes that handler's answer."""

    to: str
    """The type."""
    data: Any = UNSET


class Reply(Command, frozen=True):
    """Replies only to the session that sent the message, or to another server in its status report."""

    data: Any = UNSET
    type: str | None = None


class Done(Command, frozen=True):
    """Sends nothing; equivalent to an empty answer."""


Response = Command | Sequence[Command] | None
"""A handler's answer: a command, several commands (executed in order), or nothing."""


def commands_in(response: Response) -> list[Command]:
    """Returns a response's commands; their recipients are checked when they are encoded.

    Raises:
        TypeError: the response, or an item in it, is not a command.
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
"""Encodes a command without its payload, as members of a JSON object."""
_NOTHING_TO_DO = b'"command":{"type":"done"}'
_REPLY = b'"command":{"type":"reply"}'
KINDS = frozenset(_WRITERS)
"""The classes of commands."""


class Written(Struct, gc=False):
    """A response as JSON, in parts."""

    what: bytes
    """The header's members that hold the commands."""
    type: str | None
    data: Raw | bytes
    """The data of all commands without data of their own; empty if there are none."""

    def payload(self) -> bytes:
        """Returns the response's ``payload``."""
        return _payload(self.type, self.data) if len(self.data) else b"null"


def encode_response(response: Response, own: Raw | bytes, default_type: str | None = None) -> Written:
    """Encodes a response.

    Args:
        response: the commands.
        own: the data of the message being answered, for commands without data.
        default_type: the type for commands without a type; None lets the server choose.

    Raises:
        TypeError: see :func:`commands_in`; or some data has no JSON form.
    """
    write = _WRITERS.get(type(response))  # type: ignore[arg-type]
    if write is None:
        commands = commands_in(response)
        if len(commands) > 1:
            # All commands without data share the message's data, which is written only once.
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
    """Encodes one of several commands, with a payload only if it differs from the shared one."""
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
