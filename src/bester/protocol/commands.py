"""The commands that a handler may answer (docs/protocol.md, section 3).

A command without ``data`` carries the data of the message that it answers, byte for byte; a command without ``type``
carries the type of the handler that answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, Struct


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


class Verdict(Command, frozen=True):
    """The base of a guard's answers about a message (docs/protocol.md, section 3.7); only a guard may give one."""


class Accept(Verdict, frozen=True):
    """Lets the message pass; ``Done`` and no command say the same."""


class Drop(Verdict, frozen=True):
    """Drops the message; its sender is told that all is well."""


class Hold(Verdict, frozen=True):
    """Has the message kept until somebody consents to it."""

    account: str | None = None
    """The account that may consent; None: the operators."""


Response = Command | Sequence[Command] | None
"""A handler's answer: a command, several commands (executed in order), or nothing."""


KINDS = frozenset((SendClients, SendServers, SendHandler, Reply, Done, Accept, Drop, Hold))
"""The classes of commands."""


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
        if type(command) not in KINDS:
            raise TypeError(f"not a command: {command!r:.200}; to reply with a list, return Reply([...])")
    return list(commands)
