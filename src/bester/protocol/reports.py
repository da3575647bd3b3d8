"""What a server tells of a message, and the exceptions of the client libraries (docs/protocol.md, section 2).

These exceptions are not :class:`bester.errors.BesterError`: those say what happens here, these what another process
told, whose codes may be newer than this library.
"""

from __future__ import annotations

from msgspec import UNSET, Raw, Struct, field
from msgspec.json import Decoder

from bester.protocol.values import WithData


class ReportError(Struct, frozen=True):
    """Why something is bad."""

    code: str = "internal"
    """One of docs/protocol.md, section 11, or a newer one."""
    message: str = ""
    temporary: bool = False
    """Whether the same message can succeed later without a change."""
    reason: str = ""
    """With the code ``handlerError``: the handler's own code for why it refused the message, where it gave one."""

    @property
    def explained(self) -> str:
        """The message with its codes, as people are told it."""
        return f"{self.message} ({self.code}: {self.reason})" if self.reason else f"{self.message} ({self.code})"

    def as_json(self) -> dict[str, str | bool]:
        """Returns it as it stands in a report."""
        told: dict[str, str | bool] = {"code": self.code, "message": self.message, "temporary": self.temporary}
        return told | {"reason": self.reason} if self.reason else told


class Result(Struct, frozen=True):
    """What became of a message for one recipient."""

    to: str
    """The username, or the server's address, as the handler wrote it."""
    status: str
    """``delivered``, ``stored``, ``sent``, ``queued``, ``skipped`` or ``failed``."""
    error: ReportError | None = None

    def as_json(self) -> dict[str, object]:
        """Returns it as it stands in a report."""
        told: dict[str, object] = {"to": self.to, "status": self.status}
        return told | {"error": self.error.as_json()} if self.error is not None else told


class Step(Struct, frozen=True):
    """One step of a message's route (section 7)."""

    server: str = ""
    step: str = ""
    """``handler``, ``clients``, ``server``, ``mailbox`` or ``outbox``."""
    name: str = ""
    ms: float | None = None
    status: str = ""
    route: list[Step] = field(default_factory=list)
    """What went on at the other server, where this step went to one."""


class Limits(Struct, frozen=True, rename="camel"):
    """What the server takes from one connection."""

    max_message: int | None = None
    """Bytes of one frame's body."""
    max_in_flight: int | None = None
    """Messages without a report; the server does not read on beyond them."""


class Report(WithData, kw_only=True, eq=False):
    """The status report on one message.

    ``data`` and ``raw`` are the result of a built-in command, or what the handler of another server replied.
    """

    id: str
    good: bool
    """Every recipient has the message, or it is on disk at a server that goes on trying (section 4)."""
    error: ReportError | None = None
    """Why it is bad."""
    results: list[Result] = field(default_factory=list)
    """One for each recipient."""
    route: list[Step] = field(default_factory=list)
    """The way that the message took, where that was asked for."""
    token: str | None = None
    features: tuple[str, ...] = ()
    server: str | None = None
    limits: Limits | None = None

    def raise_for_status(self) -> Report:
        """Returns the report itself if it is good.

        Raises:
            Refused: it is bad.
        """
        if not self.good:
            raise Refused(self)
        return self


class ClientError(Exception):
    """The root of what the client libraries raise. ``str(error)`` is the message with its code."""

    def __init__(self, message: str, code: str = "", temporary: bool = False, reason: str = "") -> None:
        told = f"{code}: {reason}" if reason else code
        super().__init__(f"{message} ({told})" if told else message)
        self.message = message
        self.code = code
        """The server's code, or "" where no server said anything."""
        self.temporary = temporary
        """Whether the same can succeed later without a change."""
        self.reason = reason
        """With the code ``handlerError``: the handler's own code, where it gave one."""


class ConnectError(ClientError):
    """There is no connection to the server: it cannot be reached, proves another identity, or turns us away."""


class AuthenticationError(ClientError):
    """The server does not let this account in; with the code ``throttled``, not now."""


class ConnectionClosed(ClientError):
    """The connection ended, and with it what was under way; what became of that is not known."""


class Refused(ClientError):
    """A message was reported bad; ``report`` says what became of it for each recipient."""

    def __init__(self, report: Report) -> None:
        error = report.error or ReportError(message="reported bad, without a reason")
        super().__init__(error.message, error.code if report.error else "", error.temporary, error.reason)
        self.report = report


class NoReply(ClientError):
    """A message that asked for an answer was reported good, and nothing was replied to it; ``report`` is the report."""

    def __init__(self, report: Report) -> None:
        super().__init__("the message was handled, and no handler replied to it")
        self.report = report


class ReportPayload(Struct, rename="camel"):
    """The payload of anything that a server sends to a client; each kind uses some of it."""

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
        """Returns this as a report."""
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
    """The last thing that a server says before it closes the connection."""

    error: ReportError


class EmptyHeader(Struct, gc=False, rename="camel"):
    """The header of anything that a server sends to a client."""

    message_type: str = ""
    status: object = None


# -- what this server itself wrote ------------------------------------------------------------------------------


class WrittenPayload(Struct):
    """The payload of a status report that this server wrote, without its ``data``."""

    error: ReportError | None = None
    results: list[Result] = field(default_factory=list)
    route: Raw = Raw(b"")
    """As JSON; empty where nobody asked for it."""


class _Written(Struct):
    payload: WrittenPayload


_written = Decoder(_Written)
_result = Decoder(Result)


def decode_written(body: bytes | memoryview) -> WrittenPayload:
    """Decodes the body of a status report that this server wrote, or another node of it."""
    return _written.decode(body).payload


def decode_result(entry: bytes) -> Result:
    """Decodes one entry of such a report's results."""
    return _result.decode(entry)
