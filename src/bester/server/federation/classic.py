"""Messages to other servers in the classic form: one message per connection (docs/protocol.md, section 8.2).

COMPAT: this is the founding form, for servers that grant no links.

Messages to one destination are written in order: each connection is opened when the one before it has been written.
The reports are awaited side by side, because the other server's handler may well send something back here before it is
done, and a queue that waits for reports would then wait for itself.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from typing import cast

from bester.errors import BesterError, Internal, Malformed, ServerRefused, ServerUnreachable
from bester.net.tls import ended_in_order
from bester.protocol import frames
from bester.protocol.framing import Framer
from bester.protocol.link import ServerReport, decode_report
from bester.server.counts import Counts
from bester.server.faultpoints import hit
from bester.server.federation.link import REPORT_LIMIT
from bester.server.federation.outbound import OutboundMessage
from bester.server.federation.peer_route import PeerRoute
from bester.server.federation.transport import TransportOwner
from bester.timeouts import within

log = logging.getLogger("bester.servers")

MAX_AT_ONCE = 64
"""Connections to one destination whose report is awaited."""


class _Lost(ServerUnreachable):
    """The connection was lost after the message was written: nobody knows whether it was read."""


class _Sending(asyncio.Protocol):
    """One message's connection: writes the frame, and resolves ``outcome`` with the report or None."""

    def __init__(self, frame: bytes, counts: Counts) -> None:
        loop = asyncio.get_running_loop()
        self.written: asyncio.Future[None] = loop.create_future()
        self.outcome: asyncio.Future[ServerReport | None] = loop.create_future()
        self._frame = frame
        self._counts = counts
        self._framer = Framer(REPORT_LIMIT)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)
        self._counts.sent["classicServer"] += len(self._frame)
        self._transport.write(self._frame)
        if not self._transport.get_write_buffer_size():
            self.resume_writing()

    def pause_writing(self) -> None:
        pass

    def resume_writing(self) -> None:
        if not self.written.done():
            self.written.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._counts.received["classicServer"] += len(data)
        if self.outcome.done():
            return
        bodies = self._framer.feed(data, 1)
        if bodies:
            try:
                self.outcome.set_result(decode_report(bodies[0]))
            except Malformed as error:
                self.outcome.set_exception(ServerRefused(f"the other server's report is not understood: {error}"))
        elif self._framer.failure is not None:
            self.outcome.set_exception(ServerRefused("the other server's report is not understood"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.outcome.done():
            if not self.written.done() or isinstance(exc, ssl.SSLError):
                self.outcome.set_exception(ServerUnreachable("the connection was lost before the message was written"))
            elif self._transport is not None and ended_in_order(self._transport, exc):
                self.outcome.set_result(None)
            else:
                self.outcome.set_exception(_Lost("the connection was lost before the report came"))
            self.outcome.exception()  # it may be that nobody waits for it
        if not self.written.done():
            self.written.set_result(None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class ClassicTransport:
    """Sends to one destination in the classic form."""

    classic = True
    routes = False

    def __init__(self, route: PeerRoute, owner: TransportOwner) -> None:
        self._route = route
        self._owner = owner
        self._queue: deque[OutboundMessage] = deque()
        self._under_way = 0
        """Messages whose outcome is not known."""
        self._awaiting: dict[OutboundMessage, asyncio.Task[None]] = {}
        """The messages that are written, with the tasks that await their reports."""
        self._serving: asyncio.Task[None] | None = None
        self._ended = False

    @property
    def has_room(self) -> bool:
        return not self._ended and self._under_way < MAX_AT_ONCE

    def send(self, item: OutboundMessage) -> None:
        self._under_way += 1
        self._queue.append(item)
        if self._serving is None:
            self._serving = self._route.runtime.spawn(self._serve())

    def give_back(self, error: BesterError) -> None:
        """Ends; the outcome of a written message without a report is unknown, as a repeat would not be recognised."""
        waiting = self._end()
        for item in list(self._awaiting):
            self._awaiting.pop(item).cancel()
            self._under_way -= 1
            self._owner.unknown(item, ServerUnreachable(f"{error.message}; the message may have been handled"))
        self._owner.lost(self, waiting, error)

    def retire(self) -> None:
        self._end()

    def _end(self) -> list[OutboundMessage]:
        self._ended = True
        if self._serving is not None:
            self._serving.cancel()
            self._serving = None
        waiting = list(self._queue)
        self._queue.clear()
        self._under_way -= len(waiting)
        return waiting

    async def _serve(self) -> None:
        """Opens the connections, in order."""
        queue = self._queue
        while queue:
            item = queue[0]
            frame = frames.to_server(item.type, item.classic_id, item.data, item.hops)
            sending = _Sending(frame, self._route.runtime.counts)
            try:
                await self._write(sending)
            except Exception as error:
                if not isinstance(error, BesterError):
                    log.exception("sending to %s failed", self._route.destination)
                sending.close()
                self._serving = None
                # The messages behind it would only fail likewise, one time limit after the other.
                self._owner.lost(self, self._end(), error if isinstance(error, BesterError) else Internal())
                return
            except asyncio.CancelledError:
                sending.close()
                raise
            hit("link.written")
            queue.popleft()
            self._awaiting[item] = self._route.runtime.spawn(self._await_report(item, sending))
        self._serving = None

    async def _write(self, sending: _Sending) -> None:
        """Returns when the message has been written.

        Raises:
            ServerUnreachable: no connection, or the other server does not read.
        """
        await self._route.connect(sending)
        timeout_s = self._route.runtime.config.federation.connect_timeout
        try:
            async with within(timeout_s):
                await sending.written
        except TimeoutError as error:
            raise ServerUnreachable(f"the message was not taken within {timeout_s:g} s") from error
        failure = sending.outcome.exception() if sending.outcome.done() else None
        if isinstance(failure, ServerUnreachable) and not isinstance(failure, _Lost):
            raise ServerUnreachable("the connection was lost before the message was written")

    async def _await_report(self, item: OutboundMessage, sending: _Sending) -> None:
        timeout_s = self._route.report_timeout_s
        report: ServerReport | None = None
        refusal: BesterError | None = None
        unknown: BesterError | None = None
        try:
            async with within(timeout_s):
                report = await sending.outcome
        except TimeoutError:
            unknown = ServerUnreachable(f"no report within {timeout_s:g} s")
        except _Lost as error:
            unknown = error
        except BesterError as error:
            refusal = error
        finally:
            sending.close()
        if self._awaiting.pop(item, None) is None:
            return
        self._under_way -= 1
        if unknown is not None:
            self._owner.unknown(item, unknown)
        elif refusal is not None:
            self._owner.refused(item, refusal)
        else:
            hit("link.reported")
            self._owner.reported(item, report)
        self._owner.pump()
