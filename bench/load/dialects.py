"""The bytes that a load generator sends to each kind of server, and those that it expects back.

All of them are built before the clock runs. A round trip is, for ours, the message that the handler replies with and
the status report after it; for NATS the reply to the client's inbox; for XMPP the component's message to the client;
for the relay the same frame.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from struct import pack

TYPE = "echo"
SERVER = "bench.example"

# Of XMPP only.
COMPONENT = b"echo.bench.test"
SECRET = b"the component's secret"
PASSWORD = "the same password for all"
RESOURCE = b"bench"
STREAMS = b"xmlns:stream='http://etherx.jabber.org/streams'"
FEATURES = re.compile(rb"</stream:features>")


def frame(body: bytes) -> bytes:
    """Returns a body with its length before it (docs/protocol.md, section 1)."""
    return pack("<I", len(body)) + body


def whole_frame(buffer: bytes) -> int:
    """Returns how long the first frame is with its prefix, or 0 if it is not all there."""
    end = 4 + int.from_bytes(buffer[:4], "little")
    return end if len(buffer) >= max(end, 5) else 0


def account(number: int) -> str:
    """The name of one of the accounts that every server of ours has here."""
    return f"c{number:05d}"


def token(number: int) -> str:
    """The token of :func:`account`."""
    return f"token-of-{number:05d}-for-this-benchmark"


def text(size: int) -> bytes:
    """A JSON string of so many bytes, its quotes counted."""
    return b'"' + b"x" * (size - 2) + b'"'


class Bester:
    """A client of ours, authenticated with a token."""

    ping = b""

    def hello(self, number: int) -> bytes:
        """Returns the bytes that are sent first."""
        authentication = {"username": account(number), "token": token(number)}
        return frame(json.dumps({"header": {"scope": "client", "authentication": authentication}}).encode())

    def greeted(self, buffer: bytes) -> int:
        """Returns the length of the answer to the hello; 0 if it is not complete.

        Raises:
            RuntimeError: the server does not want us.
        """
        end = whole_frame(buffer)
        if end and b'"status":"good"' not in buffer[:end]:
            raise RuntimeError(f"not authenticated: {buffer[4:end].decode()}")
        return end

    def message(self, number: int, size: int) -> bytes:
        """Returns a message to be echoed."""
        return frame(b'{"header":{},"payload":{"type":"%b","id":"abcd","data":%b}}' % (TYPE.encode(), text(size)))

    def replies(self, number: int, size: int) -> bytes:
        """Returns all bytes that answer a message."""
        received = b'{"header":{"messageType":"receivedMessage"},"payload":{"type":"%b","data":%b}}'
        report = b'{"header":{"messageType":"statusReport","status":"good"},"payload":{"id":"abcd"}}'
        return frame(received % (TYPE.encode(), text(size))) + frame(report)


class Nats:
    """A client of nats-server that makes requests to a responder."""

    ping = b"PING\r\n"

    def hello(self, number: int) -> bytes:
        options = b'{"verbose":false,"pedantic":false,"tls_required":false,"lang":"bench","version":"1"}'
        return b"CONNECT %b\r\nSUB _INBOX.%05d 1\r\nPING\r\n" % (options, number)

    def greeted(self, buffer: bytes) -> int:
        return buffer.find(b"PONG\r\n") + 6 if b"PONG\r\n" in buffer else 0

    def message(self, number: int, size: int) -> bytes:
        return b"PUB %b _INBOX.%05d %d\r\n%b\r\n" % (TYPE.encode(), number, size, text(size))

    def replies(self, number: int, size: int) -> bytes:
        return b"MSG _INBOX.%05d 1 %d\r\n%b\r\n" % (number, size, text(size))


class Relay:
    """A client of the relay, whose frames begin with the client's number."""

    ping = b""

    def hello(self, number: int) -> bytes:
        return frame(pack("<I", number))

    def greeted(self, buffer: bytes) -> int:
        return whole_frame(buffer)

    def message(self, number: int, size: int) -> bytes:
        return frame(pack("<I", number) + text(size))

    def replies(self, number: int, size: int) -> bytes:
        return self.message(number, size)


class Xmpp:
    """A client of an XMPP server (RFC 6120), whose messages go to an external component (XEP-0114)."""

    ping = b""

    def hello(self, number: int) -> bytes:
        return b"<stream:stream to='%b' version='1.0' xmlns='jabber:client' %b>" % (SERVER.encode(), STREAMS)

    def steps(self, number: int) -> list[tuple[re.Pattern[bytes], bytes]]:
        """How the hello goes on: what each answer ends with, and what is sent then."""
        credentials = b64encode(f"\0{account(number)}\0{PASSWORD}".encode())
        auth = b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%b</auth>" % credentials
        bind = b"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>%b</resource></bind>" % RESOURCE
        return [
            (FEATURES, auth),
            (re.compile(rb"<success[^>]*/>|</success>"), self.hello(number)),
            (FEATURES, b"<iq type='set' id='bind'>%b</iq>" % bind),
            (re.compile(rb"<jid>%b</jid>.*</iq>" % re.escape(jid(number))), b""),
        ]

    def greeted(self, buffer: bytes) -> int:
        raise NotImplementedError("it takes several steps")

    def message(self, number: int, size: int) -> bytes:
        return b"<message to='%b' id='abcd'><body>%b</body></message>" % (COMPONENT, b"x" * size)

    def replies(self, number: int, size: int) -> bytes:
        """The reply as the component writes it; a server may write the same in other words."""
        return b"<message from='%b' to='%b' id='abcd'><body>%b</body></message>" % (COMPONENT, jid(number), b"x" * size)


def jid(number: int) -> bytes:
    """The full address of an XMPP client, as long for each."""
    return b"%b@%b/%b" % (account(number).encode(), SERVER.encode(), RESOURCE)


Dialect = Bester | Nats | Relay | Xmpp
DIALECTS: dict[str, type[Bester] | type[Nats] | type[Relay] | type[Xmpp]] = {
    "bester": Bester,
    "nats": Nats,
    "relay": Relay,
    "xmpp": Xmpp,
}
