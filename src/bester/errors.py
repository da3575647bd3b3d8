"""All errors, as one tree; each kind has its stable code on the wire.

An error has three parts: the ``code`` (docs/protocol.md, section 11), a ``message`` that is safe to show to
outsiders, and the Python ``__cause__`` that stays inside. ``temporary`` says whether the same message can succeed
later without a change.

Two branches matter to a connection: a :class:`Fatal` error ends it after its last frame; any other error is sent in a
status report, and the connection goes on.
"""

from __future__ import annotations

from functools import cache
from typing import ClassVar

MAX_CAUSES = 3
"""How many causes of an error the log shows."""
MAX_CHAIN = 20
"""How many causes are followed at all: a chain may have no end."""


class BesterError(Exception):
    """The root of all errors. ``str(error)`` is the public message."""

    code: ClassVar[str] = "internal"
    temporary: bool = False
    reason: str = ""
    """The code of its own that a handler refused a message with; no other error has one."""
    meaning: ClassVar[str] = "something failed inside the server"

    def __init__(self, message: str | None = None) -> None:
        self.message = message if message is not None else self.meaning
        super().__init__(self.message)

    @property
    def explained(self) -> str:
        """The message, after the handler's own reason if there is one."""
        return f"{self.reason}: {self.message}" if self.reason else self.message

    @property
    def inside(self) -> str:
        """The message with its causes, for the log only: causes may name files, hosts and people."""
        text, cause = self.explained, self.__cause__
        for _ in range(MAX_CAUSES):
            if cause is None:
                break
            if str(cause) not in text:
                text += f" ({type(cause).__name__}: {cause})"
            cause = cause.__cause__
        return text

    def forget_frames(self) -> None:
        """Forgets where it and its causes were raised: the frames hold everything that their functions had."""
        one: BaseException | None = self
        for _ in range(MAX_CHAIN):
            if one is None:
                break
            one.__traceback__ = None
            one = one.__cause__ or one.__context__


class Internal(BesterError):
    code = "internal"
    temporary = True
    meaning = "something failed inside the server; its log says what"


# -- fatal: the connection ends ---------------------------------------------------------------------------------


class Fatal(BesterError):
    """The peer broke the form of the conversation (sections 1, 2, 12); its connection is closed."""


class Malformed(Fatal):
    code = "malformed"
    meaning = "not a frame, not strict JSON, or not of the form that the protocol gives"


class TooLarge(Fatal):
    code = "tooLarge"
    meaning = "the frame is larger than the limit"


class BadScope(Fatal):
    code = "badScope"
    meaning = "the first message's header.scope is not one that this socket serves"


class AuthenticationTimeout(Fatal):
    code = "authenticationTimeout"
    temporary = True
    meaning = "the connection did not say its scope, or authenticate, in time"


class FrameTimeout(Fatal):
    code = "frameTimeout"
    temporary = True
    meaning = "a frame was begun and not completed in time"


class SessionEnded(Fatal):
    code = "sessionEnded"
    meaning = "the session was ended by an operator, or because its account or password changed"


class SlowConsumer(Fatal):
    code = "slowConsumer"
    temporary = True
    meaning = "the receiver does not read as fast as it is sent to, and was cut off"


class ShuttingDown(Fatal):
    code = "shuttingDown"
    temporary = True
    meaning = "the server is stopping"


class Overloaded(Fatal):
    code = "overloaded"
    temporary = True
    meaning = "a limit on connections or outstanding work is reached"


# -- who may do what --------------------------------------------------------------------------------------------


class AuthenticationRequired(BesterError):
    code = "authenticationRequired"
    meaning = "this connection must authenticate first"


class AuthenticationFailed(BesterError):
    code = "authenticationFailed"
    meaning = "unknown account or wrong password"


class Throttled(BesterError):
    code = "throttled"
    temporary = True
    meaning = "too many failures or messages; wait before the next try"


class NotAllowed(BesterError):
    code = "notAllowed"
    meaning = "this sender may not do that"


class InvalidName(BesterError):
    code = "invalidName"
    meaning = "not a valid username"


class AccountExists(BesterError):
    code = "accountExists"
    meaning = "an account of this name exists already"


class UnknownAccount(BesterError):
    code = "unknownAccount"
    meaning = "no account of this name"


class UnknownCommand(BesterError):
    code = "unknownCommand"
    meaning = "no command of this name"


class BadArguments(BesterError):
    code = "badArguments"
    meaning = "the command's arguments are not of the right form"


class BadConfiguration(BesterError):
    code = "badConfiguration"
    meaning = "the configuration is wrong; nothing was changed"


# -- handlers ---------------------------------------------------------------------------------------------------


class NoHandler(BesterError):
    code = "noHandler"
    meaning = "no handler serves this type"


class HandlerUnavailable(BesterError):
    code = "handlerUnavailable"
    temporary = True
    meaning = "the handler cannot be reached, or went away before it answered"


class HandlerTimeout(BesterError):
    code = "handlerTimeout"
    temporary = True
    meaning = "the handler did not answer within its time limit"


class HandlerFailed(BesterError):
    """A handler's refusal of a message, with the handler's own text if it gave one; that is bounded (section 3.2)."""

    code = "handlerError"
    meaning = "the handler answered with a status other than 0"

    def __init__(self, message: str | None = None, reason: str = "", temporary: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.temporary = temporary


class BadPayload(BesterError):
    code = "badPayload"
    meaning = "the message's data is not what its type takes"


class Rejected(BesterError):
    """A guard's refusal of a message, with the guard's own text if it gave one, bounded as a handler's is."""

    code = "rejected"
    meaning = "a guard of this server does not let the message pass"

    def __init__(self, message: str | None = None, reason: str = "", temporary: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.temporary = temporary


class Dropped(BesterError):
    """A guard has dropped a message; its sender is told that all is well, and only operators see this."""

    code = "dropped"
    meaning = "a guard has dropped the message, and its sender was not told"


class Cancelled(BesterError):
    code = "cancelled"
    meaning = "the sender has cancelled the message"


class BadResponse(BesterError):
    code = "badResponse"
    meaning = "the handler's answer is not of the form that the protocol gives"


class TooManyHops(BesterError):
    code = "tooManyHops"
    meaning = "the message went through more handlers and servers than allowed; probably a loop"


# -- recipients -------------------------------------------------------------------------------------------------


class MailboxFull(BesterError):
    code = "mailboxFull"
    temporary = True
    meaning = "the recipient's mailbox is full"


class StorageFull(BesterError):
    code = "storageFull"
    temporary = True
    meaning = "the server has no room to keep the message"


class IdConflict(BesterError):
    code = "idConflict"
    meaning = "another message was sent with this id"


# -- other servers ----------------------------------------------------------------------------------------------


class BadAddress(BesterError):
    code = "badAddress"
    meaning = "not an address: host:port, [v6]:port, unix:/path, or a server's name"


class ServerUnreachable(BesterError):
    code = "serverUnreachable"
    temporary = True
    meaning = "the other server cannot be reached"


class ServerUnverified(BesterError):
    code = "serverUnverified"
    meaning = "this server lets in only servers that prove who they are"


class ServerRefused(BesterError):
    code = "serverRefused"
    meaning = "the other server reported the message bad"


def all_kinds() -> dict[str, type[BesterError]]:
    """Returns every wire code with its class, for the documentation's table and the tests."""
    kinds: dict[str, type[BesterError]] = {}
    pending = list(BesterError.__subclasses__())
    while pending:
        kind = pending.pop()
        pending.extend(kind.__subclasses__())
        if "code" in vars(kind):
            kinds[kind.code] = kind
    return dict(sorted(kinds.items()))


@cache
def _kinds() -> dict[str, type[BesterError]]:
    return all_kinds()


def error_of(code: str, message: str = "", reason: str = "", temporary: bool = False) -> BesterError:
    """Returns the error for a code that another node of this server sent; an unknown code gives ``Internal``.

    ``reason`` and ``temporary`` are used only for a handler's refusal.
    """
    if code == HandlerFailed.code:
        return HandlerFailed(message or None, reason, temporary)
    kind = _kinds().get(code)
    return kind(message or None) if kind is not None else Internal(message or None)
