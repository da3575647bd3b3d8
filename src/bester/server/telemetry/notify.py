"""Reports to the service manager: ready, reloading, stopping, still alive (systemd's protocol ``sd_notify``).

A message is one datagram of lines ``NAME=value`` to the socket that ``NOTIFY_SOCKET`` names. Without that nothing is
sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator, MutableMapping

WAIT_S = 1.0
"""How long a change of state waits for a manager that does not read; other messages do not wait."""
EXTRA_S = 15.0
"""How much longer than its own limits the server may take to stop, before the manager kills it."""


class Notifier:
    """Sends the server's state to the service manager.

    Args:
        address: a socket's path, ``@NAME`` for an abstract one; None: there is no manager.
        watchdog_s: the time in which the manager wants a sign of life; None: it wants none.
    """

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        self._watchdog_s = watchdog_s
        self._timer: asyncio.TimerHandle | None = None
        self._socket: socket.socket | None = None
        self._address: str | bytes = ""
        if address is None:
            return
        # A datagram socket outlives the manager's: a restarted manager listens at the same address.
        self._address = b"\0" + os.fsencode(address[1:]) if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> Notifier:
        """Takes the manager's variables out of the environment, so that no child speaks in this process's name."""
        address = environment.pop("NOTIFY_SOCKET", None)
        period, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        if address is None or not address.startswith(("/", "@")) or len(address) < 2:
            return cls()
        watched = period.isdecimal() and int(period) > 0 and pid in ("", str(os.getpid()))
        return cls(address, int(period) / 1e6 if watched else None)

    def ready(self, status: str) -> None:
        """Reports that messages can pass; from now on the running loop gives two signs of life per ``watchdog_s``."""
        self._send("READY=1", f"STATUS={_line(status)}", wait_s=WAIT_S)
        if self._watchdog_s is not None and self._timer is None:
            self._alive(self._watchdog_s / 2)

    def status(self, status: str) -> None:
        """Reports the server's state in a line."""
        self._send(f"STATUS={_line(status)}")

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """Reports a reload while the block runs, whether it succeeds or not."""
        self._send(
            "RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}", wait_s=WAIT_S
        )
        try:
            yield
        finally:
            self._send("READY=1", wait_s=WAIT_S)

    def stopping(self, limit_s: float) -> None:
        """Reports that the server stops, within about ``limit_s``."""
        microseconds = int((limit_s + EXTRA_S) * 1e6)
        self._send("STOPPING=1", "STATUS=stopping", f"EXTEND_TIMEOUT_USEC={microseconds}", wait_s=WAIT_S)

    def close(self) -> None:
        """Ends the reports."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _alive(self, every_s: float) -> None:
        # In the loop itself: a loop that hangs gives no sign, and the manager restarts the server.
        self._send("WATCHDOG=1")
        self._timer = asyncio.get_running_loop().call_later(every_s, self._alive, every_s)

    def _send(self, *lines: str, wait_s: float = 0.0) -> None:
        if self._socket is not None:
            self._socket.settimeout(wait_s)
            with contextlib.suppress(OSError):  # a manager that does not listen is no reason to fail
                self._socket.sendto("\n".join(lines).encode(), self._address)


def _line(text: str) -> str:
    return " ".join(text.split())
