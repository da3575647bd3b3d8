"""Another server's side of a connection to a listener (docs/protocol.md, section 8)."""

from __future__ import annotations

import asyncio

from bester.core.endpoint import Endpoint, Peer
from bester.core.metrics import Drop
from bester.core.trail import Trail
from bester.errors import BesterError, Malformed, NotAllowed, ServerUnverified, Throttled
from bester.net.keepalive import keep_alive
from bester.protocol import frames, link
from bester.protocol.builtin import BUILTIN
from bester.protocol.link import LinkHeader
from bester.protocol.messages import FirstHeader, FirstMessage, Payload, checked_trace
from bester.server.connections.connection import SHARE_FRAMES, Stop
from bester.server.connections.conversation import Conversation


class ServerSide:
    """The role of another server's connection: takes one message in the classic form, or the messages of a link.

    Args:
        connection: whose role it is.
    """

    __slots__ = ("_claimed", "_connection", "_exchange", "_federation", "_runtime")

    scope = "server"

    def __init__(self, connection: Conversation) -> None:
        self._connection = connection
        self._federation = connection.services.federation
        self._runtime = connection.runtime
        self._exchange = connection.runtime.exchange
        self._claimed = ""
        """What the server calls itself."""

    @property
    def endpoint(self) -> Endpoint | None:
        return self._connection.endpoint

    def within_rate(self, id: str) -> bool:
        """Whether a server may say its first message now; if not, it is refused."""
        connection = self._connection
        if self._federation.within_rate(connection.remote, self._runtime.clock()):
            return True
        connection.kind = "server"
        connection.services.limits.leave(connection)
        connection.refuse(Throttled("too many messages from this server's address"), id)
        return False

    def first(self, message: FirstMessage, size: int, *, asked: bool) -> None:
        """Takes its one message, or begins a link; ``asked``: whether it is known to be within its rate."""
        connection, federation = self._connection, self._federation
        connection.kind = "server"
        connection.services.limits.leave(connection)
        payload = message.payload
        id = payload.id if payload is not None else ""
        shown = frames.encode_text(id)
        self._claimed = message.header.server or ""
        if not federation.trust.lets_in(connection.remote, message.header.server):
            connection.refuse(ServerUnverified(), "")
            return
        if not asked and not self.within_rate(id):
            return
        if message.header.hops < 0:
            raise Malformed("header.hops must not be negative")
        peer = Peer(federation.trust.name_of(connection.remote, message.header.server), writer=connection)
        federation.connected(peer.name or message.header.server or "")
        if link.LINK in message.header.features:
            self._begin_link(peer, message, size)
            return
        # COMPAT: a server that knows no links sends one message, and may close without waiting for the report.
        peer.closing = True
        connection.endpoint = peer
        connection.take_only_message()
        if payload is None or payload.type == "dummy":
            connection.end(frames.good_report(shown) if payload is None else frames.pong(shown))
        elif payload.type == BUILTIN:
            connection.drop(Drop.MESSAGE_REFUSED, code=NotAllowed.code)
            connection.end(frames.report(shown, NotAllowed("built-in commands are for accounts")))
        elif message.header.dry_run:
            connection.drop(Drop.MESSAGE_REFUSED, code=NotAllowed.code)
            connection.end(frames.report(shown, NotAllowed("a dry run needs a link")))
        else:
            # Ids of a server that proves no name count on this connection alone, which has no other message.
            once = message.header.once and peer.name is not None
            self._exchange.admission.message(peer, payload.type, shown, payload.data, size, message.header.hops, once)
            connection.stop_reading(Stop.CHECKING)

    # -- what becomes of it (Role) -------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        peer = self._connection.endpoint
        return peer is not None and peer.busy

    def finished(self) -> None:
        self._connection.end()

    def left(self, endpoint: Endpoint) -> None:
        endpoint.closed = True
        if isinstance(endpoint, Peer):
            self._runtime.turn().admission.forget_unproven(endpoint)
        self._federation.incoming.pop(self, None)

    def blocked(self) -> bool:
        return False

    def unblocked(self) -> None:
        """Nothing else has stopped: the connection is read again by itself."""

    def limits_changed(self) -> None:
        if self in self._federation.incoming:
            self._connection.framer.max_size = self._runtime.config.limits.max_message + link.EXTRA_SIZE

    def judge(self) -> None:
        """Ends the link if its server proves another name than before, or is not let in any more.

        Earlier messages are handled as from the earlier name; if the server is let in, their reports come first.
        """
        connection, trust = self._connection, self._federation.trust
        peer = connection.endpoint
        if not isinstance(peer, Peer) or self not in self._federation.incoming:
            return
        if not trust.lets_in(connection.remote, self._claimed):
            connection.fail(ServerUnverified())
        elif trust.name_of(connection.remote, self._claimed) != peer.name:
            connection.hold_frames()
            peer.closing = True
            if not peer.busy:
                connection.end()

    def goes_by(self, name: str) -> bool:
        """Whether this is the link of a server of that name, proven or not."""
        peer = self._connection.endpoint
        proven = peer.name if isinstance(peer, Peer) else None
        return (proven or self._claimed).lower().removesuffix(".") == name

    def fail(self, error: BesterError) -> None:
        """Ends the link, and says why."""
        self._connection.fail(error)

    # -- a link --------------------------------------------------------------------------------------------------

    def _begin_link(self, peer: Peer, message: FirstMessage, size: int) -> None:
        """Keeps the connection, as the link that another server asks for."""
        connection = self._connection
        connection.endpoint = peer
        self._federation.incoming[self] = None
        if (connected := connection.transport.get_extra_info("socket")) is not None:
            keep_alive(connected)
        limits = self._runtime.config.limits
        self.limits_changed()
        payload = message.payload
        # A server that has not proven a name is not shown what goes on here, and its dry runs are refused.
        route = link.ROUTE in message.header.features and peer.name is not None
        fields = link.welcome_fields(
            self._runtime.config.server.name, limits.max_message, limits.max_in_flight, route=route
        )
        connection.write([frames.report(frames.encode_text(payload.id if payload is not None else ""), fields=fields)])
        if payload is not None and payload.type != "dummy":
            self._handle_linked(peer, payload, message.header, size)
        connection.hold_frames()
        # Frames that came with the first message are cut when that one is done.
        asyncio.get_running_loop().call_soon(self._go_on_linked)

    def _go_on_linked(self) -> None:
        if not self._connection.ended:
            self._connection.go_on(self._from_link, SHARE_FRAMES)

    def _from_link(self, body: bytes) -> None:
        endpoint = self._connection.endpoint
        if isinstance(endpoint, Peer):
            message = link.decode_message(body)
            self._handle_linked(endpoint, message.payload, message.header, len(body))
        else:
            self._connection.drop(Drop.FRAME_AFTER_END)

    def _handle_linked(self, peer: Peer, payload: Payload, header: LinkHeader | FirstHeader, size: int) -> None:
        exchange = self._exchange
        id = frames.encode_text(payload.id)
        if header.hops < 0:
            raise Malformed("header.hops must not be negative")
        if payload.type == "dummy":
            exchange.batch.write(peer, frames.pong(id))
        elif payload.type == BUILTIN:
            self._connection.refuse_message(peer, id, NotAllowed("built-in commands are for accounts"))
        elif not self._federation.within_rate(self._connection.remote, self._runtime.clock()):
            self._connection.refuse_message(peer, id, Throttled("too many messages from this server's address"))
        elif header.dry_run and peer.name is None:
            self._connection.refuse_message(peer, id, NotAllowed("a dry run is for servers that prove who they are"))
        else:
            trail = Trail(header.dry_run) if peer.name is not None and (header.route or header.dry_run) else None
            trace = checked_trace(header.traceparent)
            exchange.admission.message(
                peer, payload.type, id, payload.data, size, header.hops, header.once, trace, trail
            )
