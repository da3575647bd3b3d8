"""The other end of an accepted connection."""

from __future__ import annotations

import socket
import struct
import sys
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Remote:
    """The other end of a connection."""

    address: str
    """The address for limits and the log: an IPv4 address, an IPv6 /64 network, or a user of this machine."""
    local: bool
    """Whether it is certainly on this machine: over a Unix socket or loopback."""
    names: tuple[str, ...] = ()
    """The server names that its certificate proves."""

    @property
    def identity(self) -> str | None:
        """The first of those names; None if no name is proven."""
        return self.names[0] if self.names else None


class HasExtraInfo(Protocol):
    """A transport, or a connection without a transport yet."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Returns the ``socket`` or the ``peername``."""


def remote_of(transport: HasExtraInfo) -> Remote:
    """Returns the other end of an open connection."""
    bound = transport.get_extra_info("socket")
    if bound is not None and bound.family == socket.AF_UNIX:
        return Remote(unix_address(peer_user(bound)), True)
    name = transport.get_extra_info("peername")
    if not isinstance(name, tuple):
        return Remote("unknown", False)  # gone already
    address = ip_address(str(name[0]).partition("%")[0])
    if isinstance(address, IPv6Address):
        network = IPv6Address(int(address) >> 64 << 64)
        return Remote(f"{network}/64", address.is_loopback)
    return Remote(str(address), address.is_loopback)


def unix_address(user: int | None) -> str:
    """Returns the address of a user who connects over a Unix socket; each user of the machine has one."""
    return "unix" if user is None else f"unix:uid {user}"


def peer_user(connected: socket.socket) -> int | None:
    """Returns the user id of the process at the other end of a Unix socket; None if the system cannot tell."""
    if sys.platform == "linux":
        credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[1])
    if sys.platform == "darwin":
        # struct xucred: cr_version, cr_uid, ...; LOCAL_PEERCRED of SOL_LOCAL
        credentials = connected.getsockopt(0, 1, 76)
        return int(struct.unpack_from("II", credentials)[1])
    return None
