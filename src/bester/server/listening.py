"""A connection to one of the listeners: a client, or another server (docs/protocol.md, sections 2 and 8).

Its states, and the method that takes the frames in each::

    OPENING    _first          one frame, which says the scope
    CHECKING   (not read)      a password or a token is being checked
    CLIENT     _from_client    authenticated
    SERVER     (not read)      a classic server: its one message is under way, then the connection is closed
    LINK       _from_link      a server that has asked for a link

A ``logout`` leads from CLIENT back to OPENING.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from bester.core.dispatch import RESERVED_TYPES
from bester.core.endpoints import Endpoint, Peer, Session
from bester.core.route import Trail
from bester.errors import (
    AuthenticationRequired,
    BadScope,
    BesterError,
    Malformed,
    NotAllowed,
    ServerUnverified,
    SessionEnded,
    ShuttingDown,
    StorageFull,
    Throttled,
)
from bester.net.keepalive import keep_alive
from bester.protocol import frames, link
from bester.protocol.link import LinkHeader, LinkMessage
from bester.protocol.messages import (
    FirstHeader,
    FirstMessage,
    Header,
    Payload,
    checked_trace,
    decode_ack,
    decode_first,
    decode_message,
    decode_scope,
)
from bester.server.commands import BUILTIN, CommandCall, ends_session, is_opening
from bester.server.connection import Connection, Stop

if TYPE_CHECKING:
    from bester.server.hall import Hall

log = logging.getLogger("bester.session")

UNREAD_BYTES = 64 * 1024
"""What a client may leave unread before it is not read from either."""
AUTH_ID = "auth_special"
"""The id of the report that answers a client's first message."""


class ListenerConnection(Connection):
    """One connection to a listener."""

    def __init__(self, hall: Hall) -> None:
        limits = hall.config.limits
        # Which scope it is shows only in the first message; only where an unproven server is welcome may that be large.
        super().__init__(hall, limits.max_first_message, self._first)
        self.endpoint: Endpoint | None = None
        self._at_most = 1
        self._scope = ""
        """After a logout: the scope that the connection has already said."""
        self._aside: list[bytes] = []
        """Frames that were cut before it was known that the ones before them must be done first."""
        self._input_ended = False
        self.linked_since = 0.0
        """When it became a link, in seconds of the hall's clock."""
        self._quiet: asyncio.Future[None] | None = None
        """Set while a command waits for the outstanding messages."""

    # -- asyncio's side ------------------------------------------------------------------------------------------

    def opened(self) -> None:
        self.hall.counts.connections += 1
        self.remote = self.hall.forwarding.trust.identified(self.remote, self.transport)
        if self.hall.forwarding.admits(self.remote):
            self.framer.max_size = self.hall.config.limits.max_message
        if self.hall.stopping:
            self.fail(ShuttingDown())
        else:
            self.hall.gate.enter(self)

    def finish_input(self) -> bool:
        """Stays open for reports that are still to come."""
        self._input_ended = True
        endpoint = self.endpoint
        if endpoint is None:
            return bool(self._stops & Stop.CHECKING)
        endpoint.closing = True
        if endpoint.busy or (isinstance(endpoint, Session) and endpoint.commands):
            return True
        self.flush_out()
        return False

    def closed(self) -> None:
        self.hall.gate.gone(self)
        self._leave()

    def _leave(self) -> None:
        """The endpoint's part in the exchange is over."""
        endpoint, self.endpoint = self.endpoint, None
        if isinstance(endpoint, Session):
            self.hall.exchange.remove_session(endpoint)
            self.hall.accounts.session_ended(endpoint)
        elif endpoint is not None:
            endpoint.closed = True
            self.hall.forwarding.incoming.discard(self)

    def flush_out(self) -> None:
        endpoint = self.endpoint
        if endpoint is not None and endpoint.out:
            self.write(endpoint.out)
            endpoint.out.clear()

    def end(self, last: bytes = b"") -> None:
        if self.lost:
            return
        self.flush_out()
        super().end(last)
        self.hall.gate.leave(self)
        self._leave()

    # -- what the client takes ------------------------------------------------------------------------------------

    def fell_behind(self, unread: int) -> None:
        super().fell_behind(unread)
        if unread > UNREAD_BYTES:
            self.stop_reading(Stop.UNREAD)

    def output_blocked(self) -> None:
        """The client's socket is full: messages wait; its acknowledgements are still read."""
        if isinstance(self.endpoint, Session):
            self.hall.exchange.session_blocked(self.endpoint)
        else:
            super().output_blocked()

    def output_unblocked(self) -> None:
        super().output_unblocked()
        if isinstance(self.endpoint, Session):
            self.hall.exchange.now = self.hall.clock()
            self.hall.exchange.session_unblocked(self.endpoint)
            self.hall.flush_soon()

    # -- the first message ---------------------------------------------------------------------------------------

    def _first(self, body: bytes) -> None:
        if not self.hall.forwarding.admits(self.remote) and decode_scope(body) == "server":
            self.hall.gate.leave(self)
            self._refuse(ServerUnverified(), "")
            return
        message = decode_first(body)
        scope = message.header.scope or self._scope
        if self._scope not in ("", scope):
            raise BadScope(f'this connection is of scope "{self._scope}"')
        match scope:
            case "client":
                self._first_of_client(message)
            case "server":
                self._first_of_server(message, len(body))
            case "":
                raise BadScope('the first message must have a header.scope: "client" or "server"')
            case _:
                raise BadScope('header.scope must be "client" or "server" here')

    def _first_of_client(self, message: FirstMessage) -> None:
        authentication = message.header.authentication
        payload = message.payload
        if authentication is None:
            opening = payload is not None and payload.type == BUILTIN and is_opening(payload.data)
            if not opening:
                self._refuse(AuthenticationRequired(), AUTH_ID)
                return
        self.hall.gate.leave(self)
        self._wait_in_line()
        self.hall.spawn(self._authenticate(message))

    def _wait_in_line(self) -> None:
        """Looks at no further frame until :meth:`_go_on`."""
        self.stop_reading(Stop.CHECKING)
        self._at_most = 0
        self.receive = self._set_aside

    def _set_aside(self, body: bytes) -> None:
        self._aside.append(body)

    def _go_on(self, receive: Callable[[bytes], None], at_most: int) -> None:
        """Takes frames again: those set aside, those buffered, those still to come."""
        self.receive = receive
        self._at_most = at_most
        self.resume_reading(Stop.CHECKING)
        aside, self._aside = self._aside, []
        self.hall.exchange.now = self.hall.clock()
        self.take(aside)
        if self._at_most and self.framer.buffered:
            self.data_received(b"")
        self.hall.flush_soon()

    async def _authenticate(self, message: FirstMessage) -> None:
        """Checks who a client is; reading has stopped meanwhile."""
        accounts = self.hall.accounts
        payload = message.payload
        data: bytes | None = None
        try:
            with accounts.checking() as login:
                if message.header.authentication is not None:
                    account = await accounts.authenticate(message.header.authentication, self.remote, login)
                else:
                    assert payload is not None
                    account = await accounts.open_by_command(payload, self.remote, login)
                    payload = None
                if self.ended:
                    return
                if self.hall.stopping:
                    raise ShuttingDown
                known = (*accounts.features, link.ROUTE)
                features = tuple(feature for feature in message.header.features if feature in known)
                token = None
                if "token" in features:
                    try:
                        token = await accounts.new_token(account.username)
                    except StorageFull:
                        # Rather without a token than not at all: what it takes out of its mailbox makes room.
                        features = tuple(feature for feature in features if feature != "token")
                with self.hall.mailboxes.arriving(account.username) as arrival:
                    has_mail = await self.hall.mailboxes.has_mail(account.username)
                    # From here on there is no other await until the session is there.
                    has_mail = has_mail or arrival.has_mail
                login.check()
        except (Malformed, SessionEnded) as error:
            self.fail(error)
            return
        except BesterError as error:
            self.hall.counts.logins_failed += 1
            self._refuse(error, AUTH_ID)
            return
        if self.ended:
            return
        session = Session(
            account.username,
            self.hall.config.server.name,
            roles=account.roles,
            features=features,
            created=account.created,
            since=self.hall.clock(),
            carrier=self,
        )
        if not accounts.session_began(session, token):
            self._refuse(Throttled("too many sessions of this account"), AUTH_ID)
            return
        self.hall.counts.logins += 1
        self.endpoint = session
        exchange = self.hall.exchange
        exchange.now = self.hall.clock()
        # What its socket does not take shows at once, so that no report says that the client has it.
        self.transport.set_write_buffer_limits(high=1, low=0)
        limits = self.hall.config.limits
        welcome = {
            "server": self.hall.config.server.name,
            "features": features,
            "limits": {"maxMessage": limits.max_message, "maxInFlight": limits.max_in_flight},
        }
        if token is not None:
            welcome["token"] = token
        # The members are spliced into the report's payload, whose id has been written before them.
        fields = b"," + frames.encode_text(welcome)[1:-1]
        exchange.add_session(session, has_mail=has_mail)
        self.write([frames.report(AUTH_ID, data=data, fields=fields)])
        if self.ended:
            return  # the client is gone already
        self.framer.max_size = limits.max_message
        if payload is not None and payload.type != "dummy":
            self._handle(session, payload, message.header, len(payload.data))
        if payload is None or payload.type != BUILTIN or not ends_session(payload.data):
            self._go_on(self._from_client, -1)
        self.hall.flush_soon()
        if self._input_ended and self.endpoint is session:
            session.closing = True
            self._end_if_quiet(session)

    def _refuse(self, error: BesterError, id: str) -> None:
        """Answers the first message with a bad report, and closes."""
        if not self.ended:
            self.hall.counts.refuse(error.code)
            log.info("%s is refused: %s: %s", self, error.code, error.message)
            self.end(frames.report(id, error))

    # -- a client's messages -------------------------------------------------------------------------------------

    def _from_client(self, body: bytes) -> None:
        endpoint = self.endpoint
        if endpoint is None:
            return  # the session has just ended; nothing after that is looked at
        if endpoint.acknowledges and (ids := decode_ack(body)) is not None:
            assert isinstance(endpoint, Session)
            self.hall.exchange.acknowledged(endpoint, ids)
            return
        message = decode_message(body)
        payload = message.payload
        header = message.header
        if header.once or header.route or header.dry_run or header.traceparent or payload.type in RESERVED_TYPES:
            self._handle(endpoint, payload, header, len(body))
        else:
            self.hall.exchange.message(endpoint, payload, len(body))

    def _handle(self, endpoint: Endpoint, payload: Payload, header: Header | FirstHeader, size: int) -> None:
        type = payload.type
        asks = header.route or header.dry_run
        if asks and not (isinstance(endpoint, Session) and link.ROUTE in endpoint.features):
            error = NotAllowed("the session has not asked for the feature route, or was not granted it")
            self.hall.exchange.write(endpoint, frames.report(payload.id, error))
        elif type == "dummy":
            self.hall.exchange.write(endpoint, frames.pong(payload.id))
        elif type == BUILTIN:
            self._builtin(endpoint, payload)
        else:
            trace = checked_trace(header.traceparent)
            trail = Trail(header.dry_run) if asks else None
            self.hall.exchange.message(endpoint, payload, size, once=header.once, trace=trace, trail=trail)

    def _builtin(self, endpoint: Endpoint, payload: Payload) -> None:
        assert isinstance(endpoint, Session)
        limit = self.hall.config.limits.max_in_flight
        if len(endpoint.commands) >= limit:
            error = Throttled(f"at most {limit} built-in commands may be under way")
            self.hall.exchange.write(endpoint, frames.report(payload.id, error))
            return
        endpoint.commands.append(payload)
        if ends_session(payload.data):
            self._wait_in_line()
        if len(endpoint.commands) == 1:
            self.hall.spawn(self._run_builtins(endpoint))

    async def _run_builtins(self, session: Session) -> None:
        while session.commands and not session.closed:
            call = CommandCall(self.hall, session, self.remote)
            payload = session.commands[0]
            if ends_session(payload.data):
                await self._outstanding_done(session)
            report = await call.run(payload)
            if session.closed:
                return
            session.commands.pop(0)
            self.hall.exchange.write(session, report)
            self.hall.flush_soon()
            if call.closes:
                self.end()
            elif call.logged_out:
                self.flush_out()
                self._leave()
                self._scope = "client"
                self.framer.max_size = self.hall.config.limits.max_first_message
                self.hall.gate.enter(self)
                self._go_on(self._first, 1)
                return
            elif ends_session(payload.data):
                self._go_on(self._from_client, -1)  # it was refused
        if self._input_ended:
            self._end_if_quiet(session)

    async def _outstanding_done(self, session: Session) -> None:
        """Waits until all that the session sent before has its report."""
        if session.busy:
            self._quiet = asyncio.get_running_loop().create_future()
            session.closing = True
            await self._quiet
            session.closing = self._input_ended

    def _end_if_quiet(self, session: Session) -> None:
        if not session.busy and not session.commands:
            self.end()

    def finished(self) -> None:
        """Nothing of a closing endpoint is in flight any more, and its last report is written."""
        if self._quiet is not None and not self._quiet.done():
            self._quiet.set_result(None)
        elif isinstance(self.endpoint, Session):
            self._end_if_quiet(self.endpoint)
        else:
            self.end()

    # -- another server's message --------------------------------------------------------------------------------

    def _first_of_server(self, message: FirstMessage, size: int) -> None:
        forwarding = self.hall.forwarding
        self.hall.gate.leave(self)
        payload = message.payload
        id = payload.id if payload is not None else ""
        if not forwarding.trust.lets_in(self.remote, message.header.server):
            self._refuse(ServerUnverified(), "")
            return
        if not forwarding.within_rate(self.remote, self.hall.clock()):
            self._refuse(Throttled("too many messages from this server's address"), id)
            return
        if message.header.hops < 0:
            raise Malformed("header.hops must not be negative")
        peer = Peer(forwarding.trust.name_of(self.remote, message.header.server), carrier=self)
        forwarding.connected(peer.name or message.header.server or "")
        if link.LINK in message.header.features:
            self._begin_link(peer, message, size)
            return
        # COMPAT: a server that knows no links sends one message, and may close without waiting for the report.
        peer.closing = True
        self.endpoint = peer
        self._at_most = 0
        exchange = self.hall.exchange
        if payload is None or payload.type == "dummy":
            self.end(frames.good_report(id) if payload is None else frames.pong(id))
        elif payload.type == BUILTIN:
            self.end(frames.report(id, NotAllowed("built-in commands are for accounts")))
        else:
            exchange.message(peer, payload, size, message.header.hops)
            self.stop_reading(Stop.CHECKING)

    # -- a link ---------------------------------------------------------------------------------------------------

    def _begin_link(self, peer: Peer, message: FirstMessage, size: int) -> None:
        """Another server asks for a link: the connection stays, and takes messages."""
        self.endpoint = peer
        self.linked_since = self.hall.clock()
        self.hall.forwarding.incoming.add(self)
        if (connected := self.transport.get_extra_info("socket")) is not None:
            keep_alive(connected)
        limits = self.hall.config.limits
        self.limits_changed()
        payload = message.payload
        # Who has not proven a name is not shown what goes on here; and what it asks for as a dry run is refused.
        route = link.ROUTE in message.header.features and peer.name is not None
        fields = link.welcome_fields(
            self.hall.config.server.name, limits.max_message, limits.max_in_flight, route=route
        )
        self.write([frames.report(payload.id if payload is not None else "", fields=fields)])
        if payload is not None and payload.type != "dummy":
            header = message.header
            told = LinkHeader(header.hops, header.once, header.route, header.dry_run, header.traceparent)
            self._handle_linked(peer, LinkMessage(payload, told), size)
        self._wait_in_line()
        # What came with the first message is cut when that one is done with.
        asyncio.get_running_loop().call_soon(self._go_on_linked)

    def _go_on_linked(self) -> None:
        if not self.ended:
            self._go_on(self._from_link, -1)

    def _from_link(self, body: bytes) -> None:
        endpoint = self.endpoint
        if isinstance(endpoint, Peer):
            self._handle_linked(endpoint, link.decode_message(body), len(body))

    def _handle_linked(self, peer: Peer, message: LinkMessage, size: int) -> None:
        payload, header = message.payload, message.header
        exchange = self.hall.exchange
        if header.hops < 0:
            raise Malformed("header.hops must not be negative")
        if payload.type == "dummy":
            exchange.write(peer, frames.pong(payload.id))
        elif payload.type == BUILTIN:
            exchange.write(peer, frames.report(payload.id, NotAllowed("built-in commands are for accounts")))
        elif not self.hall.forwarding.within_rate(self.remote, self.hall.clock()):
            error = Throttled("too many messages from this server's address")
            exchange.write(peer, frames.report(payload.id, error))
        elif header.dry_run and peer.name is None:
            refusal = NotAllowed("a dry run is for servers that prove who they are")
            exchange.write(peer, frames.report(payload.id, refusal))
        else:
            trail = Trail(header.dry_run) if peer.name is not None and (header.route or header.dry_run) else None
            trace = checked_trace(header.traceparent)
            exchange.message(peer, payload, size, header.hops, header.once, trace, trail)

    def end_session(self, error: BesterError) -> None:
        """Ends an authenticated session from the server's side."""
        self.fail(error)

    def limits_changed(self) -> None:
        if isinstance(self.endpoint, Session):
            self.framer.max_size = self.hall.config.limits.max_message
        elif self in self.hall.forwarding.incoming:
            self.framer.max_size = self.hall.config.limits.max_message + link.EXTRA_SIZE
