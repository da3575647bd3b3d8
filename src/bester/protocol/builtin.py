"""Built-in commands and their arguments, as a builtin message carries them (docs/protocol.md, section 5)."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from bester.errors import BadArguments, Malformed
from bester.protocol.messages import NOTHING
from bester.protocol.strictjson import decode

BUILTIN = "builtin"
"""The type of messages that carry a built-in command."""


class _Command(Struct):
    type: str
    args: Raw = NOTHING
    command: Raw = NOTHING


class _Data(Struct):
    command: _Command


class _CancelHeader(Struct, rename="camel"):
    message_type: str = ""


class _CancelPayload(Struct):
    id: str = ""


class _Cancel(Struct):
    header: _CancelHeader
    payload: _CancelPayload


_cancel = msgspec.json.Decoder(_Cancel)


class NoArgs(Struct):
    pass


class Credentials(Struct):
    username: str
    password: str


class PasswordChange(Struct):
    old: str
    new: str


class AccountName(Struct):
    username: str


class NewAccount(Struct):
    username: str
    password: str
    admin: bool = False


class Roles(Struct):
    username: str
    roles: list[str]


class NewToken(Struct):
    username: str
    days: int | None = None


class Page(Struct):
    after: str = ""
    limit: int = 1000


class SomeClients(Struct):
    after: str = ""
    limit: int | None = None


class HandledType(Struct):
    type: str
    node: str | None = None


class DescribedTypes(Struct):
    type: str | None = None
    after: str = ""
    limit: int = 20


class HandlerOutput(Struct):
    type: str
    lines: int = 100
    node: str | None = None


class OneServer(Struct):
    server: str


class Reload(Struct):
    nodes: bool = False


class QueuePage(Struct):
    server: str | None = None
    dead: bool | None = None
    after: int = 0
    limit: int = 100


class QueueEntry(Struct):
    id: int


class Traced(Struct):
    id: str | None = None
    account: str | None = None
    type: str | None = None
    outcome: str | None = None
    since: float = 0.0
    limit: int = 100


class Since(Struct):
    since: float | None = None


class Record(Struct):
    type: str
    seconds: float = 60.0
    sample: float = 1.0
    twice: bool = False


class Retry(Struct):
    ids: list[int] | None = None
    server: str | None = None
    all: bool = False


class Drop(Struct):
    ids: list[int] | None = None
    server: str | None = None
    dead: bool | None = None


class HeldPage(Struct):
    after: int = 0
    limit: int = 100
    operators: bool = False


class Consent(Struct):
    ids: list[int] | None = None
    user: str | None = None
    server: str | None = None
    always: bool = False
    operators: bool = False


class Refusal(Struct):
    ids: list[int] | None = None
    user: str | None = None
    server: str | None = None
    operators: bool = False


def read_command(data: Raw) -> tuple[str, Raw]:
    """Returns a builtin message's command and its arguments, an object.

    Raises:
        BadArguments: the data does not have the form of section 5.
    """
    try:
        command = msgspec.json.decode(data, type=_Data).command
    except msgspec.DecodeError as error:
        raise BadArguments(str(error)) from error
    # COMPAT: the reference daemon's notes spell the arguments "command".
    args = command.args if len(command.args) else command.command
    return command.type, args if len(args) else Raw(b"{}")


def cancelled(body: bytes) -> str | None:
    """Returns the id of the command that a frame on the control socket cancels; None if it cancels none."""
    if b'"cancel"' not in body:
        return None
    try:
        message = decode(_cancel, body, partly=True)
    except Malformed:
        return None
    return message.payload.id if message.header.message_type == "cancel" else None


def is_opening(data: Raw) -> bool:
    """Returns whether a builtin's data holds a command that a connection's first message may carry."""
    try:
        return read_command(data)[0] in ("login", "register")
    except BadArguments:
        return False


def ends_session(data: Raw) -> bool:
    """Returns whether a builtin's data holds a command that must finish before the next frame is read."""
    try:
        return read_command(data)[0] in ("logout", "close")
    except BadArguments:
        return False


def read_credentials(data: Raw) -> tuple[str, Credentials]:
    """Returns ``login`` or ``register`` with its arguments.

    Raises:
        BadArguments: the data does not have the form of section 5.
        Malformed: the username or the password is not a string.
    """
    name, args = read_command(data)
    try:
        return name, msgspec.json.decode(args, type=Credentials)
    except msgspec.DecodeError as error:
        raise Malformed(f"{name}: {error}") from error
