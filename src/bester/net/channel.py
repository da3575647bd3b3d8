"""One connection of a client library: frames in, frames out.

A connection has one :class:`Channel` and nothing else: no streams, no task, no lock. Frames written within one
iteration of the event loop are sent with one call; frames written while a read is handled are sent right after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from bester.errors import Fatal
from bester.protocol.framing import Framer
from bester.protocol.stdio import LineFramer, as_lines

_BATCH_BYTES = 64 * 1024


class Channel(asyncio.Protocol):
    """A connection that splits its input into frame bodies and batches its output.

    The event loop calls the callbacks: ``on_bodies`` with at least one body, and ``on_lost`` once, after the last
    bodies, with None for an orderly end. The owner may replace ``on_bodies``. If it raises a
    :class:`bester.errors.Fatal`, the connection ends and ``on_lost`` receives the exception.
    """

    __slots__ = (
        "_drained",
        "_flushing",
        "_framer",
        "_handling",
        "_lines",
        "_lost",
        "_on_lost",
        "_out",
        "_out_bytes",
        "_reason",
        "_transport",
        "closed",
        "full",
        "heard",
        "loop",
        "on_bodies",
    )

    def __init__(
        self,
        max_body_bytes: int,
        on_bodies: Callable[[list[bytes]], None],
        on_lost: Callable[[Exception | None], None],
        lines: bool = False,
    ) -> None:
        self.closed = False
        """Whether nothing more can be written, after :meth:`close` or because the connection is lost."""
        self.full = False
        """Whether the other end reads too slowly: wait until it is :meth:`drained` before the next :meth:`write`."""
        self.heard = True
        """Set whenever data arrives; the owner resets it and checks it later."""
        self.loop = asyncio.get_running_loop()
        self._lines = lines
        """Whether frames go over the connection as lines."""
        self._framer = LineFramer(max_body_bytes) if lines else Framer(max_body_bytes)
        self.on_bodies = on_bodies
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._flushing = False
        self._handling = False
        self._reason: Exception | None = None
        self._lost: asyncio.Future[None] = self.loop.create_future()
        self._drained: asyncio.Future[None] | None = None

    # -- called by the event loop -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.heard = True
        bodies = self._framer.feed(data)
        if bodies:
            self._handling = True
            try:
                self.on_bodies(bodies)
            except Fatal as error:
                self.abort(error)
            finally:
                self._handling = False
                if self._out:
                    self._flush()
        if self._framer.failure is not None:
            self.abort(self._framer.failure)

    def pause_writing(self) -> None:
        self.full = True
        self._drained = self.loop.create_future()

    def resume_writing(self) -> None:
        self.full = False
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._out.clear()
        self.resume_writing()
        self._on_lost(self._reason or exc)
        self._lost.set_result(None)

    # -- called by the owner ----------------------------------------------------------------------------------

    def write(self, frame: bytes) -> None:
        """Sends a frame soon; does nothing on a closed connection."""
        if self.closed:
            return
        self._out.append(frame)
        self._out_bytes += len(frame)
        if self._out_bytes > _BATCH_BYTES:
            self._flush()  # so that a writer that never yields to the event loop notices when the buffer is full
        elif not self._flushing and not self._handling:
            self._flushing = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        out = self._out
        if out and self._transport is not None:
            data = b"".join(out) if len(out) > 1 else out[0]
            self._transport.write(as_lines([data]) if self._lines else data)
            out.clear()
            self._out_bytes = 0

    def drained(self) -> asyncio.Future[None]:
        """Returns a future that is done when the buffer has space again, or the connection is lost.

        Another caller may fill the buffer first: wait while the channel is :attr:`full`.
        """
        if self._drained is None:
            done: asyncio.Future[None] = self.loop.create_future()
            done.set_result(None)
            return done
        return asyncio.shield(self._drained)

    def pause(self) -> None:
        """Stops reading, which eventually stops the other end."""
        if not self.closed and self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Resumes reading."""
        if not self.closed and self._transport is not None:
            self._transport.resume_reading()

    def close(self) -> None:
        """Sends all written frames, then closes the connection."""
        if not self.closed and self._transport is not None:
            self._flush()
            self.closed = True
            self._transport.close()

    def abort(self, reason: Exception | None = None) -> None:
        """Ends the connection now; ``on_lost`` receives the reason."""
        self._reason = self._reason or reason
        if self._transport is not None:
            self.closed = True
            self._out.clear()
            self._transport.abort()

    def wait_closed(self) -> asyncio.Future[None]:
        """Returns a future that is done when the connection is lost and ``on_lost`` has been called."""
        return asyncio.shield(self._lost)

    def peer_certificate(self) -> bytes | None:
        """Returns the other end's certificate as DER; None without TLS."""
        found = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        return cast("bytes | None", found.getpeercert(binary_form=True)) if found is not None else None
