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
    Port,
    Text,
    TypeName,
    V4OrV6,
    VariableName,
    VariableValue,
    count,
    field,
    optional_block,
    path,
    port,
    seconds,
)

Delivery = Literal["durable", "transient"]
Stdio = Literal["lines", "frames"]
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
    ``stdio`` is the form in which the started handler speaks over its standard input and output; None if it does not.
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
    stdio: Stdio | None = None

    @property
    def supervised(self) -> bool:
        """Whether a program of the configuration answers for the type, which operators can stop and start."""
        return self.socket is not None or self.stdio is not None


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
    transport: Literal["socket", "stdio"] = field(
        "socket",
        "How the started handler is spoken to: over the socket on which it listens, or over its standard input and "
        "output ([handlers in any language](ways.md)).",
        'one of "socket", "stdio"',
    )
    stdio: Stdio = field(
        "lines",
        "What goes over standard input and output: lines of JSON, or frames.",
        'one of "lines", "frames"',
    )
    timeout: float | None = seconds(
        None, 0.01, 86400, "How long a message may take.", default_text="`limits.handlerTimeout`"
    )
    concurrency: int | None = count(
        None,
        1,
        1024,
        "requests",
        "How many requests the handler may have at once: as many classic connections may be open.",
        default_text="16, over standard input and output 1",
    )
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


class HandlersTls(Block):
    """A TCP socket with TLS, on which handlers attach from other machines."""

    port: Port = port(..., "The port; 0 takes any free one.")
    address: V4OrV6 = field("0.0.0.0", "The address to listen on.", "an IPv4 or IPv6 address in numbers")
    certificate: FilePath | None = path(
        None,
        "The server's certificate and its chain, with `key`. If absent, those of `network.tls`.",
        "the path of a PEM file with certificates",
    )
    key: FilePath | None = path(
        None,
        "The certificate's private key, without a passphrase.",
        "the path of a PEM file with the certificate's private key, without a passphrase",
    )
    client_authority: FilePath | None = path(
        None,
        "The authorities whose certificates prove a handler's name, in place of an account.",
        "the path of a PEM file with certificates",
    )


class Handlers(Block):
    """The types and their handlers."""

    address: FilePath = path(
        Path("besterHandlers"),
        "The handler socket, where handlers attach.",
        _SOCKET,
    )
    tls: HandlersTls | None = optional_block("Handlers on other machines: TLS over TCP.")
    remote_types: dict[Text, Annotated[tuple[TypeName, ...], Field(strict=False)]] | None = field(
        None,
        "The types that handlers on other machines may attach for, by the name of their account or certificate; names "
        "that are not there may attach for none. If absent, all of them may attach for all types.",
        "an object of lists of types' names",
        key="the name of an account or of a certificate",
        item="a list of types' names",
        name="NAME",
        default_text="all types",
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
                concurrency=entry.concurrency or (1 if entry.transport == "stdio" else 16),
                delivery=entry.delivery,
                environment=entry.environment,
                allow=entry.allow,
                may=self.may if entry.may is None else entry.may,
                stdio=entry.stdio if entry.transport == "stdio" and entry.handler_binary is not None else None,
            )
            for name, entry in self.type_map.items()
            if name in names
        }
