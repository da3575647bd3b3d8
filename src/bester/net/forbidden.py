"""The destinations to which a server does not connect (docs/protocol.md, section 8.4).

A server connects with the rights of its user, and with those of a program on this machine, which many services trust
without a password. Its handlers, and the people who decide what handlers send, do not have these rights and must not
borrow them. So a server never connects to its own sockets, and connects to other sockets of this machine only if its
operator allows it.

The caller connects to exactly the destination checked here: to the opened socket file, and to the IP addresses that a
name resolved to. A link that changes in the meantime, or a name that resolves differently next time, has no effect.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path

from bester.config import Config
from bester.config.checks import socket_paths
from bester.dialling import AddressInfo, addresses
from bester.errors import NotAllowed
from bester.protocol.addresses import TcpAddress

SYSTEM_FOLDERS = ("/run/", "/var/run/", "/private/var/run/")
"""The folders with the sockets of a system's services, including those of its users' sessions."""

_NAT64 = IPv6Network("64:ff9b::/96")
_OPENED = "/proc/self/fd"
_UNNAMED = "this socket must stand in federation.servers to be sent to"


@contextmanager
def socket_to(path: Path, config: Config, named: bool) -> Iterator[str]:
    """Opens the file of a Unix socket, checks it, and yields a path that leads only to this file.

    Args:
        path: the path in the address.
        config: the configuration of the server that connects.
        named: whether ``federation.servers`` names the address.

    Raises:
        NotAllowed: the destination is forbidden.
        OSError: the file cannot be opened.
    """
    if not named and config.federation.policy != "local" and not _is_named(os.path.realpath(path), config):
        raise NotAllowed(_UNNAMED)  # even if there is no such file, so that the answer reveals nothing
    file = os.open(path, os.O_PATH | os.O_CLOEXEC) if hasattr(os, "O_PATH") else -1  # macOS has none
    try:
        held = file >= 0 and os.path.isdir(_OPENED)
        way = f"{_OPENED}/{file}" if held else str(path)
        about = os.stat(way)
        if (about.st_dev, about.st_ino) in _own_sockets(config):
            raise NotAllowed("a server sends nothing to its own sockets")
        real = os.readlink(way) if held else os.path.realpath(path)
        if not named and not _is_named(real, config):
            own = about.st_uid == os.geteuid() and not real.startswith(SYSTEM_FOLDERS)
            if config.federation.policy != "local" or not own:
                raise NotAllowed(_UNNAMED)
        yield way
    finally:
        if file >= 0:
            os.close(file)


def _own_sockets(config: Config) -> set[tuple[int, int]]:
    """Returns device and inode of each socket of this server and of its handlers, on every node."""
    found: set[tuple[int, int]] = set()
    for path in (*config.siblings, *(path for _, path in socket_paths(config))):
        try:
            about = os.stat(path)
        except OSError:
            continue
        found.add((about.st_dev, about.st_ino))
    return found


def _is_named(real: str, config: Config) -> bool:
    """Returns whether ``federation.servers`` has a path that leads to this real path."""
    addresses = (peer.address for peer in config.federation.servers.values())
    return any(
        os.path.realpath(config.base / address.removeprefix("unix:")) == real
        for address in addresses
        if address.startswith("unix:")
    )


async def addresses_of(targets: Sequence[TcpAddress], config: Config, named: bool) -> list[AddressInfo]:
    """Returns the allowed addresses of hosts, in the order in which to try them.

    Raises:
        NotAllowed: all of their addresses are forbidden.
        OSError: they have no addresses.
    """
    found = await addresses([(target.host, target.port) for target in targets])
    if named:
        return found
    refusals = [refusal_of(number_of(info[4]), config) for info in found]
    allowed = [info for info, refusal in zip(found, refusals, strict=True) if refusal is None]
    if not allowed:
        refusal = refusals[0]
        assert refusal is not None
        raise refusal
    return allowed


def number_of(place: tuple[object, ...]) -> str:
    """Returns the numeric address in a socket address from ``getaddrinfo`` or ``getpeername``."""
    number = str(place[0])
    scope = place[3] if len(place) > 3 else 0
    return f"{number}%{scope}" if scope and "%" not in number else number


def refusal_of(number: str, config: Config) -> NotAllowed | None:
    """Returns why a numeric address that ``federation.servers`` does not name is forbidden; None if it is allowed."""
    address = _inner(ip_address(number))
    if address.is_link_local:
        return NotAllowed("a link-local address must stand in federation.servers to be sent to")
    # 0.0.0.0 and :: lead to this machine, too.
    if (address.is_loopback or address.is_unspecified) and config.federation.policy != "local":
        return NotAllowed("an address of this machine must stand in federation.servers to be sent to")
    return None


def _inner(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Returns the IPv4 address that an IPv6 address embeds; any other address unchanged."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
