"""The messages and reports that servers exchange on links (docs/protocol.md, section 8)."""

from __future__ import annotations

import re

import msgspec
from msgspec import Raw, Struct

from bester.protocol.frames import encode_text
from bester.protocol.framing import frame
from bester.protocol.messages import NOTHING, Data, Payload
from bester.protocol.reports import Step
from bester.protocol.strictjson import EXTRA_DEPTH, MAX_DEPTH, decode

LINK = "link"
"""The feature that makes a connection between servers a link."""
ROUTE = "route"
"""The feature of a link that supports routes and dry runs (section 7)."""
HELLO_ID = "link"
"""The id of the first message on a link."""
EXTRA_SIZE = 64 * 1024
"""How many bytes a frame on a link may exceed ``maxMessage`` by, so that any accepted message can be forwarded."""
MAX_ROUTE_BYTES = 256 * 1024
MAX_ROUTE_DEPTH = 20
"""The limits on another server's route: its bytes, and the depth of servers nested in it."""
_DEPTH = MAX_DEPTH + EXTRA_DEPTH
_TRACEPARENT = re.compile("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

# -- outgoing frames --------------------------------------------------------------------------------------------


def hello(server: str) -> bytes:
    """Returns the frame that asks for a link; a server that does not know links takes it for a ping."""
    header = {"scope": "server", "server": server, "features": [LINK, ROUTE]}
    return frame(encode_text({"header": header, "payload": {"type": "dummy", "id": HELLO_ID}}))


def welcome_fields(server: str, max_message: int, max_in_flight: int, *, route: bool = False) -> bytes:
    """Returns the payload of the report that grants a link, without its id: JSON members with a comma before them."""
    limits = {"maxMessage": max_message, "maxInFlight": max_in_flight}
    features = [LINK, ROUTE] if route else [LINK]
    return b"," + encode_text({"server": server, "features": features, "limits": limits})[1:-1]


def message(
    type: str, id: str, data: Data, hops: int, trace: str, *, route: bool = False, dry_run: bool = False
) -> bytes:
    """Returns a message's frame on a link; a dry run is not sent with ``once``, since it has no effects."""
    return frame(
        b'{"header":{"dryRun":true,"hops":%d,' % hops if dry_run else b'{"header":{"once":true,"hops":%d,' % hops,
        b'"route":true,"traceparent":' if route else b'"traceparent":',
        encode_text(trace),
        b'},"payload":{"type":',
        encode_text(type),
        b',"id":',
        encode_text(id),
        b',"data":',
        data,
        b"}}",
    )


# -- reports of the other server --------------------------------------------------------------------------------


class ReportHeader(Struct, rename="camel"):
    """The header of a report or of any other answer to a message."""

    message_type: str = ""
    status: str = ""


class ReportError(Struct):
    """Why a message was reported bad."""

    code: str = ""
    message: str = ""
    temporary: bool = False
    reason: str = ""


class PeerLimits(Struct, rename="camel"):
    """The limits of the other server on this link; 0 if it states none."""

    max_message: int = 0
    max_in_flight: int = 0


class ReportPayload(Struct):
    id: str = ""
    error: ReportError | None = None
    server: str = ""
    features: tuple[str, ...] = ()
    limits: PeerLimits | None = None
    route: Raw = NOTHING


class ServerReport(Struct):
    """Another server's answer to a message."""

    header: ReportHeader = msgspec.field(default_factory=ReportHeader)
    payload: ReportPayload = msgspec.field(default_factory=ReportPayload)

    @property
    def good(self) -> bool:
        """Whether the other server accepted the message; classic servers report that as ``"0"``."""
        return self.header.status in ("good", "0")

    @property
    def grants_link(self) -> bool:
        """Whether this report on a first message grants a link."""
        return self.header.message_type == "statusReport" and self.good and LINK in self.payload.features


_report = msgspec.json.Decoder(ServerReport)
_route = msgspec.json.Decoder(list[Step])


def decode_report(body: bytes) -> ServerReport:
    """Decodes a report; unknown members are ignored.

    Raises:
        Malformed: the body is not JSON, or does not have a report's form.
    """
    return decode(_report, body, _DEPTH)


def route_of(report: ServerReport) -> bytes:
    """Returns another server's route as JSON that may be passed on; empty if it has none or exceeds the limits."""
    raw = report.payload.route
    if not 0 < len(raw) <= MAX_ROUTE_BYTES:
        return b""
    try:
        steps = _route.decode(raw)
    except msgspec.DecodeError:
        return b""
    return encode_text([_shown(step) for step in steps]) if _depth(steps) <= MAX_ROUTE_DEPTH else b""


def _shown(step: Step) -> dict[str, object]:
    shown: dict[str, object] = {"server": step.server, "step": step.step, "name": step.name}
    shown |= {"ms": step.ms, "status": step.status}
    if step.route:
        shown["route"] = [_shown(inner) for inner in step.route]
    return shown


def _depth(steps: list[Step]) -> int:
    return 1 + max((_depth(step.route) for step in steps), default=0)


# -- incoming messages ------------------------------------------------------------------------------------------


class LinkHeader(Struct, gc=False, frozen=True, rename="camel"):
    """The header of a message on a link."""

    hops: int = 0
    once: bool = False
    route: bool = False
    dry_run: bool = False
    traceparent: str = ""


class LinkMessage(Struct, gc=False):
    """A message on a link."""

    payload: Payload
    header: LinkHeader = LinkHeader()


_message = msgspec.json.Decoder(LinkMessage)


def decode_message(body: bytes) -> LinkMessage:
    """Decodes a message that another server sent on a link; an invalid ``traceparent`` counts as absent.

    Raises:
        Malformed: sections 1 and 8.
    """
    message = decode(_message, body, _DEPTH)
    header = message.header
    if header.traceparent and not is_traceparent(header.traceparent):
        message.header = msgspec.structs.replace(header, traceparent="")
    return message


def is_traceparent(text: str) -> bool:
    """Returns whether the text is a W3C traceparent, which has 55 characters."""
    return len(text) == 55 and _TRACEPARENT.fullmatch(text) is not None
