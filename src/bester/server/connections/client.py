"""A client's side of a connection to a listener (docs/protocol.md, sections 2 and 5)."""

from __future__ import annotations

from bester.core.endpoint import Endpoint
from bester.core.metrics import Drop
from bester.core.session import Session
from bester.core.trail import Trail
from bester.errors import AuthenticationRequired, BadArguments, BesterError, NotAllowed, Throttled
from bester.protocol import frames, link
from bester.protocol.builtin import BUILTIN, ends_session, is_opening
from bester.protocol.messages import (
    Ack,
    Cancel,
    FirstHeader,
    FirstMessage,
    Header,
    Message,
    More,
    Payload,
    checked_parts,
    checked_trace,
    decode_note_or_message,
)
from bester.protocol.names import RESERVED_TYPES
from bester.protocol.plain import PlainMessage, read_message, whole_message
from bester.server.connections.authentication import AUTH_ID, PARTS, Authenticated, authenticate
from bester.server.connections.client_commands import ClientCommands
from bester.server.connections.connection import SHARE_FRAMES
from bester.server.connections.conversation import Conversation


class ClientSide:
    """The role of a client's connection: authenticates the client, and takes its messages.

    Args:
        connection: whose role it is.
    """

    __slots__ = (
        "_admission",
        "_commands",
        "_connection",
        "_exchange",
        "_runtime",
        "_services",
    )

    scope = "client"

    def __init__(self, connection: Conversation) -> None:
        self._connection = connection
        self._services = connection.services
        self._runtime = connection.runtime
        self._exchange = connection.runtime.exchange
        self._admission = self._exchange.admission
        self._commands: ClientCommands | None = None
        """Its built-in commands; None as long as there are none, as for most clients."""

    # -- authentication -----------------------------------------------------------------------------------------------

    def first(self, message: FirstMessage) -> None:
        """Begins to authenticate the client, or to open an account for it."""
        authentication = message.header.authentication
        payload = message.payload
        if authentication is None:
            opening = payload is not None and payload.type == BUILTIN and is_opening(payload.data)
            if not opening:
                self._connection.refuse(AuthenticationRequired(), AUTH_ID)
                return
            if message.header.dry_run:
                self._connection.refuse(NotAllowed("a built-in command has no dry run"), AUTH_ID)
                return
        self._services.limits.leave(self._connection)
        self._connection.hold_frames()
        self._runtime.spawn(authenticate(self._connection, self._services, message, self._authenticated))

    def _authenticated(self, message: FirstMessage, begun: Authenticated) -> None:
        """Begins the session of a client that was authenticated; then its messages are taken."""
        connection, runtime, accounts = self._connection, self._runtime, self._services.accounts
        if connection.ended:
            return
        session = Session(
            begun.account.username,
            runtime.config.server.name,
            roles=begun.account.roles,
            features=begun.features,
            takes=begun.takes,
            created=begun.account.created,
            since=runtime.clock(),
            writer=connection,
        )
        token = begun.token
        if not accounts.session_began(session, token):
            connection.refuse(Throttled("too many sessions of this account"), AUTH_ID)
            return
        if begun.doubted is not None:
            runtime.spawn(accounts.look_again(session, begun.doubted))
        runtime.counts.logins += 1
        connection.endpoint = session
        exchange = runtime.turn()
        # What its socket does not take shows at once, so that no report says that the client has it.
        connection.transport.set_write_buffer_limits(high=1, low=0)
        limits = runtime.config.limits
        welcome = {
            "server": runtime.config.server.name,
            "features": begun.features,
            "limits": {"maxMessage": limits.max_message, "maxInFlight": limits.max_in_flight},
        }
        if token is not None:
            welcome["token"] = token
        # The members are spliced into the report's payload, whose id has been written before them.
        fields = b"," + frames.encode_text(welcome)[1:-1]
        exchange.deliveries.add_session(session, has_mail=begun.has_mail)
        connection.write([frames.report(frames.encode_text(AUTH_ID), fields=fields)])
        self._begin(session, message.header, None if begun.opened else message.payload)

    def _begin(self, session: Session, header: FirstHeader, payload: Payload | None) -> None:
        """Takes the first message's payload, and then the messages of a session that has been told that it began."""
        connection = self._connection
        if connection.ended:
            return  # the client is gone already
        connection.framer.max_size = self._runtime.config.limits.max_message
        if payload is not None and payload.type != "dummy":
            self._handle(session, payload, header, len(payload.data))
        if payload is None or payload.type != BUILTIN or not ends_session(payload.data):
            connection.go_on(self._from_client, SHARE_FRAMES)
        if connection.input_ended and connection.endpoint is session:
            session.closing = True
            self._end_if_quiet(session)

    # -- what becomes of it (Role) -------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        session = self._connection.endpoint
        return isinstance(session, Session) and bool(session.busy or self._commands)

    def finished(self) -> None:
        session = self._connection.endpoint
        if self._commands is not None and self._commands.messages_done():
            return
        if isinstance(session, Session):
            self._end_if_quiet(session)
        else:
            self._connection.end()

    def left(self, endpoint: Endpoint) -> None:
        assert isinstance(endpoint, Session)
        if self._commands is not None:
            self._connection.drop(Drop.COMMAND_ABANDONED, self._commands.clear())
        exchange = self._runtime.turn()
        exchange.deliveries.remove_session(endpoint)
        exchange.parts.left(endpoint)
        self._services.accounts.session_ended(endpoint)

    def blocked(self) -> bool:
        """Lets messages wait; the client's acknowledgements are still read."""
        session = self._connection.endpoint
        if not isinstance(session, Session):
            return False
        self._exchange.deliveries.session_blocked(session)
        return True

    def unblocked(self) -> None:
        session = self._connection.endpoint
        if isinstance(session, Session):
            self._runtime.turn().deliveries.session_unblocked(session)

    def limits_changed(self) -> None:
        if self._connection.endpoint is not None:
            self._connection.framer.max_size = self._runtime.config.limits.max_message

    def judge(self) -> None:
        """A client proves its account, not the name of a server."""

    # -- its messages --------------------------------------------------------------------------------------------

    def _from_client(self, body: bytes) -> None:
        """Takes a frame of an authenticated client: acknowledgements, a plain message, or one that asks for more."""
        endpoint = self._connection.endpoint
        if endpoint is None:
            self._connection.drop(Drop.FRAME_AFTER_END)  # the session has just ended; nothing after that is looked at
            return
        message: PlainMessage | Message
        if endpoint.notes and b'"messageType"' in body:
            assert isinstance(endpoint, Session)
            either = decode_note_or_message(body, endpoint.features)
            if not isinstance(either, Message):
                self._note(endpoint, either)
                return
            message = either
        else:
            message = read_message(body)
        if isinstance(message, tuple):
            type, id, data = message
            if type not in RESERVED_TYPES:
                self._admission.untracked_message(endpoint, type, id, data, len(body))
                return
            message = whole_message(message)
        self._handle(endpoint, message.payload, message.header, len(body))

    def _note(self, session: Session, note: Ack | More | Cancel) -> None:
        """Takes a message that has no report."""
        if isinstance(note, Ack):
            self._exchange.deliveries.acknowledged(session, note.ids)
        elif isinstance(note, More):
            self._exchange.streams.grant(session, frames.encode_text(note.id), note.parts)
        else:
            self._exchange.parts.cancel(session, frames.encode_text(note.id))

    def _handle(self, endpoint: Endpoint, payload: Payload, header: Header | FirstHeader, size: int) -> None:
        type = payload.type
        id = frames.encode_text(payload.id)
        asks = header.route or header.dry_run
        if asks and not (isinstance(endpoint, Session) and link.ROUTE in endpoint.features):
            error = NotAllowed("the session has not asked for the feature route, or was not granted it")
            self._connection.refuse_message(endpoint, id, error)
        elif type == "dummy":
            self._exchange.batch.write(endpoint, frames.pong(id))
        elif type == BUILTIN and header.dry_run:
            self._connection.refuse_message(endpoint, id, NotAllowed("a built-in command has no dry run"))
        elif type == BUILTIN:
            assert isinstance(endpoint, Session)
            if self._commands is None:
                self._commands = ClientCommands(self._connection, self._from_client, self._commands_done)
            self._commands.add(endpoint, payload)
        else:
            trace = checked_trace(header.traceparent)
            trail = Trail(header.dry_run) if asks else None
            parts = header.parts is not None
            if parts:
                try:
                    self._begin_stream(endpoint, id, header)
                except BesterError as error:
                    self._connection.refuse_message(endpoint, id, error)
                    return
            self._admission.message(
                endpoint, type, id, payload.data, size, once=header.once, trace=trace, trail=trail, parts=parts
            )

    def _begin_stream(self, endpoint: Endpoint, id: bytes, header: Header | FirstHeader) -> None:
        """Lets the answer to a message come in parts.

        Raises:
            NotAllowed, BadArguments, IdConflict: section 2.9.
        """
        if not (isinstance(endpoint, Session) and PARTS in endpoint.features):
            raise NotAllowed("the session has not asked for the feature parts, or was not granted it")
        if header.once:
            raise BadArguments("a message with once takes one answer: leave out header.parts or header.once")
        self._exchange.streams.begin(endpoint, id, checked_parts(header.parts))

    def _commands_done(self) -> None:
        self._commands = None
        session = self._connection.endpoint
        if self._connection.input_ended and isinstance(session, Session):
            self._end_if_quiet(session)

    def _end_if_quiet(self, session: Session) -> None:
        """Ends a closing connection, unless something that came on it is under way."""
        if not session.busy and not self._commands and not self._connection.defer_end():
            self._connection.end()
