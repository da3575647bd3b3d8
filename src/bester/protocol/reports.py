"""A server's reports on messages, and the exceptions of the client libraries (docs/protocol.md, section 2).

These exceptions do not derive from :class:`bester.errors.BesterError`: a BesterError describes a failure in this
process; these describe what another process reported, whose codes may be newer than this library.
"""

from __future__ import annotations

from msgspec import UNSET, Raw, Struct, field
from msgspec.json import Decoder

from bester.protocol.withdata import WithData


class ReportError(Struct, frozen=True):
    """The error of a report or a result."""

    code: str = "internal"
    """A code from docs/protocol.md, section 11, or a newer one."""
    message: str = ""
    temporary: bool = False
    """Whether the unchanged message can succeed later."""
    reason: str = ""
    """The handler's own code for its refusal, if it gave one; only with the code ``handlerError``."""

    @property
    def explained(self) -> str:
        """The message with its codes, for people."""
        return f"{self.message} ({self.code}: {self.reason})" if self.reason else f"{self.message} ({self.code})"

    def as_json(self) -> dict[str, str | bool]:
        """Returns the error's members in a report."""
        members: dict[str, str | bool] = {"code": self.code, "message": self.message, "temporary": self.temporary}
        return members | {"reason": self.reason} if self.reason else members


class Result(Struct, frozen=True):
    """The outcome of a message for one recipient."""

    to: str
    """The username, or the server's address, as the handler wrote it."""
    status: str
    """``delivered``, ``stored``, ``sent``, ``queued``, ``held``, ``skipped`` or ``failed``."""
    error: ReportError | None = None

    def as_json(self) -> dict[str, object]:
        """Returns the result's members in a report."""
        members: dict[str, object] = {"to": self.to, "status": self.status}
        return members | {"error": self.error.as_json()} if self.error is not None else members


class Step(Struct, frozen=True):
    """One step of a message's route (section 7)."""

    server: str = ""
    step: str = ""
    """``handler``, ``clients``, ``server``, ``mailbox`` or ``outbox``."""
    name: str = ""
    ms: float | None = None
    status: str = ""
    route: list[Step] = field(default_factory=list)
    """The steps at the other server, if this step led to one."""


class Limits(Struct, frozen=True, rename="camel"):
    """The server's limits for one connection."""

    max_message: int | None = None
    """The most bytes of a frame's body."""
    max_in_flight: int | None = None
    """The most messages without a report; the server stops reading at that number."""


class Report(WithData, kw_only=True, eq=False):
    """The status report on one message.

    ``data`` and ``raw`` hold the result of a built-in command, or the reply of another server's handler.
    """

    id: str
    good: bool
    """Whether every recipient has the message, or it is on disk at a server that keeps trying (section 4)."""
    error: ReportError | None = None
    """Why the report is bad."""
    results: list[Result] = field(default_factory=list)
    """One result for each recipient."""
    route: list[Step] = field(default_factory=list)
    """The route that the message took, if the sender asked for it."""
    token: str | None = None
    features: tuple[str, ...] = ()
    server: str | None = None
    limits: Limits | None = None

    def raise_for_status(self) -> Report:
        """Returns the report itself if it is good.

        Raises:
            Refused: the report is bad.
        """
        if not self.good:
            raise Refused(self)
        return self


class ClientError(Exception):
    """The base of all exceptions of the client libraries. ``str(error)`` is the message with its code."""

    def __init__(self, message: str, code: str = "", temporary: bool = False, reason: str = "") -> None:
        codes = f"{code}: {reason}" if reason else code
        super().__init__(f"{message} ({codes})" if codes else message)
        self.message = message
        self.code = code
        """The server's code, or "" if the error does not come from a server."""
        self.temporary = temporary
        """Whether the unchanged call can succeed later."""
        self.reason = reason
        """The handler's own code, if it gave one; only with the code ``handlerError``."""


class ConnectError(ClientError):
    """There is no connection to the server: it is unreachable, proves another identity, or refuses the connection."""


class AuthenticationError(ClientError):
    """The server refuses to authenticate this account; with the code ``throttled``, only for now."""


class ConnectionClosed(ClientError):
    """The connection ended; the outcome of everything in flight is unknown."""


class Refused(ClientError):
    """The report on a message is bad; ``report`` holds the outcome for each recipient."""

    def __init__(self, report: Report) -> None:
        error = report.error or ReportError(message="reported bad, without a reason")
        super().__init__(error.message, error.code if report.error else "", error.temporary, error.reason)
        self.report = report


class NoReply(ClientError):
    """The report on a message that asked for a reply is good, but no handler replied; ``report`` holds the report."""

    def __init__(self, report: Report) -> None:
        held = ", ".join(result.to for result in report.results if result.status == "held")
        super().__init__(
            f"the message is held until {held} consents, and has no reply"
            if held
            else "the message was handled, and no handler replied to it"
        )
        self.report = report


class ReportPayload(Struct, rename="camel"):
    """The payload of every message from a server to a client; each kind of message uses some of the members."""

    type: str = ""
    id: str = ""
    data: Raw = Raw(b"")
    delivery_id: str | None = None
    reply_to: str | None = None
    error: ReportError | None = None
    results: list[Result] = field(default_factory=list)
    route: list[Step] = field(default_factory=list)
    token: str | None = None
    features: tuple[str, ...] = ()
    server: str | None = None
    limits: Limits | None = None
    missing: tuple[str, ...] = ()

    def report(self, good: bool) -> Report:
        """Returns the report that this payload describes."""
        return Report(
            id=self.id,
            good=good,
            error=self.error,
            results=self.results,
            route=self.route,
            token=self.token,
            features=self.features,
            server=self.server,
            limits=self.limits,
            raw=self.data,
            _value=UNSET,
        )


class FatalError(Struct, frozen=True):
    """The last message of a server before it closes the connection."""

    error: ReportError


class EmptyHeader(Struct, gc=False, rename="camel"):
    """The header of every message from a server to a client or a handler; some have more members."""

    message_type: str = ""
    status: object = None


# -- reports that this server wrote -----------------------------------------------------------------------------


class WrittenPayload(Struct):
    """The payload of a status report that this server wrote, without its ``data``."""

    error: ReportError | None = None
    results: list[Result] = field(default_factory=list)
    route: Raw = Raw(b"")
    """JSON; empty if the sender did not ask for it."""


class _Written(Struct):
    payload: WrittenPayload


_written = Decoder(_Written)
_result = Decoder(Result)


def decode_written(body: bytes | memoryview) -> WrittenPayload:
    """Decodes the body of a status report that this server, or another of its nodes, wrote."""
    return _written.decode(body).payload


def decode_result(entry: bytes) -> Result:
    """Decodes one entry of such a report's results."""
    return _result.decode(entry)
