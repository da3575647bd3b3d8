"""The ports of a server: its sockets to other servers.

A port that something comes to waits for the server's next turn, which reads of each port as much as the real server
reads at once. What is written leaves when the turn's time is over.
"""

from __future__ import annotations

import asyncio
from typing import Any

from bester.core.endpoint import Peer
from bester.errors import BesterError
from bester.net.peers import Remote
from bester.protocol import frames, link
from bester.protocol.framing import Framer
from bester.protocol.messages import checked_trace, decode_first
from bester.server.connections.connection import SHARE_FRAMES
from bester.server.connections.limits import ConnectionLimits
from bester.server.federation.federation import Federation
from bester.server.federation.link import Link
from lab.scale.network import Wire, name_of
from lab.scale.processor import Processor

READ_BYTES = 256 * 1024
"""How much uvloop reads of a socket at once."""
_REPORT = b'"messageType":"statusReport"'


class LinkPort(asyncio.Transport):
    """The sending end of a link: the transport of a real :class:`Link`."""

    __slots__ = ("_link", "_parts", "_processor", "_wire", "waits")

    def __init__(self, processor: Processor, wire: Wire, link: Link) -> None:
        super().__init__()
        self.waits = False
        self._processor = processor
        self._wire = wire
        self._link = link
        self._parts: list[bytes] = []
        wire.back.end = self
        link.connection_made(self)

    # -- the link's side -----------------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        self._processor.write(self._wire.forth.depart, data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """What is written leaves at once."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def close(self) -> None:
        self._end(None)

    def abort(self) -> None:
        self._end(ConnectionResetError("reset by the other end"))

    def _end(self, error: Exception | None) -> None:
        self._wire.close(error, self._wire.latency, self._wire.dialler)

    # -- the network's side --------------------------------------------------------------------------------------

    def arrive(self, data: bytes) -> None:
        self._parts.append(data)
        self._processor.line_up(self)

    def cut(self, error: Exception | None) -> None:
        self._processor.charge(0.0)
        self._processor.runtime.turn()
        self.take()
        self._link.connection_lost(error)

    def take(self) -> bool:
        if not self._parts:
            return False
        data = b"".join(self._parts)
        self._parts.clear()
        if len(data) > READ_BYTES:
            data, rest = data[:READ_BYTES], data[READ_BYTES:]
            self._parts.append(rest)
        costs = self._processor.costs
        self._processor.charge(costs.report * data.count(_REPORT) + costs.byte * len(data))
        self._link.data_received(data)
        return bool(self._parts)


class PeerPort:
    """The receiving end of a link, as ``server/connections/peer.py`` treats one of a server that proves its name."""

    __slots__ = (
        "_federation",
        "_framer",
        "_limits",
        "_parts",
        "_paused",
        "_processor",
        "_wire",
        "accepted",
        "peer",
        "remote",
        "waits",
    )

    def __init__(self, processor: Processor, wire: Wire, federation: Federation, limits: ConnectionLimits) -> None:
        self.waits = False
        self.accepted = False
        self.peer: Peer | None = None
        self.remote = Remote(f"10.0.{wire.dialler.number >> 8}.{wire.dialler.number & 255}", False)
        self._processor = processor
        self._wire = wire
        self._federation = federation
        self._limits = limits
        self._framer = Framer(2**20)
        self._parts: list[bytes] = []
        self._paused = False
        wire.forth.end = self

    # -- the network's side --------------------------------------------------------------------------------------

    def accept(self) -> None:
        """Takes the connection from the queue of those to be accepted, or refuses it."""
        self._processor.charge(self._processor.costs.dial)
        self.accepted = True
        if not self._limits.arrive(self, told=True):
            refused = ConnectionResetError("reset by the other end")
            self._wire.close(refused, self._wire.latency, self._wire.target)
            return
        self._limits.enter(self)
        if self._parts:
            self._processor.line_up(self)

    def arrive(self, data: bytes) -> None:
        self._parts.append(data)
        if self.accepted and not self._paused:
            self._processor.line_up(self)

    def cut(self, error: Exception | None) -> None:
        self._processor.charge(0.0)
        self._limits.gone(self)
        peer = self.peer
        if peer is not None:
            peer.closed = True
            self._processor.runtime.turn().admission.forget_unproven(peer)

    def take(self) -> bool:
        if self._paused:
            return False
        data = b"".join(self._parts)
        self._parts.clear()
        bodies = self._framer.feed(data, SHARE_FRAMES)
        costs = self._processor.costs
        self._processor.charge(costs.byte * (len(data) or sum(map(len, bodies))))
        peer = self.peer
        if peer is None:
            if not bodies:
                return False
            peer = self._begin(bodies.pop(0))
        message, linked = self._processor.runtime.exchange.admission.message, costs.linked
        for body in bodies:
            self._processor.charge(linked)
            said = link.decode_message(body)
            header, payload = said.header, said.payload
            id, trace = frames.encode_text(payload.id), checked_trace(header.traceparent)
            message(peer, payload.type, id, payload.data, len(body), header.hops, header.once, trace, None)
        return self._framer.buffered > 0 and len(bodies) >= SHARE_FRAMES - 1

    def _begin(self, body: bytes) -> Peer:
        runtime, said = self._processor.runtime, decode_first(body)
        self._limits.leave(self)
        peer = self.peer = Peer(said.header.server, writer=self)
        self._federation.connected(peer.name or "")
        limits = runtime.config.limits
        fields = link.welcome_fields(runtime.config.server.name, limits.max_message, limits.max_in_flight, route=True)
        self.write([frames.report(frames.encode_text(link.HELLO_ID), fields=fields)])
        return peer

    # -- the exchange's side (the writer of its endpoint) --------------------------------------------------------

    def write(self, out: list[bytes]) -> None:
        self._processor.write(self._wire.back.depart, b"".join(out))

    def stop_reading(self, reason: int) -> None:
        self._paused = True

    def resume_reading(self, reason: int) -> None:
        self._paused = False
        if self._parts or self._framer.buffered:
            self._processor.line_up(self)

    def finished(self) -> None:
        """Links are never closing here."""

    def fail(self, error: BesterError) -> None:
        """Ends the connection, and says why."""
        self._processor.runtime.counts.refuse(error.code)
        self.write([frames.fatal(error)])
        self._processor.write(self._hang_up, b"")

    def _hang_up(self, at: float, nothing: bytes) -> None:
        """Closes behind the last frame."""
        self._processor.engine.at(at + self._wire.latency, self._wire.close, None, 0.0, self._wire.target)

    def abort(self) -> None:
        raise RuntimeError(f"the link of {name_of(self._wire.dialler.number)} cannot be written to")


class Doorway:
    """The queue of connections that the kernel has made, and the server has not accepted."""

    __slots__ = ("_processor", "_waiting", "waits")

    AT_ONCE = 64
    BACKLOG = 4096

    def __init__(self, processor: Processor) -> None:
        self.waits = False
        self._processor = processor
        self._waiting: list[PeerPort] = []

    def knock(self, port: PeerPort) -> bool:
        """Adds a connection; False if too many wait."""
        if len(self._waiting) >= self.BACKLOG:
            return False
        self._waiting.append(port)
        self._processor.line_up(self)
        return True

    def take(self) -> bool:
        waiting, self._waiting = self._waiting[: self.AT_ONCE], self._waiting[self.AT_ONCE :]
        for port in waiting:
            port.accept()
        return bool(self._waiting)
