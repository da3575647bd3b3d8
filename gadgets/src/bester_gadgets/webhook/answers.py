"""Reads a URL's answer as a handler's response (docs/protocol.md, section 3.2)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from bester import Command, Done, Refuse, Reply, SendClients, SendHandler, SendServers
from bester.errors import BadResponse, HandlerFailed, NotAllowed
from bester.protocol import answers, messages


class BadAnswer(Exception):
    """An answer that is not executed; the text is for the operator."""


def read_answer(body: bytes, allowed: Collection[str]) -> list[Command]:
    """Returns the commands of an answer; all of them, or none.

    Raises:
        Refuse: a status other than "0"; with what the answer says of it.
        BadAnswer: not of the form, or with a command that this hook may not use.
    """
    try:
        message = messages.decode_classic(body)
        answers.check_status(message.header)
        commands = answers.commands_of(message)
    except messages.BadAnswer as error:
        raise BadAnswer(f"the answer is not of the form: {error.detail}") from error
    except HandlerFailed as error:
        raise Refuse(error.message, code=error.reason, temporary=error.temporary) from error
    except (BadResponse, NotAllowed) as error:
        raise BadAnswer(error.message) from error
    for command in commands:
        if command.type not in allowed and command.type != "done":
            raise BadAnswer(f"the hook's commands do not include {command.type}")
    return [_command(message, command) for command in commands]


def _command(message: messages.HandlerMessage, command: messages.Command) -> Command:
    own, shared = command.payload, message.payload
    type = (own.type if own is not None else None) or (shared.type if shared is not None else None)
    data: Any = None
    for raw in (own.data if own is not None else b"", shared.data if shared is not None else b"", message.data):
        if len(raw):
            data = raw
            break
    match command.type, command.data:
        case "sendClients", list(to):
            return SendClients(to, data, type, command.transient)
        case "sendServers", list(to):
            return SendServers(to, data, type, command.transient)
        case "sendHandler", str(to):
            return SendHandler(to, data)
        case "reply", _:
            return Reply(data, type)
    return Done()
