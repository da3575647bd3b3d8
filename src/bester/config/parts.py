"""The smaller blocks of a configuration (docs/protocol.md, section 10)."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from bester.config.values import (
    GIB,
    KIB,
    MIB,
    TIB,
    Block,
    FilePath,
    HeaderName,
    HeaderValue,
    HttpUrl,
    Port,
    ServerName,
    Text,
    block,
    count,
    field,
    is_server_name,
    path,
    port,
    seconds,
    share,
    size,
)

_SOCKET = "a path that a Unix socket can have"


def host_name() -> str:
    """Returns this host's name in lower case, or ``localhost`` if it is not a valid server name."""
    name = socket.gethostname().lower()
    return name if is_server_name(name) else "localhost"


class Server(Block):
    """The server's name."""

    name: ServerName = Field(
        default_factory=host_name,
        description="The name by which other servers know this one, in lower case.",
        json_schema_extra={
            "allowed": "a host's name of at most 253 characters",
            "default_text": "the host's name",
        },
    )


class Informer(Block):
    """The informer's socket (section 9)."""

    address: FilePath = path(Path("bInformer"), "The socket on which handlers query this server.", _SOCKET)


class Control(Block):
    """The operator's socket (section 12)."""

    address: FilePath = path(Path("besterControl"), "The operator's socket, for this user and root only.", _SOCKET)


class Storage(Block):
    """The embedded store."""

    # Before ``path``, because that field hides the function ``path`` in the rest of this class.
    receipts: FilePath = path(
        Path("besterReceipts.db"),
        "The file of receipts, which `bester trace` and `bester why` read: the outcomes of messages, without their "
        "data. It may be lost, or removed while the server is stopped, without harm.",
    )
    path: FilePath = path(
        Path("bester.db"),
        "The file of accounts, mailboxes and the outbox. `bester backup` copies it while the server runs, and "
        "`bester backup --help` explains how to restore a copy.",
    )
    reserve: int = size(
        64 * MIB,
        0,
        TIB,
        "How much of the disk stays free: with less, messages that would have to be stored are refused with "
        "`storageFull`, and stored messages are still delivered.",
    )


class Redis(Block):
    """The Redis server."""

    address: Text = field("127.0.0.1", "The host's name or IP address.", "a host's name or address")
    port: Port = port(6379, "The port.", low=1)
    database: int = count(0, 0, 65535, "", "The number of the database.")
    username: Text | None = field(None, "The username.", "a text of at least one character")
    password: str | None = field(None, "The password. Never shown.", "a text", secret=True)
    prefix: Text = field("bester", "The prefix of every key.", "a text of at least one character")


class Database(Block):
    """The database of accounts."""

    type: Literal["sqlite", "redis"] = field(
        "sqlite", "Where accounts are stored: in `storage.path`, or in Redis.", 'one of "sqlite", "redis"'
    )
    redis: Redis = block('The Redis server, if the type is `"redis"`.')


class Accounts(Block):
    """How accounts are created (section 5)."""

    registration: Literal["closed", "open", "firstUse"] = field(
        "closed",
        'Who creates accounts. `"closed"`: the operator. `"open"`: anyone, with `register`. `"firstUse"`: the first '
        "login creates the account, for trying things out.",
        'one of "closed", "open", "firstUse"',
    )


class Limits(Block):
    """Sizes in bytes, durations in seconds (or days, if the name says so), and counts."""

    max_message: int = size(MIB, KIB, 256 * MIB, "The largest frame of a client.")
    max_first_message: int = size(
        16 * KIB, 256, 256 * MIB, "The largest first frame if the server refuses unverified servers."
    )
    authentication_timeout: float = seconds(
        10, 0.01, 3600, "How long a connection may take to send its scope and authenticate."
    )
    frame_timeout: float = seconds(30, 0.01, 3600, "How long a frame may take from its first byte to its last.")
    handler_timeout: float = seconds(30, 0.01, 86400, "How long a handler may take, unless its type has a timeout.")
    max_hops: int = count(16, 1, 1000, "hops", "How many handlers and servers a message may pass; stops loops.")
    max_in_flight: int = count(1024, 1, 1000000, "messages", "How many messages of a session may be in flight.")
    max_send_queue: int = size(
        8 * MIB,
        KIB,
        4 * GIB,
        "How much may wait for a receiver before it is disconnected; at least `limits.maxMessage`.",
    )
    max_connections: int = count(20000, 1, 1000000, "connections", "How many connections the listeners accept.")
    max_recipients: int = count(10000, 1, 1000000, "recipients", "How many recipients a response may name.")
    max_parts: int = count(100000, 1, 1000000000, "parts", "How many parts the answer to one message may have.")
    max_unauthenticated: int = count(
        256,
        1,
        1000000,
        "connections",
        "How many connections may be unauthenticated; beyond that, the oldest is closed.",
    )
    max_unauthenticated_per_address: int = count(
        10,
        1,
        1000000,
        "connections",
        "How many unauthenticated connections one IPv4 address or one IPv6 /64 network may have.",
    )
    max_handlers: int = count(256, 1, 100000, "connections", "How many handler connections may be attached.")
    drain_timeout: float = seconds(7, 0, 3600, "How long a stopping server waits for messages in flight.")
    mailbox_messages: int = count(10000, 0, 10000000, "messages", "How many messages an account's mailbox holds.")
    mailbox_bytes: int = size(64 * MIB, 0, TIB, "How many bytes an account's mailbox holds.")
    mailbox_days: int = count(30, 1, 3650, "days", "How long a mailbox keeps a message.")
    max_held: int = count(
        1000, 0, 1000000, "messages", "How many messages may be held for the consent of one account, or the operators."
    )
    held_days: int = count(30, 1, 3650, "days", "How long a message is held for consent.")
    receipt_days: int = count(7, 1, 3650, "days", "How long the server keeps a receipt.")
    receipt_rows: int = count(1000000, 0, 100000000, "receipts", "How many receipts the server keeps.")
    token_days: int = count(30, 1, 3650, "days", "How long a token can replace the password.")
    max_sessions_per_account: int = count(1000, 1, 1000000, "sessions", "How many sessions an account may have.")


class Admin(Block):
    """Information about the server's administrator."""

    info: dict[str, Any] = field({}, "Any object; the informer returns it for `adminInfo`.", "an object of JSON values")


class Log(Block):
    """The level and the format of the log."""

    level: Literal["debug", "info", "warning", "error"] = field(
        "info", "The lowest level that is logged.", 'one of "debug", "info", "warning", "error"'
    )
    format: Literal["text", "json"] = field("text", "The format of a line.", 'one of "text", "json"')


class Tracing(Block):
    """The export of OpenTelemetry spans (docs/tracing.md)."""

    otlp: HttpUrl = field(
        ...,
        "The collector's URL, for OTLP over HTTP with protobuf; usually `http://HOST:4318/v1/traces`.",
        "an http or https URL without a user",
        secret=True,
    )
    headers: dict[HeaderName, HeaderValue] = field(
        {},
        "Headers of the requests to the collector, such as `Authorization`. Never shown.",
        "an object of texts",
        key="a header's name",
        item="a header's value, of printable ASCII",
        secret=True,
    )
    sample: float = share(
        1,
        "The share of messages without a traceparent that is traced; a traceparent itself says whether to trace.",
    )
    service: Text | None = field(
        None,
        "The `service.name` of the spans.",
        "a text of at least one character",
        default_text="`server.name`",
    )
