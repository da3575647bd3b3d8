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

ALL = b"\xff\xff\xff\xff"
"""For the relay, in place of a client's number: the frame is for all of them."""

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


ATTACH = (
    b'{"header":{"scope":"handler"},"payload":{"type":"attach","id":"a","data":{"types":["%b"],"concurrency":65536}}}'
)
REPLY = (
    b'{"header":{"id":"',
    b'","status":"0","command":{"type":"reply"}},"payload":{"data":',
    b"",
    b"}}",
)
"""What a handler of ours answers, in pieces: between them come the request's id, an account's name, and the data."""
PASS = (
    b'{"header":{"id":"',
    b'","status":"0","command":{"type":"sendClients","data":["',
    b'"]}},"payload":{"data":',
    b"}}",
)
"""The answer that sends the data to the account that they begin with, in pieces like those of :data:`REPLY`."""
CLASSIC = (b'{"header":{"status":"0","command":{"type":"reply"}},"data":', b"}")
"""The answer of a handler that takes a connection for each message; between them come the data."""
NAME_BYTES = len(account(0))


class Bester:
    """A client of ours, authenticated with a token."""

    ping = b""
    good = b'"status":"good"'
    """What an answer to the hello, and a good report, has in it."""
    reported = True
    """Whether a message to many is answered."""

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
        if end and self.good not in buffer[:end]:
            raise RuntimeError(f"not authenticated: {buffer[4:end].decode()}")
        return end

    def message(self, number: int, size: int) -> bytes:
        """Returns a message to be echoed."""
        body = b'{"header":{},"payload":{"type":"%b","id":"abcd","data":%b}}'
        return frame(body % (TYPE.encode(), self.data(number, size)))

    def replies(self, number: int, size: int) -> bytes:
        """Returns all bytes that answer a message."""
        received = b'{"header":{"messageType":"receivedMessage"},"payload":{"type":"%b","data":%b}}'
        report = b'{"header":{"messageType":"statusReport","status":"good"},"payload":{"id":"abcd"%b}}'
        return frame(received % (TYPE.encode(), self.data(number, size))) + frame(report % self.results(number))

    def results(self, number: int) -> bytes:
        """Returns what a report says of recipients."""
        return b""

    def data(self, number: int, size: int) -> bytes:
        """Returns what a message carries."""
        return text(size)

    # One to many: a push of a handler that names every account.

    def sender_hello(self) -> bytes:
        """Returns what the sender sends first; empty if nothing answers it."""
        return frame(ATTACH % b"fan")

    def reader_hello(self, number: int) -> bytes:
        """Returns what one who gets the messages sends first."""
        return self.hello(number)

    def to_all(self, clients: int, size: int) -> bytes:
        """Returns the bytes that the sender sends, to so many."""
        names = json.dumps([account(number) for number in range(clients)], separators=(",", ":")).encode()
        command = b'{"type":"sendClients","data":%b}' % names
        head = b'{"header":{"messageType":"push","id":"p","command":%b},"payload":{"data":%b}}'
        return frame(head % (command, text(size)))

    def each_gets(self, size: int) -> bytes:
        """Returns the bytes that each of them gets."""
        return frame(b'{"header":{"messageType":"receivedMessage"},"payload":{"type":"fan","data":%b}}' % text(size))


class BesterToItself(Bester):
    """A client of ours whose messages a handler that passes on sends to the client's own account."""

    def data(self, number: int, size: int) -> bytes:
        return b'"%b%b"' % (account(number).encode(), b"x" * (size - 2 - NAME_BYTES))

    def results(self, number: int) -> bytes:
        return b',"results":[{"to":"%b","status":"delivered"}]' % account(number).encode()


class Nats:
    """A client of nats-server that makes requests to a responder."""

    ping = b"PING\r\n"
    good = b"PONG\r\n"
    responder = b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB %b 1\r\nPING\r\n' % TYPE.encode()
    """What a responder sends first."""
    reported = False

    def hello(self, number: int) -> bytes:
        options = b'{"verbose":false,"pedantic":false,"tls_required":false,"lang":"bench","version":"1"}'
        return b"CONNECT %b\r\nSUB _INBOX.%05d 1\r\nPING\r\n" % (options, number)

    def greeted(self, buffer: bytes) -> int:
        return buffer.find(self.good) + len(self.good) if self.good in buffer else 0

    def message(self, number: int, size: int) -> bytes:
        return b"PUB %b _INBOX.%05d %d\r\n%b\r\n" % (TYPE.encode(), number, size, text(size))

    def replies(self, number: int, size: int) -> bytes:
        return b"MSG _INBOX.%05d 1 %d\r\n%b\r\n" % (number, size, text(size))

    # One to many: a publication on a subject that all have subscribed to.

    def sender_hello(self) -> bytes:
        return self.hello(0)

    def reader_hello(self, number: int) -> bytes:
        return b"SUB fan 2\r\n" + self.hello(number)

    def to_all(self, clients: int, size: int) -> bytes:
        return b"PUB fan %d\r\n%b\r\n" % (size, text(size))

    def each_gets(self, size: int) -> bytes:
        return b"MSG fan 2 %d\r\n%b\r\n" % (size, text(size))


class Relay:
    """A client of the relay, whose frames begin with the client's number."""

    ping = b""
    good = b""
    reported = False

    def hello(self, number: int) -> bytes:
        return frame(pack("<I", number))

    def greeted(self, buffer: bytes) -> int:
        return whole_frame(buffer)

    def message(self, number: int, size: int) -> bytes:
        return frame(pack("<I", number) + text(size))

    def replies(self, number: int, size: int) -> bytes:
        return self.message(number, size)

    # One to many: a frame for all, of a handler that says no hello.

    def sender_hello(self) -> bytes:
        return b""

    def reader_hello(self, number: int) -> bytes:
        return self.hello(number)

    def to_all(self, clients: int, size: int) -> bytes:
        return self.each_gets(size)

    def each_gets(self, size: int) -> bytes:
        return frame(ALL + text(size))


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


Lean = Bester | Nats | Relay
LEAN: dict[str, type[Bester] | type[Nats] | type[Relay]] = {
    "bester": Bester,
    "bester to itself": BesterToItself,
    "nats": Nats,
    "relay": Relay,
}
"""Those that the generators in C speak too."""
Dialect = Lean | Xmpp
DIALECTS: dict[str, type[Bester] | type[Nats] | type[Relay] | type[Xmpp]] = {**LEAN, "xmpp": Xmpp}
