"""A client's side of a connection to a listener (docs/protocol.md, sections 2 and 5)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

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
    NO_HEADER,
    FirstHeader,
    FirstMessage,
    Header,
    Payload,
    checked_trace,
    decode_ack_or_message,
    decode_message,
)
from bester.protocol.names import RESERVED_TYPES
from bester.server.admin.commands import CommandCall
from bester.server.connections.connection import SHARE_FRAMES
from bester.server.connections.conversation import Conversation
from bester.timeouts import within

if TYPE_CHECKING:
    from bester.server.runtime import Runtime

TOKEN_S = 2.0
"""How long it may take to keep a token; a session does not wait longer for one."""
REPLY_TO = "replyTo"
"""The feature with which replies say what they answer."""
MAX_MAIL_TYPES = 256
AUTH_ID = "auth_special"
"""The id of the report that answers a client's first message."""


class ClientSide(Conversation):
    """Authenticates a client, and takes its messages."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.quiet: asyncio.Future[None] | None = None
        """Set while a command waits for the outstanding messages."""

    # -- who it is -----------------------------------------------------------------------------------------------

    def first_of_client(self, message: FirstMessage) -> None:
        """Checks who it is, or lets it open an account."""
        authentication = message.header.authentication
        payload = message.payload
        if authentication is None:
            opening = payload is not None and payload.type == BUILTIN and is_opening(payload.data)
            if not opening:
                self.refuse(AuthenticationRequired(), AUTH_ID)
                return
            if message.header.dry_run:
                self.refuse(NotAllowed("a built-in command has no dry run"), AUTH_ID)
                return
        self.runtime.gate.leave(self)
        self.wait_in_line()
        self.runtime.spawn(self._authenticate(message))

    async def _authenticate(self, message: FirstMessage) -> None:
        """Checks who a client is; reading has stopped meanwhile."""
        accounts = self.runtime.accounts
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
                if self.runtime.stopping:
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
                        # Rather without a token than not at all: what it takes out of its mailbox makes room.
                        features = tuple(feature for feature in features if feature != "token")
                has_mail = False
                if takes is None or takes:
                    if self.runtime.nodes is not None:
                        await self.runtime.nodes.sharing.meet(account.username)
                    with self.runtime.mailboxes.arriving(account.username) as arrival:
                        has_mail = await self.runtime.mailboxes.has_mail(account.username)
                        # From here on there is no other await until the session is there.
                        has_mail = has_mail or arrival.has_mail
                login.check()
        except (Malformed, SessionEnded) as error:
            self.fail(error)
            return
        except BesterError as error:
            self.runtime.counts.logins_failed += 1
            self.refuse(error, AUTH_ID)
            return
        if self.ended:
            return
        session = Session(
            account.username,
            self.runtime.config.server.name,
            roles=account.roles,
            features=features,
            takes=takes,
            created=account.created,
            since=self.runtime.clock(),
            carrier=self,
        )
        if not accounts.session_began(session, token):
            self.refuse(Throttled("too many sessions of this account"), AUTH_ID)
            return
        if login.doubted is not None:
            self.runtime.spawn(accounts.look_again(session, login.doubted))
        self.runtime.counts.logins += 1
        self.endpoint = session
        exchange = self.runtime.exchange
        exchange.now = self.runtime.clock()
        # What its socket does not take shows at once, so that no report says that the client has it.
        self.transport.set_write_buffer_limits(high=1, low=0)
        limits = self.runtime.config.limits
        welcome = {
            "server": self.runtime.config.server.name,
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
            self.go_on(self._from_client, SHARE_FRAMES)
        self.runtime.flush_soon()
        if self.input_ended and self.endpoint is session:
            session.closing = True
            self.end_if_quiet(session)

    def end_session(self, error: BesterError) -> None:
        """Ends an authenticated session from the server's side."""
        self.fail(error)

    # -- its messages --------------------------------------------------------------------------------------------

    def _from_client(self, body: bytes) -> None:
        endpoint = self.endpoint
        if endpoint is None:
            self.drop(Drop.FRAME_AFTER_END)  # the session has just ended; nothing after that is looked at
            return
        if endpoint.acknowledges:
            message = decode_ack_or_message(body)
            if isinstance(message, list):
                assert isinstance(endpoint, Session)
                self.runtime.exchange.acknowledged(endpoint, message)
                return
        else:
            message = decode_message(body)
        payload = message.payload
        header = message.header
        if header != NO_HEADER or payload.type in RESERVED_TYPES:
            self._handle(endpoint, payload, header, len(body))
        else:
            self.runtime.exchange.plain_message(endpoint, payload, len(body))

    def _handle(self, endpoint: Endpoint, payload: Payload, header: Header | FirstHeader, size: int) -> None:
        type = payload.type
        asks = header.route or header.dry_run
        if asks and not (isinstance(endpoint, Session) and link.ROUTE in endpoint.features):
            error = NotAllowed("the session has not asked for the feature route, or was not granted it")
            self.refuse_message(endpoint, payload.id, error)
        elif type == "dummy":
            self.runtime.exchange.write(endpoint, frames.pong(payload.id))
        elif type == BUILTIN and header.dry_run:
            self.refuse_message(endpoint, payload.id, NotAllowed("a built-in command has no dry run"))
        elif type == BUILTIN:
            self._builtin(endpoint, payload)
        else:
            trace = checked_trace(header.traceparent)
            trail = Trail(header.dry_run) if asks else None
            self.runtime.exchange.message(endpoint, payload, size, once=header.once, trace=trace, trail=trail)

    # -- built-in commands ---------------------------------------------------------------------------------------

    def _builtin(self, endpoint: Endpoint, payload: Payload) -> None:
        assert isinstance(endpoint, Session)
        limit = self.runtime.config.limits.max_in_flight
        if len(endpoint.commands) >= limit:
            error = Throttled(f"at most {limit} built-in commands may be under way")
            self.refuse_message(endpoint, payload.id, error)
            return
        endpoint.commands.append(payload)
        if ends_session(payload.data):
            self.wait_in_line()
        if len(endpoint.commands) == 1:
            self.runtime.spawn(self._run_builtins(endpoint))

    async def _run_builtins(self, session: Session) -> None:
        while session.commands and not session.closed:
            call = CommandCall(self.runtime.admin, session, self.remote)
            payload = session.commands[0]
            if ends_session(payload.data):
                await self._outstanding_done(session)
            report = await call.run(payload)
            if session.closed:
                return
            session.commands.pop(0)
            self.runtime.exchange.write(session, report)
            self.runtime.flush_soon()
            if call.closes:
                self.end()
            elif call.logged_out:
                self.flush_out()
                self.leave()
                self.scope = "client"
                self.framer.max_size = self.runtime.config.limits.max_first_message
                self.runtime.gate.enter(self)
                self.go_on(self.first, 1)
                return
            elif ends_session(payload.data):
                self.go_on(self._from_client, SHARE_FRAMES)  # it was refused
        if self.input_ended:
            self.end_if_quiet(session)

    async def _outstanding_done(self, session: Session) -> None:
        """Waits until all that the session sent before has its report."""
        if session.busy:
            self.quiet = asyncio.get_running_loop().create_future()
            session.closing = True
            await self.quiet
            session.closing = self.input_ended

    def end_if_quiet(self, session: Session) -> None:
        """Ends a closing connection, unless something that came on it is under way."""
        if not session.busy and not session.commands and not self.is_in_line():
            self.end()


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
