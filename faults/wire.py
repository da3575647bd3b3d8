"""The protocol by hand: frames over asyncio's streams, so that the server is judged without our library."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from typing import Any

import msgspec

READ_BYTES = 256 * 1024

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode


def framed(message: Any) -> bytes:
    """Returns a message as it travels (docs/protocol.md, section 1)."""
    body = encode(message)
    return struct.pack("<I", len(body)) + body


class Lost(Exception):
    """The connection is gone."""


class Wire:
    """One end of a connection; frames in, frames out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._rest = b""

    def send(self, *messages: Any) -> None:
        """Sends messages in one write; bytes are frames already."""
        # A connection that has just been lost takes nothing any more, which its reader is told too.
        with suppress(RuntimeError):
            self.writer.write(b"".join(one if isinstance(one, bytes) else framed(one) for one in messages))

    async def batch(self) -> list[Any]:
        """Returns the messages that came, one at least.

        Raises:
            Lost: there are no more.
        """
        found: list[Any] = []
        while not found:
            try:
                data = await self.reader.read(READ_BYTES)
            except OSError as error:
                raise Lost from error
            if not data:
                raise Lost
            data = self._rest + data
            start, length = 0, len(data)
            while start + 4 <= length:
                end = start + 4 + int.from_bytes(data[start : start + 4], "little")
                if end > length:
                    break
                found.append(decode(data[start + 4 : end]))
                start = end
            self._rest = data[start:]
        return found

    def close(self) -> None:
        self.writer.close()
