"""Checks handlers' answers and pushes: their status, and their commands (docs/protocol.md, section 3)."""

from __future__ import annotations

from collections.abc import Mapping

from bester.errors import BadResponse, InvalidName, NotAllowed
from bester.protocol.messages import Command, HandlerHeader, HandlerMessage
from bester.protocol.names import RESERVED_TYPES, username
from bester.protocol.refusals import refusal_of

COMMANDS: dict[str, type] = {
    "sendClients": list,
    "sendServers": list,
    "sendHandler": str,
    "reply": object,
    "done": object,
}
"""The commands of handlers, with the type of each command's ``data``."""


def commands_of(message: HandlerMessage, may: Mapping[str, type] = COMMANDS) -> list[Command]:
    """Returns the commands of an answer or a push, all checked; ignores the status.

    Args:
        message: the answer or the push.
        may: the subset of :data:`COMMANDS` that the handler may use.

    Raises:
        BadResponse: there is no command, or both forms, an unknown command, or data of the wrong type.
        NotAllowed: the handler may not use a command, or names one of the server's own types.
    """
    header = message.header
    payload = message.payload
    if payload is not None and payload.type is not None and payload.type in RESERVED_TYPES:
        raise _reserved(payload.type)
    if header.commands is None:
        if header.command is None:
            raise BadResponse("header.command is missing")
        commands = [header.command]
    elif header.command is not None:
        raise BadResponse("header has both command and commands")
    else:
        commands = header.commands
    for command in commands:
        kind = may.get(command.type)
        if kind is None:
            if command.type in COMMANDS:
                raise NotAllowed(f"this type's handlers may not use {command.type}")
            raise BadResponse("header.command.type must be one of " + ", ".join(COMMANDS))
        if kind is not object and not isinstance(command.data, kind):
            raise BadResponse(f"the data of {command.type} must be a {'list of strings' if kind is list else 'string'}")
        if kind is str and command.data in RESERVED_TYPES:
            raise _reserved(command.data)
        own = command.payload
        if own is not None and own.type is not None and own.type in RESERVED_TYPES:
            raise _reserved(own.type)
    return commands


def verdict_command(message: HandlerMessage) -> Command | None:
    """Returns the command of a guard's answer with status ``"0"`` (section 3.7); None if it is empty and accepts.

    Raises:
        BadResponse: the answer is no verdict.
    """
    header = message.header
    commands = header.commands
    if commands is None:
        commands = [header.command] if header.command is not None else None
    elif header.command is not None:
        raise BadResponse("header has both command and commands")
    if commands is None:
        raise BadResponse("header.command is missing")
    if len(commands) > 1:
        raise BadResponse("a guard answers with one command")
    command = commands[0] if commands else None
    if command is not None and command.type not in ("accept", "done", "drop", "hold"):
        raise BadResponse("a guard's command must be one of accept, done, drop, hold")
    if command is not None and command.type == "hold" and command.data is not None:
        if not isinstance(command.data, str):
            raise BadResponse("the data of hold must be an account's name or null")
        try:
            username(command.data)
        except InvalidName as error:
            raise BadResponse(f"the data of hold is no account's name: {error.message}") from error
    return command


def _reserved(type: object) -> NotAllowed:
    return NotAllowed(f"no handler may send the type {type}, which is the server's own")


def check_status(header: HandlerHeader) -> None:
    """Accepts the success status of a handler: ``"0"``, or the number 0.

    Raises:
        HandlerFailed: the status is another one; holds the parts of the handler's ``error`` that have the form of
            section 3.2.
    """
    status = header.status
    if status != "0" and (status != 0 or isinstance(status, bool)):
        raise refusal_of(header.error)
