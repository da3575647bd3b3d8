"""The listeners (docs/protocol.md, sections 1 and 10)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field

from bester.config.values import V4, V6, Block, FilePath, Port, V4OrV6, field, optional_block, path, port

Kind = Literal["unix", "tcp4", "tcp6", "tls", "web"]
KINDS: tuple[Kind, ...] = get_args(Kind)
NOT_SERVED: frozenset[Kind] = frozenset({"web"})
"""Listeners that are checked, warned of, and not started by this version."""

_PORT = "The port; 0 takes any free one."


@dataclass(frozen=True, slots=True)
class ListenerConfig:
    """One listener that is to be started.

    ``address`` is a numeric address, or the absolute path of a Unix socket; only that one has no ``port``, and only
    ``tls`` has ``certificate`` and ``key``.
    """

    kind: Kind
    address: str
    port: int | None = None
    certificate: Path | None = None
    key: Path | None = None


class UnixListener(Block):
    """A Unix stream socket."""

    address: FilePath = path(..., "The socket's path.", "a path that a Unix socket can have")


class Tcp4Listener(Block):
    """A TCP socket over IPv4."""

    port: Port = port(..., _PORT)
    address: V4 = field("0.0.0.0", "The address to listen on.", "an IPv4 address in numbers")


class Tcp6Listener(Block):
    """A TCP socket over IPv6 alone, so that ``tcp4`` can have the same port."""

    port: Port = port(..., _PORT)
    address: V6 = field("::", "The address to listen on, over IPv6 alone.", "an IPv6 address in numbers")


class TlsListener(Block):
    """A TCP socket with TLS, for clients and servers."""

    port: Port = port(..., _PORT)
    address: V4OrV6 = field("0.0.0.0", "The address to listen on.", "an IPv4 or IPv6 address in numbers")
    certificate: FilePath = path(
        ..., "The server's certificate and its chain.", "the path of a PEM file with certificates"
    )
    key: FilePath = path(
        ...,
        "The certificate's private key, without a passphrase.",
        "the path of a PEM file with the certificate's private key, without a passphrase",
    )


class WebListener(Block):
    """WebSocket clients, the console, metrics and health."""

    port: Port = port(..., _PORT)
    address: V4OrV6 = field("127.0.0.1", "The address to listen on.", "an IPv4 or IPv6 address in numbers")


class Network(Block):
    """Where the server listens."""

    types: Annotated[tuple[Kind, ...] | None, Field(strict=False)] = field(
        None,
        "The listeners to start, in this order. Absent: all that have a block.",
        "a list of listeners' kinds",
        item="one of " + ", ".join(f'"{kind}"' for kind in KINDS),
        default_text="all that have a block",
    )
    unix: UnixListener | None = optional_block("A Unix stream socket.")
    tcp4: Tcp4Listener | None = optional_block("TCP over IPv4.")
    tcp6: Tcp6Listener | None = optional_block("TCP over IPv6.")
    tls: TlsListener | None = optional_block("TLS over TCP, for clients and servers.")
    web: WebListener | None = optional_block("WebSocket clients, console and metrics. Not served by this version.")

    def wanted(self) -> list[Kind]:
        """Returns the kinds that ``types`` names, once each and in its order, or those that have a block."""
        if self.types is not None:
            return list(dict.fromkeys(self.types))
        return [kind for kind in KINDS if getattr(self, kind) is not None]

    def listeners(self) -> list[ListenerConfig]:
        """Returns the listeners to start, in the order of ``types``."""
        started = [self._listener(kind) for kind in self.wanted() if kind not in NOT_SERVED]
        return [listener for listener in started if listener is not None]

    def _listener(self, kind: Kind) -> ListenerConfig | None:
        found: UnixListener | Tcp4Listener | Tcp6Listener | TlsListener | WebListener | None = getattr(self, kind)
        if found is None:
            return None
        if isinstance(found, UnixListener):
            return ListenerConfig(kind, str(found.address))
        if isinstance(found, TlsListener):
            return ListenerConfig(kind, found.address, found.port, found.certificate, found.key)
        return ListenerConfig(kind, found.address, found.port)
