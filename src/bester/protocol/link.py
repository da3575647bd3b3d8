"""What servers say to each other on links, and what they report (docs/protocol.md, section 8)."""

from __future__ import annotations

import re

import msgspec
from msgspec import Raw, Struct

from bester.protocol.frames import encode_text
from bester.protocol.framing import PREFIX, frame
from bester.protocol.messages import Payload
from bester.protocol.strictjson import EXTRA_DEPTH, MAX_DEPTH, decode

LINK = "link"
"""The feature that makes a connection between servers a link."""
HELLO_ID = "link"
"""The id of the first message on a link."""
EXTRA_SIZE = 64 * 1024
"""By how much a frame on a link may exceed ``maxMessage``, so that what was accepted can be carried on."""
_DEPTH = MAX_DEPTH + EXTRA_DEPTH
_TRACEPARENT = re.compile("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

# -- what is sent -----------------------------------------------------------------------------------------------


def hello(server: str) -> bytes:
    """Returns the frame that asks for a link; a server that knows none takes it for a ping."""
    header = {"scope": "server", "server": server, "features": [LINK]}
    return frame(encode_text({"header": header, "payload": {"type": "dummy", "id": HELLO_ID}}))


def welcome_fields(server: str, max_message: int, max_in_flight: int) -> bytes:
    """Returns what the report that grants a link says beside its id, as JSON members with a comma before them."""
    limits = {"maxMessage": max_message, "maxInFlight": max_in_flight}
    return b"," + encode_text({"server": server, "features": [LINK], "limits": limits})[1:-1]


def message(type: str, id: str, data: Raw | bytes, hops: int, trace: str) -> bytes:
    """Returns a message's frame on a link."""
    body = b"".join(
        (
            b'{"header":{"once":true,"hops":%d,"traceparent":' % hops,
            encode_text(trace),
            b'},"payload":{"type":',
            encode_text(type),
            b',"id":',
            encode_text(id),
            b',"data":',
            data,
            b"}}",
        )
    )
    return PREFIX.pack(len(body)) + body


# -- what the other server says ---------------------------------------------------------------------------------


class ReportHeader(Struct, rename="camel"):
    """The header of a report, or of anything else that answers a message."""

    message_type: str = ""
    status: str = ""


class ReportError(Struct):
    """Why a message was reported bad."""

    code: str = ""
    message: str = ""
    temporary: bool = False


class PeerLimits(Struct, rename="camel"):
    """What the other server takes on this link; 0 where it does not say."""

    max_message: int = 0
    max_in_flight: int = 0


class ReportPayload(Struct):
    id: str = ""
    error: ReportError | None = None
    server: str = ""
    features: tuple[str, ...] = ()
    limits: PeerLimits | None = None


class ServerReport(Struct):
    """What another server answered to a message."""

    header: ReportHeader = msgspec.field(default_factory=ReportHeader)
    payload: ReportPayload = msgspec.field(default_factory=ReportPayload)

    @property
    def good(self) -> bool:
        """Whether the other server has the message; classic servers say so with ``"0"``."""
        return self.header.status in ("good", "0")

    @property
    def grants_link(self) -> bool:
        """Whether this answers a first message with a link."""
        return self.header.message_type == "statusReport" and self.good and LINK in self.payload.features


_report = msgspec.json.Decoder(ServerReport)


def decode_report(body: bytes) -> ServerReport:
    """Decodes a report; unknown members are passed over.

    Raises:
        Malformed: not JSON, or not of a report's form.
    """
    return decode(_report, body, _DEPTH)


# -- what comes in ----------------------------------------------------------------------------------------------


class LinkHeader(Struct, gc=False, frozen=True):
    """The header of a message on a link."""

    hops: int = 0
    once: bool = False
    traceparent: str = ""


class LinkMessage(Struct, gc=False):
    """A message on a link."""

    payload: Payload
    header: LinkHeader = LinkHeader()


_message = msgspec.json.Decoder(LinkMessage)


def decode_message(body: bytes) -> LinkMessage:
    """Decodes a message that another server sent on a link; a ``traceparent`` that is none counts as absent.

    Raises:
        Malformed: sections 1 and 8.
    """
    message = decode(_message, body, _DEPTH)
    header = message.header
    if header.traceparent and not is_traceparent(header.traceparent):
        message.header = LinkHeader(header.hops, header.once)
    return message


def is_traceparent(text: str) -> bool:
    """Whether this is a W3C traceparent, of 55 characters."""
    return len(text) == 55 and _TRACEPARENT.fullmatch(text) is not None
