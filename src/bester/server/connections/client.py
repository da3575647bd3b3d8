"""A client's side of a connection to a listener (docs/protocol.md, sections 2 and 5)."""

from __future__ import annotations

import asyncio

from bester.core.endpoint import Endpoint
from bester.core.metrics import Drop
from bester.core.session import Session
from bester.core.trail import Trail
from bester.errors import (
    AuthenticationRequired,
    BadArguments,
    BesterError,
    Malformed,
    NotAllowed,
    Overloaded,
    SessionEnded,
    ShuttingDown,
    StorageFull,
    Throttled,
)
from bester.protocol import frames, link
from bester.protocol.builtin import BUILTIN, ends_session, is_opening
from bester.protocol.messages import (
    FirstHeader,
    FirstMessage,
    Header,
    Message,
    Payload,
    checked_trace,
    decode_ack_or_message,
)
from bester.protocol.names import RESERVED_TYPES
from bester.protocol.plain import PlainMessage, read_message, whole_message
from bester.server.admin.commands import CommandCall
from bester.server.connections.command_queue import CommandQueue
from bester.server.connections.connection import SHARE_FRAMES
from bester.server.connections.conversation import Conversation
from bester.timeouts import within

TOKEN_S = 2.0
"""How long a new session waits for its token to be stored."""
REPLY_TO = "replyTo"
"""The feature that makes replies name the messages they answer."""
MAX_MAIL_TYPES = 256
AUTH_ID = "auth_special"
"""The id of the report that answers a client's first message."""


class ClientSide:
    """The role of a client's connection: authenticates the client, and takes its messages.

    Args:
        connection: whose role it is.
    """

    __slots__ = (
        "_admission",
        "_call",
        "_commands",
        "_connection",
        "_exchange",
        "_may_end_session",
        "_quiet",
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
        self._quiet: asyncio.Future[None] | None = None
        """Set while a command waits for the outstanding messages."""
        self._commands: CommandQueue[Payload] | None = None
        """Its built-in commands; None as long as there are none, as for most clients."""
        self._call: CommandCall | None = None
        """The command that is carried out, or was the last one."""
        self._may_end_session = False
        """Whether that command ends the session, unless it is refused."""

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
        self._runtime.spawn(self._authenticate(message))

    async def _authenticate(self, message: FirstMessage) -> None:
        """Authenticates the client and begins its session; meanwhile nothing is read."""
        connection, runtime = self._connection, self._runtime
        accounts, mailboxes, cluster = self._services.accounts, self._services.mailboxes, self._services.cluster
        payload = message.payload
        try:
            with accounts.checking() as login:
                if message.header.authentication is not None:
                    account = await accounts.authenticate(message.header.authentication, connection.remote, login)
                else:
                    assert payload is not None
                    account = await accounts.open_by_command(payload, connection.remote, login)
                    payload = None
                if connection.ended:
                    return
                if runtime.stopping:
                    raise ShuttingDown
                takes = _takes(message.header)
                known = {*accounts.features, link.ROUTE, REPLY_TO}
                if takes is not None and not takes:
                    known.discard("ack")  # there is nothing to acknowledge
                features = tuple(feature for feature in message.header.features if feature in known)
                token = None
                if "token" in features:
                    try:
                        async with within(TOKEN_S):
                            token = await accounts.new_token(account.username)
                    except (StorageFull, Overloaded, TimeoutError):
                        # A session without a token is better than none: what it takes out of its mailbox frees space.
                        features = tuple(feature for feature in features if feature != "token")
                has_mail = False
                if takes is None or takes:
                    await cluster.meet(account.username)
                    with mailboxes.arriving(account.username) as arrival, cluster.arriving(account.username):
                        has_mail = await mailboxes.has_mail(account.username)
                        # From here on there is no other await until the session is there.
                        has_mail = has_mail or arrival.has_mail
                login.check()
        except (Malformed, SessionEnded) as error:
            connection.fail(error)
            return
        except BesterError as error:
            runtime.counts.logins_failed += 1
            connection.refuse(error, AUTH_ID)
            return
        if connection.ended:
            return
        session = Session(
            account.username,
            runtime.config.server.name,
            roles=account.roles,
            features=features,
            takes=takes,
            created=account.created,
            since=runtime.clock(),
            writer=connection,
        )
        if not accounts.session_began(session, token):
            connection.refuse(Throttled("too many sessions of this account"), AUTH_ID)
            return
        if login.doubted is not None:
            runtime.spawn(accounts.look_again(session, login.doubted))
        runtime.counts.logins += 1
        connection.endpoint = session
        exchange = runtime.turn()
        # What its socket does not take shows at once, so that no report says that the client has it.
        connection.transport.set_write_buffer_limits(high=1, low=0)
        limits = runtime.config.limits
        welcome = {
            "server": runtime.config.server.name,
            "features": features,
            "limits": {"maxMessage": limits.max_message, "maxInFlight": limits.max_in_flight},
        }
        if token is not None:
            welcome["token"] = token
        # The members are spliced into the report's payload, whose id has been written before them.
        fields = b"," + frames.encode_text(welcome)[1:-1]
        exchange.deliveries.add_session(session, has_mail=has_mail)
        connection.write([frames.report(frames.encode_text(AUTH_ID), fields=fields)])
        if connection.ended:
            return  # the client is gone already
        connection.framer.max_size = limits.max_message
        if payload is not None and payload.type != "dummy":
            self._handle(session, payload, message.header, len(payload.data))
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
        if self._quiet is not None and not self._quiet.done():
            self._quiet.set_result(None)
        elif isinstance(session, Session):
            self._end_if_quiet(session)
        else:
            self._connection.end()

    def left(self, endpoint: Endpoint) -> None:
        assert isinstance(endpoint, Session)
        if self._commands is not None:
            self._connection.drop(Drop.COMMAND_ABANDONED, self._commands.clear())
        self._runtime.turn().deliveries.remove_session(endpoint)
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
        if endpoint.acknowledges and b'"ack"' in body:
            either = decode_ack_or_message(body)
            if isinstance(either, list):
                assert isinstance(endpoint, Session)
                self._exchange.deliveries.acknowledged(endpoint, either)
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
            self._builtin(endpoint, payload)
        else:
            trace = checked_trace(header.traceparent)
            trail = Trail(header.dry_run) if asks else None
            self._admission.message(endpoint, type, id, payload.data, size, once=header.once, trace=trace, trail=trail)

    # -- built-in commands ---------------------------------------------------------------------------------------

    def _builtin(self, endpoint: Endpoint, payload: Payload) -> None:
        assert isinstance(endpoint, Session)
        limit = self._runtime.config.limits.max_in_flight
        if self._commands is None:
            self._commands = CommandQueue(self, self._runtime.spawn)
        if len(self._commands) >= limit:
            error = Throttled(f"at most {limit} built-in commands may be under way")
            self._connection.refuse_message(endpoint, frames.encode_text(payload.id), error)
            return
        if ends_session(payload.data):
            self._connection.hold_frames()
        self._commands.add(payload)

    @property
    def ended(self) -> bool:
        session = self._connection.endpoint
        return not isinstance(session, Session) or session.closed

    async def carry_out(self, command: Payload) -> bytes:
        session = self._connection.endpoint
        assert isinstance(session, Session)
        self._may_end_session = ends_session(command.data)
        if self._may_end_session:
            await self._outstanding_done(session)
        self._call = CommandCall(self._services.admin, session, self._connection.remote)
        return await self._call.run(command)

    def answer(self, frame: bytes) -> None:
        connection, call = self._connection, self._call
        assert connection.endpoint is not None
        assert call is not None
        self._runtime.turn().batch.write(connection.endpoint, frame)
        if call.closes:
            connection.end()
        elif call.logged_out:
            connection.flush_out()
            connection.leave()
            connection.start_over()
        elif self._may_end_session:
            connection.go_on(self._from_client, SHARE_FRAMES)  # it was refused

    def commands_done(self) -> None:
        self._commands = self._call = None
        session = self._connection.endpoint
        if self._connection.input_ended and isinstance(session, Session):
            self._end_if_quiet(session)

    async def _outstanding_done(self, session: Session) -> None:
        """Waits until all that the session sent before has its report."""
        if session.busy:
            self._quiet = asyncio.get_running_loop().create_future()
            session.closing = True
            await self._quiet
            session.closing = self._connection.input_ended

    def _end_if_quiet(self, session: Session) -> None:
        """Ends a closing connection, unless something that came on it is under way."""
        if not session.busy and not self._commands and not self._connection.defer_end():
            self._connection.end()


def _takes(header: FirstHeader) -> frozenset[str] | None:
    """Returns the types of its account's messages that a client takes, none or more; None: all.

    Raises:
        BadArguments: it lists too many.
    """
    if isinstance(header.mail, bool):
        return None if header.mail else frozenset()
    if len(header.mail) > MAX_MAIL_TYPES:
        raise BadArguments(f"header.mail has {len(header.mail)} types; at most {MAX_MAIL_TYPES} are allowed")
    return frozenset(header.mail)
