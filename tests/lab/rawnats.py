"""A client that sends what a test says, and returns every message that a NATS server answers with."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from bester.bus.headers import header_block

WAIT_S = 5.0
_STAMPS = [
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"(\$JS\.ACK\.\S+\.)\d{19}\."), r"\1NANOSECONDS."),
]


class Heard(NamedTuple):
    """A message, without what differs between two servers."""

    subject: str
    reply: str
    headers: str
    data: Any
    """Decoded, if it is JSON."""


def heard(subject: str, reply: str, headers: bytes, data: bytes) -> Heard:
    body: Any = data
    if data.startswith(b"{"):
        body = json.loads(_plain(data.decode()))
    return Heard(_plain(subject), _plain(reply), _plain(headers.decode()), body)


def _plain(text: str) -> str:
    for pattern, instead in _STAMPS:
        text = pattern.sub(instead, text)
    return text


class RawNats:
    """A connection, with a subscription to ``in.>`` to which its requests are answered."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._requests = 0
        self.errors: list[str] = []

    @classmethod
    async def connect(cls, port: int, **options: Any) -> RawNats:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        made = cls(reader, writer)
        said = {"verbose": False, "headers": True, "no_responders": True, "protocol": 1, **options}
        assert (await reader.readline()).startswith(b"INFO ")
        made.write(b"CONNECT " + json.dumps(said).encode() + b"\r\nSUB in.> 1\r\n")
        await made.settle()
        return made

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    def ask(self, subject: str, data: Any = b"", headers: Mapping[str, str] | None = None) -> None:
        """Sends a request; anything but bytes is sent as JSON."""
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        self._requests += 1
        reply = f"in.{self._requests}"
        if headers is not None:
            block = header_block(headers)
            self.write(f"HPUB {subject} {reply} {len(block)} {len(block) + len(body)}\r\n".encode() + block)
        else:
            self.write(f"PUB {subject} {reply} {len(body)}\r\n".encode())
        self.write(body + b"\r\n")

    async def settle(self, at_least: int = 0) -> list[Heard]:
        """Returns what came until the server has read everything, and so many messages."""
        self.write(b"PING\r\n")
        found: list[Heard] = []
        ponged = False
        async with asyncio.timeout(WAIT_S):
            while not ponged or len(found) < at_least:
                line = (await self._reader.readline()).decode().split()
                if line[0] == "PONG":
                    ponged = True
                elif line[0] == "PING":
                    self.write(b"PONG\r\n")
                elif line[0] == "-ERR":
                    self.errors.append(" ".join(line))
                elif line[0] in ("MSG", "HMSG"):
                    found.append(await self._message(line))
        return found

    async def _message(self, line: list[str]) -> Heard:
        sizes = [int(one) for one in line[-2 if line[0] == "HMSG" else -1 :]]
        reply = line[3] if len(line) - len(sizes) == 4 else ""
        body = await self._reader.readexactly(sizes[-1])
        await self._reader.readexactly(2)
        size = sizes[0] if line[0] == "HMSG" else 0
        return heard(line[1], reply, body[:size], body[size:])

    async def rest(self) -> bytes:
        """Returns all that comes until the server closes the connection, without an INFO."""
        async with asyncio.timeout(WAIT_S):
            found = await self._reader.read()
        return b"".join(line for line in found.splitlines(keepends=True) if not line.startswith(b"INFO "))
