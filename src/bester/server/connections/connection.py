"""One accepted connection that speaks frames, whatever it is for.

All connections share how frames are cut, one write per batch, when reading stops and resumes, deadlines, and an end
that lets the peer read its last frame. A subclass says what a frame means.

Reading stops for one of several reasons at once (:class:`Stop`); it goes on when none is left.

No connection gets more than its share of the loop's turn: one that sends more at once than :data:`SHARE_BYTES` or
:data:`SHARE_FRAMES` is not read, and waits in line.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final, cast

from bester.accepting import Arrival
from bester.core.metrics import Drop
from bester.errors import AuthenticationTimeout, BesterError, Fatal, FrameTimeout, Internal, SlowConsumer
from bester.net.peers import HasExtraInfo, Remote, remote_of
from bester.protocol import frames
from bester.protocol.framing import Framer
from bester.server.connections.limits import ConnectionLimits
from bester.server.connections.line import Line
from bester.server.runtime import Runtime

log = logging.getLogger("bester.connection")

LINGER_S = 2.0
"""How long a closed connection's unread input is thrown away, so that no reset overtakes the last frame."""
TLS_LINGER_S = 0.1
"""The time over TLS, where the peer learns of the end only when the socket is closed."""


LARGE_BYTES = 2048
"""Frames of this size are not joined to be written: copying them costs more than a system call for many pieces."""
SHARE_BYTES = 128 * 1024
SHARE_FRAMES = 256
"""How much of one connection is handled at once; the rest waits in line."""


class Stop:
    """Why a connection is not read; the bits of several reasons add up."""

    CHECKING: Final = 1
    """Its first message is being checked."""
    HELD: Final = 2
    """Too much of what it sent is waiting."""
    UNREAD: Final = 4
    """It does not read what it is sent."""
    TURN: Final = 8
    """It sent more than its share, and waits in line."""


class OpenConnections:
    """The connections of all sockets, and their deadlines.

    Args:
        runtime: has the clock and the limits.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.all: dict[Connection, None] = {}
        self.incomplete: dict[Connection, None] = {}
        """The connections on which a frame has begun."""
        self.lingering: dict[Connection, float] = {}
        """The connections that were ended, and when they are closed at the latest."""
        self.unattached: dict[Connection, float] = {}
        """The connections to the handler socket that have not attached, and until when they may."""
        self.line = Line(lambda: runtime.clock())

    def sweep(self, now: float) -> None:
        """Ends what has taken too long."""
        timeout_s = self._runtime.config.limits.frame_timeout
        for connection in list(self.incomplete):
            connection.check_frame_time(now, timeout_s)
        for connection, deadline in list(self.unattached.items()):
            if now >= deadline:
                connection.fail(AuthenticationTimeout("no attach message came in time"))
        for connection, deadline in list(self.lingering.items()):
            if now >= deadline:
                del self.lingering[connection]
                connection.let_go()

    def reconfigure(self) -> None:
        """Tells the connections that the configuration was replaced."""
        for connection in self.all:
            connection.limits_changed()

    def judge(self) -> None:
        """Checks again what the other ends prove, because the configured identities have changed."""
        for connection in list(self.all):
            connection.judge()

    def all_closed(self, timeout_s: float) -> Awaitable[None]:
        """Waits until no connection is open, or for the time."""
        return self._runtime.until(lambda: not self.all, timeout_s)


class Connection(asyncio.Protocol):
    """The server's end of one connection."""

    kind = ""
    """What it is for, as metrics name it."""
    receive: Callable[[bytes], None]
    """Takes the next whole frame, by the conversation's state; a Fatal that it raises ends the connection."""

    def __init__(
        self, runtime: Runtime, connections: OpenConnections, max_size: int, receive: Callable[[bytes], None]
    ) -> None:
        self.runtime = runtime
        self.connections = connections
        self.receive = receive
        self.framer = Framer(max_size)
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.remote = Remote("unknown", False)
        self.ended = False
        """Whether no more frames are looked at."""
        self.lost = False
        self.unsent = False
        """Whether the transport's buffer is above its high-water mark."""
        self.behind = 0
        """How many bytes waited for the peer when it was first seen not to read."""
        self.sent = 0
        """Bytes that were written, including bytes that the peer never read."""
        self.frame_began = 0.0
        """When the incomplete frame began; 0 if there is none."""
        self._at_most = SHARE_FRAMES
        self._stops = 0
        self._in_line: list[bytes] | None = None
        """Frames that wait for the connection's turn; later frames stay in the framer."""
        self._end_waits = False
        """Whether the peer has ended its half, which is handled after the frames that wait."""
        self._arrival: Arrival | None = None
        """Set while the connection is accepted and has no transport yet."""

    # -- before it is open ---------------------------------------------------------------------------------------

    def arrive(self, arrival: Arrival, limits: ConnectionLimits) -> bool:
        """Counts an accepted connection, whose TLS handshake may be still to come; False closes it at once."""
        self._arrival = arrival
        self.meet(arrival)
        arrival.gone = self._never_opened
        return limits.arrive(self, told=not arrival.tls)

    def _never_opened(self) -> None:
        self.ended = self.lost = True
        self.closed()

    def _fail_early(self, arrival: Arrival, error: BesterError) -> None:
        """Ends a connection that can be told nothing yet."""
        self.runtime.counts.refuse(error.code)
        log.debug("%s is closed in its handshake: %s: %s", self, error.code, error.inside, extra=self.ids())
        self.ended = self.lost = True
        arrival.close()

    # -- asyncio's side ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.meet(transport)
        self.connections.all[self] = None
        self._arrival = None
        if self.ended:  # in the last moment of its handshake
            self.transport.abort()
        else:
            self.opened()

    def meet(self, other: HasExtraInfo) -> None:
        """Notes who is at the other end."""
        self.remote = remote_of(other)

    def data_received(self, data: bytes) -> None:
        if self.ended:
            self.runtime.counts.discarded_in += len(data)
            return
        exchange = self.runtime.turn()
        framer = self.framer
        bodies = framer.feed(data, self._at_most if self._in_line is None else 0)
        if bodies:
            if framer.looked_at > SHARE_BYTES or len(bodies) == SHARE_FRAMES:
                self._wait_for_turn(bodies)
            else:
                self.take(bodies)
        if framer.failure is not None and self._in_line is None:
            self.fail(framer.failure)
        if framer.buffered:
            if not self.frame_began or framer.whole:
                self.frame_began = exchange.batch.now
                self.connections.incomplete[self] = None
        elif self.frame_began:
            self.frame_began = 0.0
            self.connections.incomplete.pop(self, None)

    def take(self, bodies: list[bytes]) -> None:
        """Handles frames in their order; a fatal one ends the connection."""
        try:
            for body in bodies:
                self.receive(body)
        except Fatal as error:
            self._drop_behind(body, bodies)
            self.fail(error)
        except Exception:
            log.exception("a frame could not be handled", extra=self.ids())
            self._drop_behind(body, bodies)
            self.fail(Internal())

    def _wait_for_turn(self, bodies: list[bytes]) -> None:
        self._in_line = bodies
        self.stop_reading(Stop.TURN)
        self.connections.line.line_up(self)

    def take_turn(self) -> None:
        """Handles the frames that waited, and then what is buffered; if that is much, at its next turn."""
        if self._in_line is None or (self._stops & ~Stop.TURN and not self.ended):
            return  # with another reason it is in line again when that is gone
        self.runtime.turn()
        self._take_waiting()
        if (self._at_most and self.framer.buffered) or self.framer.failure is not None:
            self.data_received(b"")
        self._turn_taken()

    def _turn_taken(self) -> None:
        """Reads on if nothing waits any more."""
        if self._in_line is None:
            self.resume_reading(Stop.TURN)
            if self._end_waits:
                self._end_waits = False
                self._half_closed()

    def _take_waiting(self) -> None:
        bodies, self._in_line = self._in_line or [], None
        if self.ended:
            self.runtime.exchange.batch.counters.drops.count(Drop.FRAME_AFTER_END, len(bodies))
        else:
            self.take(bodies)

    def _drop_behind(self, body: bytes, bodies: list[bytes]) -> None:
        """Counts the frames behind one that ends the connection; they are not handled."""
        at = next(index for index, one in enumerate(bodies) if one is body)
        self.runtime.exchange.batch.counters.drops.count(Drop.FRAME_AFTER_END, len(bodies) - at - 1)

    def _half_closed(self) -> None:
        """Handles the end of the peer's half."""
        if not self.eof_received() and not self.ended:
            self.transport.close()

    def eof_received(self) -> bool:
        return not self.ended and (self.defer_end() or self.finish_input())

    def defer_end(self) -> bool:
        """Puts the end of the peer's half behind frames that wait for their turn; False if none do."""
        if self._in_line is None:
            return False
        self._end_waits = True
        return True

    def pause_writing(self) -> None:
        self.unsent = True
        self.output_blocked()

    def resume_writing(self) -> None:
        self.unsent = False
        self.output_unblocked()

    def connection_lost(self, exc: Exception | None) -> None:
        runtime = self.runtime
        exchange = runtime.turn()
        self.lost = True
        while self._in_line is not None:  # what came before the end counts, as where nobody waits
            self._take_waiting()
            if not self.ended and (bodies := self.framer.feed(b"", self._at_most)):
                self._in_line = bodies
        if self in self.connections.all:
            del self.connections.all[self]
            runtime.counts.received[self.kind] += self.framer.taken
            runtime.counts.sent[self.kind] += self.sent
            if self.framer.buffered:
                drop = Drop.FRAME_AFTER_END if self.ended else Drop.FRAME_INCOMPLETE
                exchange.batch.counters.drops.count(drop)
        self.ended = True
        self.connections.incomplete.pop(self, None)
        self.connections.lingering.pop(self, None)
        self.closed()

    # -- what a subclass says ------------------------------------------------------------------------------------

    def opened(self) -> None:
        """Called when the connection is there."""

    def finish_input(self) -> bool:
        """Called when the peer sends no more; True keeps the connection open for what is still to be written."""
        return False

    def output_blocked(self) -> None:
        """Called when the peer does not read; by default nothing more is read from it."""
        self.stop_reading(Stop.UNREAD)

    def output_unblocked(self) -> None:
        self.resume_reading(Stop.UNREAD)

    def closed(self) -> None:
        """Called when the connection is gone."""

    def limits_changed(self) -> None:
        """Called when the configuration was reloaded."""

    def judge(self) -> None:
        """Called when the configured identities have changed."""

    def farewell(self, error: BesterError) -> bytes:
        """Returns the last frame of a connection that is closed for an error."""
        return frames.fatal(error)

    # -- reading and writing -------------------------------------------------------------------------------------

    def stop_reading(self, reason: int) -> None:
        if not self._stops and not self.lost:
            self.transport.pause_reading()
        self._stops |= reason

    def resume_reading(self, reason: int) -> None:
        """Removes a reason; without any left, the socket is read again."""
        if not self._stops & reason:
            return
        self._stops &= ~reason
        if self._stops or self.lost:
            if self._stops == Stop.TURN:
                self.connections.line.line_up(self)
            return
        if self.frame_began:
            self.frame_began = self.runtime.clock()  # the time in which it was not read does not count
        self.transport.resume_reading()

    @property
    def stopped(self) -> bool:
        return bool(self._stops)

    def write(self, out: list[bytes]) -> None:
        """Writes whole frames; cuts off a peer that leaves too much unread."""
        if self.ended:
            self.runtime.exchange.batch.counters.drops.count(Drop.FRAME_UNSENT, len(out))
            return
        transport = self.transport
        unsent = self.unsent
        count = len(out)
        if count == 1 or len(out[0]) < LARGE_BYTES:
            data = out[0] if count == 1 else b"".join(out)
            self.sent += len(data)
            transport.write(data)
        else:
            self.sent += sum(map(len, out))
            transport.writelines(out)
        if self.unsent:
            unread = transport.get_write_buffer_size()
            if not unsent:
                self.behind = unread
            self.fell_behind(unread)
        elif transport.is_closing():
            # The peer is gone, and asyncio has yet to say so: what was just written is thrown away.
            self.runtime.exchange.batch.counters.drops.count(Drop.FRAME_UNSENT, count)
            self.ended = self.lost = True
            self.closed()

    def fell_behind(self, unread: int) -> None:
        """Called after a write with the number of bytes that a peer has not read."""
        if unread - self.behind > self.runtime.config.limits.max_send_queue:
            self.cut_off()

    def cut_off(self) -> None:
        """Ends a peer that does not read; there is no way to tell it why."""
        self.runtime.counts.slow_consumers += 1
        self.runtime.counts.discarded_out += self.transport.get_write_buffer_size()
        log.warning("cut off %s: %s", self, SlowConsumer.meaning, extra=self.ids())
        self.abort()

    def abort(self) -> None:
        """Closes the socket at once; what the peer has not read is lost with it."""
        self.ended = self.lost = True
        self.transport.abort()
        self.closed()  # now, so that nothing more is taken for delivered here

    # -- the end -------------------------------------------------------------------------------------------------

    def fail(self, error: BesterError) -> None:
        """Ends the connection with a frame that says why."""
        if self.ended:
            return
        if self._arrival is not None:
            self._fail_early(self._arrival, error)
            return
        self.runtime.counts.refuse(error.code)
        log.info("%s is closed: %s: %s", self, error.code, error.inside, extra=self.ids())
        if self.lost:
            self.ended = True  # later frames are not handled
            return
        self.flush_out()
        self.end(self.farewell(error))

    def flush_out(self) -> None:
        """Writes the frames of the connection's endpoint, if it has one."""

    def end(self, last: bytes = b"") -> None:
        """Sends a last frame, and closes in a way that lets the peer read it."""
        if self.lost:
            return
        self.ended = True
        if last:
            self.sent += len(last)
            self.transport.write(last)
        linger_s = LINGER_S
        if self.transport.can_write_eof():
            with contextlib.suppress(OSError):  # the peer is gone already, and asyncio has yet to see it
                self.transport.write_eof()
        else:
            linger_s = TLS_LINGER_S
        if self._stops:
            self._stops = 0
            self.transport.resume_reading()  # to throw away what comes, and to see the peer's end
        self.connections.incomplete.pop(self, None)
        self.connections.lingering[self] = self.runtime.clock() + linger_s

    def let_go(self) -> None:
        """Closes the socket, after the peer has had its time to read the last frame."""
        if unread := self.transport.get_write_buffer_size():
            self.runtime.counts.discarded_out += unread
            self.transport.abort()
        else:
            self.transport.close()

    def check_frame_time(self, now: float, timeout_s: float) -> None:
        """Fails a connection whose frame takes too long."""
        if self.frame_began and not self._stops and now - self.frame_began > timeout_s:
            self.connections.incomplete.pop(self, None)
            self.fail(FrameTimeout(f"a frame was not complete after {timeout_s:g} s"))

    def ids(self) -> dict[str, str]:
        """Returns the fields that a line of the log has beside its text."""
        return {"connection": self.kind, "address": self.remote.address}

    def __str__(self) -> str:
        return f"{type(self).__name__} from {self.remote.address}"
