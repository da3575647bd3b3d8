"""Another server's side of a connection to a listener (docs/protocol.md, section 8)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from bester.core.endpoint import Peer
from bester.core.metrics import Drop
from bester.core.trail import Trail
from bester.errors import Malformed, NotAllowed, ServerUnverified, Throttled
from bester.net.keepalive import keep_alive
from bester.protocol import frames, link
from bester.protocol.builtin import BUILTIN
from bester.protocol.link import LinkHeader
from bester.protocol.messages import FirstHeader, FirstMessage, Payload, checked_trace
from bester.server.connections.connection import SHARE_FRAMES, Stop
from bester.server.connections.conversation import Conversation

if TYPE_CHECKING:
    from bester.server.runtime import Runtime


class ServerSide(Conversation):
    """Takes a classic server's message, or those of a link."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.linked_since = 0.0
        """When it became a link, in seconds of the server's clock."""
        self._claimed = ""
        """What the server calls itself."""

    def within_rate(self, id: str) -> bool:
        """Whether a server may say its first message now; if not, it is refused."""
        if self.runtime.federation.within_rate(self.remote, self.runtime.clock()):
            return True
        self.kind = "server"
        self.runtime.gate.leave(self)
        self.refuse(Throttled("too many messages from this server's address"), id)
        return False

    def first_of_server(self, message: FirstMessage, size: int, *, asked: bool) -> None:
        """Takes its one message, or begins a link; ``asked``: whether it is known to be within its rate."""
        self.kind = "server"
        federation = self.runtime.federation
        self.runtime.gate.leave(self)
        payload = message.payload
        id = payload.id if payload is not None else ""
        self._claimed = message.header.server or ""
        if not federation.trust.lets_in(self.remote, message.header.server):
            self.refuse(ServerUnverified(), "")
            return
        if not asked and not self.within_rate(id):
            return
        if message.header.hops < 0:
            raise Malformed("header.hops must not be negative")
        peer = Peer(federation.trust.name_of(self.remote, message.header.server), carrier=self)
        federation.connected(peer.name or message.header.server or "")
        if link.LINK in message.header.features:
            self._begin_link(peer, message, size)
            return
        # COMPAT: a server that knows no links sends one message, and may close without waiting for the report.
        peer.closing = True
        self.endpoint = peer
        self._at_most = 0
        exchange = self.runtime.exchange
        if payload is None or payload.type == "dummy":
            self.end(frames.good_report(id) if payload is None else frames.pong(id))
        elif payload.type == BUILTIN:
            self.drop(Drop.MESSAGE_REFUSED, code=NotAllowed.code)
            self.end(frames.report(id, NotAllowed("built-in commands are for accounts")))
        elif message.header.dry_run:
            self.drop(Drop.MESSAGE_REFUSED, code=NotAllowed.code)
            self.end(frames.report(id, NotAllowed("a dry run needs a link")))
        else:
            # Ids of a server that proves no name count on this connection alone, which has no other message.
            once = message.header.once and peer.name is not None
            exchange.message(peer, payload, size, message.header.hops, once)
            self.stop_reading(Stop.CHECKING)

    def judge(self) -> None:
        """Looks again at what the other end proves: a link ends whose server is another one now, or is not let in.

        What came on it before is handled as from who it was; where the server is let in, its reports are waited for.
        """
        trust = self.runtime.federation.trust
        self.remote = trust.identified(replace(self.remote, names=()), self.transport)
        peer = self.endpoint
        if not isinstance(peer, Peer) or self not in self.runtime.federation.incoming:
            return
        if not trust.lets_in(self.remote, self._claimed):
            self.fail(ServerUnverified())
        elif trust.name_of(self.remote, self._claimed) != peer.name:
            self.wait_in_line()
            peer.closing = True
            if not peer.busy:
                self.end()

    def goes_by(self, name: str) -> bool:
        """Whether this is the link of a server of that name, proven or not."""
        proven = self.endpoint.name if isinstance(self.endpoint, Peer) else None
        return (proven or self._claimed).lower().removesuffix(".") == name

    # -- a link --------------------------------------------------------------------------------------------------

    def _begin_link(self, peer: Peer, message: FirstMessage, size: int) -> None:
        """Another server asks for a link: the connection stays, and takes messages."""
        self.endpoint = peer
        self.linked_since = self.runtime.clock()
        self.runtime.federation.incoming.add(self)
        if (connected := self.transport.get_extra_info("socket")) is not None:
            keep_alive(connected)
        limits = self.runtime.config.limits
        self.limits_changed()
        payload = message.payload
        # Who has not proven a name is not shown what goes on here; and what it asks for as a dry run is refused.
        route = link.ROUTE in message.header.features and peer.name is not None
        fields = link.welcome_fields(
            self.runtime.config.server.name, limits.max_message, limits.max_in_flight, route=route
        )
        self.write([frames.report(payload.id if payload is not None else "", fields=fields)])
        if payload is not None and payload.type != "dummy":
            self._handle_linked(peer, payload, message.header, size)
        self.wait_in_line()
        # What came with the first message is cut when that one is done with.
        asyncio.get_running_loop().call_soon(self._go_on_linked)

    def _go_on_linked(self) -> None:
        if not self.ended:
            self.go_on(self._from_link, SHARE_FRAMES)

    def _from_link(self, body: bytes) -> None:
        endpoint = self.endpoint
        if isinstance(endpoint, Peer):
            message = link.decode_message(body)
            self._handle_linked(endpoint, message.payload, message.header, len(body))
        else:
            self.drop(Drop.FRAME_AFTER_END)

    def _handle_linked(self, peer: Peer, payload: Payload, header: LinkHeader | FirstHeader, size: int) -> None:
        exchange = self.runtime.exchange
        if header.hops < 0:
            raise Malformed("header.hops must not be negative")
        if payload.type == "dummy":
            exchange.write(peer, frames.pong(payload.id))
        elif payload.type == BUILTIN:
            self.refuse_message(peer, payload.id, NotAllowed("built-in commands are for accounts"))
        elif not self.runtime.federation.within_rate(self.remote, self.runtime.clock()):
            self.refuse_message(peer, payload.id, Throttled("too many messages from this server's address"))
        elif header.dry_run and peer.name is None:
            self.refuse_message(peer, payload.id, NotAllowed("a dry run is for servers that prove who they are"))
        else:
            trail = Trail(header.dry_run) if peer.name is not None and (header.route or header.dry_run) else None
            trace = checked_trace(header.traceparent)
            exchange.message(peer, payload, size, header.hops, header.once, trace, trail)
