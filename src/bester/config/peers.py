"""The other servers, and how this one meets them (docs/protocol.md, section 8)."""

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
    """Another server that is known by its name."""

    address: PeerAddress = field(
        ..., "Where the server is reached.", "host:port, [v6]:port, unix:/path, or a server's name"
    )
    certificate: FilePath | None = path(
        None, "The certificate whose key it proves itself with, pinned; a renewed one with the same key counts.", _PEM
    )
    fingerprint: Fingerprint | None = field(
        None,
        "The SHA-256 fingerprint of its key or of its certificate, instead of `certificate`.",
        "64 hexadecimal digits, with or without colons",
    )
    tls: bool | None = field(
        None,
        "Whether it is reached over TLS.",
        "true or false",
        default_text="true where it has a `certificate` or `fingerprint`, or there is a `federation.ca`",
    )
    policy: Policy | None = field(
        None,
        "The policy for this server alone, and for those that call themselves by its name.",
        _POLICIES,
        default_text="`federation.policy`",
    )


class Federation(Block):
    """Which servers are let in, and how long messages for them are tried."""

    policy: Policy = field(
        "local",
        '`"verified"`: only servers that prove their names are let in. `"open"`: all. `"local"`: unverified ones only '
        "over a Unix socket or from loopback; and handlers may send to this machine's addresses that have no entry.",
        _POLICIES,
    )
    ca: FilePath | None = path(None, "The authorities whose certificates prove a server's name.", _PEM)
    certificate: FilePath | None = field(
        None,
        "The certificate, with its chain, that this server proves its name with where it connects to others.",
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
    retry_for: float = seconds(259200, 0, 2592000, "How long an undelivered message is tried again; 0: not at all.")
    retry_min: float = seconds(1, 0.01, 3600, "The first pause before an unreachable server is tried again.")
    retry_max: float = seconds(900, 0.01, 86400, "The longest pause; each is twice as long as the one before it.")
    max_queued: int = count(
        100000, 1, 100000000, "messages", "How many messages are kept for one server, with those that were given up."
    )
    connect_timeout: float = seconds(10, 0.01, 300, "How long a connection to a server may take to come about.")
    report_timeout: float = seconds(60, 0.01, 3600, "How long a server may take to report on a message.")
    rate: float = rate(
        50,
        0.01,
        1000000,
        "messages per second",
        'How many messages an address may send in the long run, under the policy `"open"`.',
    )
    burst: int = count(200, 1, 1000000, "messages", "How many of them may come at once.")
    idle_timeout: float = seconds(300, 0.01, 86400, "How long a link stays open with nothing to carry.")
