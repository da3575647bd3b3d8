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
    """Returns this host's name in lower case, or ``localhost`` where it has none that a server can bear."""
    name = socket.gethostname().lower()
    return name if is_server_name(name) else "localhost"


class Server(Block):
    """What this server is called."""

    name: ServerName = Field(
        default_factory=host_name,
        description="How other servers know this one, in lower case.",
        json_schema_extra={
            "allowed": "a host's name of at most 253 characters",
            "default_text": "the host's name",
        },
    )


class Informer(Block):
    """The informer's socket (section 9)."""

    address: FilePath = path(Path("bInformer"), "The socket on which handlers ask about this server.", _SOCKET)


class Control(Block):
    """The operator's socket (section 12)."""

    address: FilePath = path(Path("besterControl"), "The operator's socket, for this user and root alone.", _SOCKET)


class Storage(Block):
    """The embedded store."""

    # Before ``path``, which hides the function of that name from what follows it here.
    receipts: FilePath = path(
        Path("besterReceipts.db"),
        "The file of receipts, which `bester trace` and `bester why` read: what became of messages, without their "
        "data. It may be lost, or removed while the server is stopped, without harm.",
    )
    path: FilePath = path(
        Path("bester.db"),
        "The file of accounts, mailboxes and the outbox. `bester backup` copies it while the server runs, and "
        "`bester backup --help` says how a copy is restored.",
    )
    reserve: int = size(
        64 * MIB,
        0,
        TIB,
        "How much of the disk is left free: with less, what would have to be kept is refused with `storageFull`, and "
        "what was kept is still delivered.",
    )


class Redis(Block):
    """Where Redis is."""

    address: Text = field("127.0.0.1", "The host, by name or number.", "a host's name or address")
    port: Port = port(6379, "The port.", low=1)
    database: int = count(0, 0, 65535, "", "The number of the database.")
    username: Text | None = field(None, "Who logs in.", "a text of at least one character")
    password: str | None = field(None, "The password. Never shown.", "a text", secret=True)
    prefix: Text = field("bester", "What every key begins with.", "a text of at least one character")


class Database(Block):
    """Where accounts are kept."""

    type: Literal["sqlite", "redis"] = field(
        "sqlite", "Where accounts are kept: in `storage.path`, or in Redis.", 'one of "sqlite", "redis"'
    )
    redis: Redis = block('How Redis is reached, where the type is `"redis"`.')


class Accounts(Block):
    """How accounts come about (section 5)."""

    registration: Literal["closed", "open", "firstUse"] = field(
        "closed",
        'Who makes accounts. `"closed"`: the operator. `"open"`: anyone, with `register`. `"firstUse"`: the first '
        "login makes the account, for trying things out.",
        'one of "closed", "open", "firstUse"',
    )


class Limits(Block):
    """Sizes in bytes, durations in seconds (or days, where the name says so), and counts."""

    max_message: int = size(MIB, KIB, 256 * MIB, "The largest frame of a client.")
    max_first_message: int = size(
        16 * KIB, 256, 256 * MIB, "The largest first frame where an unproven server would be refused."
    )
    authentication_timeout: float = seconds(
        10, 0.01, 3600, "How long a connection may take to say its scope and authenticate."
    )
    frame_timeout: float = seconds(30, 0.01, 3600, "How long a frame may take from its first byte to its last.")
    handler_timeout: float = seconds(30, 0.01, 86400, "How long a handler may take, where its type says nothing else.")
    max_hops: int = count(16, 1, 1000, "hops", "How many handlers and servers a message may pass, against loops.")
    max_in_flight: int = count(1024, 1, 1000000, "messages", "How many messages of a session may be under way.")
    max_send_queue: int = size(
        8 * MIB, KIB, 4 * GIB, "How much may wait for a receiver before it is cut off; at least `limits.maxMessage`."
    )
    max_connections: int = count(20000, 1, 1000000, "connections", "How many connections the listeners take.")
    max_recipients: int = count(10000, 1, 1000000, "recipients", "How many recipients a response may name.")
    max_unauthenticated: int = count(
        256, 1, 1000000, "connections", "How many connections may be unauthenticated; the oldest makes room."
    )
    max_unauthenticated_per_address: int = count(
        10, 1, 1000000, "connections", "The same for one IPv4 address or one IPv6 /64 network."
    )
    max_handlers: int = count(256, 1, 100000, "connections", "How many handler connections may be attached.")
    drain_timeout: float = seconds(7, 0, 3600, "How long the server waits for what is under way when it stops.")
    mailbox_messages: int = count(10000, 0, 10000000, "messages", "How many messages an account's mailbox holds.")
    mailbox_bytes: int = size(64 * MIB, 0, TIB, "How much an account's mailbox holds.")
    mailbox_days: int = count(30, 1, 3650, "days", "How long a mailbox keeps a message.")
    receipt_days: int = count(7, 1, 3650, "days", "How long a receipt is kept.")
    receipt_rows: int = count(1000000, 0, 100000000, "receipts", "How many receipts are kept.")
    token_days: int = count(30, 1, 3650, "days", "How long a token stands in for a password.")
    max_sessions_per_account: int = count(1000, 1, 1000000, "sessions", "How many sessions an account may have.")


class Admin(Block):
    """What the server tells of its administrator."""

    info: dict[str, Any] = field({}, "Any object; the informer's `adminInfo` is this.", "an object of JSON values")


class Log(Block):
    """How much is logged, and how it looks."""

    level: Literal["debug", "info", "warning", "error"] = field(
        "info", "The least level that is logged.", 'one of "debug", "info", "warning", "error"'
    )
    format: Literal["text", "json"] = field("text", "The form of a line.", 'one of "text", "json"')


class Tracing(Block):
    """Where OpenTelemetry spans go (docs/tracing.md)."""

    otlp: HttpUrl = field(
        ...,
        "Where the spans go, by OTLP over HTTP with protobuf; of most collectors `http://HOST:4318/v1/traces`.",
        "an http or https URL without a user",
        secret=True,
    )
    headers: dict[HeaderName, HeaderValue] = field(
        {},
        "Headers of the requests there, as `Authorization`. Never shown.",
        "an object of texts",
        key="a header's name",
        item="a header's value, of printable ASCII",
        secret=True,
    )
    sample: float = share(
        1,
        "Which share of the messages without a traceparent is traced; with one, it says itself whether it is.",
    )
    service: Text | None = field(
        None,
        "The `service.name` of the spans.",
        "a text of at least one character",
        default_text="`server.name`",
    )
