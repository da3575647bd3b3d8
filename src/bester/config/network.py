"""The ``network`` block of a configuration: the listeners (docs/protocol.md, sections 1 and 10)."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from bester.config.values import V4, V6, Block, FilePath, Port, V4OrV6, field, optional_block, path, port

Kind = Literal["unix", "tcp4", "tcp6", "tls", "web"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_PORT = "The port; 0 takes any free one."
_ORIGIN = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?\Z")
_TOKEN = re.compile(r"[!-~]{16,1024}\Z")


def _origin(text: str) -> str:
    text = text.lower().removesuffix("/")
    if text != "*" and not _ORIGIN.match(text):
        raise ValueError
    return text


def _token(text: str) -> str:
    if not _TOKEN.match(text):
        raise ValueError
    return text


Origin = Annotated[str, AfterValidator(_origin)]
"""``*``, or an origin in the form that browsers send."""
Token = Annotated[str, AfterValidator(_token)]


@dataclass(frozen=True, slots=True)
class ListenerConfig:
    """One listener to start.

    ``address`` is a numeric address, or the absolute path of a Unix socket, which alone has no ``port``. ``tls`` has
    ``certificate`` and ``key``, ``web`` has both or neither; only ``web`` has the other attributes.
    """

    kind: Kind
    address: str
    port: int | None = None
    certificate: Path | None = None
    key: Path | None = None
    origins: tuple[str, ...] = ()
    metrics_token: str | None = dataclasses.field(default=None, repr=False)


class UnixListener(Block):
    """A Unix stream socket."""

    address: FilePath = path(..., "The socket's path.", "a path that a Unix socket can have")


class Tcp4Listener(Block):
    """A TCP socket over IPv4."""

    port: Port = port(..., _PORT)
    address: V4 = field("0.0.0.0", "The address to listen on.", "an IPv4 address in numbers")


class Tcp6Listener(Block):
    """A TCP socket over IPv6 only, so that ``tcp4`` can have the same port."""

    port: Port = port(..., _PORT)
    address: V6 = field("::", "The address to listen on, over IPv6 only.", "an IPv6 address in numbers")


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
    """An HTTP listener for WebSocket clients, the console, metrics and health."""

    port: Port = port(..., _PORT)
    address: V4OrV6 = field("127.0.0.1", "The address to listen on.", "an IPv4 or IPv6 address in numbers")
    certificate: FilePath | None = path(
        None,
        "The certificate and its chain; with it, the listener uses TLS for everything.",
        "the path of a PEM file with certificates",
    )
    key: FilePath | None = path(
        None,
        "The certificate's private key, without a passphrase.",
        "the path of a PEM file with the certificate's private key, without a passphrase",
    )
    origins: Annotated[tuple[Origin, ...], Field(strict=False)] = field(
        (),
        "The other sites whose pages may open WebSockets here, or `*` for all. The server's own pages always may.",
        "a list of origins",
        item='"*", or "http://" or "https://" with a host and perhaps a port',
    )
    metrics_token: Token | None = field(
        None,
        "The bearer token with which a scraper on another machine reads `/metrics`. Never shown.",
        "a text of 16 to 1024 printable ASCII characters without spaces",
        secret=True,
    )


class Network(Block):
    """The server's listeners."""

    types: Annotated[tuple[Kind, ...] | None, Field(strict=False)] = field(
        None,
        "The listeners to start, in this order; if absent, all that have a block.",
        "a list of listeners' kinds",
        item="one of " + ", ".join(f'"{kind}"' for kind in KINDS),
        default_text="all that have a block",
    )
    unix: UnixListener | None = optional_block("A Unix stream socket.")
    tcp4: Tcp4Listener | None = optional_block("TCP over IPv4.")
    tcp6: Tcp6Listener | None = optional_block("TCP over IPv6.")
    tls: TlsListener | None = optional_block("TLS over TCP, for clients and servers.")
    web: WebListener | None = optional_block("WebSocket clients, console and metrics, over HTTP or HTTPS.")

    def wanted(self) -> list[Kind]:
        """Returns the kinds that ``types`` names, once each and in its order, or else all kinds that have a block."""
        if self.types is not None:
            return list(dict.fromkeys(self.types))
        return [kind for kind in KINDS if getattr(self, kind) is not None]

    def listeners(self) -> list[ListenerConfig]:
        """Returns the listeners to start, in the order of ``types``."""
        started = [self._listener(kind) for kind in self.wanted()]
        return [listener for listener in started if listener is not None]

    def _listener(self, kind: Kind) -> ListenerConfig | None:
        found: UnixListener | Tcp4Listener | Tcp6Listener | TlsListener | WebListener | None = getattr(self, kind)
        if found is None:
            return None
        if isinstance(found, UnixListener):
            return ListenerConfig(kind, str(found.address))
        if isinstance(found, WebListener):
            files = found.certificate, found.key
            return ListenerConfig(kind, found.address, found.port, *files, found.origins, found.metrics_token)
        if isinstance(found, TlsListener):
            return ListenerConfig(kind, found.address, found.port, found.certificate, found.key)
        return ListenerConfig(kind, found.address, found.port)
