"""A simulated socket: what asyncio and Bester use of ``socket.socket``, with the kernel's buffers and its ways to fail.

A connection is two sockets that know each other. What one sends travels in :class:`Segment` objects, in order, each
due at its own time; the network decides when, and whether the way is open.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, NamedTuple, Protocol, Self, cast

from bester.lab.loop import Outside
from bester.lab.process import Process, current, leave_if_dead

BUFFER_BYTES = 256 * 1024
"""How much one end may have sent that the other has not read; then it cannot send more."""


class Segment(NamedTuple):
    """Something on its way to the other end."""

    due: float
    data: bytes
    """The bytes; empty for the end of the stream."""
    reset: bool


class Wires(Protocol):
    """What a socket asks of the network."""

    def open(self, new: LabSocket) -> int:
        """Returns a descriptor for a new socket."""

    def closed(self, one: LabSocket) -> None:
        """Forgets a socket that was closed."""

    def bind(self, one: LabSocket, address: Any) -> None:
        """Gives a socket its address; raises OSError if that is taken."""

    def connect_unix(self, one: LabSocket, address: Any) -> None:
        """Connects a socket to a Unix socket's path; raises OSError if nobody listens there."""

    def transmit(self, sender: LabSocket, data: bytes, reset: bool = False) -> None:
        """Sends data to the other end; empty data ends the stream."""

    def make_room(self, sender: LabSocket) -> None:
        """Tells a sender that the other end has read something."""


class LabSocket:
    """A stream socket of a simulated machine, made by a process of a running world.

    Args:
        family, type, proto, fileno: as for ``socket.socket``.
    """

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        leave_if_dead()
        self.family = socket.AF_INET if family == -1 else family
        self.type = socket.SOCK_STREAM if type == -1 else type
        self.proto = max(proto, 0)
        self.process: Process | None = current.get()
        self._loop = asyncio.get_running_loop()
        self.network = cast(Wires, self._loop.network)  # type: ignore[attr-defined]
        self.descriptor = self.network.open(self)
        self.name: Any = ""
        """What ``getsockname`` returns."""
        self.peer_name: Any = ""
        self.closed = False
        # a listening socket
        self.listening = False
        self.arrived: deque[LabSocket] = deque()
        # a connected socket
        self.peer: LabSocket | None = None
        self.in_flight: deque[Segment] = deque()
        """What the other end has sent and this end has not received."""
        self.armed = False
        """Whether a timer delivers the first of them."""
        self.received = bytearray()
        self.unread = 0
        """Bytes that were sent to this end and that it has not read."""
        self.ended = False
        """Whether the other end sends nothing more."""
        self.sent_end = False
        self.secret: bool | None = None
        """Whether what arrives is TLS; None: nothing has arrived."""
        self._resets = False
        """Whether closing it resets the connection."""
        self.error: OSError | None = None
        self.on_input: Callable[[], None] | None = None
        """Called when there is something to read; the owner's transport sets it."""
        self.on_room: Callable[[], None] | None = None
        """Called when there is room again to send."""
        self.last_due = 0.0
        self._watch: tuple[Callable[..., Any], tuple[Any, ...], Context] | None = None
        self._notified = False
        if self.process is not None:
            self.process.sockets[self] = None

    def __repr__(self) -> str:
        return f"<socket {self.descriptor} {self.name or '-'} {self.peer_name or '-'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- as socket.socket ----------------------------------------------------------------------------------------

    def fileno(self) -> int:
        return -1 if self.closed else self.descriptor

    def setblocking(self, flag: bool) -> None: ...

    def settimeout(self, value: float | None) -> None: ...

    def gettimeout(self) -> float | None:
        return 0.0

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        self._check()
        if (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER):
            self._resets = struct.unpack("ii", value) == (1, 0)

    def getsockopt(self, level: int, option: int, size: int = 0) -> Any:
        self._check()
        if size:  # SO_PEERCRED: everything belongs to one user
            return struct.pack("3i", os.getpid(), os.geteuid(), os.getegid())
        return 0

    def getsockname(self) -> Any:
        self._check()
        return self.name

    def getpeername(self) -> Any:
        self._check()
        if self.peer is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self.peer_name

    def bind(self, address: Any) -> None:
        leave_if_dead()
        self.network.bind(self, address)

    def listen(self, backlog: int = 0) -> None:
        leave_if_dead()
        self.listening = True

    def connect(self, address: Any) -> None:
        """Connects to a Unix socket, which succeeds at once or not at all.

        Raises:
            OSError: nobody listens there.
            Outside: it is no Unix socket, so that this would have to wait for the other machine.
        """
        leave_if_dead()
        if self.family != socket.AF_UNIX:
            raise Outside("a connection that blocks in a simulated world, where nothing else could run: use asyncio")
        self.network.connect_unix(self, address)

    def connect_ex(self, address: Any) -> int:
        """Connects as :meth:`connect`, and returns the error's number."""
        try:
            self.connect(address)
        except OSError as error:
            return error.errno or errno.EINVAL
        return 0

    def accept(self) -> tuple[LabSocket, Any]:
        leave_if_dead()
        self._check()
        if not self.arrived:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        connected = self.arrived.popleft()
        return connected, connected.peer_name

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """Sends as many bytes as there is room for.

        Raises:
            BlockingIOError: there is none.
            OSError: the connection is lost.
        """
        leave_if_dead()
        self._check()
        if self.error is not None:
            raise self.error
        if self.peer is None or self.sent_end:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        room = BUFFER_BYTES - self.peer.unread
        if room <= 0:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        part = bytes(data[:room])
        self.network.transmit(self, part)
        return len(part)

    def recv(self, size: int) -> bytes:
        """Returns what has arrived; empty at the end of the stream.

        Raises:
            BlockingIOError: nothing has arrived.
            OSError: the connection is lost.
        """
        leave_if_dead()
        self._check()
        if self.error is not None:
            raise self.error
        if self.received:
            data = bytes(self.received[:size])
            del self.received[: len(data)]
            was_full = self.unread >= BUFFER_BYTES
            self.unread -= len(data)
            if was_full and self.peer is not None:
                self.network.make_room(self.peer)
            return data
        if self.ended:
            return b""
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def shutdown(self, how: int) -> None:
        """Ends what this end sends; the other direction stays as it is."""
        leave_if_dead()
        if how != socket.SHUT_RD and not self.sent_end and self.peer is not None and self.error is None:
            self.sent_end = True
            self.network.transmit(self, b"")

    def close(self) -> None:
        if self.closed:
            return
        process = current.get()
        if process is not None and not process.alive:
            return
        self.abandon(False)

    def detach(self) -> int:
        descriptor = self.fileno()
        self.close()
        return descriptor

    # -- the kernel's side ---------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self.closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def abandon(self, lost: bool) -> None:
        """Closes it; ``lost``: the machine lost power, so that the other end hears nothing."""
        if self.closed:
            return
        self.closed = True
        self._watch = None
        if self.process is not None:
            self.process.sockets.pop(self, None)
        self.network.closed(self)
        while self.arrived:
            self.arrived.popleft().abandon(lost)
        if self.peer is None or self.error is not None or lost:
            return
        if self.received or self._resets:  # as Linux: the other end learns that it was not read
            self.network.transmit(self, b"", reset=True)
        elif not self.sent_end:
            self.sent_end = True
            self.network.transmit(self, b"")

    def fail(self, error: OSError) -> None:
        """The kernel found that the connection is lost."""
        if self.error is None and not self.closed:
            self.error = error
            self.received.clear()
            self.notify()
            if self.on_room is not None:
                self.on_room()

    def notify(self) -> None:
        """Tells the owner that there is something to read, or to accept."""
        if self.on_input is not None:
            self.on_input()
        elif self._watch is not None and not self._notified:
            self._notified = True
            call, args, context = self._watch
            self._loop.call_soon(self._fire, call, args, context=context)

    def watch(self, callback: Callable[..., Any] | None, *args: Any) -> bool:
        """Calls back whenever there is something to read; None: no longer. Returns whether it did before."""
        before = self._watch is not None
        self._watch = None if callback is None else (callback, args, copy_context())
        if self.readable:
            self.notify()
        return before

    def await_room(self, callback: Callable[..., Any] | None, *args: Any) -> bool:
        """Calls back whenever there is room to send; None: no longer. Returns whether it did before."""
        before = self.on_room is not None
        if callback is None:
            self.on_room = None
            return before
        context = copy_context()

        def tell() -> None:
            self._loop.call_soon(callback, *args, context=context)

        self.on_room = tell
        if self.peer is None or self.peer.unread < BUFFER_BYTES:
            tell()
        return before

    @property
    def readable(self) -> bool:
        """Whether accepting or receiving would not block."""
        return bool(self.arrived or self.received or self.ended or self.error)

    def _fire(self, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._notified = False
        if self._watch is not None and not self.closed:
            callback(*args)
            if self.readable:
                self.notify()
