"""Handlers in lean Python: ``python -m bench.load.handlers KIND ADDRESS``. Each prints ``ready``.

They echo the data that they are asked with; ``pass`` (attached) sends it to the account that it begins with. Kinds:
``bester`` (attached), ``pass``, ``classic``, ``nats``, ``relay``, ``xmpp``. All but the last are in ``handlers.c`` too,
and are used here only where nothing can be compiled.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import sys
from typing import cast

import uvloop

from bench.load.dialects import ATTACH, CLASSIC, COMPONENT, NAME_BYTES, PASS, REPLY, SECRET, STREAMS, TYPE, Nats, frame

# In a request as our server writes it; its members' order is not promised, and a change would be seen at once, in the
# replies that are compared.
_BEFORE_ID = b'"id":"'


class Framed(asyncio.Protocol):
    """Cuts frames, and writes once for all answers to one read."""

    hello = b""

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self.hello:
            self._transport.write(self.hello)

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        at, size = 0, len(data)
        out: list[bytes] = []
        while size - at >= 4:
            end = at + 4 + int.from_bytes(data[at : at + 4], "little")
            if end > size:
                break
            out.append(self.answer(data, at, end))
            at = end
        self._buffer = data[at:]
        if out:
            self._transport.write(b"".join(out))

    def answer(self, data: bytes, at: int, end: int) -> bytes:
        """Returns the frame that answers the one between these places."""
        return data[at:end]

    def connection_lost(self, exc: Exception | None) -> None:
        sys.exit(0)


class Attached(Framed):
    """Attached to our server."""

    hello = frame(ATTACH % TYPE.encode())
    pieces = REPLY
    name_bytes = 0
    _attached = False

    def answer(self, data: bytes, at: int, end: int) -> bytes:
        if not self._attached:
            self._attached = True
            print("ready", flush=True)
            return b""
        begins = data.index(_BEFORE_ID, at) + len(_BEFORE_ID)
        ends = data.index(b'"', begins)
        begins_data = data.index(b'"data":', ends) + 7
        before_id, before_name, before_data, last = self.pieces
        name = data[begins_data + 1 : begins_data + 1 + self.name_bytes]
        filled = (before_id, data[begins:ends], before_name, name, before_data, data[begins_data : end - 2], last)
        return frame(b"".join(filled))


class Passing(Attached):
    """Attached to our server, and passes on (:mod:`bench.load.pairs`)."""

    pieces = PASS
    name_bytes = NAME_BYTES


class Classic(Framed):
    """One connection of our server, for one message."""

    def answer(self, data: bytes, at: int, end: int) -> bytes:
        return frame(data[at + 4 : end].join(CLASSIC))

    def connection_lost(self, exc: Exception | None) -> None:
        pass


class Responder(asyncio.Protocol):
    """A responder of nats-server."""

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(Nats.responder)

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        at = 0
        out: list[bytes] = []
        while (line := data.find(b"\r\n", at)) >= 0:
            if data[at] == 77:  # MSG subject 1 inbox size
                _, _, _, inbox, size = data[at:line].split()
                end = line + 4 + int(size)
                if end > len(data):
                    break
                out.append(b"PUB %b %b%b" % (inbox, size, data[line:end]))
                at = end
            else:
                if data.startswith(b"PING", at):
                    out.append(b"PONG\r\n")
                elif data.startswith(b"PONG", at):
                    print("ready", flush=True)
                at = line + 2
        self._buffer = data[at:]
        if out:
            self._transport.write(b"".join(out))

    def connection_lost(self, exc: Exception | None) -> None:
        sys.exit(0)


class Component(asyncio.Protocol):
    """An external component of an XMPP server (XEP-0114, ``jabber:component:accept``)."""

    def __init__(self) -> None:
        self._buffer = b""
        self._accepted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(b"<stream:stream xmlns='jabber:component:accept' %b to='%b'>" % (STREAMS, COMPONENT))
        # If the server says neither yes nor no.
        self._too_late = asyncio.get_running_loop().call_later(20, sys.exit, "not accepted")

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        if not self._accepted:
            self._buffer = self._shake_hands(data)
            return
        *stanzas, self._buffer = data.split(b"</message>")
        out = [self._answer(stanza) for stanza in stanzas]
        if out:
            self._transport.write(b"".join(out))

    def _shake_hands(self, data: bytes) -> bytes:
        """Takes what comes before the stanzas, and returns what of it is not complete."""
        opened = re.search(rb"<stream:stream[^>]* id=['\"]([^'\"]+)['\"][^>]*>", data)
        if opened:
            digest = hashlib.sha1(opened[1] + SECRET).hexdigest().encode()  # noqa: S324 - what XEP-0114 says
            self._transport.write(b"<handshake>%b</handshake>" % digest)
            return data[opened.end() :]
        if re.search(rb"<handshake[^>]*/>|</handshake>", data):
            self._accepted = True
            self._too_late.cancel()
            print("ready", flush=True)
            return b""
        return data

    def _answer(self, stanza: bytes) -> bytes:
        """Returns a message of the same body to whom this one is from; a stanza lacks its end here."""
        head, _, body = stanza.partition(b"<body>")
        if b" type='error'" in head:  # a client has left before its reply; an answer would come back for ever
            return b""
        begins, begins_id = head.index(b" from='") + 7, head.index(b" id='") + 5
        return b"<message from='%b' to='%b' id='%b'><body>%b</message>" % (
            COMPONENT,
            head[begins : head.index(b"'", begins)],
            head[begins_id : head.index(b"'", begins_id)],
            body,
        )

    def connection_lost(self, exc: Exception | None) -> None:
        sys.exit(0)


async def main(kind: str, address: str) -> None:
    loop = asyncio.get_running_loop()
    if kind == "bester":
        await loop.create_unix_connection(Attached, address)
    elif kind == "pass":
        await loop.create_unix_connection(Passing, address)
    elif kind == "relay":
        await loop.create_unix_connection(Framed, address)
        print("ready", flush=True)
    elif kind == "xmpp":
        await loop.create_connection(Component, "127.0.0.1", int(address))
    elif kind == "nats":
        await loop.create_connection(Responder, "127.0.0.1", int(address))
    else:
        server = await loop.create_unix_server(Classic, address, backlog=1024)
        print("ready", flush=True)
        await server.serve_forever()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
