"""Detects that the other end of a connection is gone or unreachable."""

from __future__ import annotations

import socket

IDLE_S = 15
INTERVAL_S = 5
COUNT = 3
UNACKNOWLEDGED_S = 30
"""How long sent data may stay unacknowledged by the other end."""


def keep_alive(connected: socket.socket) -> None:
    """Makes the system end a TCP connection whose other end is silent for 30 s; does nothing to other sockets."""
    if connected.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # The names differ between systems, and some systems lack some of them.
    for name, value in (
        ("TCP_KEEPIDLE", IDLE_S),
        ("TCP_KEEPALIVE", IDLE_S),
        ("TCP_KEEPINTVL", INTERVAL_S),
        ("TCP_KEEPCNT", COUNT),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_S * 1000),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            connected.setsockopt(socket.IPPROTO_TCP, option, value)
