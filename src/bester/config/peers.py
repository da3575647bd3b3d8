"""The ``federation`` block of a configuration: the other servers (docs/protocol.md, section 8)."""

from __future__ import annotations

from typing import Literal

from bester.config.values import (
    Block,
    FilePath,
    Fingerprint,
    PeerAddress,
    ServerName,
    count,
    field,
    path,
    rate,
    seconds,
)

Policy = Literal["local", "open", "verified"]

_POLICIES = 'one of "local", "open", "verified"'
_PEM = "the path of a PEM file with certificates"


class Peer(Block):
    """Another server, known by its name."""

    address: PeerAddress = field(..., "The server's address.", "host:port, [v6]:port, unix:/path, or a server's name")
    certificate: FilePath | None = path(
        None, "The pinned certificate of the server; a renewed certificate with the same key also counts.", _PEM
    )
    fingerprint: Fingerprint | None = field(
        None,
        "The SHA-256 fingerprint of the server's key or certificate, instead of `certificate`.",
        "64 hexadecimal digits, with or without colons",
    )
    tls: bool | None = field(
        None,
        "Whether connections to the server use TLS.",
        "true or false",
        default_text="true if there is a `certificate`, a `fingerprint` or a `federation.ca`",
    )
    policy: Policy | None = field(
        None,
        "The policy for this server, and for any server that claims its name.",
        _POLICIES,
        default_text="`federation.policy`",
    )


class Federation(Block):
    """Which servers may connect, and how long the server retries messages to them."""

    policy: Policy = field(
        "local",
        '`"verified"`: only servers that prove their names may connect. `"open"`: all. `"local"`: unverified ones only '
        "over a Unix socket or from loopback; and handlers may send to this machine's addresses that have no entry.",
        _POLICIES,
    )
    ca: FilePath | None = path(None, "The authorities whose certificates prove a server's name.", _PEM)
    certificate: FilePath | None = field(
        None,
        "The certificate, with its chain, with which this server proves its name when it connects to others.",
        "the path of a PEM file with certificates",
        default_text="`network.tls.certificate`",
    )
    key: FilePath | None = field(
        None,
        "That certificate's private key, without a passphrase.",
        "the path of a PEM file with the certificate's private key, without a passphrase",
        default_text="`network.tls.key`",
    )
    servers: dict[ServerName, Peer] = field(
        {},
        "Known servers, by their names.",
        "an object of objects",
        key="a server's name: a host's name of at most 253 characters",
        item="an object",
        name="NAME",
    )
    retry_for: float = seconds(259200, 0, 2592000, "How long an undelivered message is retried; 0: not at all.")
    retry_min: float = seconds(1, 0.01, 3600, "The first pause before an unreachable server is retried.")
    retry_max: float = seconds(900, 0.01, 86400, "The longest pause; each pause is twice as long as the one before.")
    max_queued: int = count(
        100000, 1, 100000000, "messages", "How many messages are stored for one server, including those given up."
    )
    connect_timeout: float = seconds(10, 0.01, 300, "How long connecting to a server may take.")
    report_timeout: float = seconds(60, 0.01, 3600, "How long a server may take to report on a message.")
    rate: float = rate(
        50,
        0.01,
        1000000,
        "messages per second",
        'The sustained rate of messages from one address, under the policy `"open"`.',
    )
    burst: int = count(200, 1, 1000000, "messages", "How many messages an address may send at once beyond that rate.")
    idle_timeout: float = seconds(300, 0.01, 86400, "How long an idle link stays open.")
