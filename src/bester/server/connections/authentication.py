"""Authenticates a client by its first message, or opens an account for it (docs/protocol.md, section 2.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from bester.errors import (
    BadArguments,
    BesterError,
    Fatal,
    Malformed,
    NotAllowed,
    Overloaded,
    SessionEnded,
    ShuttingDown,
    StorageFull,
)
from bester.net.peers import Remote
from bester.protocol import link
from bester.protocol.messages import Authentication, FirstHeader, FirstMessage
from bester.server.accounts.dependents import Dependent
from bester.server.accounts.service import HANDLER, Doubted
from bester.server.connections.conversation import Conversation
from bester.server.connections.services import Services
from bester.store.ports import Account
from bester.timeouts import within

TOKEN_S = 2.0
"""How long a new session waits for its token to be stored."""
REPLY_TO = "replyTo"
PARTS = "parts"
"""The feature that makes replies name the messages they answer."""
MAX_MAIL_TYPES = 256
AUTH_ID = "auth_special"
"""The id of the report that answers a client's first message."""


class ProvenHandler(Dependent, Protocol):
    """The connection of a handler on another machine."""

    remote: Remote
    ended: bool

    def admit(self, name: str, body: bytes) -> None:
        """Lets it attach under the name that it has proved."""

    def refuse(self, error: BesterError, body: bytes) -> None:
        """Answers its attach message with a bad report, and closes."""

    def fail(self, error: BesterError) -> None:
        """Ends the connection, and tells why."""


class Authenticated(NamedTuple):
    """A client that has proved its account, and what its session is to be like."""

    account: Account
    opened: bool
    """Whether the message was the command that opened the account, and is done."""
    features: tuple[str, ...]
    takes: frozenset[str] | None
    """The types of its account's messages that it takes; None: all."""
    token: str | None
    has_mail: bool
    doubted: Doubted | None


async def authenticate(
    connection: Conversation,
    services: Services,
    message: FirstMessage,
    begin: Callable[[FirstMessage, Authenticated], None],
) -> None:
    """Authenticates a client and begins its session; meanwhile nothing is read from it.

    Args:
        connection: the client's; it is refused if authentication fails.
        services: those of the server.
        message: the first message.
        begin: begins the session.
    """
    runtime, accounts = services.runtime, services.accounts
    mailboxes, cluster = services.mailboxes, services.cluster
    opened = message.header.authentication is None
    try:
        with accounts.checking() as login:
            if message.header.authentication is not None:
                account = await accounts.authenticate(message.header.authentication, connection.remote, login)
            else:
                assert message.payload is not None
                account = await accounts.open_by_command(message.payload, connection.remote, login)
            if connection.ended:
                return
            if runtime.stopping:
                raise ShuttingDown
            takes = _takes(message.header)
            known = {*accounts.features, link.ROUTE, REPLY_TO, PARTS}
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
    except BesterError as error:
        runtime.counts.logins_failed += 1
        connection.refuse(error, AUTH_ID)
    else:
        begin(message, Authenticated(account, opened, features, takes, token, has_mail, login.doubted))


async def prove_handler(connection: ProvenHandler, services: Services, claim: Authentication, body: bytes) -> None:
    """Lets a handler attach whose account may do so (section 6.10).

    Args:
        connection: the handler's; it is refused if authentication fails.
        services: those of the server.
        claim: who it says it is.
        body: its attach message.
    """
    runtime, accounts = services.runtime, services.accounts
    try:
        with accounts.checking() as login:
            account = await accounts.authenticate(claim, connection.remote, login, opens=False)
            if connection.ended:
                return
            if runtime.stopping:
                raise ShuttingDown
            if login.doubted is not None:
                raise Overloaded("accounts cannot be checked now")
            if HANDLER not in account.roles:
                raise NotAllowed(f"the account has not the role {HANDLER}, without which it may not attach")
            login.check()
            accounts.dependents.add(account.username, connection)
            connection.admit(account.username, body)
    except Fatal as error:
        connection.fail(error)
    except BesterError as error:
        runtime.counts.logins_failed += 1
        connection.refuse(error, body)


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
