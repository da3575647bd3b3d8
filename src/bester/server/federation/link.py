"""A link to another server: one connection, many messages under way (docs/protocol.md, section 8.6).

Its states::

    GREETING   the first message is written; ``greeted`` gets what answers it
    UP         messages go out, their reports come in
    closed     ``owner.lost`` was told what had no report
"""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from bester.core.metrics import Drop
from bester.errors import BadScope, BesterError, Malformed, ServerRefused, ServerUnreachable, ServerUnverified, TooLarge
from bester.net.dial_peer import PeerConnection
from bester.net.tls import ended_in_order
from bester.protocol import link
from bester.protocol.framing import PREFIX, Framer
from bester.protocol.link import ReportError, ServerReport
from bester.server.faultpoints import hit
from bester.server.federation.outbound import OutboundMessage
from bester.server.federation.peer_route import PeerRoute
from bester.server.federation.transport import TransportOwner
from bester.timeouts import within

log = logging.getLogger("bester.servers")

WINDOW = 256
"""Messages without a report on one link."""
WINDOW_BYTES = 8 * 1024 * 1024
REPORT_LIMIT = 4 * 1024 * 1024
"""The largest report that is read, in bytes: it has an entry for each recipient there."""
UNSENT_BYTES = 256 * 1024
"""Beyond this, what is written waits for the other server to read."""
MAX_QUOTED = 1200
"""Characters of what another server said was wrong."""
OFFENCES = frozenset({BadScope.code, Malformed.code, TooLarge.code})
"""Fatal errors that are about what was sent."""


class Link(asyncio.Protocol):
    """The end of a link that sends messages."""

    classic = False

    def __init__(self, route: PeerRoute, owner: TransportOwner) -> None:
        loop = asyncio.get_running_loop()
        self.greeted: asyncio.Future[ServerReport | None] = loop.create_future()
        """The answer to the first message; None if the other server closed instead, or answered with no report."""
        self.since = loop.time()
        self.connection: PeerConnection[Link] | None = None
        """The connection as it was made; None until then."""
        self.in_flight: dict[str, OutboundMessage] = {}
        """By message id, in the order in which they were sent."""
        self.routes = False
        """Whether the other server tells routes, and answers dry runs."""
        self.up = False
        """Whether the other server has granted the link."""
        self.closed = False
        self.careful = False
        """Whether one message at a time is sent, to find the one that the other server ends links over."""
        self.offence = ""
        """``code: text`` where the other server ended the link over something that was sent."""
        self._loop = loop
        self._route = route
        self._owner = owner
        self._framer = Framer(REPORT_LIMIT)
        self._transport: asyncio.Transport | None = None
        self._bytes = 0
        self._window = WINDOW
        self._max_frame = 2**32 - 1
        self._unread = False
        self._out: list[bytes] = []
        self._overdue: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._busy_at = self.since

    # -- asyncio's side ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=UNSENT_BYTES)

    def data_received(self, data: bytes) -> None:
        self._route.runtime.counts.received["link"] += len(data)
        bodies = self._framer.feed(data)
        for body in bodies:
            if self.closed:
                return
            try:
                report = link.decode_report(body)
            except Malformed as error:
                self._fail(f"the other server's report is not understood: {error.message}")
                return
            self._received(report)
        if self._framer.failure is not None:
            self._fail("the other server's report is not understood")
        elif bodies and self.up and not self.closed:
            self._owner.pump()

    def _received(self, report: ServerReport) -> None:
        if not self.greeted.done():
            self.greeted.set_result(report)
            return
        kind = report.header.message_type
        if kind == "statusReport":
            item = self.in_flight.pop(report.payload.id, None)
            if item is None:
                self._route.runtime.exchange.batch.counters.drops.count(Drop.REPORT_UNMATCHED)
                return
            self._bytes -= item.size
            hit("link.reported")
            self._owner.reported(item, report)
        elif kind == "fatal":
            error = report.payload.error
            if error is not None and error.code in OFFENCES:
                self.offence = quoted(error)
            self._fail(f"the other server ended the link: {quoted(error)}")

    def pause_writing(self) -> None:
        self._unread = True

    def resume_writing(self) -> None:
        self._unread = False
        if self.up and not self.closed:
            self._owner.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.greeted.done():
            if self._transport is not None and ended_in_order(self._transport, exc):
                self.greeted.set_result(None)
            else:
                self.greeted.set_exception(ServerUnreachable("the connection was lost before the answer came"))
                self.greeted.exception()  # it may be that nobody waits for it
        self._give_back(ServerUnreachable("the link was lost before the report came"))

    @property
    def verified(self) -> str | None:
        """The name that the other server has proven."""
        return self.connection.name if self.connection is not None else None

    # -- the owner's side ----------------------------------------------------------------------------------------

    async def greet(self, timeout_s: float) -> ServerReport | None:
        """Asks for a link and returns the answer.

        Raises:
            TimeoutError: there was none.
            ServerUnreachable: the connection was lost, and not closed by the other server.
        """
        assert self._transport is not None
        hello = link.hello(self._route.name)
        self._route.runtime.counts.sent["link"] += len(hello)
        self._transport.write(hello)
        async with within(timeout_s):
            return await self.greeted

    def granted(self, report: ServerReport) -> None:
        """The link is up."""
        limits = report.payload.limits
        if limits is not None and limits.max_in_flight > 0:
            self._window = min(WINDOW, limits.max_in_flight)
        self.routes = link.ROUTE in report.payload.features
        if limits is not None and limits.max_message > 0:
            self._max_frame = min(self._max_frame, limits.max_message + link.EXTRA_SIZE)
        self.up = True
        self.since = self._busy_at = self._loop.time()
        self._idle = self._loop.call_later(self._route.idle_timeout_s, self._check_idle)

    @property
    def has_room(self) -> bool:
        return (
            not self.closed
            and not self._unread
            and len(self.in_flight) < (1 if self.careful else self._window)
            and (self._bytes < WINDOW_BYTES or not self.in_flight)
        )

    def send(self, item: OutboundMessage) -> None:
        if self.routes and item.trail is not None:
            dry = item.trail.dry
            frame = link.message(
                item.type, item.message_id, item.data, item.hops, item.trace, route=not dry, dry_run=dry
            )
        else:
            frame = link.message(item.type, item.message_id, item.data, item.hops, item.trace)
        size = len(frame) - PREFIX.size
        if size > self._max_frame:
            text = f"the message takes {size} bytes, and the other server takes {self._max_frame} at most"
            self._owner.refused(item, ServerRefused(text))
            return
        now = self._loop.time()
        self._busy_at = now
        item.deadline = now + self._route.report_timeout_s
        self.in_flight[item.message_id] = item
        self._bytes += item.size
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frame)
        if self._overdue is None:
            self._overdue = self._loop.call_at(item.deadline, self._check_overdue)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and not self.closed and self._transport is not None:
            data = b"".join(out)
            self._route.runtime.counts.sent["link"] += len(data)
            self._transport.write(data)
            hit("link.written")

    def _check_overdue(self) -> None:
        """Gives the link up where a report does not come: the other server hangs, or is not there any more."""
        self._overdue = None
        now = self._loop.time()
        for item in self.in_flight.values():
            if item.deadline > now:
                self._overdue = self._loop.call_at(item.deadline, self._check_overdue)
                return
            item.failure = f"{ServerUnreachable.code}: no report within {self._route.report_timeout_s:g} s"
            break
        else:
            return
        self._fail(f"no report within {self._route.report_timeout_s:g} s")

    def _check_idle(self) -> None:
        if self.closed:
            return
        quiet_at = self._busy_at + self._route.idle_timeout_s
        now = self._loop.time()
        if self.in_flight or now < quiet_at:
            self._idle = self._loop.call_at(max(quiet_at, now + self._route.idle_timeout_s / 2), self._check_idle)
        else:
            self._give_back(ServerUnreachable("the link was idle"))

    def _fail(self, text: str) -> None:
        log.info("the link to %s fails: %s", self._route.destination, text, extra={"server": self._route.destination})
        if not self.greeted.done():
            self.greeted.set_result(None)
        self._give_back(ServerUnreachable(text))

    def give_back(self, error: BesterError) -> None:
        self._give_back(error)

    def judge(self) -> None:
        """Ends the link if the present configuration would not make it to the server that is there."""
        error = self._route.judge(self.connection) if self.connection is not None else None
        if error is None or self.closed:
            return
        log.info("the link to %s ends: %s", self._route.destination, error.inside)
        if isinstance(error, ServerUnverified):
            self._route.doubt(error)
        self._give_back(error)

    def retire(self) -> None:
        self._end()

    def _give_back(self, error: BesterError) -> None:
        if self.closed:
            return
        orderly = not self.in_flight
        items = list(self.in_flight.values())
        self._end(abort=not orderly)
        self.in_flight.clear()
        self._bytes = 0
        if self.up:
            self._owner.lost(self, items, error)

    def _end(self, *, abort: bool = False) -> None:
        self.closed = True
        for timer in (self._overdue, self._idle):
            if timer is not None:
                timer.cancel()
        if self._transport is not None:
            if abort:
                self._transport.abort()
            else:
                self._transport.close()


def quoted(error: ReportError | None) -> str:
    """Returns the reason that another server gave, safe to be shown."""
    if error is None:
        return "no reason"
    code = f"{error.code}: {error.reason}" if error.reason else error.code
    return "".join(char for char in f"{code}: {error.message}"[:MAX_QUOTED] if char.isprintable())
