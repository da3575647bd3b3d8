"""Messages to and from other servers in the classic form: one message per connection (docs/protocol.md, section 8).

Outgoing messages to one destination are written in order: each connection is opened when the one before it has been
written. The reports are awaited side by side, because the other server's handler may well send something back here
before it is done, and a queue that waits for reports would then wait for itself.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from typing import TYPE_CHECKING, cast
from weakref import WeakValueDictionary

import msgspec
from msgspec import Struct

from bester.core.buckets import Buckets
from bester.core.work import Forward
from bester.errors import BesterError, Malformed, ServerRefused, ServerUnreachable
from bester.net.peers import Remote
from bester.net.resolve import resolve
from bester.protocol import frames
from bester.protocol.addresses import Address, TcpAddress, UnixAddress
from bester.protocol.framing import Framer
from bester.protocol.strictjson import EXTRA_DEPTH, MAX_DEPTH, decode

if TYPE_CHECKING:
    from bester.server.hall import Hall

log = logging.getLogger("bester.servers")

MAX_AT_ONCE = 64
"""Connections to one destination whose report is awaited."""
MAX_DIALS = 256
"""Connections that are being opened, to all destinations."""
REPORT_LIMIT = 4 * 1024 * 1024
"""The largest report that is read, in bytes: it has an entry for each recipient there."""


class _ReportHeader(Struct, rename="camel"):
    message_type: str = ""
    status: str = ""


class _ReportError(Struct):
    code: str = ""
    message: str = ""


class _ReportPayload(Struct):
    id: str = ""
    error: _ReportError | None = None


class _Report(Struct):
    header: _ReportHeader = msgspec.field(default_factory=_ReportHeader)
    payload: _ReportPayload = msgspec.field(default_factory=_ReportPayload)


_report = msgspec.json.Decoder(_Report)


class _Sending(asyncio.Protocol):
    """One message's connection: writes the frame, and resolves ``outcome`` with the report or None."""

    def __init__(self, frame: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.written: asyncio.Future[None] = loop.create_future()
        self.outcome: asyncio.Future[_Report | None] = loop.create_future()
        self._frame = frame
        self._framer = Framer(REPORT_LIMIT)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)
        self._transport.write(self._frame)
        if not self._transport.get_write_buffer_size():
            self.resume_writing()

    def pause_writing(self) -> None:
        pass

    def resume_writing(self) -> None:
        if not self.written.done():
            self.written.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self.outcome.done():
            return
        bodies = self._framer.feed(data, 1)
        if bodies:
            try:
                self.outcome.set_result(decode(_report, bodies[0], MAX_DEPTH + EXTRA_DEPTH))
            except Malformed as error:
                self.outcome.set_exception(ServerRefused(f"the other server's report is not understood: {error}"))
        elif self._framer.failure is not None:
            self.outcome.set_exception(ServerRefused("the other server's report is not understood"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.outcome.done():
            if self.written.done() and not isinstance(exc, ssl.SSLError):
                self.outcome.set_result(None)
            else:
                self.outcome.set_exception(ServerUnreachable("the connection was lost before the message was written"))
                self.outcome.exception()  # it may be that nobody waits for it
        if not self.written.done():
            self.written.set_result(None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Forwarding:
    """Sends to other servers, and says which may send here."""

    def __init__(self, hall: Hall) -> None:
        self.hall = hall
        self.sent = 0
        self.failed = 0
        self._dials = asyncio.Semaphore(MAX_DIALS)
        self._waiting: dict[str, deque[Forward]] = {}
        """By destination, in order; a key is there as long as a task serves it."""
        self._places: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        """By destination; each is kept by those who wait for a report, also after the task that serves it has ended."""
        federation = hall.config.federation
        self._buckets = Buckets(federation.rate, federation.burst)

    def reconfigure(self) -> None:
        """The configuration has changed."""
        federation = self.hall.config.federation
        self._buckets = Buckets(federation.rate, federation.burst)

    def admits(self, remote: Remote) -> bool:
        """Whether a server that proves nothing is let in from there (``federation.policy``)."""
        policy = self.hall.config.federation.policy
        return policy == "open" or (policy == "local" and remote.local)

    def within_rate(self, remote: Remote, now: float) -> bool:
        """Whether one more message from that address is within its rate; machine-local ones are not limited."""
        return remote.local or self._buckets.take(remote.address, now)

    def send(self, forward: Forward) -> None:
        """Sends one message; its outcome goes to ``Exchange.settled``."""
        destination = str(forward.address)
        queue = self._waiting.get(destination)
        if queue is None:
            queue = self._waiting[destination] = deque()
            queue.append(forward)
            self.hall.spawn(self._serve(destination, queue))
        else:
            queue.append(forward)

    async def _serve(self, destination: str, queue: deque[Forward]) -> None:
        """Opens the connections to one destination, in order."""
        places = self._places.get(destination)
        if places is None:
            places = self._places[destination] = asyncio.Semaphore(MAX_AT_ONCE)
        try:
            while queue:
                await places.acquire()
                forward = queue.popleft()
                try:
                    async with self._dials:
                        sending = await self._write(forward)
                except BesterError as error:
                    places.release()
                    # Those that wait behind it would only find out the same, one time limit after the other.
                    unreachable = [forward, *queue]
                    queue.clear()
                    for waiting in unreachable:
                        self._settle(waiting, error)
                else:
                    self.hall.spawn(self._await_report(forward, sending, places))
        finally:
            del self._waiting[destination]

    async def _write(self, forward: Forward) -> _Sending:
        """Returns the connection on which the message has been written.

        Raises:
            ServerUnreachable: no connection.
        """
        frame = frames.to_server(forward.type, forward.envelope.id, forward.data, forward.hops)
        sending = _Sending(frame)
        timeout_s = self.hall.config.federation.connect_timeout
        try:
            async with asyncio.timeout(timeout_s):
                await self._connect(forward.address, sending)
                await sending.written
        except TimeoutError as error:
            sending.close()
            raise ServerUnreachable(f"no connection within {timeout_s:g} s") from error
        except OSError as error:
            log.info("%s cannot be reached: %s", forward.to, error)
            raise ServerUnreachable(f"the connection failed: {error.strerror or 'no such host'}") from error
        return sending

    async def _connect(self, address: Address, sending: _Sending) -> None:
        loop = asyncio.get_running_loop()
        configured = {name: peer.address for name, peer in self.hall.config.federation.servers.items()}
        targets = await resolve(address, configured)
        for last, target in enumerate(targets, 1 - len(targets)):
            try:
                match target:
                    case UnixAddress(path):
                        await loop.create_unix_connection(lambda: sending, str(self.hall.config.base / path))
                    case TcpAddress(host, port):
                        await loop.create_connection(lambda: sending, host, port)
                return
            except OSError:
                if not last:
                    raise

    async def _await_report(self, forward: Forward, sending: _Sending, places: asyncio.Semaphore) -> None:
        timeout_s = self.hall.config.federation.report_timeout
        error: BesterError | None = None
        try:
            async with asyncio.timeout(timeout_s):
                report = await sending.outcome
            # COMPAT: a classic server may close without a report; then "sent" is all that can be known.
            if report is not None and report.header.status not in ("good", "0"):
                error = _refusal(report)
        except TimeoutError:
            error = ServerUnreachable(f"no report within {timeout_s:g} s")
        except BesterError as refusal:
            error = refusal
        finally:
            sending.close()
            places.release()
        self._settle(forward, error)

    def _settle(self, forward: Forward, error: BesterError | None) -> None:
        if error is None:
            self.sent += 1
        else:
            self.failed += 1
        exchange = self.hall.exchange
        exchange.now = self.hall.clock()
        exchange.settled(forward.envelope, forward.slot, forward.to, "failed" if error else "sent", error)
        self.hall.flush_soon()


def _refusal(report: _Report) -> ServerRefused:
    error = report.payload.error
    if error is None:
        return ServerRefused()
    text = "".join(char for char in f"{error.code}: {error.message}"[:300] if char.isprintable())
    return ServerRefused(f"the other server reported {text}")
