"""Ports of servers that must be known before the servers listen."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
from pathlib import Path

_given: set[int] = set()


def free_port() -> int:
    """Returns a port, as :func:`free_ports` does."""
    (port,) = free_ports(1)
    return port


def free_ports(count: int) -> list[int]:
    """Returns ports of the loopback interface that nobody has, for IPv4 and IPv6; none of them twice.

    The system gives them to nobody: a port that it gave would be free, and so another process could be given it
    before it is bound here.
    """
    ports: list[int] = []
    candidates = _not_the_systems()
    while len(ports) < count:
        port = random.choice(candidates)
        if port not in _given and _is_free(port):
            _given.add(port)
            ports.append(port)
    return ports


def _not_the_systems() -> range:
    """Returns the ports that are for neither connections that go out nor sockets that are bound to port 0."""
    first, last = 32_768, 65_535
    with contextlib.suppress(OSError):
        first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    return max(range(10_000, first), range(last + 1, 65_536), key=len) or range(10_000, 65_536)


def _is_free(port: int) -> bool:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family) as probe:
                probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False  # any other error: this machine has no IPv6
    return True
