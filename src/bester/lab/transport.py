"""asyncio's transport over a simulated socket."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Iterable
from contextvars import copy_context
from typing import Any

from bester.lab.process import leave_if_dead
from bester.lab.sockets import LabSocket

HIGH_WATER = 64 * 1024
READ_BYTES = 256 * 1024


class LabTransport(asyncio.Transport):
    """Reads from and writes to a simulated socket, in the context of the process that made it.

    Args:
        loop: the loop.
        sock: a connected socket.
        protocol: its protocol.
        waiter: set when the protocol has been told of the connection.
        server: the asyncio server that accepted it.
        read_bytes: returns how many bytes the next read takes at most.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: LabSocket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None,
        server: Any,
        read_bytes: Callable[[], int],
    ) -> None:
        super().__init__({"socket": sock, "sockname": sock.name, "peername": sock.peer_name})
        self._loop = loop
        self._sock = sock
        self._context = copy_context()
        self._server = server
        self._read_bytes = read_bytes
        self._out = bytearray()
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._protocol_paused = False
        self._reading = True
        self._read_due = False
        self._closing = False
        self._eof = False
        self._lost = False
        self._end_seen = False
        self.set_protocol(protocol)
        if server is not None:
            server._attach(*self._as_argument)
        sock.on_input = self._input_soon
        sock.on_room = self._room
        self._soon(self._begin, waiter)

    @property
    def _as_argument(self) -> tuple[Any, ...]:
        return (self,) if sys.version_info >= (3, 13) else ()  # asyncio's servers began to count transports in 3.13

    def _soon(self, call: Callable[..., object], *args: Any) -> None:
        self._loop.call_soon(call, *args, context=self._context)

    def _begin(self, waiter: asyncio.Future[None] | None) -> None:
        self._protocol.connection_made(self)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if self._sock.readable:
            self._input_soon()

    # -- reading -------------------------------------------------------------------------------------------------

    def _input_soon(self) -> None:
        if not self._read_due and not self._lost and (self._reading or self._sock.error is not None):
            self._read_due = True
            self._soon(self._read)

    def _read(self) -> None:
        self._read_due = False
        sock = self._sock
        if self._lost:
            return
        if sock.error is not None:
            self._drop(sock.error)
            return
        if not self._reading or self._closing or self._end_seen:
            return
        if sock.received:
            self._take(sock.recv(self._read_bytes()))
            if sock.readable and self._reading:
                self._input_soon()
        elif sock.ended:
            self._end_seen = True
            if not self._protocol.eof_received():
                self.close()

    def _take(self, data: bytes) -> None:
        protocol = self._protocol
        if not self._buffered:
            protocol.data_received(data)
            return
        while data and not self._lost:
            buffer = protocol.get_buffer(len(data))
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            data = data[size:]
            protocol.buffer_updated(size)

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        if not self._reading and not self._closing:
            self._reading = True
            if self._sock.readable:
                self._input_soon()

    # -- writing -------------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        leave_if_dead()
        if self._eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not data or self._lost or self._closing:
            return
        if self._out:
            self._out += data
        else:
            sent = self._send(data)
            if sent < len(data):
                self._out += memoryview(data)[sent:]
        if not self._protocol_paused and len(self._out) > self._high:
            self._protocol_paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def _send(self, data: bytes | bytearray | memoryview) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._fatal(error)
            return len(data)

    def _room(self) -> None:
        if not self._lost:
            self._soon(self._write_more)

    def _write_more(self) -> None:
        if self._lost or not self._out:
            return
        sent = self._send(self._out)
        del self._out[:sent]
        if self._protocol_paused and len(self._out) <= self._low:
            self._protocol_paused = False
            self._protocol.resume_writing()
        if not self._out:
            if self._closing:
                self._soon(self._finish, None)
            elif self._eof:
                self._sock.shutdown(socket.SHUT_WR)

    def write_eof(self) -> None:
        if not self._eof and not self._closing:
            self._eof = True
            if not self._out:
                self._sock.shutdown(socket.SHUT_WR)

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return len(self._out)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        self._high, self._low = high, high // 4 if low is None else low

    # -- the end -------------------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        return self._closing or self._sock.closed

    def close(self) -> None:
        leave_if_dead()
        if self._closing:
            return
        self._closing = True
        if not self._out:
            self._soon(self._finish, None)

    def abort(self) -> None:
        leave_if_dead()
        self._drop(None)

    def _fatal(self, error: OSError) -> None:
        self._drop(error)

    def _force_close(self, error: Exception | None) -> None:  # asyncio's TLS asks for it
        self._drop(error)

    def _drop(self, error: Exception | None) -> None:
        """Forgets what was not written, and ends."""
        if not self._lost:
            self._out.clear()
            self._closing = True
            self._soon(self._finish, error)

    def _finish(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        self._sock.on_input = self._sock.on_room = None
        try:
            self._protocol.connection_lost(error)
        finally:
            self._sock.close()
            if self._server is not None:
                self._server._detach(*self._as_argument)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol: Any = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol  # type: ignore[no-any-return]
