"""The addresses of servers in ``sendServers`` (docs/protocol.md, section 8)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address

from bester.errors import BadAddress

DEFAULT_PORT = 2223
MAX_ADDRESS = 512
"""The longest address, in characters."""

_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?\Z")


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host (a name or an IP address) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The path of a Unix stream socket; a relative path starts at the configuration's folder."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class ServerName:
    """A server's name that has not been resolved yet."""

    name: str

    def __str__(self) -> str:
        return self.name


Address = TcpAddress | UnixAddress | ServerName


def parse_address(text: str) -> Address:
    """Reads ``host:port``, ``[v6]:port``, ``unix:/path`` or a server's name.

    Raises:
        BadAddress: the text has none of these forms.
    """
    if len(text) > MAX_ADDRESS or not text.isprintable():
        raise BadAddress
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path or len(path.encode()) > 107:
            raise BadAddress("a Unix socket's path has 1 to 107 bytes")
        return UnixAddress(path)
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]:")
        try:
            IPv6Address(host)
        except AddressValueError as error:
            raise BadAddress from error
        return TcpAddress(host, _port(port if bracket else ""))
    host, colon, port = text.partition(":")
    if not _HOST.match(host):
        raise BadAddress
    if not colon:
        return ServerName(host.rstrip(".").lower())
    return TcpAddress(host, _port(port))


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65535):
        raise BadAddress("a port is a number from 1 to 65535")
    return int(text)
