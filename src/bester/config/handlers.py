"""The ``handlers`` block of a configuration (docs/protocol.md, sections 3, 6 and 10)."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as attribute
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field

from bester.config.guards import TYPE, Guard
from bester.config.values import (
    AllowedSender,
    Block,
    FilePath,
    TypeName,
    VariableName,
    VariableValue,
    count,
    field,
    path,
    seconds,
)

Delivery = Literal["durable", "transient"]
CommandName = Literal["reply", "sendClients", "sendHandler", "sendServers"]
COMMAND_NAMES: tuple[CommandName, ...] = get_args(CommandName)
"""The commands that a configuration may allow; ``done`` is always allowed."""

_SOCKET = "a path that a Unix socket can have"
_COMMANDS = "a list of commands"
_COMMAND = 'one of "reply", "sendClients", "sendHandler", "sendServers"'


@dataclass(frozen=True, slots=True)
class HandlerConfig:
    """One served type, with every default filled in.

    ``socket`` is None for a type without a classic handler; ``binary`` is None if the server starts no handler.
    """

    type: str
    binary: Path | None
    socket: Path | None
    timeout_s: float
    concurrency: int
    delivery: Delivery
    environment: dict[str, str] = attribute(repr=False)
    allow: tuple[str, ...]
    may: tuple[CommandName, ...]


class HandlerType(Block):
    """An entry of ``typeMap``: the settings of one type."""

    handler_binary: FilePath | None = path(
        None,
        "An executable that the server starts and supervises, unless a program already answers on the socket.",
    )
    unix_domain_socket_path: FilePath | None = path(
        None,
        "The socket of a classic handler. If absent, the type is served only while a handler is attached.",
        _SOCKET,
    )
    timeout: float | None = seconds(
        None, 0.01, 86400, "How long a message may take.", default_text="`limits.handlerTimeout`"
    )
    concurrency: int = count(16, 1, 1024, "connections", "How many classic connections may be open at once.")
    delivery: Delivery = field(
        "durable",
        "Whether messages for offline accounts are stored in their mailboxes.",
        'one of "durable", "transient"',
    )
    environment: dict[VariableName, VariableValue] = field(
        {},
        "Environment variables for the started handler, in addition to the server's. Never shown.",
        "an object with texts",
        key="a variable's name: at least one character, without = and NUL",
        item="a text without NUL",
        secret=True,
    )
    allow: Annotated[tuple[AllowedSender, ...], Field(strict=False)] = field(
        ("accounts", "servers"),
        "The senders that may send this type; others get `notAllowed`. An empty list allows no one.",
        "a list of senders",
        item='"accounts", "servers", "role:NAME", a username or a server\'s name',
    )
    may: Annotated[tuple[CommandName, ...] | None, Field(strict=False)] = field(
        None,
        "The commands that this type's handlers may use in answers and pushes; others get `notAllowed`.",
        _COMMANDS,
        item=_COMMAND,
        default_text="`handlers.may`",
    )
    validates: bool = Field(
        False,
        alias="validate",
        description="Whether messages that do not fit the schema of the type's description are refused, `badPayload`.",
        json_schema_extra={"allowed": "true or false"},
    )


class Handlers(Block):
    """The types and their handlers."""

    address: FilePath = path(
        Path("besterHandlers"),
        "The handler socket, where handlers attach.",
        _SOCKET,
    )
    available_types: Annotated[tuple[TypeName, ...] | None, Field(strict=False)] = field(
        None,
        "The types of `typeMap` that are served; if absent, all of them.",
        "a list of types' names",
        item=TYPE,
        default_text="all of `typeMap`",
    )
    may: Annotated[tuple[CommandName, ...], Field(strict=False)] = field(
        COMMAND_NAMES,
        "The commands that handlers may use if their type has no `may`, or no entry in `typeMap`.",
        _COMMANDS,
        item=_COMMAND,
    )
    guards: Annotated[tuple[Guard, ...], Field(strict=False)] = field(
        (),
        "The guards, in the order in which they are asked.",
        "a list of objects",
        item="an object",
        name="N",
    )
    type_map: dict[TypeName, HandlerType] = field(
        {}, "The types, by their names.", "an object of objects", key=TYPE, item="an object", name="T"
    )

    def served(self, timeout_s: float) -> dict[str, HandlerConfig]:
        """Returns the served types of ``typeMap``, in its order; ``timeout_s`` is the default timeout."""
        names = self.type_map if self.available_types is None else set(self.available_types)
        return {
            name: HandlerConfig(
                type=name,
                binary=entry.handler_binary,
                socket=entry.unix_domain_socket_path,
                timeout_s=timeout_s if entry.timeout is None else entry.timeout,
                concurrency=entry.concurrency,
                delivery=entry.delivery,
                environment=entry.environment,
                allow=entry.allow,
                may=self.may if entry.may is None else entry.may,
            )
            for name, entry in self.type_map.items()
            if name in names
        }
