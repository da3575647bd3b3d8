"""The outcome of a handler's request, as a recording has it (docs/protocol.md, section 5.3).

It is one of three objects: the commands of the answer, each with the payload that it sends (so it does not matter
whether the handler wrote one command or a list, and where it wrote the data); the handler's refusal; or the failure.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any

from bester.errors import BesterError, HandlerFailed
from bester.protocol.answers import COMMANDS, check_status, commands_of, verdict_command
from bester.protocol.messages import NOTHING, NULL, Command, HandlerMessage

Outcome = dict[str, Any]
"""``data`` in it is a :class:`msgspec.Raw`."""


def outcome_of(message: HandlerMessage, type: str, may: Mapping[str, builtins.type] = COMMANDS) -> Outcome:
    """Returns the outcome of an answer.

    Args:
        message: the answer.
        type: the handler's type, which is the type of what it sends unless it names another.
        may: the commands that it may use, as for :func:`bester.protocol.answers.commands_of`.
    """
    try:
        check_status(message.header)
        commands = commands_of(message, may)
    except BesterError as error:
        return failed(error)
    return {"commands": [_command(command, message, type) for command in commands]}


def _command(command: Command, message: HandlerMessage, type: str) -> dict[str, Any]:
    members: dict[str, Any] = {"type": command.type}
    if command.type == "done":
        return members
    if command.type != "reply":
        members["data"] = command.data
    payload: dict[str, Any] = {}
    data = NOTHING
    for part in (command.payload, message.payload):
        if part is not None:
            if part.type is not None and "type" not in payload:
                payload["type"] = part.type
            if data is NOTHING:
                data = part.data
    if data is NOTHING:
        data = message.data
    payload["data"] = NULL if data is NOTHING else data
    if command.type == "sendHandler":
        payload.pop("type", None)  # the next handler's type says what it gets
    else:
        payload.setdefault("type", type)
    members["payload"] = payload
    if command.transient:
        members["transient"] = True
    return members


def verdict_of(message: HandlerMessage) -> Outcome:
    """Returns the outcome of a guard's answer."""
    try:
        check_status(message.header)
        command = verdict_command(message)
    except BesterError as error:
        return failed(error)
    if command is None:
        return {"commands": []}
    return {"commands": [{"type": command.type} | ({"data": command.data} if command.type == "hold" else {})]}


def failed(error: BesterError) -> Outcome:
    """Returns the outcome of a request without a good answer: a refusal, or a failure with its code."""
    if not isinstance(error, HandlerFailed):
        return {"failed": {"code": error.code, "message": error.message}}
    refusal: dict[str, Any] = {}
    if error.reason:
        refusal["code"] = error.reason
    if error.message != HandlerFailed.meaning:
        refusal["message"] = error.message
    if error.temporary:
        refusal["temporary"] = True
    return {"refused": refusal}
