"""Encodes the responses of handlers (docs/protocol.md, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import UNSET

from bester.protocol.commands import (
    Accept,
    Command,
    Done,
    Drop,
    Hold,
    Reply,
    Response,
    SendClients,
    SendHandler,
    SendServers,
    Verdict,
    commands_in,
)
from bester.protocol.frames import encode_text
from bester.protocol.messages import Data
from bester.protocol.values import encode_data


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


def _accept(command: Accept) -> bytes:
    return b'"type":"accept"'


def _drop(command: Drop) -> bytes:
    return b'"type":"drop"'


def _hold(command: Hold) -> bytes:
    if command.account is not None and not isinstance(command.account, str):
        raise TypeError(f"the account of hold must be a string or None, not {command.account!r:.200}")
    return b'"type":"hold","data":' + (encode_text(command.account) if command.account is not None else b"null")


_WRITERS: Final[dict[type[Command], Callable[[Any], bytes]]] = {
    SendClients: _send_clients,
    SendServers: _send_servers,
    SendHandler: _send_handler,
    Reply: _reply,
    Done: _done,
    Accept: _accept,
    Drop: _drop,
    Hold: _hold,
}
"""Encodes a command without its payload, as members of a JSON object."""
_NOTHING_TO_DO: Final = b'"command":{"type":"done"}'
_REPLY: Final = b'"command":{"type":"reply"}'


Written = tuple[bytes, str | None, Data]
"""A response as JSON, in parts: the header's members that hold the commands; the type for commands without a type; and
the data of all commands without data of their own, empty if there are none."""


def encode_response(response: Response, own: Data, default_type: str | None = None) -> Written:
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
            return b'"commands":[' + inner + b"]", default_type, own if shares else b""
        response = commands[0] if commands else Done()
        write = _WRITERS[type(response)]
    if write is _done:
        return _NOTHING_TO_DO, None, b""
    if isinstance(response, Verdict):
        return b'"command":{' + write(response) + b"}", None, b""
    command: Any = response
    what = _REPLY if write is _reply else b'"command":{' + write(command) + b"}"
    type_name = default_type if write is _send_handler else command.type or default_type
    data = command.data
    return what, type_name, own if data is UNSET else encode_data(data)


def _member(command: Command, default_type: str | None) -> bytes:
    """Encodes one of several commands, with a payload only if it differs from the shared one."""
    data = getattr(command, "data", UNSET)
    type_name = getattr(command, "type", None)
    own = b""
    if data is not UNSET:
        own = b',"payload":' + encode_payload(type_name or default_type, encode_data(data))
    elif type_name is not None:
        own = b',"payload":{"type":' + encode_text(type_name) + b"}"
    return b"{" + _WRITERS[type(command)](command) + own + b"}"


def encode_payload(type: str | None, data: Data) -> bytes:
    """Returns a payload with these members; ``null`` if there is no data."""
    if not len(data):
        return b"null"
    if type is None:
        return b"".join((b'{"data":', data, b"}"))
    return b"".join((b'{"type":', encode_text(type), b',"data":', data, b"}"))
